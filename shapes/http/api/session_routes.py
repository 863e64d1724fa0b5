"""Sessions: pairs of streams, in and out, that outlive runs, and such pairs beside them (channels).

There are no sessions but their streams: whatever id a client names is one, unless the scope of a token
for it would be that for a part of another session, e.g. `chat:out`. Ids with colons are usual.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson

from shapes.access.scopes import Resource
from shapes.http.api.call import ApiError, Call, Reply
from shapes.http.api.routes import Needs, Route, get, post
from shapes.http.api.run_stream_routes import WRITE
from shapes.http.api.stream_reading import Reading, StreamReaders, position_after, timeout_of
from shapes.http.api.stream_texts import StreamTextError, in_text
from shapes.http.api.stream_writing import PART_BYTES, StreamWriting
from shapes.http.responses import JSON, NO_STORE
from shapes.http.streams.stream_access import resources_of
from shapes.runs.definitions import READ
from shapes.streams.live.hub import StreamHub
from shapes.streams.live.trigger_framing import Contents, Record, TriggerFraming
from shapes.streams.path import segment_of
from shapes.streams.storage.store import StreamStore
from shapes.streams.stream import Outcome

SESSIONS: Final = "sessions"
IN, OUT = "in", "out"

DRAINED_BYTES: Final = 8 << 20
"""About so much is in one answer that is no event stream."""

_PAGE_BYTES: Final = 1 << 20
_CHANNELS: Final = "channels"
_AMBIGUOUS_SESSION: Final = (
    "A session's id cannot end with :in, :out or :channels, nor have :channels: in it: a token's scope"
    " for it would be that for a part of another session"
)
_AMBIGUOUS_CHANNEL: Final = (
    "A channel's name cannot end with :in or :out: a token's scope for it would be that for one side of"
    " another channel"
)
_PATTERNS: Final = (
    "/realtime/v1/sessions/{session}/{io}",
    "/realtime/v1/sessions/{session}/channels/{channel}/{io}",
)


def session_routes(
    hub: StreamHub, store: StreamStore, readers: StreamReaders, writing: StreamWriting
) -> list[Route]:
    """The routes of sessions' streams."""
    routes = _SessionRoutes(hub, store, readers, writing)
    reading, sending = Needs(READ, routes.find_read), Needs(WRITE, routes.find_written)
    found: list[Route] = []
    for pattern in _PATTERNS:
        append = f"{pattern}/append"
        found += [
            get(pattern, reading, in_text(routes.read)),
            get(f"{pattern}/records", reading, in_text(routes.drain)),
            post(append, sending, routes.append, max_body=PART_BYTES),
        ]
    return found


class _SessionRoutes:
    def __init__(
        self,
        hub: StreamHub,
        store: StreamStore,
        readers: StreamReaders,
        writing: StreamWriting,
    ) -> None:
        self._hub = hub
        self._store = store
        self._readers = readers
        self._writing = writing

    # -- who may ------------------------------------------------------------------------------------

    async def find_read(self, call: Call) -> Sequence[Resource]:
        """What comes out is for everybody with a token for the session. What goes in, from whoever
        takes part in it, is only for back ends, or tokens that name the stream."""
        call.found = path = _path_of(call)
        return [*resources_of(path), *(_resources(call) if call.values["io"] == OUT else [])]

    async def find_written(self, call: Call) -> Sequence[Resource]:
        call.found = path = _path_of(call)
        return [*resources_of(path), *(_resources(call) if call.values["io"] == IN else [])]

    # -- reading and writing ------------------------------------------------------------------------

    async def read(self, call: Call) -> Reply | None:
        reading = Reading(
            call.found,
            after=position_after(call.header(b"last-event-id")),
            latest=call.header(b"x-trigger-stream-start") == "latest",
            idle=timeout_of(call.header(b"timeout-seconds")),
            session=True,
            peeks=call.header(b"x-peek-settled") in ("1", "true"),
        )
        await self._readers.serve(call, reading)

    async def drain(self, call: Call) -> Reply | None:
        """The records that there are, or as many as one answer has."""
        after = position_after(call.query.get("afterEventId"))
        live = await self._hub.follow(call.grant.environment, call.found)
        records: list[Record] = []
        if live is not None and not live.gone:
            state = live.state
            position = state.head if after is None else after + 1
            if position < state.head:
                raise StreamTextError(410, f"The stream begins at event {state.head} now")
            framing = TriggerFraming(Contents.of(state, session=True))
            size = 0
            while position < state.tail and size < DRAINED_BYTES:
                chunks = await self._store.chunks(state, position, _PAGE_BYTES)
                if not chunks:
                    break
                records += framing.records(chunks)
                size += sum(len(chunk.data) for chunk in chunks)
                position = chunks[-1].end
        body = orjson.dumps({"records": records})
        await call.responder.send_body(200, [JSON, NO_STORE], body)
        return None

    async def append(self, call: Call) -> Reply:
        try:
            done = await self._writing.append_text(call, call.found)
        except StreamTextError as error:
            raise ApiError(error.status, str(error), ok=False) from error
        if done.outcome is Outcome.DUPLICATE:
            return Reply({"ok": True})
        return Reply({"ok": True, "seq": done.tail - 1})


def _path_of(call: Call) -> str:
    values = call.values
    if values["io"] not in (IN, OUT):
        raise ApiError(404, "Not found")
    session, channel = values["session"], values.get("channel")
    segments = [SESSIONS, segment_of(session)]
    if _is_side(session) or f":{_CHANNELS}:" in f"{session}:":
        raise ApiError(400, _AMBIGUOUS_SESSION)
    if channel is not None:
        if _is_side(channel):
            raise ApiError(400, _AMBIGUOUS_CHANNEL)
        segments += [_CHANNELS, segment_of(channel)]
    return "/".join([*segments, values["io"]])


def _is_side(identity: str) -> bool:
    return identity.endswith((f":{IN}", f":{OUT}"))


def _resources(call: Call) -> list[Resource]:
    """The session, one of its channels, or one side of either. No two of all sessions have a name in
    common: see `_path_of`."""
    session, io = call.values["session"], call.values["io"]
    found = [Resource(SESSIONS, session)]
    channel = call.values.get("channel")
    if channel is None:
        return [*found, Resource(SESSIONS, f"{session}:{io}")]
    return [
        *found,
        Resource(SESSIONS, f"{session}:{_CHANNELS}:{channel}"),
        Resource(SESSIONS, f"{session}:{_CHANNELS}:{channel}:{io}"),
    ]
