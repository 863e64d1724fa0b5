"""Waiting at the end of a feed for one batch."""

from __future__ import annotations

import asyncio
import time

from engine.lsn import Offset
from shapes.access.grant import Grant
from shapes.access.leases import Leases
from shapes.following.feed import Batch, Feed, RotatedError

SWEEP_SECONDS = 0.25


class Polls:
    """All long polls of a node. They have the same patience, so one timer serves them all."""

    def __init__(self, seconds: float, leases: Leases) -> None:
        self._seconds = seconds
        self._leases = leases
        self._waiting: dict[_Poll, float] = {}
        self._sweeping = False
        self.delivered = 0
        """How many polls have ended with something new."""

    def __len__(self) -> int:
        return len(self._waiting)

    def stop(self) -> None:
        """Let nobody wait any longer."""
        self._seconds = 0.0
        for poll in list(self._waiting):
            poll.give_up()

    async def wait(
        self, feed: Feed, processed: Offset, grant: Grant | None = None
    ) -> tuple[bool, Batch | None]:
        """Whether something comes in time to a feed that has been read up to `processed`, and the
        batch if it is at hand; a grant's end ends the time. Raises RotatedError if the shape ends."""
        loop = asyncio.get_running_loop()
        poll = _Poll(loop.create_future())
        feed.attach(poll, processed)
        self._waiting[poll] = time.monotonic() + self._seconds
        if not self._sweeping:
            self._sweeping = True
            loop.call_later(min(SWEEP_SECONDS, self._seconds), self._sweep)
        lease = self._leases.begin(grant, poll.give_up)
        try:
            changed, batch = await poll.future
            self.delivered += changed
            return changed, batch
        finally:
            self._leases.release(lease)
            self._waiting.pop(poll, None)
            feed.detach(poll)

    def _sweep(self) -> None:
        now = time.monotonic()
        waiting = self._waiting
        delay = 0.0
        while waiting and delay <= 0:
            poll = next(iter(waiting))
            delay = waiting[poll] - now
            if delay <= 0:
                del waiting[poll]
                poll.give_up()
        self._sweeping = bool(waiting)
        if waiting:
            delay = min(max(delay, 0.01), SWEEP_SECONDS)
            asyncio.get_running_loop().call_later(delay, self._sweep)


class _Poll:
    """One long poll, as a reader of its feed."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[tuple[bool, Batch | None]]) -> None:
        self.future = future

    def give_up(self) -> None:
        """Nothing has come in time."""
        if not self.future.done():
            self.future.set_result((False, None))

    def deliver(self, batch: Batch | None) -> bool:
        if not self.future.done():
            self.future.set_result((True, batch))
        return False

    def end(self, error: RotatedError) -> None:
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()
