"""A shape's log as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import time

from engine.configuration.settings import Settings
from shapes.access.grant import Grant
from shapes.access.leases import Leases
from shapes.following.feed import Batch, RotatedError
from shapes.following.tail import Tail
from shapes.library import Library, MustRefetchError, Place
from shapes.streams.live.event_reader import Sink
from shapes.wire import sse_events, up_to_date

SLICE_BYTES = 8 << 10
"""Parts in which is sent what is made for one client alone; it holds two of them or three when it stops
reading."""

SHARED_BYTES = 32 << 10
"""Batches up to this size are sent whole: all clients hold the same bytes."""

KEEP_ALIVE = b": keep-alive\n\n"

LATE_SECONDS = 1.2
"""How long a stream lasts that begins when the node is stopping. After three in a row of less than a
second Electric's client gives up on event streams."""


class Streams:
    """All event streams of a node."""

    def __init__(self, settings: Settings, tail: Tail, library: Library, leases: Leases) -> None:
        self._settings = settings
        self._tail = tail
        self._library = library
        self._leases = leases
        self._open: set[EventStream] = set()
        self._stopping = False
        self.delivered = 0
        """How many batches have been sent to clients that waited for them."""

    def __len__(self) -> int:
        return len(self._open)

    async def run(self, place: Place, sink: Sink, grant: Grant | None = None) -> None:
        """Send what the feed has after a place and what comes, until the end of the stream, or of the
        grant."""
        stream = EventStream(self._settings, self._tail, self._library, place, sink)
        self._open.add(stream)
        if self._stopping:
            stream.stop(LATE_SECONDS)
        try:
            with self._leases.held(grant, stream.forbid):
                await stream.run()
        finally:
            self._open.discard(stream)
            self.delivered += stream.delivered

    def stop(self) -> None:
        """Let all streams, and those that still come, end in order, soon."""
        self._stopping = True
        for stream in self._open:
            stream.stop()


class _ForbiddenError(Exception):
    """The client may not read any more."""


class EventStream:
    """One client's stream. Each batch is closed by an up-to-date.

    Ends after the settings' `sse_timeout`, or when the shape ends: the client then reconnects and
    learns what to do from an ordinary answer.

    While the client keeps up, batches are written from where they are published, without waking a
    task; for one that is behind, a task goes on and reads what it missed from the log.
    """

    __slots__ = (
        "_behind",
        "_ends",
        "_feed",
        "_forbidden",
        "_library",
        "_position",
        "_sent",
        "_settings",
        "_sink",
        "_stitch",
        "_tail",
        "_woken",
        "delivered",
    )

    def __init__(
        self, settings: Settings, tail: Tail, library: Library, place: Place, sink: Sink
    ) -> None:
        self._settings = settings
        self._tail = tail
        self._library = library
        self._feed, self._position, self._stitch = place
        self._sink = sink
        self._behind = self._forbidden = False
        self._sent = time.monotonic()
        self._ends = self._sent + settings.sse_timeout
        self._woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.delivered = 0

    async def run(self) -> None:
        """Send what the feed has and what comes, until the end."""
        try:
            with contextlib.suppress(RotatedError, MustRefetchError, _ForbiddenError):
                await self._stream()
        finally:
            self._feed.detach(self)

    def stop(self, seconds: float = 0.0) -> None:
        """End as if it had lasted long enough, after so long."""
        self._ends = time.monotonic() + seconds if seconds else 0.0
        self._wake()

    def forbid(self) -> None:
        """End, and send nothing any more, not even what the client has yet to catch up with."""
        self._forbidden = True
        self.stop()

    # -- as a reader of the feed -------------------------------------------------------------------

    def deliver(self, batch: Batch | None) -> bool:
        """Write the batch now if the client's connection takes it."""
        if self._behind or self._forbidden or self._sink.behind:
            self._fall_behind()
            # It will be found among the feed's recent batches, or else in the log.
            return True
        if batch is None:
            self._wake()
            return False
        events = batch.events
        if len(events) > SHARED_BYTES:
            # In parts: what a slow client leaves must not be all of it.
            self._fall_behind()
            return True
        self._position = batch.end
        self.delivered += 1
        self._sent = time.monotonic()
        if self._sink.stream(events):
            self._fall_behind()
        return True

    def end(self, error: RotatedError) -> None:
        """The shape has ended."""
        if not self._woken.done():
            self._woken.set_exception(error)
            self._woken.exception()

    def _fall_behind(self) -> None:
        self._behind = True
        self._wake()

    def _wake(self) -> None:
        if not self._woken.done():
            self._woken.set_result(None)

    # -- as a task ---------------------------------------------------------------------------------

    async def _stream(self) -> None:
        while True:
            await self._catch_up()
            self._feed.attach(self, self._tail.processed)
            following = True
            while following:
                self._woken = asyncio.get_running_loop().create_future()
                if not await self._at_end():
                    return
                following = await self._come_up()
            self._feed.detach(self)

    async def _come_up(self) -> bool:
        """Wait for a client that is behind and send what it missed; False if that is not at hand."""
        if not self._behind:
            return False
        await self._sink.drained()
        while batches := self._feed.recent_after(self._position):
            for batch in batches:
                await self._write(batch.events)
                self.delivered += 1
                self._position = batch.end
        self._behind = False
        self._feed.check()
        return batches is not None

    async def _at_end(self) -> bool:
        """Wait while batches are delivered; False when the stream is over."""
        keepalive = self._settings.sse_keepalive
        while True:
            now = time.monotonic()
            left = min(self._ends - now, self._sent + keepalive - now)
            await asyncio.wait([self._woken], timeout=max(left, 0))
            if self._woken.done() and self._ends:
                self._woken.result()
                return True
            now = time.monotonic()
            if now >= self._ends:
                self._feed.detach(self)
                await self._renew()
                return False
            if now >= self._sent + keepalive:
                self._feed.last_used = now
                await self._write(KEEP_ALIVE)

    async def _renew(self) -> None:
        """Leave a client that heard nothing for long with an offset that the log will still reach."""
        last = self._feed.last
        if last is not None and last > self._position:
            # It has not got all yet: nothing may be skipped.
            return
        renewed = self._library.renewed(self._position)
        if renewed != self._position:
            await self._write(sse_events([up_to_date(renewed.lsn)]))

    async def _catch_up(self) -> None:
        """Send everything there is after where the client is."""
        while True:
            # In small steps: a client that stops reading holds one of them.
            reading = await self._library.read(
                Place(self._feed, self._position, self._stitch), SLICE_BYTES
            )
            self._position, self._stitch = reading.end, []
            if not reading.messages:
                return
            events = sse_events(reading.messages)
            if reading.complete:
                events += sse_events([up_to_date(reading.lsn)])
            del reading
            await self._write(events)

    async def _write(self, data: bytes) -> None:
        """A large batch goes in parts: what a client does not take must not be all of it."""
        for start in range(0, len(data), SLICE_BYTES):
            await self._sink.drained()
            if self._forbidden:
                raise _ForbiddenError
            self._sink.stream(data[start : start + SLICE_BYTES])
        self._sent = time.monotonic()
