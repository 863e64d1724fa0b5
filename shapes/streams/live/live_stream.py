"""One stream that somebody on this node follows. No I/O."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Final, Protocol, TypeVar

from shapes.streams.notice import CLOSED, GONE, Notice
from shapes.streams.stream import Chunk, StreamState

log = logging.getLogger("streams")

Made = TypeVar("Made")

Passed = tuple[int, int, int]
"""What came lately of a stream: from and up to which position, and flags as in a Notice."""

RECENT_BYTES: Final = 256 << 10
"""What is remembered of a stream's end."""

CHUNK_BYTES: Final = 200
"""What a remembered chunk takes beside its data."""


class Reader(Protocol):
    """Somebody who waits for what is appended."""

    @property
    def position(self) -> int: ...

    def news(self) -> None:
        """There is more, or the stream is closed or gone. Must neither raise nor take long."""
        ...


class LiveStream:
    """A stream, shared by all its readers on this node.

    What was appended last is remembered: `since` gives it to readers that keep up.
    """

    __slots__ = (
        "_base",
        "_has_shared",
        "_readers",
        "_recent",
        "_shared",
        "_staged",
        "_staged_bytes",
        "_state",
        "_touched",
        "_used",
        "closed",
        "gone",
        "has_news",
        "looked_up",
        "size",
        "tail",
    )

    def __init__(self, has_shared: Callable[[LiveStream], None], state: StreamState) -> None:
        """`has_shared` is called when something was made for its readers."""
        self._has_shared = has_shared
        self._state = state
        self.tail = state.tail
        """Where it ends, as far as readers may know."""
        self.closed = state.closed
        self.gone = state.gone
        """It was deleted or has expired. There may be another one under its path now."""
        self.has_news = False
        """Its readers have not been told yet."""
        self.looked_up = 0
        """By which look-up, of those that began one after the other, it is known."""
        self.size = 0
        """Bytes of what is remembered."""
        self._readers: dict[Reader, None] = {}
        self._recent: list[Chunk] = []
        self._base = state.tail
        """Where what is remembered begins; it ends at `tail`."""
        self._staged: list[Notice] = []
        self._staged_bytes = 0
        self._shared: dict[tuple[Hashable, int], object] = {}
        self._used = self._touched = time.monotonic()

    @property
    def state(self) -> StreamState:
        """As Postgres had it, and where it ends now."""
        state = self._state
        if (state.tail, state.closed, state.gone) != (self.tail, self.closed, self.gone):
            state = replace(state, tail=self.tail, closed=self.closed, gone=self.gone)
            self._state = state
        return state

    # -- readers -----------------------------------------------------------------------------------

    def attach(self, reader: Reader) -> None:
        """Tell the reader of whatever comes from now on."""
        self._readers[reader] = None

    def detach(self, reader: Reader) -> None:
        """Twice does no harm."""
        if reader in self._readers:
            del self._readers[reader]
            self._used = time.monotonic()

    def since(self, position: int) -> list[Chunk] | None:
        """What comes at and after a position; None if that is not remembered (any more), or the
        position is in the middle of a chunk: the table has it."""
        if position >= self.tail:
            return []
        if position < self._base:
            return None
        recent = self._recent
        first = len(recent) - 1
        while recent[first].position > position:
            first -= 1
        return recent[first:] if recent[first].position == position else None

    def shared(self, key: Hashable, position: int, make: Callable[[], Made]) -> Made:
        """What `make` gives, made once for all who ask with an equal key at the same position, until
        there are news. One key must always stand for one kind of thing."""
        place = (key, position)
        if place not in self._shared:
            self._shared[place] = make()
            self._has_shared(self)
        return self._shared[place]  # pyright: ignore[reportReturnType]

    def used(self) -> None:
        """Somebody is about to read."""
        self._used = time.monotonic()

    def unread(self, before: float) -> bool:
        """Whether nobody reads, and nobody has since before that time (`time.monotonic`)."""
        return not self._readers and self._used < before

    def to_touch(self, now: float) -> bool:
        """Whether readers should prolong its time to live now (`time.monotonic`)."""
        ttl = self._state.ttl
        if ttl is None or not self._readers or now < self._touched + ttl / 8:
            return False
        self._touched = now
        return True

    def expired(self, now: float) -> bool:
        """Whether its time was over, as far as is known here. Reading may have prolonged it."""
        return self._state.expires_at is not None and self._state.expires_at <= now

    def is_other(self, state: StreamState | None) -> bool:
        """Whether that is none, or not this one."""
        return state is None or state.gone or state.id != self._state.id

    # -- the hub's side ----------------------------------------------------------------------------

    def stage(self, notice: Notice) -> None:
        """Something came that may not be seen yet."""
        staged = self._staged
        staged.append(notice)
        self._staged_bytes += CHUNK_BYTES + len(notice.data or b"")
        if self._staged_bytes > RECENT_BYTES and len(staged) > 1:
            # Readers will have to read it from the table.
            joined = staged[0]
            for one in staged[1:]:
                start = joined.position if one.position == joined.end else one.position
                flags = joined.flags | one.flags
                joined = Notice(one.stream_id, start, one.end - start, flags, one.created_us, None)
            self._staged = [joined]
            self._staged_bytes = CHUNK_BYTES

    def unstage(self) -> None:
        """Forget what may not be seen."""
        self._staged.clear()
        self._staged_bytes = 0

    def settle(self) -> bool:
        """What was staged may be seen now. False if it does not continue what was known."""
        fits = True
        staged, self._staged, self._staged_bytes = self._staged, [], 0
        for notice in staged:
            _, position, messages, flags, created_us, data = notice
            if position != self.tail:
                fits = False
            elif messages > 0:
                if data is None:
                    self.forget_recent()
                else:
                    self._recent.append(Chunk(position, messages, created_us, data))
                    self.size += CHUNK_BYTES + len(data)
                self.tail = position + messages
                if data is None:
                    self._base = self.tail
                self._renew()
            if flags & CLOSED and not self.closed:
                self.closed = True
                self._renew()
            if flags & GONE:
                self.gone = True
                self._renew()
        if self.size > RECENT_BYTES:
            self._trim()
        return fits

    def correct(self, state: StreamState, tail: int, *, closed: bool, gone: bool) -> None:
        """What Postgres says, and where the stream ends by all that is known now."""
        if (tail, closed, gone) != (self.tail, self.closed, self.gone):
            if tail != self.tail:
                self.tail = tail
                self.forget_recent()
            self.closed, self.gone = closed, gone
            self._renew()
        self._state = state
        self._used = time.monotonic()

    def tell(self) -> None:
        """Tell the readers."""
        self.has_news = False
        for reader in list(self._readers):
            try:
                reader.news()
            except Exception:
                # One reader's trouble must not become the node's.
                log.exception("a reader of a stream failed")
                self.detach(reader)

    def forget_recent(self) -> None:
        """Let go of what is remembered."""
        self._recent = []
        self._base = self.tail
        self.size = 0

    def forget_shared(self) -> None:
        """Let go of what was made for readers."""
        self._shared = {}

    def _renew(self) -> None:
        self.has_news = True
        if self._shared:
            self._shared = {}

    def _trim(self) -> None:
        recent = self._recent
        gone = 0
        while self.size > RECENT_BYTES:
            self.size -= CHUNK_BYTES + len(recent[gone].data)
            gone += 1
        del recent[:gone]
        self._base = recent[0].position if recent else self.tail
