"""A node with one stream and clients who wait for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from stream_box import StreamBox

from engine.configuration.settings import Settings
from shapes.access.authority import Authority
from shapes.access.grant import Grant
from shapes.access.leases import Leases
from shapes.streams.live.event_reader import Ending, Policy
from shapes.streams.live.event_streams import EventStreams
from shapes.streams.live.live_stream import LiveStream
from shapes.streams.stream import Chunk

FOREVER = Policy()


@dataclass(frozen=True)
class Plain:
    """Messages as they are, `.` when the stream is closed, `?` now and then."""

    def encode(self, chunks: Sequence[Chunk], tail: int, closed: bool) -> tuple[bytes, int]:
        end = chunks[-1].end if chunks else tail
        return b"".join(one.data for one in chunks) + (b"." if closed else b""), end

    def idle(self, position: int, closed: bool) -> bytes:
        return b"?"


@dataclass(frozen=True)
class Words(Plain):
    """Holds back what does not end with a space."""

    def encode(self, chunks: Sequence[Chunk], tail: int, closed: bool) -> tuple[bytes, int]:
        whole = list(chunks)
        while whole and not closed and not whole[-1].data.endswith(b" "):
            whole.pop()
        if not whole:
            return (b"." if closed else b""), chunks[0].position if chunks else tail
        return super().encode(whole, tail, closed)


class Client:
    """The client's end of an answer. With `stuck` it takes nothing."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self._taking = asyncio.Event()
        self._taking.set()

    @property
    def text(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def behind(self) -> bool:
        return not self._taking.is_set()

    def stick(self) -> None:
        self._taking.clear()

    def go_on(self) -> None:
        self._taking.set()

    def stream(self, data: bytes) -> bool:
        assert not self.behind
        # In a body sent in chunks that would be the end.
        assert data
        self.pieces.append(data)
        return self.behind

    async def drained(self) -> None:
        await self._taking.wait()

    async def got(self, text: bytes) -> None:
        async with asyncio.timeout(60):
            while self.text != text:
                await asyncio.sleep(0.001)


class Node:
    """A node with one stream, `a`."""

    def __init__(self) -> None:
        self.box = StreamBox()
        self.box.make("a")
        self.now = time.time()
        """In seconds since 1970, for grants that end."""
        self.leases = Leases(Authority(Settings.from_environ({})), lambda: self.now)
        self.streams = EventStreams(self.box.hub, self.box, self.leases)

    def say(self, *data: bytes, inline: bool = True, close: bool = False) -> None:
        self.box.append("a", *data, inline=inline, close=close)
        self.box.pass_on()

    async def live(self) -> LiveStream:
        return await self.box.follow("a")

    @asynccontextmanager
    async def reader(
        self,
        position: int = 0,
        policy: Policy = FOREVER,
        framing: Plain | None = None,
        grant: Grant | None = None,
        over: asyncio.Future[None] | None = None,
    ) -> AsyncGenerator[tuple[Client, asyncio.Task[Ending]]]:
        client = Client()
        live = await self.live()
        task = asyncio.create_task(
            self.streams.run(live, position, client, framing or Plain(), policy, grant, over)
        )
        await asyncio.sleep(0)
        yield client, task
        task.cancel()
        await asyncio.wait([task])
