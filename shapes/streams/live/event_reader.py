"""One reader of a stream, who gets it as events."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from shapes.streams.live.frames import Frame, Frames, Framing, frame_of
from shapes.streams.live.live_stream import LiveStream

PAGE_BYTES: Final = 64 << 10
"""What is read from the table at once, by those who are behind."""

SLICE_BYTES: Final = 8 << 10
"""Parts in which is sent what is larger than SHARED_BYTES."""

SHARED_BYTES: Final = 32 << 10
"""Frames up to this size are sent whole: all clients hold the same bytes."""

LEAST_SECONDS: Final = 1.05
"""Clients give up on event streams that end sooner than after a second, again and again."""

CLOCK_SECONDS: Final = 0.002
"""Timers may go off that much early."""


class Sink(Protocol):
    """A client's end of a response. When the client goes, the task that serves it is cancelled."""

    @property
    def behind(self) -> bool:
        """Whether the client has not taken what was sent to it, or is gone: send nothing then."""
        ...

    def stream(self, data: bytes) -> bool:
        """Send now; True if that makes the client `behind`.

        Equal parts of many responses should be the same object.
        """
        ...

    async def drained(self) -> None:
        """Wait until the client has taken what was sent to it."""
        ...


@dataclass(frozen=True, slots=True)
class Policy:
    """How long a reader is served. Times are in seconds, None for never."""

    lifetime: float | None = None
    """Then it ends in order, but never before LEAST_SECONDS."""
    keep_alive: float | None = None
    """When nothing else was sent for so long, `Framing.idle` is."""
    idle_end: float | None = None
    """It ends when nothing was appended for so long."""
    ends_when_closed: bool = True
    """It ends when the stream is closed and the reader has got all."""
    abort_on_stop: bool = False
    """When the server stops, the connection is broken off: the client would take the end of the answer
    for the end of the stream."""


class Ending(Enum):
    """Why a reader is not served any longer."""

    CLOSED = "closed"
    """The stream is closed, and the reader has got all of it."""
    OVER = "over"
    """Whoever asked for it wants no more than there is, and the reader has got all of it."""
    LIFETIME = "lifetime"
    IDLE = "idle"
    GONE = "gone"
    """The stream was deleted or has expired."""
    FORBIDDEN = "forbidden"
    """What allowed to read does not any longer."""
    STOPPED = "stopped"
    """The server stops."""


class EventReader:
    """Sends a stream to one client.

    While the client keeps up, frames are written from where news are told, without waking a task. For
    one that is behind only the position is kept, and a task goes on from memory or from the table.
    """

    __slots__ = (
        "_began",
        "_behind",
        "_forbidden",
        "_frames",
        "_framing",
        "_live",
        "_most",
        "_over",
        "_policy",
        "_reached",
        "_renewed",
        "_said_closed",
        "_sent",
        "_sink",
        "_stopped",
        "_woken",
        "delivered",
        "position",
    )

    def __init__(
        self,
        frames: Frames,
        live: LiveStream,
        position: int,
        sink: Sink,
        framing: Framing,
        policy: Policy,
    ) -> None:
        self._frames = frames
        self._live = live
        self.position = position
        self._reached = position
        """Behind the last chunk that was given to the framing."""
        self._said_closed = False
        self._sink = sink
        self._framing = framing
        self._policy = policy
        self._began = self._sent = self._renewed = time.monotonic()
        self._behind = True
        self._forbidden = self._stopped = self._over = False
        self._most = PAGE_BYTES
        self._woken: asyncio.Future[None] | None = None
        self.delivered = 0

    async def run(self) -> Ending:
        """Send what there is and what comes, until an end."""
        self._live.attach(self)
        try:
            while True:
                ending = await self._catch_up() or self._ending()
                if ending is not None:
                    return ending
                await self._wait()
        finally:
            self._live.detach(self)

    def finish(self) -> None:
        """End as soon as the client has got all there is."""
        self._over = True
        self._wake()

    def stop(self) -> None:
        """The server stops."""
        self._stopped = True
        self._wake()

    def forbid(self) -> None:
        """End, and send nothing any more, not even what the client has yet to catch up with."""
        self._forbidden = True
        self._wake()

    def news(self) -> None:
        """Write what is new now if the client's connection takes it."""
        live = self._live
        if self._behind or live.gone or self._forbidden or self._stopped or self._sink.behind:
            self._fall_behind()
            return
        if not self._lags:
            return
        frame = self._frame_at_hand()
        if frame is None or len(frame.data) > SHARED_BYTES:
            # In parts: what a slow client leaves must not be all of it.
            self._fall_behind()
            return
        self._take(frame)
        if frame.data and self._sink.stream(frame.data):
            self._fall_behind()
        elif self._said_closed:
            self._wake()

    # -- where it is -------------------------------------------------------------------------------

    @property
    def _lags(self) -> bool:
        """Whether there is something that the framing has not been given yet."""
        live = self._live
        return self._reached < live.tail or (live.closed and not self._said_closed)

    def _frame_at_hand(self) -> Frame | None:
        """The next frame, if what it is made of is remembered."""
        live, framing, position = self._live, self._framing, self.position
        reads = self._frames.reads

        def make() -> Frame | None:
            chunks = live.since(position)
            if chunks is None:
                return None
            reads.memory += bool(chunks)
            return frame_of(live, framing, position, chunks)

        return live.shared(framing, position, make)

    def _take(self, frame: Frame) -> None:
        """The frame is about to be sent."""
        self.position, self._reached = frame.position, frame.reached
        live = self._live
        self._said_closed = live.closed and frame.reached >= live.tail
        self.delivered += 1
        self._sent = self._renewed = time.monotonic()

    def _fall_behind(self) -> None:
        self._behind = True
        self._wake()

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    # -- as a task ---------------------------------------------------------------------------------

    async def _catch_up(self) -> Ending | None:
        """Send everything there is."""
        self._behind = True
        while True:
            await self._sink.drained()
            if (ending := self._cut_off()) is not None:
                return ending
            if not self._lags:
                self._behind = False
                return None
            frame = self._frame_at_hand()
            if frame is None:
                frame = await self._frames.read(
                    self._live, self._framing, self.position, self._most
                )
                if (ending := self._cut_off()) is not None:
                    return ending
                if frame.reached == self.position:
                    continue
                if frame.position == self.position and frame.reached < self._live.tail:
                    # All of it was held back: what comes next is needed.
                    self._most *= 2
                    continue
                self._most = PAGE_BYTES
            self._take(frame)
            if len(frame.data) <= SHARED_BYTES:
                if frame.data:
                    self._sink.stream(frame.data)
            elif not await self._write(frame.data):
                return Ending.FORBIDDEN

    async def _write(self, data: bytes) -> bool:
        """A large frame goes in parts: what a client does not take must not be all of it. False if it
        may not be sent any more."""
        for start in range(0, len(data), SLICE_BYTES):
            await self._sink.drained()
            if self._forbidden:
                return False
            self._sink.stream(data[start : start + SLICE_BYTES])
        self._sent = time.monotonic()
        return True

    def _cut_off(self) -> Ending | None:
        """What ends it before the client has got all."""
        if self._forbidden:
            return Ending.FORBIDDEN
        if self._live.gone:
            return Ending.GONE
        now = time.monotonic()
        if self._stopped and (self._policy.abort_on_stop or now >= self._began + LEAST_SECONDS):
            return Ending.STOPPED
        return Ending.LIFETIME if now >= self._lifetime_end else None

    def _ending(self) -> Ending | None:
        """What ends it when the client has got all."""
        policy = self._policy
        if self._said_closed and policy.ends_when_closed:
            return Ending.CLOSED
        if self._over and not self._lags:
            return Ending.OVER
        if (ending := self._cut_off()) is not None:
            return ending
        if policy.idle_end is not None and time.monotonic() >= self._renewed + policy.idle_end:
            return Ending.IDLE
        return None

    @property
    def _lifetime_end(self) -> float:
        lifetime = self._policy.lifetime
        return float("inf") if lifetime is None else self._began + max(lifetime, LEAST_SECONDS)

    async def _wait(self) -> None:
        """Wait for anything to do, sending keep-alives. Frames are sent meanwhile."""
        policy = self._policy
        loop = asyncio.get_running_loop()
        while not self._behind and self._ending() is None:
            due = [self._lifetime_end]
            if self._stopped:
                due.append(self._began + LEAST_SECONDS)
            if policy.idle_end is not None:
                due.append(self._renewed + policy.idle_end)
            if policy.keep_alive is not None:
                due.append(self._sent + policy.keep_alive)
            left = min(due) - time.monotonic()
            if left > 0:
                self._woken = loop.create_future()
                timer = loop.call_later(left + CLOCK_SECONDS, self._wake) if left < 1e9 else None
                try:
                    await self._woken
                finally:
                    self._woken = None
                    if timer is not None:
                        timer.cancel()
            if (
                policy.keep_alive is not None
                and not self._behind
                and time.monotonic() >= self._sent + policy.keep_alive
            ):
                self._keep_alive()

    def _keep_alive(self) -> None:
        self._sent = time.monotonic()
        if self._sink.behind:
            self._behind = True
            return
        data = self._framing.idle(self.position, self._said_closed)
        if data and self._sink.stream(data):
            self._behind = True
