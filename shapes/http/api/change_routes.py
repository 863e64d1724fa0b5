"""What is done to runs that are there: cancelled, tagged, put off, started again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from shapes.access.authority import Authority
from shapes.access.scopes import Resource
from shapes.http.api.call import ApiError, Call, NotFoundError, Reply
from shapes.http.api.refusals import refusing
from shapes.http.api.retrieve_routes import found_run
from shapes.http.api.routes import Needs, Route, SecretKey, post
from shapes.http.api.trigger_routes import MOST_BODY, request_key, run_token
from shapes.runs.retrieved import whole
from shapes.runs.run_changes import RunChanges, replay_of
from shapes.runs.run_store import Record
from shapes.runs.trigger_keys import TriggerKeys
from shapes.runs.triggering import Triggering


def change_routes(changes: RunChanges, triggering: Triggering, authority: Authority) -> list[Route]:
    """The routes on which runs are changed."""
    routes = _ChangeRoutes(changes, triggering, authority)
    run = "/api/v1/runs/{id}"
    may_write = Needs("write", routes.find)
    return [
        post("/api/v2/runs/{id}/cancel", may_write, routes.cancel),
        post(f"{run}/cancel", may_write, routes.cancel),
        post(f"{run}/tags", SecretKey(), routes.add_tags),
        post(f"{run}/reschedule", SecretKey(), routes.reschedule),
        post(f"{run}/replay", SecretKey(), routes.replay, max_body=MOST_BODY),
        post("/api/v1/idempotencyKeys/{key}/reset", SecretKey(), routes.forget_key),
    ]


class _ChangeRoutes:
    def __init__(self, changes: RunChanges, triggering: Triggering, authority: Authority) -> None:
        self._changes = changes
        self._triggering = triggering
        self._authority = authority

    async def find(self, call: Call) -> Sequence[Resource]:
        """A run that is not there is not said to be missing to whoever may not write it."""
        resources = [Resource("runs", call.values["id"])]
        try:
            run = await found_run(self._changes, call)
        except NotFoundError:
            return resources
        return [*resources, Resource("tasks", run.get("task"))]

    async def cancel(self, call: Call) -> Reply:
        run: Record | None = call.found
        if run is None:
            raise NotFoundError
        with refusing():
            await self._changes.cancel(call.grant.environment, run["id"])
        return Reply({"id": run["id"]})

    async def add_tags(self, call: Call) -> Reply:
        body = await call.json_object()
        if body.get("tags") is None:
            raise ApiError(400, "tags must be a text or a list of texts")
        run = await found_run(self._changes, call)
        with refusing():
            count = await self._changes.add_tags(call.grant.environment, run["id"], body["tags"])
        if not count:
            return Reply({"message": "No new tags to add"})
        return Reply({"message": f"Successfully set {count} new tags."})

    async def reschedule(self, call: Call) -> Reply:
        body = await call.json_object()
        run = await found_run(self._changes, call)
        with refusing():
            changed = await self._changes.reschedule(
                call.grant.environment, run["id"], body.get("delay")
            )
        return Reply(whole(changed))

    async def replay(self, call: Call) -> Reply:
        body = await call.json_object() if (await call.body()).strip() else {}
        run = await found_run(self._changes, call)
        grant = call.grant
        with refusing():
            another = replay_of(run, body, datetime.now(UTC))
            keys = TriggerKeys.of(grant, f"replay:{run['id']}", request_key(call))
            triggered = await self._triggering.trigger(grant.environment, another, keys)
        headers = run_token(self._authority, grant, triggered.id)
        return Reply({"id": triggered.id}, headers=headers)

    async def forget_key(self, call: Call) -> Reply:
        body, key = await call.json_object(), call.values["key"]
        task = body.get("taskIdentifier")
        if not isinstance(task, str):
            raise ApiError(400, "taskIdentifier must be a text")
        with refusing():
            holders = await self._changes.forget_key(call.grant.environment, task, key)
        if not holders:
            raise NotFoundError
        return Reply({"id": key})
