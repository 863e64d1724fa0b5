"""Streams that somebody on this node follows: where they end now, and what was appended last."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Final, Protocol, TypeVar

from engine.errors import PgtideError
from shapes.streams.notice import CLOSED, GONE, Notice, unpack_notices
from shapes.streams.stream import Chunk, StreamState

log = logging.getLogger("streams")

Made = TypeVar("Made")

RECENT_BYTES: Final = 256 << 10
"""Of each stream, what is remembered of its end."""

ALL_RECENT_BYTES: Final = 32 << 20
"""Of all streams together."""

CHUNK_BYTES: Final = 200
"""What a remembered chunk takes beside its data."""

UNREAD_SECONDS: Final = 10.0
"""How long a stream that nobody reads any more is remembered: long polls come right back."""

SWEEP_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 0.5

MOST_PASSED: Final = 100_000
"""Streams with news remembered while look-ups are under way. Beyond, they are looked up again."""

MOST_FRESH: Final = 100_000
"""Streams of one transaction whose news are told to watchers one by one."""

LOOKUPS_TOGETHER: Final = 500


class Store(Protocol):
    """Where the streams are."""

    async def find(self, environment: str, path: str) -> StreamState | None: ...


class Clock(Protocol):
    """The node's place in the log."""

    async def catch_up(self) -> None: ...


class Reader(Protocol):
    """Somebody who waits for what is appended."""

    @property
    def position(self) -> int: ...

    def news(self) -> None:
        """There is more, or the stream is closed or gone. Must neither raise nor take long; it may
        detach this reader or attach others."""
        ...


class LiveStream:
    """A stream's end, shared by all its readers on this node.

    What was appended last is remembered: `since` gives it to readers that keep up.
    """

    __slots__ = (
        "_base",
        "_hub",
        "_news",
        "_readers",
        "_recent",
        "_shared",
        "_size",
        "_staged",
        "_state",
        "_unread_since",
        "closed",
        "gone",
        "tail",
    )

    def __init__(self, hub: StreamHub, state: StreamState) -> None:
        self._hub = hub
        self._state = state
        self.tail = state.tail
        """Where it ends, as far as readers may know."""
        self.closed = state.closed
        self.gone = state.gone
        """It was deleted or has expired. There may be another one under its path now."""
        self._readers: dict[Reader, None] = {}
        self._recent: list[Chunk] = []
        self._base = state.tail
        """Where what is remembered begins; it ends at `tail`."""
        self._size = 0
        self._staged: list[Notice] = []
        self._news = False
        self._shared: dict[tuple[Hashable, int], object] = {}
        self._unread_since = time.monotonic()

    @property
    def state(self) -> StreamState:
        """As Postgres had it, and where it ends now."""
        state = self._state
        if (state.tail, state.closed, state.gone) != (self.tail, self.closed, self.gone):
            state = replace(state, tail=self.tail, closed=self.closed, gone=self.gone)
            self._state = state
        return state

    def attach(self, reader: Reader) -> None:
        """Tell the reader of whatever comes from now on."""
        self._readers[reader] = None

    def detach(self, reader: Reader) -> None:
        """Twice does no harm."""
        if self._readers.pop(reader, reader) is None and not self._readers:
            self._unread_since = time.monotonic()

    def since(self, position: int) -> list[Chunk] | None:
        """What comes at and after a position, at most RECENT_BYTES; None if that is not remembered
        (any more), or the position is in the middle of a chunk: the table has it."""
        if position >= self.tail:
            return []
        recent = self._recent
        if position < self._base:
            return None
        first = len(recent) - 1
        while recent[first].position > position:
            first -= 1
        return recent[first:] if recent[first].position == position else None

    def shared(self, key: Hashable, position: int, make: Callable[[], Made]) -> Made:
        """What `make` gives, made once for all who ask with an equal key at the same position before
        the next news. Must be asked with keys of a type for each kind of thing that is made."""
        place = (key, position)
        if place not in self._shared:
            self._shared[place] = make()
            self._hub.has_shared(self)
        return self._shared[place]  # pyright: ignore[reportReturnType]


class StreamHub:
    """All streams that are followed on this node."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def has_shared(self, live: LiveStream) -> None:
        """Something was made for the readers of a stream, to be forgotten with the next news."""

    def note(self, content: bytes) -> None:
        """A message of a transaction that may not be complete yet."""

    def publish(self) -> None:
        """All that was noted may be seen now."""

    def start_over(self) -> None:
        """Messages may have been missed."""

    def watch(
        self, callback: Callable[[Notice], None], lost: Callable[[], None] | None = None
    ) -> None:
        """Call back about every stream with news, with one notice for all that came at once, without
        data. `lost` is called when anything may have happened to any stream."""

    async def follow(self, environment: str, path: str) -> LiveStream | None:
        """The stream's end, None if there is no such stream. Attach readers at once: what nobody reads
        is forgotten after a while."""
        await self._clock.catch_up()
        state = await self._store.find(environment, path)
        return None if state is None else LiveStream(self, state)
