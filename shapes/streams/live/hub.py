"""Streams that somebody on this node follows: where they end, and what was appended last.

History and what comes join without a gap: `StreamStore.find` tells how the stream is in Postgres once
this node's tail has reached that moment, and what was noted around it is remembered for a while.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from engine.errors import PgtideError
from shapes.streams.live.live_stream import LiveStream, Passed
from shapes.streams.notice import CLOSED, GONE, Notice, unpack_notices
from shapes.streams.stream import StreamState

log = logging.getLogger("streams")

ALL_RECENT_BYTES: Final = 32 << 20
"""Of all streams together, what is remembered of their ends."""

UNREAD_SECONDS: Final = 15.0
"""How long a stream that nobody reads any more is remembered: long polls come right back."""

SWEEP_SECONDS: Final = 2.0

PASSED_SECONDS: Final = 10.0
"""How long at least what was noted is remembered for those who begin to follow a stream. A commit comes
through the WAL a little before queries see it."""

MOST_PASSED: Final = 20_000
"""Of so many streams; if there are more with news it is remembered for less long."""

LOOKUPS_TOGETHER: Final = 500
LOOKUP_PAUSE: Final = 0.2
"""Between look-ups of streams in doubt, in seconds."""

MOST_LOOKUPS: Final = 5


class Store(Protocol):
    """Where the streams are."""

    async def find(self, environment: str, path: str) -> StreamState | None: ...

    async def touch(self, *states: StreamState) -> None: ...


class Clock(Protocol):
    """The node's place in the log."""

    async def catch_up(self) -> None: ...


class StreamHub:
    """All streams that are followed on this node. The tail tells it what passes."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._by_id: dict[int, LiveStream] = {}
        self._by_path: dict[tuple[str, str], LiveStream] = {}
        self._noted: dict[int, tuple[int, int, int, int]] = {}
        """By stream, what was noted and may not be seen yet: from and up to which position, flags,
        and when (as in a Notice)."""
        self._staged: dict[LiveStream, None] = {}
        self._untold: dict[LiveStream, None] = {}
        self._passed: dict[int, Passed] = {}
        self._former: dict[int, Passed] = {}
        self._rotated = 0.0
        self._rotations = 0
        self._overflowed = False
        self._starts = 0
        self._lookups = 0
        self._remembering: dict[LiveStream, None] = {}
        """Streams with remembered chunks; the first have had no news for longest."""
        self._recent_bytes = 0
        self._shared: dict[LiveStream, None] = {}
        self._doubtful: dict[LiveStream, None] = {}
        self._refreshing: asyncio.Task[None] | None = None
        self._touching: asyncio.Task[None] | None = None
        self._sweeping = False
        self._watchers: list[tuple[Callable[[Notice], None], Callable[[], None] | None]] = []
        self._complained = False

    @property
    def doubtful(self) -> int:
        """How many streams have to be looked up again."""
        return len(self._doubtful)

    @property
    def remembered(self) -> int:
        """Bytes of what was appended last."""
        return self._recent_bytes

    def __len__(self) -> int:
        return len(self._by_id)

    # -- the tail's side ---------------------------------------------------------------------------

    def note(self, content: bytes) -> None:
        """A message of a transaction that may not be complete yet."""
        try:
            notices = unpack_notices(content)
        except ValueError as error:
            if not self._complained:
                self._complained = True
                log.warning(
                    "a message about streams that is none of pgtide's is ignored: %s", error
                )
            return
        noted, followed = self._noted, self._by_id
        for notice in notices:
            number, position, messages, flags, created_us, _ = notice
            before = noted.get(number)
            if before is None:
                noted[number] = (position, position + messages, flags, created_us)
            else:
                start = before[0] if before[1] == position else position
                noted[number] = (start, position + messages, flags | before[2], created_us)
            live = followed.get(number)
            if live is not None:
                live.stage(notice)
                self._staged[live] = None
        if len(noted) > MOST_PASSED:
            # Nobody could be told of each.
            noted.clear()
            self._overflowed = True

    def publish(self) -> bool:
        """All that was noted may be seen now. True if there is something to `tell` readers."""
        if self._overflowed:
            self._overflowed = False
            self._forget_passed()
            self._tell_lost()
        noted = self._noted
        if not noted and not self._staged:
            return False
        self._noted = {}
        self._remember(noted)
        if self._staged:
            staged, self._staged = self._staged, {}
            self._settle(staged)
        for callback, _ in self._watchers:
            for number, (start, end, flags, created_us) in noted.items():
                callback(Notice(number, start, end - start, flags, created_us, None))
        return bool(self._untold)

    def tell(self) -> None:
        """Tell the readers of what was published."""
        untold, self._untold = self._untold, {}
        for live in untold:
            live.tell()

    def start_over(self) -> None:
        """Messages may have been missed: every stream is looked up again."""
        self._noted = {}
        self._staged = {}
        self._forget_passed()
        for live in self._by_id.values():
            live.unstage()
            self.doubt(live)
        self._tell_lost()

    def _settle(self, staged: Iterable[LiveStream]) -> None:
        for live in staged:
            size = live.size
            if not live.settle():
                self.doubt(live)
            self._recent_bytes += live.size - size
            self._remembering.pop(live, None)
            if live.size:
                self._remembering[live] = None
            if live.gone:
                self._drop(live)
            if live.has_news:
                self._untold[live] = None
        while self._recent_bytes > ALL_RECENT_BYTES:
            self._forget_recent(next(iter(self._remembering)))

    def _remember(self, noted: dict[int, tuple[int, int, int, int]]) -> None:
        passed = self._passed
        now = time.monotonic()
        if len(passed) > MOST_PASSED or now > self._rotated + PASSED_SECONDS:
            self._rotated = now
            self._rotations += 1
            self._former, self._passed = passed, {}
            passed = self._passed
        for number, (start, end, flags, _) in noted.items():
            before = passed.get(number)
            if before is None:
                passed[number] = (start, end, flags)
            else:
                passed[number] = (
                    before[0] if before[1] == start else start,
                    end,
                    flags | before[2],
                )

    def _forget_passed(self) -> None:
        """Who looks for a stream now has to look once more."""
        self._passed, self._former = {}, {}
        self._starts += 1

    def _tell_lost(self) -> None:
        for _, lost in self._watchers:
            if lost is not None:
                lost()

    # -- followers ---------------------------------------------------------------------------------

    def watch(
        self, callback: Callable[[Notice], None], lost: Callable[[], None] | None = None
    ) -> None:
        """Call back for every stream with news, with one notice for all that came at once, without
        data. `lost` is called when there may have been news of any stream. Neither may raise."""
        self._watchers.append((callback, lost))

    async def follow(self, environment: str, path: str) -> LiveStream | None:
        """The stream, None if there is none. `gone`: it was deleted, but forks still read from it.

        Nothing that a client has been told by any node is unknown in it, but for an append that has
        just been committed: that comes. Raises what StreamStore.find does.
        """
        await self._clock.catch_up()
        live = self._by_path.get((environment, path))
        if live is not None and live not in self._doubtful and not live.expired(time.time()):
            live.used()
            return live
        return await self._look_up(environment, path)

    def current(self, live: LiveStream) -> LiveStream:
        """The stream as it is followed now, should it have been forgotten meanwhile."""
        if live.gone:
            return live
        state = live.state
        known = self._by_id.get(state.id)
        if known is None:
            known = self._by_id[state.id] = live
            self._by_path[state.environment, state.path] = live
            self._sweep_later()
            self.doubt(live)
        return known

    async def _look_up(self, environment: str, path: str) -> LiveStream | None:
        tries = MOST_LOOKUPS
        while True:
            starts, rotations = self._starts, self._rotations
            self._lookups += 1
            number = self._lookups
            state = await self._store.find(environment, path)
            known = self._by_path.get((environment, path))
            if known is not None and known.looked_up > number and known.is_other(state):
                # Whoever asked later was answered sooner, and knows better.
                return known
            if state is None or state.gone:
                self._end((environment, path))
                return None if state is None else LiveStream(self.has_shared, state)
            tail, flags, connected = self._reached(state)
            missed = starts != self._starts or self._rotations > rotations + 1
            tries -= 1
            if (connected and not missed) or not tries:
                # What never connects was written by somebody else.
                live = self._join(state, tail, flags)
                live.looked_up = max(live.looked_up, number)
                return live

    def _reached(self, state: StreamState) -> tuple[int, int, bool]:
        """Where the stream ends and its flags, by what has passed lately, and whether all of that
        goes on from where it was in Postgres."""
        tail, flags, connected = state.tail, 0, True
        for passed in (self._former.get(state.id), self._passed.get(state.id)):
            if passed is not None:
                flags |= passed[2]
                if passed[0] <= tail:
                    tail = max(tail, passed[1])
                else:
                    connected = False
        return tail, flags, connected

    def _join(self, state: StreamState, tail: int, flags: int) -> LiveStream:
        closed, gone = state.closed or bool(flags & CLOSED), bool(flags & GONE)
        key = (state.environment, state.path)
        live = self._by_id.get(state.id)
        if live is None:
            self._end(key)
            live = LiveStream(self.has_shared, state)
            noted = self._noted.get(state.id)
            if noted is not None:
                start, end, flags, created_us = noted
                live.stage(Notice(state.id, start, end - start, flags, created_us, None))
                self._staged[live] = None
            if not gone:
                self._by_id[state.id] = self._by_path[key] = live
                self._sweep_later()
        elif live not in self._doubtful:
            # It may have heard of more meanwhile.
            tail, closed, gone = max(tail, live.tail), closed or live.closed, gone or live.gone
        size = live.size
        live.correct(state, tail, closed=closed, gone=gone)
        self._recent_bytes += live.size - size
        self._doubtful.pop(live, None)
        if gone:
            self._drop(live)
        if live.has_news:
            live.tell()
        return live

    def _end(self, key: tuple[str, str]) -> None:
        """There is no such stream any more under this path."""
        live = self._by_path.get(key)
        if live is not None:
            live.gone = True
            self._drop(live)
            live.tell()

    def _drop(self, live: LiveStream) -> None:
        state = live.state
        self._forget_recent(live)
        self._doubtful.pop(live, None)
        self._staged.pop(live, None)
        if self._by_id.get(state.id) is live:
            del self._by_id[state.id]
        if self._by_path.get((state.environment, state.path)) is live:
            del self._by_path[state.environment, state.path]

    def _forget_recent(self, live: LiveStream) -> None:
        self._recent_bytes -= live.size
        live.forget_recent()
        self._remembering.pop(live, None)

    # -- streams in doubt --------------------------------------------------------------------------

    def doubt(self, live: LiveStream) -> None:
        """What is known of the stream does not fit together (any more): the table has to tell."""
        if live.gone:
            return
        self._doubtful[live] = None
        if self._refreshing is None:
            self._refreshing = asyncio.create_task(self._refresh())

    async def _refresh(self) -> None:
        complained = False
        try:
            while self._doubtful:
                some = list(self._doubtful)[:LOOKUPS_TOGETHER]
                results = await asyncio.gather(
                    *(self._look_up(one.state.environment, one.state.path) for one in some),
                    return_exceptions=True,
                )
                for result in results:
                    if isinstance(result, Exception) and not complained:
                        complained = True
                        known = isinstance(result, PgtideError)
                        log.warning(
                            "streams that are followed cannot be looked up, this is tried again: %s",
                            result,
                            exc_info=None if known else result,
                        )
                await asyncio.sleep(LOOKUP_PAUSE)
        finally:
            self._refreshing = None

    # -- memory ------------------------------------------------------------------------------------

    def has_shared(self, live: LiveStream) -> None:
        """Something was made for the readers of a stream."""
        self._shared[live] = None

    def _sweep_later(self) -> None:
        if not self._sweeping:
            self._sweeping = True
            asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = False
        shared, self._shared = self._shared, {}
        for live in shared:
            live.forget_shared()
        now = time.monotonic()
        for live in [one for one in self._by_id.values() if one.unread(now - UNREAD_SECONDS)]:
            self._drop(live)
        read = [one.state for one in self._by_id.values() if one.to_touch(now)]
        if read and (self._touching is None or self._touching.done()):
            self._touching = asyncio.create_task(self._touch(read))
        if self._by_id or self._shared:
            self._sweep_later()

    async def _touch(self, states: list[StreamState]) -> None:
        """While somebody waits for a stream it does not expire."""
        try:
            await self._store.touch(*states)
        except PgtideError as error:
            log.info("the time of streams that are read could not be prolonged: %s", error)
