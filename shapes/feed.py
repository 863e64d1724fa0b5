"""A shape's tail: where its changes are in the log, and who waits at its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from engine.errors import PgtideError
from engine.log.layout import KEY
from engine.lsn import Offset
from shapes.encoder import REKEY, Entry
from shapes.shape import Shape
from shapes.wire import sse_events, up_to_date

ENTRY_BYTES = KEY.size + 1
MAX_ENTRIES = 8192
"""Positions kept per feed. Older ones are found again by reading the log, which for a shape with so
many changes is about as cheap."""

MAX_PENDING = 4096
"""Entries held for the readers at the end of a feed; beyond it they read from the log instead."""


class RotatedError(PgtideError):
    """The shape's table was truncated or altered at `lsn`: handles from before are no longer good.

    `lsn` is None if the whole log has begun anew.
    """

    code = "shape_rotated"

    def __init__(self, lsn: int | None = None) -> None:
        super().__init__("the shape has ended")
        self.lsn = lsn


class Batch:
    """New messages for everybody who waited at a feed's end, encoded once for all.

    `end` is the offset after them; everything before `lsn` is in. `messages` is None if they are not
    at hand, because there are too many: read the log then.
    """

    __slots__ = ("_body", "_events", "end", "lsn", "messages")

    def __init__(self, end: Offset, lsn: int, messages: list[bytes] | None) -> None:
        self.end = end
        self.lsn = lsn
        self.messages = messages
        self._body: bytes | None = None
        self._events: bytes | None = None

    @property
    def body(self) -> bytes:
        """The JSON array of the messages and a closing up-to-date."""
        if self._body is None:
            self._body = json_body(self.messages or [], self.lsn)
        return self._body

    @property
    def events(self) -> bytes:
        """The same as server-sent events."""
        if self._events is None:
            self._events = sse_events([*(self.messages or []), up_to_date(self.lsn)])
        return self._events


class Reader(Protocol):
    """Somebody at the end of a feed. Called from the tail: must not block and must not raise."""

    def deliver(self, batch: Batch) -> bool:
        """Take the next batch. True to stay for more, False if that was all."""
        ...

    def end(self, error: RotatedError) -> None:
        """The shape has ended: there will be no batch."""
        ...


class Feed:
    """The part of a shape's log that comes after `start`, as positions in the log.

    `record` is called in log order for every change of the shape; `publish` once the transactions of
    these changes are complete. Readers at its end are attached to it and get each batch; others read
    the log at `positions_after`.
    """

    __slots__ = (
        "_ended",
        "_partial",
        "_pending",
        "_positions",
        "_readers",
        "last_used",
        "shape",
        "start",
    )

    def __init__(self, shape: Shape, start: Offset) -> None:
        self.shape = shape
        self.start = start
        self.last_used = time.monotonic()
        self._positions: bytearray | None = None
        self._readers: dict[Reader, None] | None = None
        self._pending: list[Entry] | None = None
        self._partial = False
        self._ended: RotatedError | None = None

    def record(self, entry: Entry) -> None:
        """A change of this shape. Not visible to readers before `publish`."""
        positions = self._positions
        if positions is None:
            positions = self._positions = bytearray()
        positions += KEY.pack(entry.lsn, entry.index)
        positions.append(entry.kind)
        if len(positions) > MAX_ENTRIES * ENTRY_BYTES:
            self._forget_oldest(positions)
        if self._readers is not None:
            if self._pending is None:
                self._pending = []
            if len(self._pending) <= MAX_PENDING:
                self._pending.append(entry)

    def publish(self, lsn: int, encode: Callable[[Shape, list[Entry]], list[bytes]]) -> None:
        """Hand what was recorded since the last time to all readers. `lsn`: all before it is in."""
        readers, pending = self._readers, self._pending
        if readers is None:
            return
        partial, self._partial = self._partial, False
        self._pending = None
        if not pending or partial or len(pending) > MAX_PENDING:
            batch = Batch(Offset(lsn, 0), lsn, None)
        else:
            batch = Batch(end_of(pending[-1]), lsn, encode(self.shape, pending))
        staying = {reader: None for reader in readers if reader.deliver(batch)}
        self._readers = staying or None

    def rotate(self, lsn: int | None = None) -> None:
        """The shape has ended: all readers, present and future, learn it."""
        self._ended = RotatedError(lsn)
        readers, self._readers = self._readers, None
        self._pending = None
        for reader in readers or ():
            reader.end(RotatedError(lsn))

    def attach(self, reader: Reader, processed: Offset) -> None:
        """Let a reader have the next batch. It has read all there is before `processed`, where
        complete transactions end now. Raises RotatedError if the shape has ended."""
        self.check()
        if self._readers is None:
            self._readers = {}
            # Of a transaction that is half way through, the first half has been recorded already.
            last = self.last
            self._partial = last is not None and last > processed
        self._readers[reader] = None
        self.last_used = time.monotonic()

    def detach(self, reader: Reader) -> None:
        """The reader wants no more batches; fine if it is not attached."""
        if self._readers is not None:
            self._readers.pop(reader, None)
            if not self._readers:
                self._readers = self._pending = None

    def check(self) -> None:
        """Raises RotatedError if the shape has ended."""
        if self._ended is not None:
            raise RotatedError(self._ended.lsn)

    @property
    def version(self) -> tuple[int, Offset]:
        """Changes whenever something is recorded."""
        return (0 if self._positions is None else len(self._positions)), self.start

    @property
    def last(self) -> Offset | None:
        """The offset of the last recorded change, published or not."""
        positions = self._positions
        if not positions:
            return None
        lsn, index = KEY.unpack_from(positions, len(positions) - ENTRY_BYTES)
        return Offset(lsn, index + (positions[-1] == REKEY))

    def positions_after(self, after: Offset, before: Offset) -> list[tuple[int, int, int]]:
        """(LSN, index, kind) of the changes with `after` < offset < `before`. `after` >= `start`."""
        positions = self._positions
        if not positions:
            return []
        low = self._bisect(positions, KEY.pack(after.lsn, min(after.index, 0xFFFFFFFE) + 1))
        high = self._bisect(positions, KEY.pack(*before))
        return [
            (*KEY.unpack_from(positions, at), positions[at + KEY.size])
            for at in range(low * ENTRY_BYTES, high * ENTRY_BYTES, ENTRY_BYTES)
        ]

    def count_after(self, after: Offset) -> int:
        """How many changes are recorded after an offset."""
        positions = self._positions
        if not positions:
            return 0
        key = KEY.pack(after.lsn, min(after.index, 0xFFFFFFFE) + 1)
        return len(positions) // ENTRY_BYTES - self._bisect(positions, key)

    def _bisect(self, positions: bytearray, key: bytes) -> int:
        low, high = 0, len(positions) // ENTRY_BYTES
        while low < high:
            middle = (low + high) // 2
            at = middle * ENTRY_BYTES
            if positions[at : at + KEY.size] < key:
                low = middle + 1
            else:
                high = middle
        return low

    def _forget_oldest(self, positions: bytearray) -> None:
        cut = MAX_ENTRIES // 2 * ENTRY_BYTES
        lsn, index = KEY.unpack_from(positions, cut - ENTRY_BYTES)
        self.start = Offset(lsn, index + (positions[cut - 1] == REKEY))
        del positions[:cut]


def json_body(messages: list[bytes], lsn: int | None) -> bytes:
    """Messages as a JSON array, closed by up-to-date if `lsn` is given."""
    if lsn is not None:
        messages = [*messages, up_to_date(lsn)]
    return b"[%b]" % b",\n".join(messages)


def end_of(entry: Entry) -> Offset:
    """The offset that has this entry behind it."""
    return Offset(entry.lsn, entry.index + (entry.kind == REKEY))
