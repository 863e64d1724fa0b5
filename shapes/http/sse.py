"""A shape's log as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Generator
from typing import Any

from engine.settings import Settings
from shapes.feed import Batch, RotatedError
from shapes.http.responses import Receive, Send
from shapes.library import Library, MustRefetchError, Place
from shapes.tail import Tail
from shapes.wire import sse_events, up_to_date

SLICE_BYTES = 64 << 10

KEEP_ALIVE = b": keep-alive\n\n"


class EventStream:
    """One client's stream. Each batch is closed by an up-to-date.

    Ends after the settings' `sse_timeout`, when the client goes, or when the shape ends: the client
    then reconnects and learns what to do from an ordinary answer.

    While the client keeps up, batches are written from where they are published, without waking a
    task; one that has to wait for its client goes on by itself and reads what it missed from the log.
    """

    def __init__(
        self, settings: Settings, tail: Tail, library: Library, place: Place, send: Send
    ) -> None:
        self._settings = settings
        self._tail = tail
        self._library = library
        self._place = place
        self._send = send
        self._stuck: _Rest | None = None
        self._sent = time.monotonic()
        self._woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, receive: Receive) -> None:
        """Send what the feed has and what comes, until the end."""
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            with contextlib.suppress(RotatedError, MustRefetchError):
                await self._stream(gone)
            if not gone.done():
                await self._send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
            self._place.feed.detach(self)

    # -- as a reader of the feed -------------------------------------------------------------------

    def deliver(self, batch: Batch | None) -> bool:
        """Write the batch now if the client's connection takes it."""
        if self._stuck is not None:
            # It will be found among the feed's recent batches, or else in the log.
            return True
        if batch is None:
            self._wake()
            return False
        sending = self._write_slices(batch.events)
        self._place = Place(self._place.feed, batch.end, [])
        try:
            blocker = sending.send(None)
        except StopIteration:
            self._sent = time.monotonic()
            return True
        except Exception:
            # The connection is broken; `run` finds out.
            self._wake()
            return False
        self._stuck = _Rest(sending, blocker)
        self._wake()
        return True

    def end(self, error: RotatedError) -> None:
        """The shape has ended."""
        if not self._woken.done():
            self._woken.set_exception(error)
            self._woken.exception()

    def _wake(self) -> None:
        if not self._woken.done():
            self._woken.set_result(None)

    # -- as a task ---------------------------------------------------------------------------------

    async def _stream(self, gone: asyncio.Future[None]) -> None:
        ends = time.monotonic() + self._settings.sse_timeout
        while not gone.done():
            await self._catch_up()
            self._place.feed.attach(self, self._tail.processed)
            following = True
            while following and not gone.done():
                self._woken = asyncio.get_running_loop().create_future()
                if not await self._at_end(gone, ends):
                    return
                following = await self._unstick()
            self._place.feed.detach(self)

    async def _unstick(self) -> bool:
        """Wait for a slow client and send what it missed meanwhile; False if that is not at hand."""
        if self._stuck is None:
            return False
        await self._stuck
        while batches := self._place.feed.recent_after(self._place.position):
            for batch in batches:
                await self._write(batch.events)
                self._place = Place(self._place.feed, batch.end, [])
        self._stuck = None
        self._place.feed.check()
        return batches is not None

    async def _at_end(self, gone: asyncio.Future[None], ends: float) -> bool:
        """Wait while batches are delivered; False when the stream is over."""
        keepalive = self._settings.sse_keepalive
        while True:
            now = time.monotonic()
            left = min(ends - now, self._sent + keepalive - now)
            await asyncio.wait(
                [self._woken, gone], timeout=max(left, 0), return_when=asyncio.FIRST_COMPLETED
            )
            if gone.done():
                return False
            if self._woken.done():
                self._woken.result()
                return True
            now = time.monotonic()
            if now >= ends:
                self._place.feed.detach(self)
                await self._renew()
                return False
            if now >= self._sent + keepalive:
                self._place.feed.last_used = now
                await self._write(KEEP_ALIVE)

    async def _renew(self) -> None:
        """Leave a client that heard nothing for long with an offset that the log will still reach."""
        renewed = self._library.renewed(self._place.position)
        if renewed != self._place.position:
            await self._write(sse_events([up_to_date(renewed.lsn)]))

    async def _catch_up(self) -> None:
        """Send everything there is after where the client is."""
        while True:
            # In small steps: a client that stops reading holds one of them.
            reading = await self._library.read(self._place, SLICE_BYTES)
            self._place = Place(self._place.feed, reading.end, [])
            if not reading.messages:
                return
            events = sse_events(reading.messages)
            if reading.complete:
                events += sse_events([up_to_date(reading.lsn)])
            del reading
            await self._write(events)

    async def _write(self, data: bytes) -> None:
        await self._write_slices(data)
        self._sent = time.monotonic()

    async def _write_slices(self, data: bytes) -> None:
        """The server below copies what it is given; so a large batch goes in parts."""
        for start in range(0, len(data), SLICE_BYTES):
            await self._send(_body(data[start : start + SLICE_BYTES]))


def _body(data: bytes) -> dict[str, object]:
    return {"type": "http.response.body", "body": data, "more_body": True}


class _Rest:
    """A coroutine that was begun by hand and has to wait: awaiting this finishes it."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], blocker: Any) -> None:
        self._coroutine = coroutine
        self._blocker = blocker

    def __await__(self) -> Generator[Any, Any, None]:
        blocker = self._blocker
        while True:
            value = yield blocker
            try:
                blocker = self._coroutine.send(value)
            except StopIteration:
                return


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
