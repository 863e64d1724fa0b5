"""A client of a node without HTTP: reads pages, then takes batches, as long-polls and streams do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from brute_force import Followed, Message, decoded
from log_builder import Follower, following

from engine.lsn import Offset
from shapes.activation import Activation
from shapes.feed import Batch, Feed, RotatedError
from shapes.feeds import Feeds


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


class Client:
    """One reader of one shape. Keeps what it is told, and how far it has come."""

    def __init__(self, of: ReadingNode, followed: Followed, start: Offset, most: int) -> None:
        self._node = of
        self.followed = followed
        self.start = start
        self._most = most
        self._feed: Feed | None = None
        self._behind = True
        self.position = start
        self.messages: list[Message] = []
        self.pages: list[Offset] = []
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
            self._take(reading.messages, reading.end)
            # A complete page may have grown old while it was sent; an empty one has not.
            complete = complete and not reading.messages
        self._behind = False
        self._feed.attach(self, self._node.tail.processed)

    async def catch_up(self) -> None:
        """Read on if a batch was too large to be at hand."""
        if self._behind:
            await self.read()

    def deliver(self, batch: Batch) -> bool:
        assert batch.lsn > self.position.lsn
        if batch.messages is None:
            self._behind = True
            return False
        assert batch.end > self.position
        self._take(batch.messages, batch.end)
        return True

    def end(self, error: RotatedError) -> None:
        self.ended = error

    def _take(self, messages: list[bytes], end: Offset) -> None:
        self.messages += decoded(messages)
        self.position = end
        self.pages.append(end)
