"""Readers of streams that wait for more: event streams and long polls."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Final

from shapes.access.grant import Grant
from shapes.access.leases import Leases
from shapes.streams.live.event_reader import Ending, EventReader, Policy, Sink
from shapes.streams.live.frames import ChunkStore, Frames, Framing, Reads
from shapes.streams.live.hub import StreamHub
from shapes.streams.live.live_stream import LiveStream

SWEEP_SECONDS: Final = 0.1


class EventStreams:
    """All who wait for streams on a node."""

    def __init__(self, hub: StreamHub, store: ChunkStore, leases: Leases) -> None:
        self._hub = hub
        self._frames = Frames(store, hub.doubt)
        self._leases = leases
        self._open: set[EventReader] = set()
        self._polls: dict[int, dict[Poll, None]] = {}
        """By the number of the period at whose beginning their time is up."""
        self._sweeping = False
        self.stopping = False
        self._on_stop: dict[Callable[[], None], None] = {}
        self.waiting = 0
        """How many long polls there are."""
        self.polled = 0
        """How many long polls have ended with news."""
        self._delivered = 0

    def __len__(self) -> int:
        return len(self._open)

    @property
    def delivered(self) -> int:
        """How many frames have been sent."""
        return self._delivered + sum([reader.delivered for reader in self._open])

    @property
    def reads(self) -> Reads:
        """To be counted on by those who read for themselves."""
        return self._frames.reads

    async def run(
        self,
        live: LiveStream,
        position: int,
        sink: Sink,
        framing: Framing,
        policy: Policy,
        grant: Grant | None = None,
        over: asyncio.Future[None] | None = None,
    ) -> Ending:
        """Send what a stream has from a position on, and what comes, until an end; once `over` is
        done, until the client has got all there is. The answer's headers have to be sent before, and
        its end after. Raises what the store raises (above all
        BelowHorizonError), and CancelledError to break the connection off."""
        live = self._hub.current(live)
        reader = EventReader(self._frames, live, position, sink, framing, policy)
        self._open.add(reader)
        if self.stopping:
            reader.stop()

        def finish(_: object) -> None:
            reader.finish()

        if over is not None:
            over.add_done_callback(finish)
        try:
            with self._leases.held(grant, reader.forbid):
                ending = await reader.run()
        finally:
            if over is not None:
                over.remove_done_callback(finish)
            self._open.discard(reader)
            self._delivered += reader.delivered
        if ending is Ending.STOPPED and policy.abort_on_stop:
            raise asyncio.CancelledError
        return ending

    async def long_poll(
        self, live: LiveStream, position: int, seconds: float, grant: Grant | None = None
    ) -> bool:
        """Wait until a stream reaches beyond a position, is closed or gone; False if it does not in
        time, or the grant ends."""
        live = self._hub.current(live)
        poll = Poll(live, position, asyncio.get_running_loop().create_future())
        if poll.answered:
            return True
        if self.stopping or seconds <= 0:
            return False
        live.attach(poll)
        due = math.ceil((time.monotonic() + seconds) / SWEEP_SECONDS)
        self._polls.setdefault(due, {})[poll] = None
        self.waiting += 1
        self._sweep_later()
        lease = self._leases.begin(grant, poll.give_up)
        try:
            news = await poll.future
            self.polled += news
            return news
        finally:
            self._leases.release(lease)
            live.detach(poll)
            self.waiting -= 1
            if (others := self._polls.get(due)) is not None:
                others.pop(poll, None)

    def on_stop(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have it called when the server stops, unless what this returns has been called before."""
        self._on_stop[callback] = None

        def forget() -> None:
            self._on_stop.pop(callback, None)

        return forget

    def stop(self) -> None:
        """Let all, and those that still come, end soon."""
        self.stopping = True
        for callback in list(self._on_stop):
            callback()
        for reader in self._open:
            reader.stop()
        for polls in self._polls.values():
            for poll in polls:
                poll.give_up()

    def _sweep_later(self) -> None:
        if not self._sweeping:
            self._sweeping = True
            asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = False
        now = time.monotonic() / SWEEP_SECONDS
        for due in [due for due in self._polls if due <= now]:
            for poll in self._polls.pop(due):
                poll.give_up()
        if self._polls:
            self._sweep_later()


class Poll:
    """One long poll, as a reader of its stream."""

    __slots__ = ("_live", "future", "position")

    def __init__(self, live: LiveStream, position: int, future: asyncio.Future[bool]) -> None:
        self._live = live
        self.position = position
        self.future = future

    @property
    def answered(self) -> bool:
        """Whether there is nothing to wait for."""
        live = self._live
        return live.tail > self.position or live.closed or live.gone

    def news(self) -> None:
        if self.answered and not self.future.done():
            self.future.set_result(True)

    def give_up(self) -> None:
        """Nothing has come in time."""
        if not self.future.done():
            self.future.set_result(False)
