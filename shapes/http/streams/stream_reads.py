"""GET and HEAD: what a stream has, and what comes."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from engine.configuration.settings import Settings
from shapes.access.authority import Authority
from shapes.database import DatabaseUnavailableError
from shapes.http.admission import Admission, Permit, Pool
from shapes.http.api.call import Call
from shapes.http.exchange import STREAM, Exchange
from shapes.http.live_limit import LiveLimit
from shapes.http.streams import stream_headers
from shapes.http.streams.cursors import next_cursor
from shapes.http.streams.entity_tag import known_tag
from shapes.http.streams.fields import StreamRequestError
from shapes.http.streams.page_answer import PageAnswer
from shapes.http.streams.page_room import Page, PageRoom
from shapes.http.streams.read_request import NOW, START, Live, ReadRequest, read_query
from shapes.http.streams.sse_framing import Payload, SseFraming
from shapes.http.streams.stream_headers import NO_STORE, UP_TO_DATE, Header
from shapes.readiness import NotReadyError
from shapes.streams.live.event_streams import EventStreams, Policy
from shapes.streams.live.hub import LiveStream, StreamHub
from shapes.streams.refusals import BelowHorizonError
from shapes.streams.storage.store import StreamStore
from shapes.streams.stream import Chunk, StreamState

RETRY_SECONDS: Final = 5
"""When those may come again of whom there are too many."""

_MISSING = "there is no such stream: make it with PUT"
_GONE = "the stream was deleted or has expired"
_TOO_MANY = "too many live reads at a time in this environment"


class StreamReads:
    """Answers who reads streams, for one node."""

    def __init__(
        self,
        settings: Settings,
        store: StreamStore,
        hub: StreamHub,
        event_streams: EventStreams,
        admission: Admission,
        limit: LiveLimit,
        authority: Authority,
    ) -> None:
        self._store = store
        self._hub = hub
        self._event_streams = event_streams
        self._admission = admission
        self._limit = limit
        self._authority = authority
        self._poll_seconds = settings.long_poll_timeout
        self._policy = Policy(lifetime=settings.sse_timeout, keep_alive=settings.sse_keepalive)
        self._room = PageRoom()

    async def describe(self, call: Call) -> None:
        """HEAD: nobody's time to live begins anew."""
        with self._admission.admit(Pool.EXISTING):
            state = await self._find(call)
        await call.responder.send_empty(200, stream_headers.description(state))

    async def read(self, call: Call) -> None:
        request = read_query(call.responder.scope["query_string"])
        with self._admission.admit(Pool.EXISTING) as permit:
            match request.live:
                case Live.NO:
                    await self._catch_up(call, request)
                case Live.LONG_POLL:
                    await self._counted(call, request, self._long_poll, permit)
                case Live.SSE:
                    await self._counted(call, request, self._events, permit)

    async def _counted(
        self,
        call: Call,
        request: ReadRequest,
        serve: Callable[[Call, ReadRequest, LiveStream, Permit], Awaitable[None]],
        permit: Permit,
    ) -> None:
        """A live read, if there are not too many."""
        environment = call.grant.environment
        if not self._limit.take(environment):
            raise StreamRequestError(_TOO_MANY, 429, RETRY_SECONDS)
        try:
            live = await self._hub.follow(environment, call.values["path"])
            _check(live)
            assert live is not None
            await self._store.touch(live.state)
            await serve(call, request, live, permit)
        finally:
            self._limit.give(environment)

    async def _find(self, call: Call) -> StreamState:
        state = await self._store.find(call.grant.environment, call.values["path"])
        _check(state)
        assert state is not None
        return state

    # -- what is there -----------------------------------------------------------------------------

    async def _catch_up(self, call: Call, request: ReadRequest) -> None:
        state = await self._find(call)
        await self._store.touch(state)
        answer = PageAnswer(call, state)
        if request.position == NOW:
            await answer.send_nothing()
            return
        start = _start(request.position, state)
        tag = known_tag(call.responder.entity_tags(), state, start)
        if tag is not None and state.head <= start and request.position != START:
            await answer.confirm(start, tag.end)
            return
        with self._room.page(first=request.position == START) as page:
            chunk = await self._page(call, state, request.position, page)
            await answer.send([chunk])

    async def _page(self, call: Call, state: StreamState, wanted: int, page: Page) -> Chunk:
        """What goes into a page; that from the START on begins with the first messages that are kept.
        Raises BelowHorizonError for others that are not."""
        start = _start(wanted, state)
        while True:
            try:
                chunk = await self._store.page(state, start, page.most)
                self._event_streams.reads.table += 1
            except BelowHorizonError as error:
                if wanted != START or error.head <= start:
                    raise
                start = error.head
            else:
                page.has(len(chunk.data))
                self._authority.check_end(call.grant)
                return chunk

    # -- the next that comes -----------------------------------------------------------------------

    async def _long_poll(
        self, call: Call, request: ReadRequest, live: LiveStream, permit: Permit
    ) -> None:
        state = live.state
        wanted = request.position
        position = state.tail if wanted == NOW else _start(wanted, state)
        cursor: Header = (b"stream-cursor", b"%d" % _cursor(request))
        live = self._hub.current(live)
        if position >= live.tail and not live.closed:
            permit.rest()
            await self._event_streams.long_poll(live, position, self._poll_seconds, call.grant)
            permit.go_on()
        if live.gone:
            await self._find(call)
            # There is another one under its path: what the client has is of no use there.
            raise StreamRequestError(_GONE, 410)
        state = live.state
        answer = PageAnswer(call, state)
        if position >= state.tail:
            headers = [stream_headers.next_offset(position), UP_TO_DATE, NO_STORE]
            headers.append(stream_headers.CLOSED if state.closed else cursor)
            await call.responder.send_empty(204, headers)
            return
        extra = () if state.closed else (cursor,)
        chunks = live.since(position)
        if chunks:
            self._event_streams.reads.memory += 1
            await answer.send(chunks, extra, live=True)
            return
        with self._room.page() as page:
            chunk = await self._page(call, state, START if wanted == START else position, page)
            await answer.send([chunk], extra, live=True)

    # -- all that comes ----------------------------------------------------------------------------

    async def _events(
        self, call: Call, request: ReadRequest, live: LiveStream, permit: Permit
    ) -> None:
        state = live.state
        position = state.tail if request.position == NOW else _start(request.position, state)
        if position < state.head:
            raise BelowHorizonError(state.head)
        framing = SseFraming(Payload.of(state), _cursor(request), time.time)
        headers: list[Header] = [
            (b"content-type", b"text/event-stream"),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
        ]
        if framing.payload is Payload.BASE64:
            headers.append((b"stream-sse-data-encoding", b"base64"))
        responder = call.responder
        exchange: Exchange = responder.scope["extensions"][STREAM]
        await responder.start(200, headers)
        if position >= live.tail and not live.closed:
            exchange.stream(framing.idle(position, closed=False))
        # For as long as its client likes, it mostly waits.
        permit.rest()
        # After such an error the client comes again from where it is, and is told then.
        with suppress(BelowHorizonError, DatabaseUnavailableError, NotReadyError):
            await self._event_streams.run(
                live, position, exchange, framing, self._policy, call.grant
            )
        await responder.send({"type": "http.response.body", "body": b""})


def _check(found: StreamState | LiveStream | None) -> None:
    """Raises StreamRequestError if there is nothing to be read."""
    if found is None:
        raise StreamRequestError(_MISSING, 404)
    if found.gone:
        raise StreamRequestError(_GONE, 410)


def _start(wanted: int, state: StreamState) -> int:
    """Where to begin: nobody is beyond the tail."""
    return state.head if wanted == START else min(wanted, state.tail)


def _cursor(request: ReadRequest) -> int:
    return next_cursor(request.cursor, time.time(), random.random())
