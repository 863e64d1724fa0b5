"""Waiting at the end of a feed for one batch."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from engine.lsn import Offset
from shapes.feed import Batch, Feed, RotatedError

SWEEP_SECONDS = 0.25


class Polls:
    """All long polls of a node. They have the same patience, so one timer serves them all."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: deque[tuple[float, _Poll]] = deque()
        self._sweeping = False

    async def wait(self, feed: Feed, processed: Offset) -> tuple[bool, Batch | None]:
        """Whether something comes in time to a feed that has been read up to `processed`, and the
        batch if it is at hand. Raises RotatedError if the shape ends."""
        loop = asyncio.get_running_loop()
        poll = _Poll(loop.create_future())
        feed.attach(poll, processed)
        self._waiting.append((time.monotonic() + self._seconds, poll))
        if not self._sweeping:
            self._sweeping = True
            loop.call_later(min(SWEEP_SECONDS, self._seconds), self._sweep)
        try:
            return await poll.future
        finally:
            feed.detach(poll)

    def _sweep(self) -> None:
        now = time.monotonic()
        waiting = self._waiting
        while waiting and (waiting[0][0] <= now or waiting[0][1].future.done()):
            future = waiting.popleft()[1].future
            if not future.done():
                future.set_result((False, None))
        self._sweeping = bool(waiting)
        if waiting:
            delay = min(max(waiting[0][0] - now, 0.01), SWEEP_SECONDS)
            asyncio.get_running_loop().call_later(delay, self._sweep)


class _Poll:
    """One long poll, as a reader of its feed."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[tuple[bool, Batch | None]]) -> None:
        self.future = future

    def deliver(self, batch: Batch | None) -> bool:
        if not self.future.done():
            self.future.set_result((True, batch))
        return False

    def end(self, error: RotatedError) -> None:
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()
