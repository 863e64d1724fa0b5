"""`/v1/shape`: a shape's log over HTTP, as catch-up, long-poll and server-sent events."""

from __future__ import annotations

import hmac
import time

from engine.lsn import Offset
from engine.settings import Settings
from shapes.definition import Definition
from shapes.definitions import Definitions
from shapes.feed import Batch, RotatedError
from shapes.http.errors import answer_error
from shapes.http.polling import Polls
from shapes.http.request import (
    SECRET_PARAMETERS,
    ShapeRequest,
    query_parameters,
    read_request,
)
from shapes.http.responses import (
    JSON,
    Header,
    Receive,
    Scope,
    Send,
    common_headers,
    header,
    send_body,
    send_file,
    send_json,
    send_messages,
)
from shapes.http.sse import EventStream
from shapes.library import Library, MustRefetchError, Place
from shapes.shape import Handle, Shape
from shapes.tail import Tail
from shapes.wire import (
    MUST_REFETCH,
    SHAPE_METHODS,
    SSE_TYPE,
    LogOffset,
    Special,
    next_cursor,
    up_to_date,
)

_INITIAL_CACHE = b"public, max-age=604800, s-maxage=3600, stale-while-revalidate=2629746"
_LIVE_CACHE = b"public, max-age=5, stale-while-revalidate=5"


class ShapeEndpoint:
    """The ASGI application behind `/v1/shape`."""

    def __init__(
        self, settings: Settings, tail: Tail, library: Library, definitions: Definitions
    ) -> None:
        self._settings = settings
        self._tail = tail
        self._library = library
        self._definitions = definitions
        self._polls = Polls(settings.long_poll_timeout)
        self._secret = settings.secret.encode() if settings.secret else None
        self._cache = (
            f"public, max-age={settings.cache_max_age}, "
            f"stale-while-revalidate={settings.cache_stale_age}"
        ).encode()
        self._sse_cache = b"public, max-age=%d" % max(1, int(settings.sse_timeout) - 1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = common_headers(scope, SHAPE_METHODS)
        parameters = query_parameters(scope["query_string"])
        method = scope["method"]
        if method == "OPTIONS":
            return await _preflight(scope, send, headers)
        if not self._authorised(parameters):
            return await send_json(
                send, 401, headers, {"message": "Unauthorized - Invalid API secret"}
            )
        definition: Definition | None = None
        try:
            if method == "DELETE":
                return await self._delete(send, headers, parameters)
            if method not in ("GET", "HEAD"):
                return await send_json(send, 405, headers, {"message": f"{method} not allowed"})
            request = read_request(parameters)
            definition = request.definition
            await self._get(scope, receive, send, headers, request)
        except MustRefetchError as error:
            handle = error.handle
            if handle is None and definition is not None:
                handle = await self._library.redirect(definition)
            await _send_must_refetch(send, headers, handle)
        except Exception as error:
            await answer_error(send, headers, error)

    def _authorised(self, parameters: dict[str, str]) -> bool:
        if self._secret is None:
            return True
        for name in SECRET_PARAMETERS:
            if name in parameters:
                return hmac.compare_digest(parameters[name].encode(), self._secret)
        return False

    # -- GET ---------------------------------------------------------------------------------------

    async def _get(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        headers: list[Header],
        request: ShapeRequest,
    ) -> None:
        if not request.live:
            # What another node has shown to this client (an altered table, too) is known here then.
            await self._tail.catch_up()
        shape = await self._definitions.resolve(request.definition)
        offset = request.offset
        if offset is Special.START:
            handle = await self._library.current(shape)
            chunk = await self._library.first_chunk(handle)
            answer = _Answer(handle, shape, request, chunk.offset, _INITIAL_CACHE)
            return await answer.send_chunk(scope, send, headers, chunk.body)
        if offset is Special.NOW:
            return await self._now(scope, send, headers, request, shape)
        assert isinstance(offset, LogOffset)
        handle = Handle.parse(request.handle or "")
        if handle is None or not self._library.good(handle, shape):
            raise MustRefetchError(await self._library.current(shape))
        if offset.in_snapshot:
            chunk = await self._library.next_chunk(handle, offset)
            if chunk is not None:
                answer = _Answer(handle, shape, request, chunk.offset, self._cache)
                return await answer.send_chunk(scope, send, headers, chunk.body)
        place = await self._library.place(shape, handle, offset)
        if request.sse:
            return await self._sse(receive, send, headers, request, handle, place)
        return await self._log(scope, send, headers, request, handle, place)

    async def _now(
        self,
        scope: Scope,
        send: Send,
        headers: list[Header],
        request: ShapeRequest,
        shape: Shape,
    ) -> None:
        handle = await self._library.known(shape)
        position = self._tail.processed
        answer = _Answer(handle, shape, request, position, self._cache, data=False, complete=True)
        await answer.send_messages(scope, send, headers, [up_to_date(position.lsn)])

    async def _log(
        self,
        scope: Scope,
        send: Send,
        headers: list[Header],
        request: ShapeRequest,
        handle: Handle,
        place: Place,
    ) -> None:
        shape = place.feed.shape
        cache = _LIVE_CACHE if request.live else self._cache
        while True:
            reading = await self._library.read(place, self._settings.chunk_bytes)
            if reading.messages or not request.live:
                break
            changed, batch = await self._wait(place)
            if not changed:
                return await self._timed_out(scope, send, headers, request, handle, place)
            if batch is not None:
                answer = _Answer(handle, shape, request, batch.end, cache, complete=True)
                return await answer.send_body(scope, send, headers, batch.body, self._live(request))
        answer = _Answer(handle, shape, request, reading.end, cache, complete=reading.complete)
        messages = reading.messages
        if reading.complete:
            messages = [*messages, up_to_date(reading.lsn)]
        extra = self._live(request) if request.live else None
        return await answer.send_messages(scope, send, headers, messages, extra)

    async def _wait(self, place: Place) -> tuple[bool, Batch | None]:
        """Whether something comes in time, and the batch if it is at hand."""
        try:
            return await self._polls.wait(place.feed, self._tail.processed)
        except RotatedError as error:
            raise MustRefetchError(None) from error

    async def _timed_out(
        self,
        scope: Scope,
        send: Send,
        headers: list[Header],
        request: ShapeRequest,
        handle: Handle,
        place: Place,
    ) -> None:
        end = self._library.renewed(place.position)
        answer = _Answer(
            handle, place.feed.shape, request, end, _LIVE_CACHE, data=False, complete=True
        )
        lsn = max(self._tail.last_commit_end, end.lsn)
        await answer.send_messages(scope, send, headers, [up_to_date(lsn)], self._live(request))

    def _live(self, request: ShapeRequest) -> list[Header]:
        cursor = next_cursor(time.time(), self._settings.long_poll_timeout, request.cursor)
        return [(b"electric-cursor", b"%d" % cursor)]

    async def _sse(
        self,
        receive: Receive,
        send: Send,
        headers: list[Header],
        request: ShapeRequest,
        handle: Handle,
        place: Place,
    ) -> None:
        # The client takes the header for its position at once, but throws away what comes before a
        # cut without an up-to-date: so it must be the position that was asked for.
        offset = place.position if not place.stitch else request.offset
        headers += [
            (b"content-type", SSE_TYPE),
            (b"cache-control", self._sse_cache),
            (b"x-accel-buffering", b"no"),
            (b"electric-handle", str(handle).encode()),
            (b"electric-offset", str(offset).encode()),
            (b"electric-has-data", b"true"),
            (b"etag", f'"{handle}:{request.offset}:{offset}"'.encode()),
            *self._live(request),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await EventStream(self._settings, self._tail, self._library, place, send).run(receive)

    # -- DELETE ------------------------------------------------------------------------------------

    async def _delete(self, send: Send, headers: list[Header], parameters: dict[str, str]) -> None:
        if not self._settings.enable_delete:
            return await send_json(send, 405, headers, {"message": "DELETE not allowed"})
        request = read_request({"offset": "-1", **parameters, "live": "false"})
        shape = await self._definitions.resolve(request.definition)
        if not await self._library.delete(shape):
            return await send_json(send, 404, headers, {"message": "No existing shape found"})
        return await send_body(send, 202, [*headers, (b"cache-control", b"no-cache")], b"")


class _Answer:
    """The headers of one successful answer."""

    def __init__(
        self,
        handle: Handle,
        shape: Shape,
        request: ShapeRequest,
        offset: Offset,
        cache: bytes,
        *,
        data: bool = True,
        complete: bool = False,
    ) -> None:
        self._etag = f'"{handle}:{request.offset}:{offset}'
        # An answer without news must never be confirmed by a cache's revalidation.
        self._etag += '"' if data else f':{time.monotonic_ns()}"'
        self._headers: list[Header] = [
            JSON,
            (b"cache-control", cache),
            (b"electric-handle", str(handle).encode()),
            (b"electric-offset", str(offset).encode()),
            (b"electric-has-data", b"true" if data else b"false"),
            (b"etag", self._etag.encode()),
        ]
        if complete:
            self._headers.append((b"electric-up-to-date", b""))
        self._live = request.live
        self._schema: Header = (b"electric-schema", shape.projection.schema_header)

    async def send_body(
        self, scope: Scope, send: Send, headers: list[Header], body: bytes, extra: list[Header]
    ) -> None:
        if not await self._not_modified(scope, send, headers, extra):
            await send_body(send, 200, [*headers, *self._headers, *extra], body)

    async def send_messages(
        self,
        scope: Scope,
        send: Send,
        headers: list[Header],
        messages: list[bytes],
        extra: list[Header] | None = None,
    ) -> None:
        if extra is None:
            extra = [self._schema]
        if not await self._not_modified(scope, send, headers, extra):
            await send_messages(send, 200, [*headers, *self._headers, *extra], messages)

    async def send_chunk(
        self, scope: Scope, send: Send, headers: list[Header], body: bytes | object
    ) -> None:
        headers = [*headers, *self._headers, self._schema]
        if await self._not_modified(scope, send, headers, []):
            return
        if isinstance(body, bytes):
            await send_body(send, 200, headers, body)
        else:
            await send_file(send, 200, headers, body)  # pyright: ignore

    async def _not_modified(
        self, scope: Scope, send: Send, headers: list[Header], extra: list[Header]
    ) -> bool:
        wanted = header(scope, b"if-none-match")
        if wanted is None:
            return False
        known = [tag.strip().strip('"') for tag in wanted.decode("latin-1").split(",")]
        if self._etag.strip('"') not in known:
            return False
        kept = [pair for pair in self._headers if pair[0] not in (b"content-type",)]
        cursor = [pair for pair in extra if pair[0] == b"electric-cursor"]
        await send_body(send, 304, [*headers[:5], *kept, *cursor], b"")
        return True


async def _preflight(scope: Scope, send: Send, headers: list[Header]) -> None:
    headers.append((b"access-control-max-age", b"86400"))
    wanted = header(scope, b"access-control-request-headers")
    if wanted is not None:
        names = [name.strip() for name in wanted.decode("latin-1").lower().split(",")]
        allowed = [
            name for name in names if name and name.replace("-", "").replace("_", "").isalnum()
        ]
        headers.append((b"access-control-allow-headers", ",".join(allowed).encode("latin-1")))
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def _send_must_refetch(send: Send, headers: list[Header], handle: Handle | None) -> None:
    headers = [*headers, JSON]
    if handle is None:
        headers.append((b"cache-control", b"public, max-age=1, must-revalidate"))
    else:
        headers += [
            (b"cache-control", b"public, max-age=60, must-revalidate"),
            (b"electric-handle", str(handle).encode()),
            (b"etag", f'"{handle}::"'.encode()),
        ]
    await send_body(send, 409, headers, MUST_REFETCH)
