"""A shape's tail: where its changes are in the log, and who waits at its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from struct import Struct
from typing import Protocol

from engine.errors import PgtideError
from engine.log.layout import KEY
from engine.lsn import Offset
from shapes.following.encoder import REKEY, Entry
from shapes.shape import Shape
from shapes.wire import sse_events, up_to_date

Encode = Callable[[Shape, list[Entry]], list[bytes]]

_PLACE = Struct(">QIB")
ENTRY_BYTES = _PLACE.size
MAX_ENTRIES = 8192
"""Positions kept per feed. Older ones are found again by reading the log, which for a shape with so
many changes is about as cheap."""

MAX_PENDING = 4096
"""Changes held for the readers at the end of a feed; beyond it they read from the log instead."""

WARM_SECONDS = 2.0
"""How long batches are kept for readers that come back, and a feed without readers expects one."""


class RotatedError(PgtideError):
    """The shape's table was truncated or altered at `lsn`: handles from before are no longer good.

    `lsn` is None if the whole log has begun anew.
    """

    code = "shape_rotated"

    def __init__(self, lsn: int | None = None) -> None:
        super().__init__("the shape has ended")
        self.lsn = lsn


class Batch:
    """What came to a feed at one time, encoded once for all its readers, when the first one asks.

    It has every change with `start` < offset <= `end`; everything that commits before `lsn` is in.
    """

    __slots__ = (
        "_body",
        "_encode",
        "_events",
        "_messages",
        "end",
        "entries",
        "lsn",
        "shape",
        "start",
    )

    def __init__(
        self, shape: Shape, start: Offset, entries: list[Entry], lsn: int, encode: Encode
    ) -> None:
        self.shape = shape
        self.start = start
        self.end = end_of(entries[-1])
        self.entries = entries
        self.lsn = lsn
        self._encode = encode
        self._messages: list[bytes] | None = None
        self._body: bytes | None = None
        self._events: bytes | None = None

    def encode(self) -> None:
        """Encode now, while what other feeds have in common with it is at hand."""
        if self._messages is None:
            self._messages = self._encode(self.shape, self.entries)

    @property
    def messages(self) -> list[bytes]:
        if self._messages is None:
            self._messages = self._encode(self.shape, self.entries)
        return self._messages

    @property
    def body(self) -> bytes:
        """The JSON array of the messages and a closing up-to-date."""
        if self._body is None:
            self._body = json_body(self.messages, self.lsn)
        return self._body

    @property
    def events(self) -> bytes:
        """The same as server-sent events."""
        if self._events is None:
            self._events = sse_events([*self.messages, up_to_date(self.lsn)])
        return self._events


class Reader(Protocol):
    """Somebody at the end of a feed. Called from the tail: must not block and must not raise."""

    def deliver(self, batch: Batch | None) -> bool:
        """The next batch, or None if it is too large to hand over: read the log then.

        True to stay for more, False if that was all.
        """
        ...

    def end(self, error: RotatedError) -> None:
        """The shape has ended: there will be no batch."""
        ...


class Feed:
    """The part of a shape's log that comes after `start`, as positions in the log.

    `record` is called in log order for every change of the shape; `publish` once the transactions of
    these changes are complete. Readers at its end are attached to it and get each batch. A feed with
    readers is warm: it keeps the latest batches for a short while, for readers that come back at once
    or were slow; all others read the log at `positions_after`.
    """

    __slots__ = (
        "_ended",
        "_partial",
        "_pending",
        "_positions",
        "_published",
        "_readers",
        "_recent",
        "last_used",
        "shape",
        "start",
    )

    def __init__(self, shape: Shape, start: Offset) -> None:
        self.shape = shape
        self.start = start
        self.last_used = time.monotonic()
        self._positions: bytearray | None = None
        self._ended: RotatedError | None = None
        self._readers: dict[Reader, None] | None = None
        # Warm if these are not None.
        self._pending: list[Entry] | None = None
        self._recent: list[tuple[float, Batch]] | None = None
        """Mostly empty, of which there are many: an empty deque has 700 bytes."""
        self._published = start
        self._partial = False

    def record(self, entry: Entry) -> None:
        """A change of this shape. Not visible to readers before `publish`."""
        positions = self._positions
        if positions is None:
            positions = self._positions = bytearray()
        positions += _PLACE.pack(entry.lsn, entry.index, entry.kind)
        if len(positions) > MAX_ENTRIES * ENTRY_BYTES:
            self._forget_oldest(positions)
        if self._pending is not None and len(self._pending) <= MAX_PENDING:
            self._pending.append(entry)

    def publish(self, lsn: int, encode: Encode) -> None:
        """Hand what was recorded since the last time to all readers. `lsn`: all before it is in."""
        pending, recent = self._pending, self._recent
        if pending is None or recent is None:
            return
        now = time.monotonic()
        if self._readers is None and now - self.last_used > WARM_SECONDS:
            self._cool()
            return
        batch = None
        if pending and not self._partial and len(pending) <= MAX_PENDING:
            batch = Batch(self.shape, self._published, pending, lsn, encode)
            recent.append((now, batch))
            while len(recent) > 1 and recent[0][0] < now - WARM_SECONDS:
                del recent[0]
        else:
            recent.clear()
        self._partial = False
        self._pending = []
        self._published = self.last or self._published
        if self._readers is not None:
            if batch is not None:
                batch.encode()
            staying = {reader: None for reader in self._readers if reader.deliver(batch)}
            self._readers = staying or None

    def recent_after(self, after: Offset) -> list[Batch] | None:
        """The batches that follow an offset, none if it is the latest; None if they are not kept."""
        recent = self._recent
        if recent is None or self._partial:
            return None
        if after >= self._published:
            return []
        found = [batch for _, batch in recent if batch.end > after]
        # The offset must be where a batch begins, or between the last one and this.
        first = found[0].entries[0] if found else None
        if first is None or not found[0].start <= after < (first.lsn, first.index):
            return None
        return found

    def rotate(self, lsn: int | None = None) -> None:
        """The shape has ended: all readers, present and future, learn it."""
        self._ended = RotatedError(lsn)
        readers, self._readers = self._readers, None
        self._cool()
        for reader in readers or ():
            reader.end(RotatedError(lsn))

    def attach(self, reader: Reader, processed: Offset) -> None:
        """Let a reader have the next batch. It has read all there is before `processed`, where
        complete transactions end now. Raises RotatedError if the shape has ended."""
        self.check()
        if self._pending is None:
            self._pending = []
            self._recent = []
            self._published = processed
            # Of a transaction that is half way through, the first half has been recorded already.
            last = self.last
            self._partial = last is not None and last > processed
        if self._readers is None:
            self._readers = {}
        self._readers[reader] = None
        self.last_used = time.monotonic()

    @property
    def awaited(self) -> bool:
        """Whether somebody waits at its end."""
        return self._readers is not None

    def detach(self, reader: Reader) -> None:
        """The reader wants no more batches; fine if it is not attached."""
        if self._readers is not None:
            self._readers.pop(reader, None)
            if not self._readers:
                self._readers = None
                self.last_used = time.monotonic()

    def cool(self, before: float) -> None:
        """Forget recent batches from before a time (of the monotonic clock)."""
        recent = self._recent
        if recent is None:
            return
        if self._readers is None and self.last_used < before:
            self._cool()
        while recent and recent[0][0] < before:
            del recent[0]

    def _cool(self) -> None:
        self._pending = self._recent = None
        self._partial = False

    def followed(self, since: float) -> bool:
        """Whether somebody waits here, or has used it since a time (of the monotonic clock)."""
        return self._readers is not None or self.last_used > since

    def check(self) -> None:
        """Raises RotatedError if the shape has ended."""
        if self._ended is not None:
            raise RotatedError(self._ended.lsn)

    @property
    def ended(self) -> bool:
        """Whether the shape has ended."""
        return self._ended is not None

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
