"""What a node has to give: shapes' snapshots and feeds, found by handle and offset."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from engine.errors import PgtideError
from engine.log.layout import MAX_INDEX
from engine.lsn import MAX_LSN, Offset
from engine.postgres.table_state import EVERYTHING
from shapes.definition import Definition
from shapes.definitions import Definitions
from shapes.ended import EndedShapes
from shapes.following.activation import OutOfLogError
from shapes.following.feed import Feed, RotatedError
from shapes.following.feeds import Feeds, Reading
from shapes.following.tail import Tail
from shapes.shape import Handle, Shape
from shapes.snapshots.snapshot import SnapshotError, Snapshots
from shapes.snapshots.snapshot_store import SnapshotRecord, SnapshotStore
from shapes.windows.clock import WindowClock
from shapes.wire import INFINITE, LogOffset

log = logging.getLogger("node")

SNAPSHOT_IDLE_SECONDS = 6 * 3600.0

SNAPSHOT_WAIT_SECONDS = 45.0

MESSAGE_BYTES = 300
"""About what one change costs a reader."""

CHEAP_REPLAY_BYTES = 64 << 10
"""Changes since a snapshot that are not worth a new one, however small the snapshot is."""

CHEAP_SEARCH_BYTES = 16 << 20
"""So much of the log is searched in a moment, for a shape that this node does not follow (yet)."""

OUT_OF_BOUNDS_SHARE = 0.5
"""An offset ahead of the log is waited for this part of the long-poll timeout."""


class MustRefetchError(PgtideError):
    """The client's handle or offset is no longer good: it has to start over, with `handle` if given."""

    code = "must_refetch"

    def __init__(self, handle: Handle | None) -> None:
        super().__init__("the shape has to be fetched anew")
        self.handle = handle


class OutOfBoundsError(PgtideError):
    """The offset is ahead of everything that has been replicated."""

    code = "offset_out_of_bounds"


class Chunk(NamedTuple):
    """A finished part of a snapshot; `body` is a JSON array or the file that holds it."""

    offset: LogOffset
    body: bytes | Path


class Place(NamedTuple):
    """Where in the log a client goes on. `stitch` are messages to deliver before that."""

    feed: Feed
    position: Offset
    stitch: list[bytes]


class Library:
    """Answers by shape, handle and offset. Raises MustRefetchError where a client must start over."""

    def __init__(
        self,
        tail: Tail,
        feeds: Feeds,
        store: SnapshotStore,
        snapshots: Snapshots,
        definitions: Definitions,
        clock: WindowClock,
        *,
        retention_bytes: int,
        retention_age: float,
        long_poll_timeout: float,
    ) -> None:
        self._tail = tail
        self._feeds = feeds
        self._store = store
        self._snapshots = snapshots
        self._definitions = definitions
        self._clock = clock
        self._retention_bytes = retention_bytes
        self._retention_age = retention_age
        self._ahead_seconds = long_poll_timeout * OUT_OF_BOUNDS_SHARE
        self._deleted = max(store.deletions(0), default=0)
        self._ended = EndedShapes(feeds, definitions, store)
        self.released = 0
        """How many ended shapes have left memory."""

    # -- handles -----------------------------------------------------------------------------------

    async def current(self, shape: Shape, besides: str | None = None) -> Handle:
        """The handle that new readers of a shape get; its snapshot is being taken or is done.

        It is another one than `besides`.
        """

        def worthwhile(record: SnapshotRecord) -> bool:
            other = str(Handle(shape.hash, record.generation)) != besides
            return other and self._worthwhile(shape, record)

        record, claimed = self._store.claim(shape.hash, self._oldest(shape), worthwhile)
        if claimed:
            self._snapshots.start(shape, record, lambda: self._prepare(shape))
        return Handle(shape.hash, record.generation)

    async def known(self, shape: Shape) -> Handle:
        """A handle for a reader who wants no history; takes no snapshot."""
        await self._prepare(shape)
        return self._store.name(shape.hash, self._oldest(shape))

    async def _prepare(self, shape: Shape) -> None:
        """Make sure that the log will have what is to come, and that the shape's window is now."""
        await self._definitions.publish(shape.table)
        await self._clock.bring(shape)

    def good(self, handle: Handle, shape: Shape) -> bool:
        """Whether a handle can be served: of this shape, of this epoch of the log, not ended since."""
        return (
            handle.hash == shape.hash
            and handle.generation > self._oldest(shape)
            and not self._store.retired(handle)
        )

    def _oldest(self, shape: Shape) -> int:
        """The generation after which handles may be good: made in this epoch of the log, and since the
        table is what it is."""
        return max(self._tail.epoch, self._definitions.ended(shape))

    def knows(self, text: str | None) -> bool:
        """Whether a handle is one that a client may have got and that is still good."""
        handle = None if text is None else Handle.parse(text)
        return (
            handle is not None
            and handle.generation > self._tail.epoch
            and not self._store.retired(handle)
        )

    async def redirect(self, definition: Definition, besides: str | None) -> Handle | None:
        """Where a client goes for whom its handle, `besides`, has ended; None if that cannot be told.

        Never the same handle: the client takes that for a stale answer and asks again and again.
        """
        try:
            shape = await self._definitions.resolve(definition)
            return await self.current(shape, besides)
        except PgtideError:
            return None

    # -- snapshots ---------------------------------------------------------------------------------

    async def first_chunk(self, handle: Handle) -> Chunk:
        """The beginning of a snapshot, as soon as it is there. Raises SnapshotError."""
        record = await self._record(handle, lambda record: bool(record.chunks))
        if not record.chunks:
            raise SnapshotError(record.error)
        return self._chunk(handle, record, 0)

    async def next_chunk(self, handle: Handle, offset: LogOffset) -> Chunk | None:
        """The chunk after a snapshot offset; None if that was the last. Raises SnapshotError."""
        number = offset.index + 1
        if offset.index == INFINITE:
            return None

        def ready(record: SnapshotRecord) -> bool:
            return len(record.chunks) > number or record.state != "running"

        record = await self._record(handle, ready)
        _require_good(record)
        return self._chunk(handle, record, number) if len(record.chunks) > number else None

    async def _record(
        self, handle: Handle, ready: Callable[[SnapshotRecord], bool]
    ) -> SnapshotRecord:
        try:
            async with asyncio.timeout(SNAPSHOT_WAIT_SECONDS):
                record = await self._snapshots.wait(handle, ready)
        except TimeoutError as error:
            raise SnapshotError(
                "Snapshot query took too long to start reading from the database"
            ) from error
        if record is None:
            raise MustRefetchError(None)
        return record

    def _chunk(self, handle: Handle, record: SnapshotRecord, number: int) -> Chunk:
        body = self._store.read_chunk(handle, number)
        if body is None:
            raise MustRefetchError(None)
        return Chunk(LogOffset(0, number), body)

    # -- the log -----------------------------------------------------------------------------------

    async def place(self, shape: Shape, handle: Handle, offset: LogOffset) -> Place:
        """Where a reader goes on after `offset`.

        Raises MustRefetchError, OutOfBoundsError and SnapshotError.
        """
        position = Offset(offset.lsn, min(offset.index, MAX_INDEX - 1))
        if offset.index == INFINITE:
            # Past all of that transaction: records are 8-byte aligned, so none begins there.
            position = Offset(min(offset.lsn + 1, MAX_LSN), 0)
        stitch: list[bytes] = []
        if offset.in_snapshot:
            record = await self._record(handle, lambda record: record.state == "done")
            _require_good(record)
            position = Offset(record.lsn, 0)
            stitch = [message.encode() for message in record.stitch]
        # Whoever has seen changes of a transaction must not get it again from a node that is behind.
        needed = position.lsn + (position.index > 0)
        if self._tail.processed.lsn < needed:
            # The engine may have died before it rang here.
            await self._tail.catch_up()
        if not await self._tail.reached(needed, self._ahead_seconds):
            raise OutOfBoundsError("out of bounds for this shape")
        try:
            return Place(await self._feeds.open(shape, position), position, stitch)
        except (OutOfLogError, RotatedError) as error:
            self._noticed(shape, error)
            raise MustRefetchError(None) from error

    async def read(self, place: Place, most: int) -> Reading:
        """What comes after a place, stitch included. Raises MustRefetchError."""
        try:
            reading = await self._feeds.read(place.feed, place.position, most)
        except (OutOfLogError, RotatedError) as error:
            self._noticed(place.feed.shape, error)
            raise MustRefetchError(None) from error
        if place.stitch:
            return reading._replace(messages=[*place.stitch, *reading.messages])
        return reading

    def _noticed(self, shape: Shape, error: PgtideError) -> None:
        """A reader came upon the end of its shape on the way through the log."""
        if isinstance(error, RotatedError) and error.lsn is not None:
            self._store.retire(shape.hash, error.lsn)
            self._definitions.forget(shape.table.oid)

    def renewed(self, position: Offset) -> Offset:
        """The offset to give to a reader who waited in vain.

        One that the log may soon not reach back to is replaced by a newer one, which is the same for
        all readers for a long time, so that equal requests stay equal.
        """
        end = self._tail.processed.lsn
        window = end - self._tail.horizon.lsn
        young = time.time() - self._tail.epoch / 1e6 < self._retention_age / 4
        if (young and window < self._retention_bytes // 4) or position.lsn >= end - window // 4:
            return position
        stride = 1 << max(window.bit_length() - 4, 3)
        return max(position, Offset(end // stride * stride, 0))

    # -- upkeep ------------------------------------------------------------------------------------

    def end(self, feed: Feed, lsn: int) -> None:
        """The log shows that a shape has ended (truncate, altered table)."""
        log.info("shape %s of %s.%s has ended", feed.shape.hash, *_name(feed.shape))
        self._store.retire(feed.shape.hash, lsn)
        self._definitions.forget(feed.shape.table.oid)
        self._feeds.drop(feed, lsn)

    def end_columns(self, oid: int, columns: frozenset[str]) -> None:
        """The catalog shows that what readers have of these columns is no longer good.

        Which handles that concerns is for `Definitions.ended`: a new one may be of the same shape.
        """
        for one in self._tail.routing.subscribers():
            if isinstance(one, Feed) and _reads(one.shape, oid, columns):
                log.info("shape %s of %s.%s begins anew", one.shape.hash, *_name(one.shape))
                self._feeds.drop(one)

    def end_table(self, oid: int) -> None:
        """A query shows that a table is not what a shape took it for."""
        self._definitions.forget(oid)

    def exists(self, shape: Shape) -> bool:
        """Whether anybody has a handle of the shape that is good."""
        return self._store.named(shape.hash)

    def delete(self, shape_hash: int, handle: Handle | None = None) -> bool:
        """Drop a shape on request; False if there is none that anybody could read, with `handle`."""
        if not self._store.named(shape_hash):
            return False
        if handle is not None and self._store.retired(handle):
            return False
        self._store.delete(shape_hash)
        self.follow_deletions()
        return True

    def follow_deletions(self) -> None:
        """Drop the shapes whose deletion was asked for, here or at another node."""
        for number, shape_hash in self._store.deletions(self._deleted).items():
            self._deleted = number
            feed = self._feeds.get(shape_hash)
            if feed is not None:
                self._feeds.drop(feed)

    def finish(self, definition: Definition, shape: Shape, handle: Handle) -> None:
        """A reader of the shape has got all that is expected to come."""
        self._ended.note(definition, shape, handle)

    def forget_idle(self, seconds: float) -> None:
        """Forget the feeds that nobody has used for so long, and sooner those that are at their end."""
        self._ended.sweep(time.monotonic())
        self.released = self._ended.released
        self._feeds.forget_idle(seconds)

    def forget_surplus(self, most: int, seconds: float) -> None:
        """Forget feeds beyond so many; a client that returns to one goes on from its offset."""
        gone = self._feeds.forget_surplus(most, seconds)
        if gone:
            log.info("forgot %d shapes beyond max_shapes=%d", gone, most)

    async def sweep(self, most: int | None = None) -> None:
        """Remove snapshots that are of no use any more, and the oldest beyond `most`."""
        await asyncio.to_thread(self._store.sweep, time.time() - SNAPSHOT_IDLE_SECONDS, most)

    def _worthwhile(self, shape: Shape, record: SnapshotRecord) -> bool:
        """Whether a new reader is better served with this snapshot than with a new one."""
        if record.state != "done":
            return True
        tail = self._tail
        window = tail.processed.lsn - tail.horizon.lsn
        young = window < self._retention_bytes // 4
        margin = 0 if young else min(window // 2, self._retention_bytes // 4)
        if record.lsn < tail.horizon.lsn + margin:
            return False  # The log will soon not reach back to it.
        worth = 2 * sum(record.chunks)
        feed = self._feeds.get(shape.hash)
        if feed is None:
            return tail.processed.lsn - record.lsn <= max(worth, CHEAP_SEARCH_BYTES)
        replayed = feed.count_after(Offset(record.lsn, 0)) * MESSAGE_BYTES
        return replayed <= max(worth, CHEAP_REPLAY_BYTES)


def _require_good(record: SnapshotRecord) -> None:
    """A reader has begun with this snapshot: if it failed since, there is nothing to wait for."""
    if record.state == "failed":
        raise MustRefetchError(None)


def _reads(shape: Shape, oid: int, columns: frozenset[str]) -> bool:
    return shape.table.oid == oid and (EVERYTHING in columns or not columns.isdisjoint(shape.reads))


def _name(shape: Shape) -> tuple[str, str]:
    return shape.table.schema, shape.table.name
