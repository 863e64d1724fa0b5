"""Bringing feeds from where their clients are to where the node is.

After a restart thousands of clients return at once. Their shapes are put into a routing of their own
together and the log is read once, from the oldest offset, until it meets the node's tail.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from engine.errors import PgtideError
from engine.log.layout import Block
from engine.lsn import Offset
from shapes.following.encoder import Entry
from shapes.following.feed import Feed, RotatedError, end_of
from shapes.following.routing import Routing
from shapes.following.tail import STEP_BYTES, STEP_SECONDS, Tail
from shapes.shape import Shape

log = logging.getLogger("node")


class OutOfLogError(PgtideError):
    """The log does not reach back to this offset any more: the client has to fetch anew."""

    code = "out_of_log"


class Activation:
    """Opens feeds. All that are asked for while one pass over the log runs share the next pass."""

    def __init__(self, tail: Tail) -> None:
        self._tail = tail
        self._wanted: dict[Feed, asyncio.Future[None]] = {}
        self._more = asyncio.Event()

    async def run(self) -> None:
        """Make passes until cancelled."""
        while True:
            await self._more.wait()
            self._more.clear()
            wanted, self._wanted = self._wanted, {}
            try:
                await _Pass(self._tail, wanted).run()
            except Exception as error:
                log.exception("a pass over the log failed")
                _fail(wanted, error)
            finally:
                _fail(wanted, RotatedError())

    async def open(self, shape: Shape, start: Offset) -> Feed:
        """A feed of `shape` from `start` that is part of the tail's routing.

        Raises OutOfLogError, and RotatedError if the shape ended since `start`.
        """
        feed = Feed(shape, start)
        tail = self._tail
        if start >= tail.cursor and tail.between_transactions:
            tail.routing.add(feed, tail.cursor)
            return feed
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wanted[feed] = future
        self._more.set()
        await future
        return feed


class _Pass:
    """One pass over the log, for all the feeds that were wanted when it began."""

    def __init__(self, tail: Tail, wanted: dict[Feed, asyncio.Future[None]]) -> None:
        self._tail = tail
        self._wanted = wanted
        self._routing = Routing(tail.encoders)
        self._gates = {feed: _Gate(feed) for feed in wanted}
        self._start = min(feed.start for feed in wanted)
        for gate in self._gates.values():
            self._routing.add(gate, self._start)

    async def run(self) -> None:
        """Read from the oldest start to the tail's cursor, then let the feeds join its routing."""
        tail = self._tail
        starts = tail.starts
        position = self._start
        while position < tail.cursor:
            position = self._step(position)
            await asyncio.sleep(0)
            if tail.starts != starts:
                return
        for feed, future in self._wanted.items():
            if not future.done():
                tail.routing.add(feed, tail.cursor)
                if feed.last is not None and feed.last >= tail.processed:
                    tail.routing.touched.add(feed)
                future.set_result(None)

    def _step(self, position: Offset) -> Offset:
        """Route a slice of the log, at most up to the tail's cursor; where it ended."""
        deadline = time.monotonic() + STEP_SECONDS
        cursor = self._tail.cursor
        state, blocks = self._tail.log.read(position, most=STEP_BYTES)
        if position < state.horizon:
            for feed in self._wanted:
                if feed.start < state.horizon:
                    self._fail(feed, OutOfLogError(f"the log begins at {state.horizon}"))
        for block in blocks:
            if block.last > cursor:
                return cursor
            self._routing.apply(block, position)
            self._drop_ended()
            position = _after(block)
            if time.monotonic() > deadline:
                return position
        return position if blocks else cursor

    def _drop_ended(self) -> None:
        ended, self._routing.ended = self._routing.ended, []
        for subscriber, lsn in ended:
            # What ended other shapes of the table before this one was born does not concern it.
            if isinstance(subscriber, _Gate) and lsn >= subscriber.feed.start.lsn:
                self._fail(subscriber.feed, RotatedError(lsn))

    def _fail(self, feed: Feed, error: Exception) -> None:
        self._routing.remove(self._gates[feed])
        if not self._wanted[feed].done():
            self._wanted[feed].set_exception(error)


class _Gate:
    """Keeps from a feed what comes before its start: in one pass each feed has its own."""

    __slots__ = ("feed", "shape")

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.shape = feed.shape

    def record(self, entry: Entry) -> None:
        if (entry.lsn, entry.index) > self.feed.start:
            self.feed.record(entry)


class Collector:
    """Takes the entries of one shape, as far as `most` bytes of messages, estimated, go."""

    def __init__(self, shape: Shape, most: int) -> None:
        self.shape = shape
        self.entries: list[Entry] = []
        self._left = most

    @property
    def full(self) -> bool:
        return self._left <= 0

    def record(self, entry: Entry) -> None:
        self.entries.append(entry)
        for row in (entry.new, entry.old):
            if row is not None:
                self._left -= 40 + sum([len(v) + 12 if isinstance(v, str) else 12 for v in row])


def _nothing_seen(_: int) -> bool:
    return False


async def collect(
    tail: Tail,
    shape: Shape,
    after: Offset,
    until: Offset,
    most: int,
    seen: Callable[[int], bool] = _nothing_seen,
    cutoff: str | None = None,
) -> tuple[list[Entry], Offset]:
    """The shape's changes with `after` < offset <= `until`, read straight from the log.

    About `most` bytes of them; the second result is the offset up to which they are complete.
    Raises OutOfLogError, and RotatedError if the shape ends on the way, unless the transaction that
    ends it is `seen` (by its 32-bit id): a snapshot of the shape has been taken after it. With
    `cutoff` its window stays there, see `Routing`.
    """
    if after < tail.horizon:
        raise OutOfLogError(f"the log begins at {tail.horizon}")
    if cutoff is not None:
        # Where a window begins anew nobody knows what has left it.
        seen = _nothing_seen
    collector = Collector(shape, most)
    routing = Routing(tail.encoders, cutoff=cutoff)
    routing.add(collector, after)
    starts, position = tail.starts, after
    while position < until and not collector.full:
        position = _collect_step(tail, routing, collector, position, until, seen)
        await asyncio.sleep(0)
        if tail.starts != starts:
            raise RotatedError()
    entries = [entry for entry in collector.entries if (entry.lsn, entry.index) <= until]
    return entries, until if position >= until else end_of(entries[-1])


def _collect_step(
    tail: Tail,
    routing: Routing,
    collector: Collector,
    position: Offset,
    until: Offset,
    seen: Callable[[int], bool],
) -> Offset:
    deadline = time.monotonic() + STEP_SECONDS
    state, blocks = tail.log.read(position, most=STEP_BYTES)
    if position < state.horizon:
        raise OutOfLogError(f"the log begins at {state.horizon}")
    for block in blocks:
        if (block.commit_lsn, block.index) > until:
            return until
        routing.apply(block, position)
        if routing.ended and not seen(block.xid):
            raise RotatedError(routing.ended[0][1])
        routing.ended.clear()
        position = _after(block)
        if collector.full or time.monotonic() > deadline:
            return position
    return position if blocks else until


def _after(block: Block) -> Offset:
    return Offset(block.end_lsn, 0) if block.end_lsn else block.last


def _fail(wanted: dict[Feed, asyncio.Future[None]], error: Exception) -> None:
    for future in wanted.values():
        if not future.done():
            future.set_exception(error)
