"""Looking at runs: one, or page by page."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import asyncpg

from shapes.access.scopes import Resource
from shapes.http.api.call import ApiError, Call, NotFoundError, Reply
from shapes.http.api.public_address import base_address
from shapes.http.api.refusals import refusing
from shapes.http.api.routes import Needs, Route, get
from shapes.runs.packets import STORE, PacketAddresses
from shapes.runs.retrieved import PACKETS, related, summary, whole, without
from shapes.runs.run_changes import NoSuchRunError, RunChanges
from shapes.runs.run_list import RunList, values_of
from shapes.runs.run_store import Record


def retrieve_routes(
    changes: RunChanges, runs: RunList, packets: PacketAddresses, public_url: str | None
) -> list[Route]:
    """The routes on which runs are looked at."""
    routes = _RetrieveRoutes(changes, runs, packets, public_url)
    return [
        get("/api/v3/runs/{id}", Needs("read", routes.find), routes.retrieve),
        get("/api/v1/runs", Needs("read", _find_tasks), routes.page),
    ]


async def found_run(changes: RunChanges, call: Call) -> Record:
    """The run of the path, noted in `call.found`. Raises NotFoundError."""
    try:
        with refusing():
            call.found = await changes.find(call.grant.environment, call.values["id"])
    except ApiError as error:
        # A text that is no value of the column's type is nobody's id.
        if isinstance(error.__cause__, (NoSuchRunError, asyncpg.DataError)):
            about = [Resource("runs", call.values["id"]), Resource("tasks")]
            raise NotFoundError(about=about) from error
        raise
    return call.found


def resources_of(run: Record) -> list[Resource]:
    """What a credential may name of a run."""
    resources = [Resource("runs", run["id"]), Resource("tasks", run.get("task"))]
    tags: list[str] = run.get("tags") or []
    resources += [Resource("tags", tag) for tag in tags]
    if run.get("batch_id") is not None:
        resources.append(Resource("batch", run["batch_id"]))
    return resources


async def _find_tasks(call: Call) -> Sequence[Resource]:
    """All runs; or the tasks that are asked for, if each of them may be read."""
    with refusing():
        tasks = [Resource("tasks", task) for task in values_of(call.query, "taskIdentifier")]
    return tasks if call.grant.allows_every("read", tasks) else [Resource("runs")]


class _RetrieveRoutes:
    def __init__(
        self,
        changes: RunChanges,
        runs: RunList,
        packets: PacketAddresses,
        public_url: str | None,
    ) -> None:
        self._changes = changes
        self._runs = runs
        self._packets = packets
        self._public_url = public_url

    async def find(self, call: Call) -> Sequence[Resource]:
        return resources_of(await found_run(self._changes, call))

    async def retrieve(self, call: Call) -> Reply:
        run: Record = call.found
        skipped = call.grant.skip_columns or ()
        body = whole(run, skipped) | self._stored(call, run, skipped)
        if call.grant.unlimited:
            # Who may read one run need not be allowed to read those above it.
            with refusing():
                family = await self._changes.family(call.grant.environment, run)
            body["relatedRuns"] = {name: related(one) for name, one in family.items()}
        return Reply(body)

    def _stored(self, call: Call, run: Record, skipped: Collection[str]) -> dict[str, str]:
        """Where to get what is kept apart from the run."""
        found: dict[str, str] = {}
        for name in PACKETS:
            path = run.get(name)
            if run.get(f"{name}_type") == STORE and isinstance(path, str) and name not in skipped:
                base = base_address(call, self._public_url)
                url = self._packets.download(base, call.grant.environment, path)
                found[f"{name}PresignedUrl"] = url
        return found

    async def page(self, call: Call) -> Reply:
        environment = call.grant.environment
        with refusing():
            page = await self._runs.page(environment, call.query)
        stage = {"id": environment, "name": environment}
        cursors = {"next": page.next, "previous": page.previous}
        return Reply(
            {
                "data": [
                    {**without(summary(run), call.grant.skip_columns or ()), "env": stage}
                    for run in page.runs
                ],
                "pagination": {name: one for name, one in cursors.items() if one is not None},
            }
        )
