"""`/v1/shape`: a shape's log over HTTP, as catch-up, long-poll and server-sent events."""

from __future__ import annotations

import time

from engine.configuration.access_keys import DEFAULT_ENVIRONMENT
from engine.configuration.settings import Settings
from shapes.access.authority import Authority
from shapes.access.grant import Grant
from shapes.database import DatabaseUnavailableError
from shapes.definition import Definition
from shapes.definitions import Definitions
from shapes.following.feed import Batch, RotatedError
from shapes.following.tail import Tail
from shapes.http.admission import Admission, ConcurrencyError, Permit, Pool
from shapes.http.answer import Answer, send_must_refetch, send_preflight, send_subset
from shapes.http.body import merged, read_body
from shapes.http.errors import CatalogUnavailableError, answer_error, answer_refusal
from shapes.http.exchange import STREAM
from shapes.http.live_limit import LiveLimit
from shapes.http.polling import Polls
from shapes.http.request import (
    Parameters,
    ShapeRequest,
    query_parameters,
    read_deletion,
    read_request,
)
from shapes.http.responder import Responder
from shapes.http.responses import JSON, NO_CACHE, PRIVATE, Header, Receive, Scope, Send
from shapes.http.shape_access import ShapeAccess
from shapes.http.spooling import is_large, spooled
from shapes.http.sse import Streams
from shapes.library import Chunk, Library, MustRefetchError, OutOfBoundsError, Place
from shapes.shape import Handle, Shape
from shapes.snapshots.subset import Subsets, make_query
from shapes.where import guarded
from shapes.wire import SHAPE_METHODS, SSE_TYPE, LogOffset, Special, next_cursor, up_to_date

_INITIAL_CACHE = b"public, max-age=604800, s-maxage=3600, stale-while-revalidate=2629746"
_LIVE_CACHE = b"public, max-age=5, stale-while-revalidate=5"
_MISMATCH = (
    "The specified shape definition and handle do not match. Please ensure the shape definition is "
    "correct or omit the shape handle from the request to obtain a new one."
)


class ShapeEndpoint:
    """The ASGI application behind `/v1/shape`."""

    def __init__(
        self,
        settings: Settings,
        tail: Tail,
        library: Library,
        definitions: Definitions,
        subsets: Subsets,
        polls: Polls,
        streams: Streams,
        admission: Admission,
        limit: LiveLimit,
        authority: Authority,
    ) -> None:
        self._settings = settings
        self._tail = tail
        self._library = library
        self._definitions = definitions
        self._subsets = subsets
        self._polls = polls
        self._streams = streams
        self._admission = admission
        self._limit = limit
        self._access = ShapeAccess(settings, authority)
        self._cache = (
            f"public, max-age={settings.cache_max_age}, "
            f"stale-while-revalidate={settings.cache_stale_age}"
        ).encode()
        self._sse_cache = b"public, max-age=%d" % max(1, int(settings.sse_timeout) - 1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        responder = Responder(scope, receive, send, SHAPE_METHODS)
        if responder.method == "OPTIONS":
            return await send_preflight(responder)
        try:
            parameters = query_parameters(scope["query_string"])
            self._access.admit(responder, parameters)
            await self._dispatch(responder, parameters)
        except Exception as error:
            await answer_error(responder, error)

    async def _dispatch(self, responder: Responder, parameters: Parameters) -> None:
        match responder.method:
            case "GET" | "HEAD" | "POST":
                with self._admission.admit(self._pool(parameters.get("handle"))) as permit:
                    if responder.method == "POST":
                        parameters = merged(parameters, await read_body(responder.receive))
                    request = self._access.narrowed(read_request(parameters), responder.grant)
                    await self._counted(responder, request, permit)
            case "DELETE":
                await self._delete(responder, parameters)
            case _:
                await responder.send_text(404, [PRIVATE], b"Not found")

    # -- GET and POST ------------------------------------------------------------------------------

    def _pool(self, handle: str | None) -> Pool:
        return Pool.EXISTING if self._library.knows(handle) else Pool.INITIAL

    async def _counted(self, responder: Responder, request: ShapeRequest, permit: Permit) -> None:
        """Serve it, if it is not a live request too many: they give their permits back to wait. Tables
        are not divided by environments. Raises ConcurrencyError."""
        if not request.live:
            await self._get(responder, request, permit)
            return
        if not self._limit.take(DEFAULT_ENVIRONMENT):
            raise ConcurrencyError("live", self._limit.limit)
        try:
            await self._get(responder, request, permit)
        finally:
            self._limit.give(DEFAULT_ENVIRONMENT)

    async def _get(self, responder: Responder, request: ShapeRequest, permit: Permit) -> None:
        try:
            await self._serve(responder, request, permit)
        except MustRefetchError as error:
            handle = error.handle
            if handle is None or str(handle) == request.handle:
                handle = await self._library.redirect(request.definition, request.handle)
            await send_must_refetch(responder, request, handle)

    async def follow(self, responder: Responder, request: ShapeRequest) -> None:
        """Serve a shape on behalf of a route of its own, which has decided that it may be read, and has
        counted it if it is live.

        Errors that are not answered by starting over are raised.
        """
        with self._admission.admit(self._pool(request.handle)) as permit:
            try:
                await self._get(responder, request, permit)
            except OutOfBoundsError:
                # Its clients end for ever when they are refused.
                handle = await self._library.redirect(request.definition, request.handle)
                await send_must_refetch(responder, request, handle)

    async def _serve(self, responder: Responder, request: ShapeRequest, permit: Permit) -> None:
        if self._settings.enable_delete:
            self._library.follow_deletions()
        if not request.live:
            # What another node has shown to this client (an altered table, too) is known here then.
            await self._tail.catch_up()
        shape = await self._resolve(request.definition)
        if isinstance(request.offset, LogOffset) and not request.offset.in_snapshot:
            # Whoever is still at the beginning is better served with a new handle and all columns.
            shape = self._definitions.held(
                request.definition, shape, request.handle, live=request.live
            )
        if request.subset is not None:
            return await self._subset(responder, request, shape)
        offset = request.offset
        if offset is Special.START:
            handle = await self._library.current(shape)
            chunk = await self._library.first_chunk(handle)
            self._access.check_end(responder.grant)
            permit.swap()
            if request.private and isinstance(chunk.body, bytes):
                return await self._at_once(responder, request, handle, shape, chunk)
            answer = Answer(responder, handle, shape, request, chunk.offset, _INITIAL_CACHE)
            return await answer.send_chunk(chunk.body)
        if offset is Special.NOW:
            return await self._now(responder, request, shape)
        assert isinstance(offset, LogOffset)
        handle = await self._good_handle(request, shape)
        if offset.in_snapshot:
            chunk = await self._library.next_chunk(handle, offset)
            if chunk is not None:
                cache = _LIVE_CACHE if request.live else self._cache
                answer = Answer(responder, handle, shape, request, chunk.offset, cache)
                extra = self._live(request, 0) if request.live else None
                return await answer.send_chunk(chunk.body, extra)
        place = await self._library.place(shape, handle, offset)
        self._access.check_end(responder.grant)
        if request.sse:
            return await self._sse(responder, request, handle, place, permit)
        return await self._log(responder, request, handle, place, permit)

    async def _at_once(
        self,
        responder: Responder,
        request: ShapeRequest,
        handle: Handle,
        shape: Shape,
        chunk: Chunk,
    ) -> None:
        """A small snapshot and all that has happened since, in one answer."""
        if await self._library.next_chunk(handle, chunk.offset) is not None:
            answer = Answer(responder, handle, shape, request, chunk.offset, _INITIAL_CACHE)
            return await answer.send_chunk(chunk.body)
        place = await self._library.place(shape, handle, chunk.offset)
        reading = await self._library.read(place, self._settings.chunk_bytes)
        assert isinstance(chunk.body, bytes)
        messages = [chunk.body[1:-1], *reading.messages]
        over = reading.complete and self._is_over(request, handle, shape, messages)
        if reading.complete:
            messages.append(up_to_date(reading.lsn))
        answer = Answer(
            *(responder, handle, shape, request, reading.end, _INITIAL_CACHE),
            complete=reading.complete,
            over=over,
        )
        return await answer.send_messages(messages)

    def _is_over(
        self, request: ShapeRequest, handle: Handle, shape: Shape, messages: list[bytes]
    ) -> bool:
        """Whether the shape has come to its end with these messages, after which it is let go of."""
        if request.is_over is None or not request.is_over(messages):
            return False
        self._library.finish(request.definition, shape, handle)
        return True

    async def _resolve(self, definition: Definition) -> Shape:
        try:
            return await self._definitions.resolve(definition)
        except DatabaseUnavailableError as error:
            raise CatalogUnavailableError(str(error)) from error

    async def _good_handle(self, request: ShapeRequest, shape: Shape) -> Handle:
        """The handle that was asked with. Raises MustRefetchError if it is no good (any more)."""
        handle = Handle.parse(request.handle or "")
        if handle is None or not self._library.good(handle, shape):
            raise MustRefetchError(await self._library.current(shape))
        return handle

    async def _subset(self, responder: Responder, request: ShapeRequest, shape: Shape) -> None:
        assert request.subset is not None
        query = make_query(shape, request.subset, request.definition.queryable_columns)
        if request.definition.within is not None and shape.condition is not None and query.where:
            query = query._replace(where=guarded(shape.condition, query.where))
        # The client takes the offset for its own. It must not skip what is in neither.
        if isinstance(request.offset, Special):
            handle = await self._library.known(shape)
            offset = self._tail.processed
        else:
            handle = await self._good_handle(request, shape)
            offset = request.offset
        rows = await self._subsets.read(shape, query)
        self._access.check_end(responder.grant)
        await send_subset(responder, handle, shape, offset, rows)

    async def _now(self, responder: Responder, request: ShapeRequest, shape: Shape) -> None:
        handle = await self._library.known(shape)
        position = self._tail.processed
        answer = Answer(
            responder, handle, shape, request, position, self._cache, data=False, complete=True
        )
        await answer.send_messages([up_to_date(position.lsn)])

    async def _log(
        self,
        responder: Responder,
        request: ShapeRequest,
        handle: Handle,
        place: Place,
        permit: Permit,
    ) -> None:
        shape = place.feed.shape
        cache = _LIVE_CACHE if request.live else self._cache
        while True:
            reading = await self._library.read(place, self._settings.chunk_bytes)
            if reading.messages or not request.live:
                break
            if responder.entity_tags():
                # Who has exactly this need not wait to hear so.
                answer = Answer(responder, handle, shape, request, place.position, cache)
                if await answer.confirmed(self._live(request, place.position.lsn)):
                    return None
            changed, batch = await self._wait(place, responder.grant, permit)
            if not changed:
                # Something may have come since the patience ended.
                reading = await self._library.read(place, self._settings.chunk_bytes)
                if reading.messages:
                    break
                return await self._timed_out(responder, request, handle, place)
            if batch is not None and len(batch.body) <= self._settings.chunk_bytes:
                self._is_over(request, handle, shape, batch.messages)
                answer = Answer(responder, handle, shape, request, batch.end, cache, complete=True)
                return await answer.send_body(batch.body, self._live(request, batch.end.lsn))
        messages = reading.messages
        over = reading.complete and self._is_over(request, handle, shape, messages)
        answer = Answer(
            *(responder, handle, shape, request, reading.end, cache),
            complete=reading.complete,
            over=over,
        )
        if reading.complete:
            messages = [*messages, up_to_date(reading.lsn)]
        extra = self._live(request, reading.end.lsn) if request.live else None
        if not is_large(messages):
            return await answer.send_messages(messages, extra)
        with spooled(messages, self._settings.snapshot_dir) as file:
            # Nothing of it stays in memory while the client takes its time.
            del reading, messages
            return await answer.send_file(file, extra)

    async def _wait(
        self, place: Place, grant: Grant | None, permit: Permit
    ) -> tuple[bool, Batch | None]:
        """Whether something comes in time, and the batch if it is at hand."""
        permit.rest()
        try:
            return await self._polls.wait(place.feed, self._tail.processed, grant)
        except RotatedError as error:
            raise MustRefetchError(None) from error
        finally:
            permit.go_on()

    async def _timed_out(
        self, responder: Responder, request: ShapeRequest, handle: Handle, place: Place
    ) -> None:
        end = self._library.renewed(place.position)
        shape = place.feed.shape
        answer = Answer(
            responder, handle, shape, request, end, _LIVE_CACHE, data=False, complete=True
        )
        lsn = max(self._tail.last_commit_end, end.lsn)
        await answer.send_messages([up_to_date(lsn)], self._live(request, end.lsn))

    def _live(self, request: ShapeRequest, lsn: int) -> list[Header]:
        period = self._settings.long_poll_timeout
        cursor = next_cursor(time.time(), period, request.cursor, lsn)
        return [(b"electric-cursor", b"%d" % cursor)]

    async def _sse(
        self,
        responder: Responder,
        request: ShapeRequest,
        handle: Handle,
        place: Place,
        permit: Permit,
    ) -> None:
        # The client takes the header for its position at once, but throws away what comes before a
        # cut without an up-to-date: so it must be the position that was asked for.
        offset = place.position if not place.stitch else request.offset
        headers = [
            (b"content-type", SSE_TYPE),
            (b"cache-control", self._sse_cache) if responder.cacheable else NO_CACHE,
            (b"x-accel-buffering", b"no"),
            (b"electric-handle", str(handle).encode()),
            (b"electric-offset", str(offset).encode()),
            (b"electric-has-data", b"true"),
            (b"etag", f'"{handle}:{request.offset}:{offset}"'.encode()),
            *self._live(request, place.position.lsn),
        ]
        await responder.start(200, headers)
        if responder.method != "HEAD":
            permit.rest()
            sink = responder.scope["extensions"][STREAM]
            await self._streams.run(place, sink, responder.grant)
        await responder.send({"type": "http.response.body", "body": b""})

    # -- DELETE ------------------------------------------------------------------------------------

    async def _delete(self, responder: Responder, parameters: Parameters) -> None:
        if not self._settings.enable_delete:
            return await answer_refusal(responder, 405, "DELETE not allowed")
        self._access.check_deletion(responder.grant)
        definition, text = read_deletion(parameters)
        handle = Handle.parse(text or "")
        deleted = False
        if definition is None:
            deleted = handle is not None and self._library.delete(handle.hash, handle)
        else:
            shape = await self._resolve(definition)
            if text is None:
                deleted = self._library.delete(shape.hash)
            elif handle is not None and self._library.good(handle, shape):
                deleted = self._library.delete(shape.hash, handle)
            elif self._library.exists(shape):
                return await answer_refusal(responder, 400, _MISMATCH)
        if not deleted:
            return await answer_refusal(responder, 404, "No existing shape found")
        return await responder.send_body(202, [JSON, NO_CACHE], b"")
