"""A shape's log as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import NamedTuple

from engine.configuration.settings import Settings
from engine.lsn import Offset
from shapes.access.grant import Grant
from shapes.access.leases import Leases
from shapes.following.feed import Feed, RotatedError
from shapes.following.tail import Tail
from shapes.http.broadcast import Broadcast
from shapes.library import Library, MustRefetchError, Place
from shapes.streams.live.event_reader import Sink
from shapes.wire import sse_events, up_to_date

SLICE_BYTES = 8 << 10
"""Parts in which is sent what a client missed; it holds one of them, or two, when it stops reading."""

MOST_PAGES = 32
"""Such parts that are kept for others who missed the same, until the next sweep."""
MOST_DIVIDED = 4
"""Large batches whose parts are kept likewise."""

LATE_SECONDS = 1.2
"""How long a stream lasts that begins when the node is stopping. After three in a row of less than a
second Electric's client gives up on event streams."""

SWEEP_SECONDS = 0.25


class Page(NamedTuple):
    """What comes next for a client that is behind."""

    events: bytes
    """Empty if there is nothing."""
    end: Offset


class Streams:
    """All event streams of a node. One timer serves them all."""

    def __init__(self, settings: Settings, tail: Tail, library: Library, leases: Leases) -> None:
        self.tail = tail
        self._library = library
        self._leases = leases
        self._timeout = settings.sse_timeout
        self._keepalive = settings.sse_keepalive
        self._open: dict[EventStream, None] = {}
        """In the order in which they end."""
        self._broadcasts: dict[Feed, Broadcast] = {}
        self._pages: dict[tuple[Feed, Offset], Page] = {}
        self._parts: dict[int, tuple[bytes, list[bytes]]] = {}
        """By the identity of the whole, which is kept with them."""
        self._delivered = 0
        self._stopping = self._sweeping = False

    def __len__(self) -> int:
        return len(self._open)

    @property
    def delivered(self) -> int:
        """How many batches have been sent to clients that waited for them."""
        return self._delivered + sum(one.delivered for one in self._broadcasts.values())

    async def run(self, place: Place, sink: Sink, grant: Grant | None = None) -> None:
        """Send what the feed has after a place and what comes, until the end of the stream, or of the
        grant."""
        stream = self.open(place, sink)
        with self._leases.held(grant, stream.forbid):
            await stream.run()

    def open(self, place: Place, sink: Sink) -> EventStream:
        """A stream that has to be run."""
        seconds = LATE_SECONDS if self._stopping else self._timeout
        stream = EventStream(self, place, sink, time.monotonic() + seconds)
        self._open[stream] = None
        if not self._sweeping:
            self._sweeping = True
            self._sweep()
        return stream

    def stop(self) -> None:
        """Let all streams, and those that still come, end in order, soon."""
        self._stopping = True
        for stream in self._open:
            stream.stop()

    # -- for a stream ------------------------------------------------------------------------------

    async def page(self, place: Place) -> Page:
        """What comes after a place. Those who have fallen behind at the same time get the same object,
        so that what many of them do not take is there once. Raises MustRefetchError."""
        feed, position, stitch = place
        kept = self._pages.get((feed, position))
        if kept is not None and not stitch and not feed.ended:
            return kept
        reading = await self._library.read(place, SLICE_BYTES)
        events = sse_events(reading.messages)
        if reading.messages and reading.complete:
            events += sse_events([up_to_date(reading.lsn)])
        page = Page(events, reading.end)
        if not reading.complete and not stitch and len(events) <= 2 * SLICE_BYTES:
            self._pages[feed, position] = page
            if len(self._pages) > MOST_PAGES:
                del self._pages[next(iter(self._pages))]
        return page

    def parts(self, data: bytes) -> list[bytes]:
        """The pieces in which data goes, the same objects for all to whom it goes about now."""
        if len(data) <= 2 * SLICE_BYTES:
            return [data]
        kept = self._parts.get(id(data))
        if kept is None:
            parts = [data[at : at + SLICE_BYTES] for at in range(0, len(data), SLICE_BYTES)]
            kept = self._parts[id(data)] = data, parts
            if len(self._parts) > MOST_DIVIDED:
                del self._parts[next(iter(self._parts))]
        return kept[1]

    def renewed(self, position: Offset) -> Offset:
        """An offset for a client that heard nothing since a position."""
        return self._library.renewed(position)

    def closed(self, stream: EventStream) -> None:
        """The stream has ended."""
        del self._open[stream]

    def broadcast(self, feed: Feed) -> Broadcast:
        """What is sent to those at the end of a feed."""
        found = self._broadcasts.get(feed)
        if found is None:
            found = self._broadcasts[feed] = Broadcast(feed)
        return found

    def left(self, feed: Feed, *, delivered: int = 0) -> None:
        """A stream is no longer at the end of a feed; it has delivered so many batches itself."""
        self._delivered += delivered
        found = self._broadcasts.get(feed)
        if found is not None and not found:
            self._delivered += found.delivered
            del self._broadcasts[feed]

    def _sweep(self) -> None:
        now = time.monotonic()
        self._pages.clear()
        self._parts.clear()
        for stream in self._open:
            if stream.ends > now:
                break
            stream.wake()
        for broadcast in self._broadcasts.values():
            broadcast.keep_alive(now, self._keepalive)
        self._sweeping = bool(self._open)
        if self._open:
            seconds = min(SWEEP_SECONDS, self._timeout, self._keepalive)
            asyncio.get_running_loop().call_later(seconds, self._sweep)


class _ForbiddenError(Exception):
    """The client may not read any more."""


class EventStream:
    """One client's stream. Each batch is closed by an up-to-date.

    Ends after the settings' `sse_timeout`, or when the shape ends: the client then reconnects and
    learns what to do from an ordinary answer.

    While the client keeps up, it is sent what everybody at the end of its feed is, without waking a
    task; for one that is behind, a task goes on and reads what it missed from the log.
    """

    __slots__ = (
        "_broadcast",
        "_delivered",
        "_feed",
        "_forbidden",
        "_position",
        "_stitch",
        "_streams",
        "_woken",
        "ends",
        "sink",
    )

    def __init__(self, streams: Streams, place: Place, sink: Sink, ends: float) -> None:
        """`ends` is when it has lasted long enough, by the monotonic clock."""
        self.sink = sink
        self.ends = ends
        self._streams = streams
        self._feed, self._position, self._stitch = place
        self._delivered = 0
        self._forbidden = False
        self._broadcast: Broadcast | None = None
        """While it is at the end of the feed."""
        self._woken: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Send what the feed has and what comes, until the end."""
        try:
            with contextlib.suppress(RotatedError, MustRefetchError, _ForbiddenError):
                while True:
                    await self._catch_up()
                    if await self._follow():
                        return await self._renew()
        finally:
            self._streams.closed(self)

    def stop(self) -> None:
        """End as if it had lasted long enough."""
        self.ends = 0.0
        self.wake()

    def forbid(self) -> None:
        """End, and send nothing any more, not even what the client has yet to catch up with."""
        self._forbidden = True
        if self._broadcast is not None:
            self._broadcast.pause(self)
        self.stop()

    def wake(self) -> None:
        """Look whether it is over."""
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    # -- as a listener of the broadcast ------------------------------------------------------------

    def fall_behind(self, end: Offset) -> None:
        """Come up with the others again, from there."""
        self._position = max(self._position, end)
        self.wake()

    def fail(self, error: RotatedError) -> None:
        """The shape has ended."""
        if self._woken is not None and not self._woken.done():
            self._woken.set_exception(error)
            self._woken.exception()

    # -- as a task ---------------------------------------------------------------------------------

    async def _follow(self) -> bool:
        """Let batches be sent; False if some have to be read from the log, True when it is over."""
        streams = self._streams
        broadcast = self._broadcast = streams.broadcast(self._feed)
        try:
            while True:
                broadcast.join(self, streams.tail.processed)
                await self._at_end()
                if time.monotonic() >= self.ends:
                    return True
                if not await self._come_up():
                    return False
                self._feed.check()
        finally:
            self._broadcast = None
            broadcast.leave(self)
            streams.left(self._feed, delivered=self._delivered)
            self._delivered = 0

    async def _at_end(self) -> None:
        """Wait until it is behind, or over. Raises RotatedError when the shape ends."""
        if time.monotonic() >= self.ends:
            return
        self._woken = asyncio.get_running_loop().create_future()
        try:
            await self._woken
        finally:
            self._woken = None

    async def _come_up(self) -> bool:
        """Wait for a client that is behind and send what it missed; False if that is not at hand."""
        while True:
            await self.sink.drained()
            batches = self._feed.recent_after(self._position)
            if not batches:
                return batches is not None
            events, end = batches[0].events, batches[0].end
            # A client that stops reading now must not keep all that they consist of.
            del batches
            await self._write(events)
            self._position = end
            self._delivered += 1

    async def _renew(self) -> None:
        """Leave a client that heard nothing for long with an offset that the log will still reach."""
        last = self._feed.last
        if last is not None and last > self._position:
            # It has not got all yet: nothing may be skipped.
            return
        renewed = self._streams.renewed(self._position)
        if renewed != self._position:
            await self._write(sse_events([up_to_date(renewed.lsn)]))

    async def _catch_up(self) -> None:
        """Send everything there is after where the client is."""
        while True:
            # In small steps, each made when the one before it has been taken: a client that stops
            # reading holds one of them.
            await self.sink.drained()
            page = await self._streams.page(Place(self._feed, self._position, self._stitch))
            self._position, self._stitch = page.end, []
            if not page.events:
                return
            await self._write(page.events)
            del page
            # Many may be behind at the same time; others wait for what comes.
            await asyncio.sleep(0)

    async def _write(self, data: bytes) -> None:
        """A large batch goes in parts: what a client does not take must not be all of it, and when it
        may read no more it gets no more."""
        for part in self._streams.parts(data):
            await self.sink.drained()
            if self._forbidden:
                raise _ForbiddenError
            self.sink.stream(part)
