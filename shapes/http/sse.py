"""A shape's log as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import time

from engine.lsn import Offset
from engine.settings import Settings
from shapes.feed import RotatedError
from shapes.http.responses import Receive, Send
from shapes.library import Library, MustRefetchError, Place
from shapes.tail import Tail
from shapes.wire import sse_events, up_to_date

KEEP_ALIVE = b": keep-alive\n\n"


async def stream_events(
    settings: Settings, tail: Tail, library: Library, place: Place, receive: Receive, send: Send
) -> None:
    """Send what the feed has and what comes, each batch closed by an up-to-date.

    Ends after the settings' `sse_timeout`, when the client goes, or when the shape ends: the client
    then reconnects and learns what to do from an ordinary answer.
    """
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        with contextlib.suppress(RotatedError, MustRefetchError):
            await _stream(settings, tail, library, place, send, gone)
        await send({"type": "http.response.body", "body": b""})
    finally:
        gone.cancel()


async def _stream(
    settings: Settings,
    tail: Tail,
    library: Library,
    place: Place,
    send: Send,
    gone: asyncio.Future[None],
) -> None:
    ends = time.monotonic() + settings.sse_timeout
    place = await _catch_up(settings, library, place, send)
    while not gone.done():
        future = place.feed.next_batch(tail.processed)
        left = ends - time.monotonic()
        if left <= 0:
            await _renew(library, place, send)
            return
        await asyncio.wait(
            [future, gone],
            timeout=min(left, settings.sse_keepalive),
            return_when=asyncio.FIRST_COMPLETED,
        )
        if not future.done():
            if time.monotonic() < ends and not gone.done():
                await _send(send, KEEP_ALIVE)
            continue
        batch = future.result()
        if batch.messages is None or place.position.lsn > batch.end.lsn:
            place = await _catch_up(settings, library, place, send)
            continue
        await _send(send, batch.events)
        place = Place(place.feed, batch.end, [])
        # What came while the client was slow to take this is not in the next batch.
        if place.feed.count_after(place.position):
            place = await _catch_up(settings, library, place, send)


async def _renew(library: Library, place: Place, send: Send) -> None:
    """Leave a client that heard nothing for long with an offset that the log will still reach."""
    renewed = library.renewed(place.position)
    if renewed != place.position:
        await _send(send, sse_events([up_to_date(renewed.lsn)]))


async def _catch_up(settings: Settings, library: Library, place: Place, send: Send) -> Place:
    """Send everything there is after a place; the place after that."""
    while True:
        reading = await library.read(place, settings.chunk_bytes)
        messages = reading.messages
        end: Offset = reading.end
        if not messages:
            return Place(place.feed, end, [])
        if reading.complete:
            messages = [*messages, up_to_date(reading.lsn)]
        for start in range(0, len(messages), 500):
            await _send(send, sse_events(messages[start : start + 500]))
        place = Place(place.feed, end, [])


async def _send(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
