"""Who may read and write which stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from shapes.access.grant import Grant
from shapes.access.scopes import Resource
from shapes.http.api.call import Call
from shapes.http.streams.create_request import source_of
from shapes.http.streams.fields import fields_of
from shapes.runs.definitions import BATCH, READ, RUNS, TAGS, TASKS
from shapes.runs.run_lookup import RunLookup
from shapes.streams.path import identity_of

STREAMS: Final = "streams"
WRITE: Final = "write"

_OF_RUNS: Final = "runs/"


def resources_of(path: str) -> list[Resource]:
    """A stream, and for each of its path's beginnings up to a slash everything below that."""
    resources = [Resource(STREAMS, path)]
    end = path.find("/")
    while end >= 0:
        resources.append(Resource(STREAMS, path[: end + 1]))
        end = path.find("/", end + 1)
    return resources


class StreamAccess:
    """What requests about streams are about."""

    def __init__(self, lookup: RunLookup) -> None:
        self._lookup = lookup

    async def find_written(self, call: Call) -> Sequence[Resource]:
        return () if call.grant.unlimited else resources_of(call.values["path"])

    async def find_read(self, call: Call) -> Sequence[Resource]:
        return await self._readable(call.values["path"], call.grant)

    async def find_source(self, call: Call) -> Sequence[Resource] | None:
        """Whoever forks a stream can read it then. Raises StreamRequestError."""
        path = source_of(fields_of(call.responder.scope["headers"]))
        return None if path is None else await self._readable(path, call.grant)

    async def _readable(self, path: str, grant: Grant) -> Sequence[Resource]:
        """A stream of a run may be read by those who may read the run."""
        if grant.unlimited:
            return ()
        resources = resources_of(path)
        if not path.startswith(_OF_RUNS) or path.count("/") < 2:
            return resources
        run_id = identity_of(path.split("/", 2)[1])
        resources.append(Resource(RUNS, run_id))
        if grant.allows_any(READ, resources):
            return resources
        found = await self._lookup.run(run_id, grant.environment)
        if found is not None:
            resources.append(Resource(TASKS, found.task))
            resources += [Resource(TAGS, tag) for tag in found.tags]
            if found.batch is not None:
                resources.append(Resource(BATCH, found.batch))
        return resources
