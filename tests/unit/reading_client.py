"""A client of a node without HTTP: reads pages, then takes batches, as long-polls and streams do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from brute_force import Followed, Message, decoded, expected
from log_builder import Follower, Transaction, following

from engine.lsn import Offset
from shapes.following.activation import Activation
from shapes.following.feed import Batch, Feed, RotatedError
from shapes.following.feeds import Feeds


class ReadingNode:
    """A tail, feeds, and what brings them together."""

    def __init__(self, follower: Follower) -> None:
        self.follower = follower
        self.tail = follower.tail
        self.activation = Activation(self.tail)
        self.feeds = Feeds(self.tail, self.activation)


@asynccontextmanager
async def node(folder: Path) -> AsyncGenerator[ReadingNode]:
    """A node over a log, which it follows when told to."""
    async with following(folder) as follower:
        one = ReadingNode(follower)
        activating = asyncio.create_task(one.activation.run())
        try:
            yield one
        finally:
            activating.cancel()
            await asyncio.wait([activating])


def _never() -> bool:
    return False


class Client:
    """One reader of one shape. Keeps what it is told, and how far it has come.

    `slow` says after each batch whether the connection is stuck now: then what comes is not taken
    until `catch_up`.
    """

    def __init__(
        self,
        of: ReadingNode,
        followed: Followed,
        start: Offset,
        most: int,
        slow: Callable[[], bool] = _never,
    ) -> None:
        self._node = of
        self.followed = followed
        self.start = start
        self._most = most
        self._feed: Feed | None = None
        self._slow = slow
        self._stuck = False
        self._behind = True
        self.position = start
        self.messages: list[Message] = []
        self.pages: list[Offset] = []
        self._marks: list[tuple[int, int]] = []
        self.ended: RotatedError | None = None

    async def open(self) -> None:
        self._feed = await self._node.feeds.open(self.followed.shape, self.position)

    async def read(self) -> None:
        """Read all there is, then wait for batches."""
        if self._feed is None:
            await self.open()
        assert self._feed is not None
        complete = False
        while not complete:
            reading = await self._node.feeds.read(self._feed, self.position, self._most)
            complete = reading.complete
            assert complete or reading.messages, "a page that goes on is not empty"
            assert not reading.messages or reading.end > self.position
            assert reading.end >= self.position
            assert not complete or reading.lsn >= reading.end.lsn
            self._take(reading.messages, reading.end, reading.lsn if complete else None)
            # A complete page may have grown old while it was sent; an empty one has not.
            complete = complete and not reading.messages
        self._behind = False
        self._feed.attach(self, self._node.tail.processed)

    async def catch_up(self) -> None:
        """Go on if stuck, and read on if what was missed is not at hand."""
        assert self._feed is not None
        if self._stuck:
            self._stuck = False
            batches = self._feed.recent_after(self.position)
            for batch in batches or ():
                self._take(batch.messages, batch.end, batch.lsn)
            if batches is None:
                self._feed.detach(self)
                self._behind = True
        if self._behind:
            await self.read()

    def deliver(self, batch: Batch | None) -> bool:
        if self._stuck:
            return True
        if batch is None:
            self._behind = True
            return False
        assert batch.lsn > self.position.lsn
        first = batch.entries[0]
        assert self.position < (first.lsn, first.index)
        self._take(batch.messages, batch.end, batch.lsn)
        self._stuck = self._slow()
        return True

    def end(self, error: RotatedError) -> None:
        self.ended = error

    def check(self, history: list[Transaction]) -> None:
        """It was told what it had to be, and whenever it was told "up to date" that was so."""
        wanted = expected(self.followed, history, self.start)
        assert self.messages == wanted, (self.followed.shape.condition, self.start)
        for lsn, told in self._marks:
            before = [one for one in wanted if int(one["headers"]["lsn"]) < lsn]
            assert wanted[:told] == before, (self.followed.shape.condition, self.start, lsn)

    def _take(self, messages: list[bytes], end: Offset, up_to_date: int | None) -> None:
        self.messages += decoded(messages)
        if up_to_date is not None:
            self._marks.append((up_to_date, len(self.messages)))
        self.position = end
        self.pages.append(end)
