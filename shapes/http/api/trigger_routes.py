"""Triggering: one request, one run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from shapes.access.authority import Authority
from shapes.access.grant import Grant
from shapes.access.scopes import Resource, Scope
from shapes.http.api.call import Call, Reply
from shapes.http.api.refusals import refusing
from shapes.http.api.routes import Needs, Route, post
from shapes.http.responses import Header
from shapes.runs.new_run import new_run
from shapes.runs.trigger_keys import TriggerKeys
from shapes.runs.triggering import Triggering

MOST_BODY = 3 << 20
TOKEN_SECONDS = 3600.0
"""Life of the tokens by which callers follow what they have started."""

REQUEST_KEY = b"x-trigger-request-idempotency-key"


def trigger_routes(triggering: Triggering, authority: Authority) -> list[Route]:
    """The route that starts a run."""
    routes = _TriggerRoutes(triggering, authority)
    return [
        post(
            "/api/v1/tasks/{id}/trigger",
            Needs("trigger", _find_task),
            routes.trigger,
            max_body=MOST_BODY,
        )
    ]


async def _find_task(call: Call) -> Sequence[Resource]:
    return [Resource("tasks", call.values["id"])]


class _TriggerRoutes:
    def __init__(self, triggering: Triggering, authority: Authority) -> None:
        self._triggering = triggering
        self._authority = authority

    async def trigger(self, call: Call) -> Reply:
        task, grant = call.values["id"], call.grant
        body = await call.json_object()
        with refusing():
            run = new_run(task, body, datetime.now(UTC))
            keys = TriggerKeys.of(grant, f"task:{task}", request_key(call))
            triggered = await self._triggering.trigger(grant.environment, run, keys)
        return Reply(
            {"id": triggered.id, "isCached": triggered.is_cached},
            headers=run_token(self._authority, grant, triggered.id),
        )


def request_key(call: Call) -> str | None:
    """What the client marks all its attempts of one request with."""
    return call.header(REQUEST_KEY) or None


def run_token(authority: Authority, grant: Grant, run_id: str) -> tuple[Header, ...]:
    """The headers with a token for following a run."""
    scopes = [Scope("read", "runs", run_id), Scope("write", "inputStreams", run_id)]
    return authority.token_headers(grant.environment, scopes, TOKEN_SECONDS, grant.realtime)
