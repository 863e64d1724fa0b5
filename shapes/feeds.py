"""All feeds of a node: opening, reading, forgetting."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

from engine.log.layout import INDEX_STEP, Block, Change
from engine.lsn import Offset
from shapes.activation import Activation, OutOfLogError, collect
from shapes.encoder import Entry
from shapes.feed import Feed, end_of
from shapes.shape import Shape
from shapes.tail import STEP_SECONDS, Tail


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

    def __len__(self) -> int:
        return len(self._feeds)

    def get(self, shape: Shape) -> Feed | None:
        return self._feeds.get(shape.hash)

    async def open(self, shape: Shape, after: Offset) -> Feed:
        """The feed of a shape, brought to the node's tail if it is not there yet.

        Raises OutOfLogError and RotatedError.
        """
        feed = self._feeds.get(shape.hash)
        if feed is not None:
            feed.last_used = time.monotonic()
            return feed
        opening = self._opening.get(shape.hash)
        if opening is None:
            opening = asyncio.ensure_future(self._open(shape, after))
            self._opening[shape.hash] = opening
            opening.add_done_callback(lambda _: self._opening.pop(shape.hash, None))
        return await asyncio.shield(opening)

    async def read(self, feed: Feed, after: Offset, most: int) -> Reading:
        """About `most` bytes of what the feed has after `after`; at least one message if there is any.

        Raises OutOfLogError and RotatedError.
        """
        tail = self._tail
        messages: list[bytes] = []
        position = end = after
        if position < feed.start:
            until = min(feed.start, tail.processed)
            entries, position = await collect(tail, feed.shape, position, until, most)
            if position < until:
                messages = tail.encoders.encode(feed.shape, entries, entries[-1].lsn)
                return Reading(messages, position, complete=False, lsn=position.lsn)
            if entries:
                messages = tail.encoders.encode(feed.shape, entries)
                end = end_of(entries[-1])
                most -= sum(map(len, messages))
        feed.check()
        # From here on nothing waits if there is nothing more: whoever then asks for the next batch
        # misses nothing in between.
        processed = tail.processed
        lsn = max(tail.last_commit_end, position.lsn)
        places = feed.positions_after(position, processed) if position < processed else []
        if not places:
            return Reading(messages, end, complete=True, lsn=lsn)
        if messages and most <= 0:
            return Reading(messages, end, complete=False, lsn=lsn)
        entries = await self._fetch(places, most)
        feed.check()
        complete = len(entries) == len(places)
        next_lsn = 0 if complete else places[len(entries)][0]
        messages += tail.encoders.encode(feed.shape, entries, next_lsn)
        return Reading(messages, end_of(entries[-1]), complete, lsn)

    def drop(self, feed: Feed, lsn: int | None = None) -> None:
        """Take a feed out; its readers learn that the shape has ended."""
        if self._feeds.get(feed.shape.hash) is feed:
            del self._feeds[feed.shape.hash]
        self._tail.routing.remove(feed)
        feed.rotate(lsn)

    def forget_all(self) -> None:
        """The log has begun anew: no feed connects with it."""
        self._feeds.clear()

    def forget_idle(self, seconds: float) -> int:
        """Take out feeds that nobody has used for so long; a client that returns opens them again."""
        before = time.monotonic() - seconds
        idle = [feed for feed in self._feeds.values() if feed.last_used < before]
        for feed in idle:
            del self._feeds[feed.shape.hash]
            self._tail.routing.remove(feed)
        return len(idle)

    async def _open(self, shape: Shape, after: Offset) -> Feed:
        feed = await self._activation.open(shape, after)
        self._feeds[shape.hash] = feed
        return feed

    async def _fetch(self, places: list[tuple[int, int, int]], most: int) -> list[Entry]:
        """Read the changes at these positions from the log, in slices."""
        entries: list[Entry] = []
        block: Block | None = None
        changes: list[Change] = []
        deadline = time.monotonic() + STEP_SECONDS
        for lsn, index, kind in places:
            if block is None or lsn != block.commit_lsn or index > block.last.index:
                block = self._tail.log.block_at(lsn, index)
                if block is None:
                    raise OutOfLogError("the log was trimmed while it was read")
                changes = block.changes()
                most -= len(block.payload) // max(block.count, 1)
            version, _, new, old = changes[(index - block.index) // INDEX_STEP]
            entries.append(Entry(lsn, index, kind, version, block.xid, new, old))
            most -= len(block.payload) // block.count
            if most <= 0:
                break
            if time.monotonic() > deadline:
                await asyncio.sleep(0)
                deadline = time.monotonic() + STEP_SECONDS
        return entries
