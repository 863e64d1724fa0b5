"""PUT, POST and DELETE: making streams, appending to them and closing them, and deleting them."""

from __future__ import annotations

from typing import Final

from shapes.http.api.call import Call
from shapes.http.api.public_address import base_address
from shapes.http.responses import Header
from shapes.http.streams.append_request import AppendRequest, read_append
from shapes.http.streams.create_request import check_path, read_creation
from shapes.http.streams.fields import StreamRequestError, fields_of
from shapes.http.streams.outcomes import answer_to
from shapes.http.streams.stream_headers import CLOSED, NO_STORE, content_type, next_offset
from shapes.streams.appending.writer import StreamWriter
from shapes.streams.json_messages import MOST_MESSAGES, parse_messages
from shapes.streams.storage.creation import NewStream
from shapes.streams.storage.store import StreamStore
from shapes.streams.stream import JSON_TYPE, Append, Appended, Outcome, media_type

BODY_BYTES: Final = 16 << 20
"""What one request may append."""

_NOTHING = "there is nothing to append: the body is empty"
_NO_MESSAGES = "there is nothing to append: the array is empty"
_TOO_MANY_MESSAGES = f"more than {MOST_MESSAGES} messages: append them in several requests"
_NO_TYPE = "a Content-Type is needed: that of the stream"
_NO_JSON = "the body is no valid JSON"


class StreamWrites:
    """What changes streams, for one node.

    It needs no permit: however many read and wait, those are heard who write. What they hold is
    bounded by the room for bodies.
    """

    def __init__(
        self,
        store: StreamStore,
        writer: StreamWriter,
        public_url: str | None,
    ) -> None:
        self._store = store
        self._writer = writer
        self._public_url = public_url

    # -- POST --------------------------------------------------------------------------------------

    async def append(self, call: Call) -> None:
        asked = read_append(fields_of(call.responder.scope["headers"]))
        body = await call.body()
        request, complaint = _append_of(call, asked, body)
        done = await self._complain(request, complaint) if complaint else None
        if done is None:
            done = await self._writer.append(request)
        status, headers, text = answer_to(request, done)
        responder = call.responder
        if status < 300:
            headers.append(NO_STORE)
            if status == 204:
                await responder.send_empty(status, headers)
            else:
                await responder.send_body(status, headers, b"")
        else:
            await responder.send_text(status, [NO_STORE, *headers], text)

    async def _complain(self, request: Append, complaint: str) -> Appended:
        """What is wrong with the stream counts before what is wrong with the body, so that a client
        hears of a stream's end whatever it sends. Raises StreamRequestError if it is the body."""
        state = await self._store.find(request.environment, request.path)
        if state is None:
            return Appended(Outcome.MISSING)
        if state.gone:
            return Appended(Outcome.GONE)
        if state.closed:
            return Appended(Outcome.CLOSED, state.tail, closed=True)
        raise StreamRequestError(complaint)

    # -- PUT ---------------------------------------------------------------------------------------

    async def create(self, call: Call) -> None:
        responder = call.responder
        path = call.values["path"]
        check_path(path)
        asked = read_creation(fields_of(responder.scope["headers"]))
        location = base_address(call, self._public_url).encode() + responder.scope["raw_path"]
        new = NewStream(
            environment=call.grant.environment,
            path=path,
            content_type=asked.content_type,
            ttl=asked.ttl,
            expires_at=asked.expires_at,
            expires_text=asked.expires_text,
            closed=asked.closed,
            data=await call.body(),
            source=asked.source,
            fork_position=asked.fork_position,
            sub_offset=asked.sub_offset,
        )
        state, created = await self._store.create(new)
        headers: list[Header] = [
            content_type(state),
            next_offset(state.tail),
            NO_STORE,
        ]
        if state.closed:
            headers.append(CLOSED)
        if created:
            headers.append((b"location", location))
        await responder.send_body(201 if created else 200, headers, b"")

    # -- DELETE ------------------------------------------------------------------------------------

    async def delete(self, call: Call) -> None:
        outcome = await self._store.delete(call.grant.environment, call.values["path"])
        if outcome is Outcome.MISSING:
            raise StreamRequestError("there is no such stream", 404)
        if outcome is Outcome.GONE:
            raise StreamRequestError("the stream was deleted before", 410)
        await call.responder.send_empty(204, [NO_STORE])


def _append_of(call: Call, asked: AppendRequest, body: bytes) -> tuple[Append, str]:
    """What to append, and what is wrong with it."""
    complaint = ""
    parts: tuple[bytes, ...] = ()
    counts: tuple[int, ...] = ()
    kind = asked.content_type
    if not body:
        kind = None
        if not asked.close:
            complaint = _NOTHING
    elif kind is None:
        complaint = _NO_TYPE
    elif kind == JSON_TYPE or media_type(kind) == JSON_TYPE:
        try:
            data, count = parse_messages(body)
        except ValueError:
            complaint = _NO_JSON
        else:
            parts, counts = (data,), (count,)
            if not count:
                complaint = _NO_MESSAGES
            elif count > MOST_MESSAGES:
                raise StreamRequestError(_TOO_MANY_MESSAGES, 413)
    else:
        parts, counts = (body,), (1,)
    request = Append(
        call.grant.environment,
        call.values["path"],
        parts,
        counts,
        kind,
        asked.close,
        asked.stamp,
        sequence=asked.sequence,
    )
    return request, complaint
