"""What readers of streams are sent: messages as a framing writes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from shapes.streams.live.live_stream import LiveStream
from shapes.streams.stream import Chunk, StreamState

MISSING_SECONDS: Final = 0.5
"""Until what is missing in the table is looked for again."""


class Framing(Hashable, Protocol):
    """How messages are written for a client. Pure. Equal framings (by `==`) write the same: what was
    made with one of them is sent to the readers of all."""

    def encode(self, chunks: list[Chunk], tail: int, closed: bool) -> tuple[bytes, int]:
        """Frames of chunks, and the position that a client is at who has them.

        `tail` is where the stream ends now; `closed`: it ends there for good, and these chunks reach
        it. Unless `closed`, the last chunks may be held back: they come again, with the next ones.
        Without chunks, `tail` is the reader's position and `closed` is true: the stream was closed
        after the reader had got all.
        """
        ...

    def idle(self, position: int, closed: bool) -> bytes:
        """What keeps a connection alive; empty for nothing."""
        ...


class ChunkStore(Protocol):
    """Where the messages are."""

    async def chunks(self, state: StreamState, position: int, most_bytes: int) -> list[Chunk]: ...


@dataclass(slots=True)
class Reads:
    """How often messages were fetched for readers, for one or for many at once."""

    memory: int = 0
    table: int = 0


class Frame(NamedTuple):
    """What is written of some chunks."""

    data: bytes
    position: int
    """Where a client is who has it."""
    reached: int
    """Where the chunks end."""


class Frames:
    """Frames of what is not remembered. Readers that want the same at the same time share it."""

    def __init__(self, store: ChunkStore, doubt: Callable[[LiveStream], None]) -> None:
        """`doubt` is called with a stream that does not have what it is said to have."""
        self._store = store
        self._doubt = doubt
        self.reads = Reads()
        self._under_way: dict[tuple[LiveStream, Framing, int, int], asyncio.Task[Frame]] = {}

    async def read(self, live: LiveStream, framing: Framing, position: int, most: int) -> Frame:
        """About `most` bytes of messages from a position on. Raises what the store raises."""
        key = (live, framing, position, most)
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(self._read(*key))
            task.add_done_callback(lambda done: self._forget(key, done))
        # The one who asked first may go: waiting for it does not cancel it.
        await asyncio.wait([task])
        return task.result()

    async def _read(self, live: LiveStream, framing: Framing, position: int, most: int) -> Frame:
        chunks = await self._store.chunks(live.state, position, most)
        self.reads.table += 1
        if not chunks and not live.gone:
            # Somebody who may write messages has told of an append that there was not.
            self._doubt(live)
            await asyncio.sleep(MISSING_SECONDS)
        return frame_of(live, framing, position, chunks)

    def _forget(self, key: tuple[LiveStream, Framing, int, int], task: asyncio.Task[Frame]) -> None:
        del self._under_way[key]
        if not task.cancelled():
            # Those who asked may all be gone.
            task.exception()


def frame_of(live: LiveStream, framing: Framing, position: int, chunks: list[Chunk]) -> Frame:
    """What is written of a stream's chunks, which follow a position."""
    reached = chunks[-1].end if chunks else position
    closed = live.closed and reached >= live.tail
    return Frame(*framing.encode(chunks, live.tail if chunks else reached, closed), reached)
