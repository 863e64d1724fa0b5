"""Following a stream as Trigger.dev's packages do: server-sent events, resumed by number."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Final

from engine.configuration.settings import Settings
from engine.errors import PgtideError
from shapes.access.leases import Leases
from shapes.http.api.call import Call
from shapes.http.api.stream_texts import StreamTextError
from shapes.http.exchange import STREAM, Exchange
from shapes.http.responses import Header
from shapes.runs.run_ends import RunEnds
from shapes.streams.live.arrivals import Arrivals
from shapes.streams.live.event_streams import Ending, EventStreams, Policy
from shapes.streams.live.hub import StreamHub
from shapes.streams.live.live_stream import LiveStream
from shapes.streams.live.trigger_framing import (
    CONTENT_TYPE,
    KEEP_ALIVE,
    TURN_COMPLETE,
    VERSION,
    Contents,
    TriggerFraming,
    end_event,
)
from shapes.streams.refusals import BelowHorizonError
from shapes.streams.storage.store import StreamStore
from shapes.streams.stream import StreamState

log = logging.getLogger("streams")

LONGEST_TIMEOUT: Final = 600
"""Seconds."""

_NUMBER = re.compile(r"[0-9]{1,15}")
_FORMER_ID = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")
_REASONS = {Ending.CLOSED: "closed", Ending.OVER: "finished", Ending.IDLE: "idle"}
_HEADERS: list[Header] = [
    (b"content-type", CONTENT_TYPE),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
    (b"x-stream-version", VERSION),
]


@dataclass(frozen=True, slots=True)
class Reading:
    """`after` is the position of the last message that the client has; `latest`: it wants the last one
    that there is, and what comes. `idle`: it ends when nothing came for so many seconds. `run_id`:
    it ends with this run, which may be `over` already. `peeks`: it ends at once if nothing is to be
    expected."""

    path: str
    after: int | None = None
    latest: bool = False
    idle: float | None = None
    run_id: str | None = None
    over: bool = False
    session: bool = False
    peeks: bool = False

    def start(self, state: StreamState | None) -> int:
        """The position of the first message to be sent. Without a state, there is no stream yet."""
        if self.after is not None:
            return self.after + 1
        if state is None:
            return 0
        return max(state.tail - 1, state.head) if self.latest else state.head


def position_after(text: str | None) -> int | None:
    """The position of the last message that a client has got, None for none. Ids of Trigger.dev's first
    streams are times, which say nothing here: their readers get all from the beginning. Raises
    StreamTextError."""
    text = (text or "").strip()
    if not text or _FORMER_ID.fullmatch(text):
        return None
    if not _NUMBER.fullmatch(text):
        raise StreamTextError(400, "Last-Event-ID must be the id of an event: a number")
    return int(text)


def timeout_of(text: str | None) -> float | None:
    """Seconds without data after which a stream ends. Raises StreamTextError."""
    if text is None:
        return None
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= LONGEST_TIMEOUT:
        raise StreamTextError(400, f"Timeout-Seconds must be from 1 to {LONGEST_TIMEOUT}")
    return float(text)


class StreamReaders:
    """Serves readers of a node."""

    def __init__(
        self,
        settings: Settings,
        hub: StreamHub,
        store: StreamStore,
        event_streams: EventStreams,
        arrivals: Arrivals,
        ends: RunEnds,
        leases: Leases,
    ) -> None:
        self._keep_alive = settings.sse_keepalive
        self._hub = hub
        self._store = store
        self._event_streams = event_streams
        self._arrivals = arrivals
        self._ends = ends
        self._leases = leases

    async def serve(self, call: Call, reading: Reading) -> None:
        """Answer with what there is, and what comes, of a stream that perhaps nobody has written to
        yet. Raises StreamTextError if it is no more."""
        responder = call.responder
        live = await self._hub.follow(call.grant.environment, reading.path)
        position = await self._begin(reading, live)
        settled = live is not None and reading.peeks and await self._is_settled(live.state)
        headers = [*_HEADERS, (b"x-session-settled", b"true")] if settled else _HEADERS
        await responder.start(200, headers)
        if responder.method != "HEAD":
            sink: Exchange = responder.scope["extensions"][STREAM]
            try:
                reason = await self._stream(call, reading, live, position, sink, settled=settled)
            except PgtideError as error:
                # The client comes again, and hears then what is wrong if it still is.
                log.info("a reader of a stream is cut off: %s", error)
                raise asyncio.CancelledError from error
            await sink.drained()
            sink.stream(end_event(reason))
        await responder.send({"type": "http.response.body", "body": b""})

    async def _begin(self, reading: Reading, live: LiveStream | None) -> int:
        """The position of the first message to be sent. Raises StreamTextError if the stream does not
        have any more what is asked for."""
        if live is None:
            return reading.start(None)
        if live.gone:
            raise StreamTextError(410, "The stream has been deleted")
        position = reading.start(live.state)
        if live.since(position) is None:
            try:
                # What was dropped is known to the table only.
                await self._store.chunks(live.state, position, 1)
            except BelowHorizonError as error:
                if reading.after is not None:
                    message = f"The stream begins at event {error.head} now"
                    raise StreamTextError(
                        410, f"{message}: older ones have been dropped"
                    ) from error
                return error.head
        return position

    async def _stream(
        self,
        call: Call,
        reading: Reading,
        live: LiveStream | None,
        position: int,
        sink: Exchange,
        *,
        settled: bool,
    ) -> str:
        """Send all; why it ended. Raises CancelledError where an end in order would be taken for the
        stream's."""
        expected = nullcontext(_done())
        if not (settled or reading.over):
            expected = nullcontext(None)
            if reading.run_id is not None:
                expected = self._ends.expected(call.grant.environment, reading.run_id)
        ends = time.monotonic() + (math.inf if reading.idle is None else reading.idle)
        with expected as over:
            while live is None:
                arrived = await self._arrival(call, reading, sink, over, ends)
                if isinstance(arrived, str):
                    return arrived
                live = arrived
            ending = await self._event_streams.run(
                live,
                position,
                sink,
                TriggerFraming(Contents.of(live.state, session=reading.session)),
                Policy(
                    keep_alive=self._keep_alive,
                    idle_end=reading.idle,
                    abort_on_stop=True,
                ),
                call.grant,
                over=over,
            )
        if ending is Ending.FORBIDDEN:
            # It comes again with another token, or hears that it needs one.
            raise asyncio.CancelledError
        return _REASONS.get(ending, "gone")

    async def _arrival(
        self,
        call: Call,
        reading: Reading,
        sink: Exchange,
        over: asyncio.Future[None] | None,
        ends: float,
    ) -> LiveStream | str | None:
        """The stream once somebody writes to it, or why that is not waited for any longer; None if it
        may have come, or not."""
        environment = call.grant.environment
        forbidden: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with (
            self._arrivals.expected(environment, reading.path) as arrived,
            self._leases.held(call.grant, lambda: forbidden.set_result(None)),
        ):
            live = await self._hub.follow(environment, reading.path)
            if live is not None and not live.gone:
                return live
            if over is not None and over.done():
                return "finished"
            waited = [arrived, forbidden, *([] if over is None else [over])]
            done = await self._first_of(waited, sink, ends)
            if forbidden in done or arrived.cancelled():
                raise asyncio.CancelledError
            return None if done else "idle"

    async def _first_of(
        self, futures: list[asyncio.Future[None]], sink: Exchange, ends: float
    ) -> set[asyncio.Future[None]]:
        """Those that are done as soon as one is; none if there is none in time."""
        while (left := ends - time.monotonic()) > 0:
            done, _ = await asyncio.wait(
                futures, timeout=min(left, self._keep_alive), return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                return done
            if not sink.behind:
                sink.stream(KEEP_ALIVE)
        return set()

    async def _is_settled(self, state: StreamState) -> bool:
        """Whether the last message says that nothing is to be expected."""
        if state.tail <= state.head:
            return False
        framing = TriggerFraming(Contents.of(state, session=True))
        chunks = await self._store.chunks(state, state.tail - 1, 1)
        return any(
            headers and TURN_COMPLETE in headers
            for chunk in chunks
            for _, _, headers in framing.messages(chunk)
        )


def _done() -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future
