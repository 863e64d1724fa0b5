"""Streams of runs, read and written as Trigger.dev's packages do; and messages to runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson

from engine.runs.table import RunTableError
from shapes.access.scopes import Resource
from shapes.http.api.call import ApiError, Call, NotFoundError, Reply
from shapes.http.api.refusals import refusing
from shapes.http.api.routes import Needs, Route, SecretKey, get, post, put
from shapes.http.api.run_routes import unusable
from shapes.http.api.stream_reading import (
    Reading,
    StreamReaders,
    position_after,
    timeout_of,
)
from shapes.http.api.stream_texts import StreamTextError, check_path, in_text
from shapes.http.api.stream_writing import PART_BYTES, StreamWriting, text_message
from shapes.http.responses import NO_STORE
from shapes.http.streams.stream_access import resources_of
from shapes.runs.definitions import BATCH, READ, RUNS, TAGS, TASKS
from shapes.runs.new_run import InvalidRunError
from shapes.runs.run_lookup import Found, RunLookup
from shapes.runs.run_streams import RunStreams
from shapes.streams.path import segment_of

WRITE: Final = "write"
INPUT_STREAMS: Final = "inputStreams"
TARGETS: Final = ("self", "parent", "root")
RESERVED: Final = frozenset((*TARGETS, "input"))
"""What the first segment of a stream's name cannot be."""

_APPEND: Final = "/append"
_STREAMS: Final = "/realtime/v1/streams/{run}"
_INPUT: Final = "$trigger.input:"


def run_stream_routes(
    lookup: RunLookup, runs: RunStreams, readers: StreamReaders, writing: StreamWriting
) -> list[Route]:
    """The routes of runs' streams."""
    routes = _RunStreamRoutes(lookup, runs, readers, writing)
    messages = f"{_STREAMS}/input/{{key*}}"
    found = [
        get(f"{_STREAMS}/{{key*}}", Needs(READ, routes.find), in_text(routes.read)),
        get(messages, Needs(READ, routes.find_input), in_text(routes.read)),
        post(messages, Needs(WRITE, routes.find_receiver), routes.send),
    ]
    for target in TARGETS:
        one = _Target(target, runs, writing)
        pattern = f"{_STREAMS}/{target}/{{key*}}"
        found += [
            put(pattern, SecretKey(), in_text(one.create)),
            post(pattern, SecretKey(), in_text(one.write), max_body=PART_BYTES),
            Route(frozenset(("HEAD",)), pattern, SecretKey(), in_text(one.tell)),
        ]
    return found


def stream_path(run_id: str, key: str) -> str:
    return f"runs/{segment_of(run_id)}/{key}"


def input_path(run_id: str, key: str) -> str:
    """Of the stream of what is sent to a run."""
    return stream_path(run_id, f"{_INPUT}{key}")


class _RunStreamRoutes:
    def __init__(
        self, lookup: RunLookup, runs: RunStreams, readers: StreamReaders, writing: StreamWriting
    ) -> None:
        self._lookup = lookup
        self._runs = runs
        self._readers = readers
        self._writing = writing

    # -- who may ------------------------------------------------------------------------------------

    async def find(self, call: Call) -> Sequence[Resource]:
        run_id, key = call.values["run"], call.values["key"]
        if key in RESERVED:
            raise ApiError(404, "Not found")
        return await self._find(call, run_id, stream_path(run_id, key))

    async def find_input(self, call: Call) -> Sequence[Resource]:
        run_id, key = call.values["run"], call.values["key"]
        return await self._find(call, run_id, input_path(run_id, key))

    async def _find(self, call: Call, run_id: str, path: str) -> Sequence[Resource]:
        resources = [Resource(RUNS, run_id), *resources_of(path)]
        try:
            found = await self._lookup.run(run_id, call.grant.environment)
        except RunTableError as error:
            raise unusable(error) from error
        if found is None:
            raise NotFoundError(about=[*resources, Resource(TASKS)])
        call.found = path, found
        resources += [Resource(TASKS, found.task), *(Resource(TAGS, tag) for tag in found.tags)]
        return resources if found.batch is None else [*resources, Resource(BATCH, found.batch)]

    async def find_receiver(self, call: Call) -> Sequence[Resource]:
        """Whether there is such a run is told only to those who may send something to it."""
        return [Resource(INPUT_STREAMS, call.values["run"])]

    # -- reading and sending ------------------------------------------------------------------------

    async def read(self, call: Call) -> Reply | None:
        found: Found
        path, found = call.found
        reading = Reading(
            path,
            after=position_after(call.header(b"last-event-id")),
            latest=call.header(b"x-trigger-stream-start") == "latest",
            idle=timeout_of(call.header(b"timeout-seconds")),
            run_id=call.values["run"],
            over=found.over,
        )
        await self._readers.serve(call, reading)

    async def send(self, call: Call) -> Reply:
        body = await _message(call)
        run_id, path = call.values["run"], input_path(call.values["run"], call.values["key"])
        try:
            with refusing():
                check_path(path)
                await self._runs.check(call.grant.environment, run_id)
                await self._writing.append_part(call, path, body)
        except StreamTextError as error:
            raise ApiError(error.status, str(error), ok=False) from error
        except ApiError as error:
            if isinstance(error.__cause__, InvalidRunError):
                raise ApiError(error.status, str(error), error.headers, ok=False) from error
            raise
        return Reply({"ok": True})


class _Target:
    """Writing to streams of the run that is named, or of one above it."""

    def __init__(self, target: str, runs: RunStreams, writing: StreamWriting) -> None:
        self._target = target
        self._runs = runs
        self._writing = writing

    async def create(self, call: Call) -> Reply:
        """There is nothing to create: whoever writes first does. But the run names it."""
        key = call.values["key"]
        if f"/{key}".endswith(_APPEND):
            raise StreamTextError(400, "A stream's name cannot end with /append")
        await self._open(call, key)
        return Reply({"version": "v1"}, 202)

    async def write(self, call: Call) -> Reply | None:
        key = call.values["key"]
        if key.endswith(_APPEND):
            key = key.removesuffix(_APPEND)
            run_id = await self._open(call, key)
            await self._writing.append_text(call, stream_path(run_id, key))
            return Reply({"ok": True})
        run_id = await self._open(call, key)
        headers = await self._writing.ingest(call, stream_path(run_id, key))
        await call.responder.send_body(200, [NO_STORE, *headers], b"")
        return None

    async def tell(self, call: Call) -> Reply:
        """How far a client has come that sends lines."""
        environment, run_id = call.grant.environment, call.values["run"]
        found = await self._runs.find(environment, run_id, self._target)
        path = stream_path(found, call.values["key"])
        return Reply(headers=(await self._writing.last_index(call, path),))

    async def _open(self, call: Call, key: str) -> str:
        environment, run_id = call.grant.environment, call.values["run"]
        # Before the run names it.
        check_path(stream_path(run_id, key))
        return await self._runs.open(environment, run_id, key, self._target)


async def _message(call: Call) -> bytes:
    """What is sent to a run, as its stream has it: a text with JSON in it. Raises ApiError."""
    try:
        body = await call.json_object()
    except ApiError as error:
        raise ApiError(error.status, str(error), ok=False) from error
    return text_message(orjson.dumps(body.get("data")))
