"""All feeds of a node: opening, reading, forgetting."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import NamedTuple

from engine.log.layout import INDEX_STEP, Block, Change
from engine.lsn import Offset
from shapes.following.activation import Activation, OutOfLogError, collect
from shapes.following.encoder import Entry
from shapes.following.encoders import Encoders
from shapes.following.feed import WARM_SECONDS, Feed, RotatedError, end_of
from shapes.following.tail import STEP_SECONDS, Tail
from shapes.shape import Shape

PAGE_ENTRIES = 512
PAGE_BYTES = 1 << 20
"""How much is read from the log at a time, about, before it is encoded."""


KEPT_BYTES = 16 << 20
MOST_KEPT = 4096
DECODED_BLOCKS = 32

_Key = tuple[int, Offset, int]
_Version = tuple[int, Offset]


class Reading(NamedTuple):
    """Messages of a feed after some offset.

    `end` is the offset after them. `complete`: nothing more has been processed for this feed; then
    everything that commits before `lsn` is in.
    """

    messages: list[bytes]
    end: Offset
    complete: bool
    lsn: int


class Feeds:
    """The feeds that are part of the routing, by shape."""

    def __init__(self, tail: Tail, activation: Activation) -> None:
        self._tail = tail
        self._activation = activation
        self._feeds: dict[int, Feed] = {}
        self._opening: dict[int, asyncio.Future[Feed]] = {}
        self._kept: dict[_Key, tuple[_Version, Reading, int]] = {}
        self._kept_bytes = 0
        self._decoded: dict[int, tuple[Block, list[Change]]] = {}

    def __len__(self) -> int:
        return len(self._feeds)

    def get(self, shape_hash: int) -> Feed | None:
        return self._feeds.get(shape_hash)

    async def open(self, shape: Shape, after: Offset) -> Feed:
        """The feed of a shape, brought to the node's tail if it is not there yet.

        Raises OutOfLogError and RotatedError.
        """
        feed = self._feeds.get(shape.hash)
        if feed is not None:
            feed.last_used = time.monotonic()
            return feed
        opening = self._opening.get(shape.hash)
        if opening is not None and not opening.done():
            # Somebody else's offset may be too old; that says nothing about this one.
            with contextlib.suppress(OutOfLogError, RotatedError):
                return await _outcome(opening)
            return await self.open(shape, after)
        opening = asyncio.ensure_future(self._open(shape, after))
        self._opening[shape.hash] = opening
        opening.add_done_callback(lambda done: self._opened(shape, done))
        return await _outcome(opening)

    async def read(self, feed: Feed, after: Offset, most: int) -> Reading:
        """What the feed has after `after`, until it has `most` bytes.

        Raises OutOfLogError and RotatedError.
        """
        batches = feed.recent_after(after)
        if batches is not None:
            feed.check()
            messages = [message for batch in batches for message in batch.messages]
            if sum(map(len, messages)) <= most:
                end = batches[-1].end if batches else after
                lsn = max(self._tail.last_commit_end, after.lsn)
                return Reading(messages, end, complete=True, lsn=lsn)
        key = (feed.shape.hash, after, most)
        kept = self._kept.get(key)
        if kept is not None and kept[0] == feed.version:
            feed.check()
            return kept[1]._replace(lsn=max(kept[1].lsn, self._tail.last_commit_end))
        reading = await self._read(feed, after, most)
        last = feed.last
        if reading.complete and reading.messages and last is not None and last == reading.end:
            self._keep(key, feed.version, reading)
        return reading

    def _keep(self, key: _Key, version: _Version, reading: Reading) -> None:
        """Many readers come from the same offset; small readings are kept for the next."""
        size = sum(map(len, reading.messages))
        if size > KEPT_BYTES // 64:
            return
        if (former := self._kept.pop(key, None)) is not None:
            self._kept_bytes -= former[2]
        self._kept[key] = (version, reading, size)
        self._kept_bytes += size
        while self._kept_bytes > KEPT_BYTES or len(self._kept) > MOST_KEPT:
            self._kept_bytes -= self._kept.pop(next(iter(self._kept)))[2]

    async def _read(self, feed: Feed, after: Offset, most: int) -> Reading:
        tail = self._tail
        page = _Page(tail.encoders, feed.shape, after, most)
        position = after
        while not page.full:
            until = min(feed.start, tail.processed)
            if position >= until:
                break
            entries, position = await collect(
                tail, feed.shape, position, until, min(PAGE_BYTES, 2 * page.left)
            )
            page.add(entries)
        # From here on nothing waits if there is nothing more: whoever then asks for the next batch
        # misses nothing in between.
        feed.check()
        processed = tail.processed
        lsn = max(tail.last_commit_end, position.lsn)
        places = feed.positions_after(position, processed) if position < processed else []
        taken = 0
        while taken < len(places) and not page.full:
            entries = await self._fetch(places[taken : taken + PAGE_ENTRIES])
            taken += len(entries)
            page.add(entries)
        feed.check()
        return page.finish(lsn, more=taken < len(places))

    def drop(self, feed: Feed, lsn: int | None = None) -> None:
        """Take a feed out; its readers learn that the shape has ended."""
        if self._feeds.get(feed.shape.hash) is feed:
            del self._feeds[feed.shape.hash]
        self._tail.routing.remove(feed)
        feed.rotate(lsn)

    def forget_all(self) -> None:
        """The log has begun anew: no feed connects with it."""
        self._feeds.clear()
        self._kept.clear()
        self._kept_bytes = 0
        self._decoded.clear()

    def forget_idle(self, seconds: float) -> int:
        """Take out feeds that nobody has used for so long; a client that returns opens them again.

        The others forget the batches that they kept for readers who come back at once.
        """
        warm = time.monotonic() - WARM_SECONDS
        for feed in self._feeds.values():
            feed.cool(warm)
        before = time.monotonic() - seconds
        idle = [feed for feed in self._feeds.values() if feed.last_used < before]
        for feed in idle:
            del self._feeds[feed.shape.hash]
            self._tail.routing.remove(feed)
        return len(idle)

    def release(self, shape_hash: int, before: float) -> bool:
        """Take out a feed that nobody waits at or has used since `before` (of the monotonic clock).
        False if it has to stay."""
        feed = self._feeds.get(shape_hash)
        if feed is None:
            return shape_hash not in self._opening
        if feed.awaited or feed.last_used >= before:
            return False
        del self._feeds[shape_hash]
        self._tail.routing.remove(feed)
        return True

    def forget_surplus(self, most: int, seconds: float) -> int:
        """Take out the least recently used feeds beyond `most`; never one used within `seconds`,
        which somebody may be about to read or to wait at. How many went."""
        surplus = len(self._feeds) - most
        if surplus <= 0:
            return 0
        before = time.monotonic() - seconds
        unused = sorted(
            (feed for feed in self._feeds.values() if feed.last_used < before),
            key=lambda feed: feed.last_used,
        )
        for feed in unused[:surplus]:
            del self._feeds[feed.shape.hash]
            self._tail.routing.remove(feed)
        return min(surplus, len(unused))

    def _opened(self, shape: Shape, opening: asyncio.Future[Feed]) -> None:
        if self._opening.get(shape.hash) is opening:
            del self._opening[shape.hash]
        if not opening.cancelled():
            # Those who asked may all be gone.
            opening.exception()

    async def _open(self, shape: Shape, after: Offset) -> Feed:
        feed = await self._activation.open(shape, after)
        self._feeds[shape.hash] = feed
        return feed

    async def _fetch(self, places: list[tuple[int, int, int]]) -> list[Entry]:
        """Read the changes at these positions from the log, in slices."""
        entries: list[Entry] = []
        block: Block | None = None
        changes: list[Change] = []
        deadline = time.monotonic() + STEP_SECONDS
        for lsn, index, kind in places:
            if block is None or lsn != block.commit_lsn or index > block.last.index:
                block, changes = self._block(lsn, index)
            version, _, new, old = changes[(index - block.index) // INDEX_STEP]
            entries.append(Entry(lsn, index, kind, version, block.xid, new, old))
            if time.monotonic() > deadline:
                await asyncio.sleep(0)
                deadline = time.monotonic() + STEP_SECONDS
        return entries

    def _block(self, lsn: int, index: int) -> tuple[Block, list[Change]]:
        """The block with a change. The last few stay decoded: changes of one transaction concern many
        feeds, whose readers ask one after the other."""
        decoded = self._decoded.get(lsn)
        if decoded is not None and decoded[0].index <= index <= decoded[0].last.index:
            return decoded
        block = self._tail.log.block_at(lsn, index)
        if block is None:
            raise OutOfLogError("the log was trimmed while it was read")
        decoded = (block, block.changes())
        self._decoded[lsn] = decoded
        if len(self._decoded) > DECODED_BLOCKS:
            del self._decoded[next(iter(self._decoded))]
        return decoded


async def _outcome(opening: asyncio.Future[Feed]) -> Feed:
    """What becomes of an opening, which goes on for others if who waits here is cancelled."""
    await asyncio.wait([opening])
    return opening.result()


class _Page:
    """Messages of one reading, until they are enough.

    One entry is always held back until the next is known, which tells whether it is its transaction's
    last.
    """

    def __init__(self, encoders: Encoders, shape: Shape, after: Offset, most: int) -> None:
        self._encoders = encoders
        self._shape = shape
        self._left = most
        self._messages: list[bytes] = []
        self._held: list[Entry] = []
        self._end = after

    @property
    def left(self) -> int:
        """How many bytes still fit."""
        return self._left

    @property
    def full(self) -> bool:
        return self._left <= 0

    def add(self, entries: list[Entry]) -> None:
        """Take what fits of the next entries."""
        entries = self._held + entries
        if entries:
            self._encode(entries[:-1], entries[-1].lsn)
            self._held = entries[-1:]

    def finish(self, lsn: int, *, more: bool) -> Reading:
        """The reading; `more`: there are entries that were not added."""
        if not self.full:
            self._encode(self._held, 0)
            self._held = []
        return Reading(self._messages, self._end, not more and not self._held, lsn)

    def _encode(self, entries: list[Entry], next_lsn: int) -> None:
        if entries:
            messages, taken = self._encoders.encode_some(self._shape, entries, next_lsn, self._left)
            self._messages += messages
            self._left -= sum(map(len, messages)) + 2 * len(messages)
            self._end = end_of(entries[taken - 1])
