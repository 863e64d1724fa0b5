"""Following runs: one, those with certain tags, those of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.errors import PgtideError
from engine.runs.table import RunTable, RunTableError
from shapes.access.grant import Grant
from shapes.access.scopes import Resource
from shapes.definition import Definition, InvalidRequestError
from shapes.http.api.call import ApiError, Call, NotFoundError, Reply
from shapes.http.api.complaints import complaints
from shapes.http.api.routes import Needs, Route, get
from shapes.http.live_limit import LiveLimit
from shapes.http.regulars import (
    API_VERSION,
    ELECTRIC_VERSION,
    Audience,
    IsOver,
    Regular,
    Regulars,
    place_of,
)
from shapes.http.request import ShapeRequest
from shapes.http.responder import Responder
from shapes.http.responses import Header
from shapes.http.shape_endpoint import ShapeEndpoint
from shapes.runs.definitions import BATCH, READ, RUNS, TAGS, TASKS, RunShapes, look_back, narrowing
from shapes.runs.ending import is_over
from shapes.runs.run_lookup import RunLookup
from shapes.runs.view import RunView
from shapes.wire import LogOffset, Special, parse_offset

_UNUSABLE = (
    "The table of runs is not as it has to be: run `pgtide migrate` if it has not been run for this "
    "database; `pgtide doctor` and pgtide's log say more"
)
_REFUSED = frozenset('\\"')
_DATED_NAMES = {
    b"electric-handle": b"electric-shape-id",
    b"electric-offset": b"electric-chunk-last-offset",
}


def run_routes(
    endpoint: ShapeEndpoint,
    lookup: RunLookup,
    runs: RunTable,
    limit: LiveLimit,
    regulars: Regulars,
) -> list[Route]:
    """The routes on which runs are followed."""
    routes = _RunRoutes(endpoint, lookup, runs, limit, regulars)
    return [
        get("/realtime/v1/runs/{id}", Needs(READ, routes.find_run), routes.follow_run),
        get("/realtime/v1/runs", Needs(READ, routes.find_tags), routes.follow_tags),
        get("/realtime/v1/batches/{id}", Needs(READ, routes.find_batch), routes.follow_batch),
    ]


class _RunRoutes:
    def __init__(
        self,
        endpoint: ShapeEndpoint,
        lookup: RunLookup,
        runs: RunTable,
        limit: LiveLimit,
        regulars: Regulars,
    ) -> None:
        self._endpoint = endpoint
        self._lookup = lookup
        self._runs = runs
        self._limit = limit
        self._regulars = regulars

    # -- what a request is about -------------------------------------------------------------------

    async def find_run(self, call: Call) -> Sequence[Resource]:
        """What the run is and has. Once somebody follows it, only what they follow it for: their
        shape has nothing else, so nobody need be asked."""
        run_id = call.values["id"]
        if not _begins(call):
            narrow = narrowing(call.grant, run_id)
            return [Resource(RUNS, run_id)] if narrow is None else list(narrow)
        try:
            found = await self._lookup.run(run_id, call.grant.environment)
        except RunTableError as error:
            raise unusable(error) from error
        if found is None:
            raise NotFoundError(about=[Resource(RUNS, run_id), Resource(TASKS)])
        resources = [Resource(RUNS, run_id), Resource(TASKS, found.task)]
        resources += [Resource(TAGS, tag) for tag in found.tags]
        return resources if found.batch is None else [*resources, Resource(BATCH, found.batch)]

    async def find_tags(self, call: Call) -> Sequence[Resource]:
        call.found = tags = read_tags(call.query.get("tags"))
        return [Resource(RUNS), Resource(TAGS), *(Resource(TAGS, tag) for tag in tags)]

    async def find_batch(self, call: Call) -> Sequence[Resource]:
        batch_id = call.values["id"]
        resources = [Resource(BATCH, batch_id), Resource(RUNS)]
        try:
            if _begins(call) and not await self._lookup.has_batch(batch_id, call.grant.environment):
                raise NotFoundError(retry=True, about=resources)
        except RunTableError as error:
            raise unusable(error) from error
        return resources

    # -- following ---------------------------------------------------------------------------------

    async def follow_run(self, call: Call) -> Reply | None:
        definition = self._shapes(call).run(call.values["id"], call.grant)
        return await self._follow(call, definition, is_over)

    async def follow_tags(self, call: Call) -> Reply | None:
        seconds = look_back(call.query.get("createdAt"))
        return await self._follow(call, self._shapes(call).tagged(call.found, seconds))

    async def follow_batch(self, call: Call) -> Reply | None:
        return await self._follow(call, self._shapes(call).batch(call.values["id"]))

    def _shapes(self, call: Call) -> RunShapes:
        skipped = _skipped(call.grant, call.query.get("skipColumns"))
        dated = call.header(API_VERSION) is None
        view = RunView.of(self._runs, skipped, dated=dated)
        return RunShapes(self._runs, call.grant.environment, view)

    async def _follow(self, call: Call, definition: Definition, over: IsOver | None = None) -> None:
        dated = call.header(ELECTRIC_VERSION) is None
        if dated:
            _use_dated_names(call.responder)
        request = read_follow(call.query, definition, over)
        if request.live:
            audience = Audience(definition, self._go_on, over, dated=dated)
            self._regulars.note(call.responder.scope, call.query, call.grant, audience)
        await self._serve(call.responder, request, call.grant)

    async def _go_on(self, responder: Responder, regular: Regular) -> None:
        """Serve somebody whose last request was served by `_follow`."""
        audience = regular.audience
        if audience.dated:
            _use_dated_names(responder)
        place = place_of(responder.scope["query_string"])
        request = read_follow(place, audience.definition, audience.is_over)
        await self._serve(responder, request, regular.grant)

    async def _serve(self, responder: Responder, request: ShapeRequest, grant: Grant) -> None:
        if request.live and not self._limit.take(grant.environment):
            raise ApiError(429, "Too many concurrent requests")
        try:
            await self._endpoint.follow(responder, request)
        except InvalidRequestError as error:
            raise self._explained(error) from error
        except RunTableError as error:
            raise unusable(error) from error
        finally:
            if request.live:
                self._limit.give(grant.environment)

    def _explained(self, error: InvalidRequestError) -> ApiError:
        """What is wrong with a definition that no client has written."""
        if "where" in error.errors:
            # An id that no value of its column's type looks like.
            return NotFoundError()
        return unusable(error)


def read_follow(
    query: Mapping[str, str], definition: Definition, over: IsOver | None = None
) -> ShapeRequest:
    """The request for a shape whose definition is ours to say: nothing of it is taken from the query,
    and nothing in the query is an error. An offset that is none is one that nothing is known of."""
    offset = parse_offset(query.get("offset", "-1").strip())
    if offset is None or offset is Special.NOW:
        offset = Special.START if offset is Special.NOW else LogOffset(0, 0)
    handle = query.get("handle") or query.get("shape_id") or None
    handle = handle if isinstance(offset, LogOffset) else None
    live = query.get("live") == "true" and isinstance(offset, LogOffset)
    cursor = query.get("cursor", "")
    return ShapeRequest(definition, offset, handle, live, False, cursor, private=True, is_over=over)


def read_tags(text: str | None) -> list[str]:
    """The tags that all have to be there. Raises ApiError (400)."""
    if text is None:
        return []
    tags = [tag.strip() for tag in text.split(",")]
    for tag in tags:
        if not tag or any(char < " " or char == "\x7f" or char in _REFUSED for char in tag):
            raise ApiError(
                400,
                "Query Error",
                details=[
                    {
                        "path": ["tags"],
                        "message": "a tag is empty or has a control "
                        "character, a backslash or a double quote",
                    }
                ],
            )
    return tags


def unusable(error: PgtideError) -> ApiError:
    """Clients go on asking until somebody has mended it."""
    complaints.warn(f"runs cannot be followed: {error}")
    return ApiError(503, _UNUSABLE)


def _begins(call: Call) -> bool:
    """Whether somebody begins to follow: not one who goes on, or has been told to start over."""
    handle = call.query.get("handle") or call.query.get("shape_id")
    return not handle


def _skipped(grant: Grant, text: str | None) -> Sequence[str]:
    if grant.skip_columns is not None:
        return grant.skip_columns
    return [name.strip() for name in (text or "").split(",")]


def _use_dated_names(responder: Responder) -> None:
    """Names of headers that clients from before 2025 know."""
    send = responder.send

    async def renaming(message: Any) -> None:
        if message["type"] == "http.response.start":
            headers: list[Header] = message["headers"]
            renamed = [(_DATED_NAMES.get(name, name), value) for name, value in headers]
            message = {**message, "headers": renamed}
        await send(message)

    responder.send = renaming
