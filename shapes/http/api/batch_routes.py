"""Batches: made, filled, looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

from shapes.access.authority import Authority
from shapes.access.grant import ForbiddenError, Grant
from shapes.access.scopes import Resource, Scope
from shapes.http.api.call import ApiError, Call, NotFoundError, Reply
from shapes.http.api.ndjson import json_lines
from shapes.http.api.refusals import refusing
from shapes.http.api.routes import AnyCredential, Needs, Route, get, post
from shapes.http.api.trigger_routes import TOKEN_SECONDS, request_key
from shapes.http.responses import Header
from shapes.runs.batches import (
    MOST_ITEMS,
    Added,
    Batch,
    Batches,
    NewBatch,
    NoSuchBatchError,
    check_size,
)
from shapes.runs.new_run import InvalidRunError, NewRun, checked_task, new_run
from shapes.runs.trigger_keys import TriggerKeys, hash_of
from shapes.runs.triggering import TokenUsedError

MOST_ITEM_BYTES = 3 << 20
MOST_STREAMED = MOST_ITEMS * MOST_ITEM_BYTES
MOST_BODY = 8 << 20
MOST_TASKS = 1000
_GROUP_BYTES = 4 << 20
"""So much of a stream is collected before it is inserted."""

_ACTION = "batchTrigger"
_TYPES = ("application/x-ndjson", "application/ndjson")

Item = tuple[int, NewRun]


def batch_routes(batches: Batches, authority: Authority) -> list[Route]:
    """The routes of batches."""
    routes = _BatchRoutes(batches, authority)
    return [
        post("/api/v3/batches", Needs(_ACTION, _find_tasks, every=True), routes.create),
        post("/api/v3/batches/{id}/items", AnyCredential(), routes.add, max_body=MOST_STREAMED),
        get("/api/v2/batches/{id}", Needs("read", routes.find), routes.describe),
        post(
            "/api/v2/tasks/batch",
            Needs(_ACTION, _find_tasks_of_items, every=True),
            routes.start,
            max_body=MOST_BODY,
        ),
    ]


async def _find_tasks(call: Call) -> Sequence[Resource]:
    """The tasks that a batch says it will have."""
    body = await call.json_object()
    tasks = body.get("taskIdentifiers")
    if tasks is None:
        return _for_tasks(call.grant, [])
    if not isinstance(tasks, list) or not tasks or len(cast("list[Any]", tasks)) > MOST_TASKS:
        raise ApiError(400, f"taskIdentifiers must be a list of 1 to {MOST_TASKS} tasks")
    return _for_tasks(call.grant, cast("list[Any]", tasks))


async def _find_tasks_of_items(call: Call) -> Sequence[Resource]:
    with refusing():
        return _for_tasks(
            call.grant, [item.get("task") for item in _items_of(await call.json_object())]
        )


def _for_tasks(grant: Grant, tasks: Sequence[object]) -> Sequence[Resource]:
    """Each of the tasks, or what stands for all batches."""
    if not all(isinstance(task, str) for task in tasks):
        raise ApiError(400, "a task must be a text")
    everything = Resource("batch")
    if not tasks and not grant.allows_any(_ACTION, [everything]):
        return [Resource("tasks")]
    if not tasks or grant.allows_any(_ACTION, [everything]):
        return [everything]
    return [Resource("tasks", task) for task in dict.fromkeys(cast("list[str]", tasks))]


class _BatchRoutes:
    def __init__(self, batches: Batches, authority: Authority) -> None:
        self._batches = batches
        self._authority = authority

    # -- making ------------------------------------------------------------------------------------

    async def create(self, call: Call) -> Reply:
        with refusing():
            batch = NewBatch.parse(await call.json_object())
            keys = TriggerKeys.of(call.grant, "batch", request_key(call))
            created = await self._batches.create(call.grant.environment, batch, keys)
        body: dict[str, object] = {
            "id": created.id,
            "runCount": created.count,
            "isCached": created.is_cached,
        }
        if batch.idempotency_key is not None:
            body["idempotencyKey"] = batch.idempotency_key
        return Reply(body, 202, self._token(call.grant, created.id))

    async def start(self, call: Call) -> Reply:
        """Both steps in one request, for older clients."""
        body = await call.json_object()
        now = datetime.now(UTC)
        with refusing():
            items = _items_of(body)
            batch = NewBatch.parse({**body, "runCount": len(items)})
            runs = [_run(item, batch.id, batch.parent_id, batch.waits, now) for item in items]
            keys = TriggerKeys.of(call.grant, "batch", request_key(call))
            created, started = await self._batches.start(call.grant.environment, batch, runs, keys)
        answer = {
            "id": created.id,
            "isCached": created.is_cached,
            "runCount": created.count,
            "runs": [
                {"id": one.id, "taskIdentifier": run.task, "isCached": one.is_cached}
                for one, run in zip(started, runs, strict=False)
            ],
        }
        return Reply(answer, 202, self._token(call.grant, created.id))

    def _token(self, grant: Grant, batch_id: str) -> tuple[Header, ...]:
        """The headers with a token for following the batch; a browser fills it with the same token."""
        scopes = [Scope("read", "batch", batch_id)]
        if grant.public:
            scopes.append(Scope("write", "batch", batch_id))
        return self._authority.token_headers(
            grant.environment, scopes, TOKEN_SECONDS, grant.realtime
        )

    # -- filling -----------------------------------------------------------------------------------

    async def add(self, call: Call) -> Reply:
        """Start the runs of a stream of items, group by group."""
        kind = (call.header(b"content-type") or "").partition(";")[0].strip().lower()
        if kind not in _TYPES:
            raise ApiError(415, f"Content-Type must be {' or '.join(_TYPES)}")
        batch_id, environment = call.values["id"], call.grant.environment
        accepted = deduplicated = count = size = 0
        group: list[Item] = []
        with refusing():
            judge = _Judge(call.grant, batch_id)
            try:
                batch = await self._batches.find(environment, batch_id)
            except NoSuchBatchError:
                judge.check_telling()
                raise
            judge.check_any()
            _check_token(call.grant, batch)
            now = datetime.now(UTC)
            async for line_size, item in json_lines(call.pieces(), MOST_ITEM_BYTES):
                count += 1
                check_size(count)
                judge.check(item)
                group.append(
                    (_index(item), _run(item, batch_id, batch.parent_id, batch.waits, now))
                )
                size += line_size
                if size > _GROUP_BYTES:
                    added = await self._batches.add(environment, batch_id, group)
                    accepted, deduplicated = accepted + added[0], deduplicated + added[1]
                    group, size = [], 0
            judge.check_count(count)
            added = await self._batches.add(environment, batch_id, group)
        return Reply(_answer(batch_id, accepted + added[0], deduplicated + added[1], added))

    # -- looking -----------------------------------------------------------------------------------

    async def find(self, call: Call) -> Sequence[Resource]:
        batch_id = call.values["id"]
        resources = [Resource("batch", batch_id), Resource("runs")]
        try:
            with refusing():
                call.found = await self._batches.describe(call.grant.environment, batch_id)
        except ApiError as error:
            if isinstance(error.__cause__, NoSuchBatchError):
                raise NotFoundError(about=resources) from error
            raise
        return resources

    async def describe(self, call: Call) -> Reply:
        return Reply(call.found)


class _Judge:
    """Whether a credential may put items into a batch: all of them, or those of certain tasks."""

    def __init__(self, grant: Grant, batch_id: str) -> None:
        self._grant = grant
        self._all = grant.allows_any("write", [Resource("batch", batch_id)])

    def check_any(self) -> None:
        """Raises ForbiddenError if it may put in no item at all."""
        scopes = self._grant.scopes or ()
        if not self._all and not any(
            self._grant.allows_any(_ACTION, [Resource("tasks", scope.id)]) for scope in scopes
        ):
            raise ForbiddenError("the credential allows no item")

    def check_telling(self) -> None:
        """Raises ForbiddenError if it must not learn that there is no such batch: it may not put in
        every item."""
        if not self._all and not self._grant.allows_any(_ACTION, [Resource("tasks")]):
            raise ForbiddenError("the credential does not allow this batch")

    def check(self, item: dict[str, Any]) -> None:
        """Raises ForbiddenError."""
        if self._all:
            return
        task = item.get("task")
        wanted = [Resource("tasks", task)] if isinstance(task, str) else []
        if not self._grant.allows_every(_ACTION, wanted):
            raise ForbiddenError("the credential does not allow this item")

    def check_count(self, count: int) -> None:
        """Who may only put in certain items has no business with a batch without them."""
        if not self._all and not count:
            raise ForbiddenError("the credential allows nothing without items")


def _check_token(grant: Grant, batch: Batch) -> None:
    """A one-time token fills the batch that it made, and no other."""
    if grant.digest is None:
        return
    if batch.token != hash_of("token", grant.digest.hex()).hex():
        raise TokenUsedError("a batch")


def _index(item: dict[str, Any]) -> int:
    index = item.get("index")
    if not isinstance(index, int) or isinstance(index, bool) or index < 0:
        raise InvalidRunError("the index of an item must be a number from 0 on", 400)
    return index


def _run(
    item: dict[str, Any], batch_id: str, parent_id: str | None, waits: bool, now: datetime
) -> NewRun:
    task = item.get("task")
    if not isinstance(task, str):
        raise InvalidRunError("the task of an item must be a text", 400)
    run = new_run(checked_task(task), item, now, batch_id)
    return replace(run, parent_id=run.parent_id or parent_id, waits=waits)


def _items_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    items = body.get("items")
    if not isinstance(items, list) or not items:
        raise InvalidRunError("items must be a list that is not empty", 400)
    given = cast("list[object]", items)
    check_size(len(given))
    if not all(isinstance(item, dict) for item in given):
        raise InvalidRunError("each item must be a JSON object", 400)
    return cast("list[dict[str, Any]]", given)


def _answer(batch_id: str, accepted: int, deduplicated: int, added: Added) -> dict[str, object]:
    answer: dict[str, object] = {
        "id": batch_id,
        "itemsAccepted": accepted,
        "itemsDeduplicated": deduplicated,
        "sealed": added.sealed,
    }
    if not added.sealed:
        answer |= {"enqueuedCount": added.enqueued, "expectedCount": added.expected}
    return answer
