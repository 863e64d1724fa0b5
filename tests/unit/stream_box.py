"""Streams in memory, and a node's view of them: what is committed is seen when the test says so."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from shapes.streams.live.hub import StreamHub
from shapes.streams.live.live_stream import LiveStream
from shapes.streams.notice import CLOSED, GONE, Notice, pack_notices
from shapes.streams.stream import Chunk, StreamState

ENVIRONMENT = "default"


def state_of(number: int, path: str, content_type: str = "text/plain") -> StreamState:
    return StreamState(number, ENVIRONMENT, path, content_type, 0, 0, 0, False, None, None, None)


@dataclass
class Rows:
    """A stream as the database has it."""

    state: StreamState
    chunks: list[Chunk] = field(default_factory=list[Chunk])


class StreamBox:
    """The database, and the hub of a node that follows it.

    `append` commits; the hub hears of it with `pass_on`. `held` holds look-ups up, after they have
    seen the database.
    """

    def __init__(self) -> None:
        self.streams: dict[str, Rows] = {}
        self._numbers = 0
        self._unheard: list[Notice] = []
        self.finds = 0
        self.reads = 0
        self.held: asyncio.Event | None = None
        self.down: Exception | None = None
        self.touched: list[str] = []
        self.hub = StreamHub(self, self)

    # -- the database ------------------------------------------------------------------------------

    def make(self, path: str, content_type: str = "text/plain") -> int:
        self._numbers += 1
        self.streams[path] = Rows(state_of(self._numbers, path, content_type))
        return self._numbers

    def append(self, path: str, *data: bytes, inline: bool = True, close: bool = False) -> None:
        rows = self.streams[path]
        for one in data:
            tail = rows.state.tail
            rows.chunks.append(Chunk(tail, 1, 0, one))
            rows.state = replace(rows.state, tail=tail + 1)
            self.notice(rows.state.id, tail, 1, 0, one if inline else None)
        if close:
            rows.state = replace(rows.state, closed=True)
            self.notice(rows.state.id, rows.state.tail, 0, CLOSED)

    def delete(self, path: str) -> None:
        state = self.streams.pop(path).state
        self.notice(state.id, state.tail, 0, GONE)

    def notice(
        self, number: int, position: int, messages: int, flags: int = 0, data: bytes | None = b""
    ) -> None:
        """The hub will hear this."""
        self._unheard.append(Notice(number, position, messages, flags, 0, data))

    async def find(self, environment: str, path: str) -> StreamState | None:
        assert environment == ENVIRONMENT
        self.finds += 1
        rows = self.streams.get(path)
        state = None if rows is None else rows.state
        if self.held is not None:
            await self.held.wait()
        if self.down is not None:
            raise self.down
        return state

    async def touch(self, *states: StreamState) -> None:
        self.touched += [state.path for state in states]

    async def chunks(self, state: StreamState, position: int, most_bytes: int) -> list[Chunk]:
        self.reads += 1
        await asyncio.sleep(0)
        found: list[Chunk] = []
        for chunk in self.streams[state.path].chunks:
            if position <= chunk.position < state.tail and most_bytes > 0:
                found.append(chunk)
                most_bytes -= len(chunk.data)
        return found

    # -- the node ----------------------------------------------------------------------------------

    async def catch_up(self) -> None:
        """The log has nothing that the hub has not heard."""

    def note(self) -> None:
        """The hub hears of what was committed; its transaction is not complete yet."""
        unheard, self._unheard = self._unheard, []
        if unheard:
            self.hub.note(pack_notices(unheard))

    def pass_on(self) -> None:
        """The hub hears of what was committed."""
        self.note()
        if self.hub.publish():
            self.hub.tell()

    def lose(self) -> None:
        """What was committed is never heard of: the log is lost."""
        self._unheard.clear()
        self.hub.start_over()

    async def follow(self, path: str) -> LiveStream:
        live = await self.hub.follow(ENVIRONMENT, path)
        assert live is not None
        return live


class Listener:
    """Keeps where the stream was each time it was told of news."""

    def __init__(self, live: LiveStream) -> None:
        self.position = live.tail
        self.heard: list[tuple[int, bool, bool]] = []
        self._live = live
        live.attach(self)

    def news(self) -> None:
        live = self._live
        self.heard.append((live.tail, live.closed, live.gone))


async def settled(box: StreamBox) -> None:
    """Wait until no stream is in doubt."""
    async with asyncio.timeout(60):
        while box.hub.doubtful:
            await asyncio.sleep(0.001)
