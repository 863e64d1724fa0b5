"""A run as the REST API gives it. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

import orjson

from engine.runs.statuses import FINAL, STATUSES
from shapes.runs.encodings import NOTHING, decoded
from shapes.runs.run_store import Record, moment
from shapes.runs.values import JSON, error

Member = dict[str, Any]

PACKETS = ("payload", "output")
_QUEUED = frozenset(("QUEUED", "DELAYED", "PENDING_VERSION"))
_EXECUTING = frozenset(("EXECUTING", "DEQUEUED"))
_DISPENSABLE = frozenset(
    (*PACKETS, "metadata", "error", "ttl", "startedAt", "expiredAt", "finishedAt", "delayedUntil")
)
_EMPTY: Member = {
    "tags": [],
    "isTest": False,
    "durationMs": 0,
    "costInCents": 0,
    "baseCostInCents": 0,
}
_NAMES = {
    "completedAt": "finishedAt",
    "delayUntil": "delayedUntil",
    "runTags": "tags",
    "usageDurationMs": "durationMs",
}
"""Members that are called otherwise than the fields that are followed."""
_TIMES = {
    "startedAt": "started_at",
    "finishedAt": "completed_at",
    "delayedUntil": "delay_until",
    "expiredAt": "expired_at",
}


def summary(run: Record) -> Member:
    """What lists have of a run, too. Members that it has no value for are absent."""
    # The clients know no other words.
    status = run["status"] if run["status"] in STATUSES else "QUEUED"
    created = moment(run.get("created_at"))
    members: Member = {
        "id": run["id"],
        "status": status,
        "taskIdentifier": run.get("task") or "",
        **_flags(status),
        "isTest": bool(run.get("is_test")),
        "createdAt": created,
        "updatedAt": moment(run.get("updated_at")) or created,
        "tags": run.get("tags") or [],
        "costInCents": run.get("cost_in_cents") or 0,
        "baseCostInCents": run.get("base_cost_in_cents") or 0,
        "durationMs": run.get("usage_duration_ms") or 0,
        "idempotencyKey": run.get("idempotency_key"),
        "ttl": run.get("ttl"),
        "metadata": _object(run.get("metadata")),
    }
    members |= {name: moment(run.get(field)) for name, field in _TIMES.items()}
    return {name: value for name, value in members.items() if value is not None}


def related(run: Record) -> Member:
    """A run in its place among others."""
    members = {
        **summary(run),
        "depth": run.get("depth") or 0,
        "triggerFunction": run.get("trigger_function") or "trigger",
    }
    return members if run.get("batch_id") is None else {**members, "batchId": run["batch_id"]}


def whole(run: Record, skipped: Collection[str] = ()) -> Member:
    """All of a run. Members of `skipped` are left out, unless clients rely on them."""
    members: Member = {
        **related(run),
        "attemptCount": run.get("attempt_number") or 0,
        "relatedRuns": {},
    }
    for name in PACKETS:
        value = decoded(run.get(name), run.get(f"{name}_type"))
        if value is not NOTHING:
            members[name] = value
    failure = _error(run.get("error"))
    if failure is not None:
        members["error"] = failure
    return without(members, skipped)


def without(members: Member, skipped: Collection[str]) -> Member:
    """The members of a run without those of `skipped`, which has the names of fields that are followed.
    Those that clients rely on are empty."""
    left_out = {_NAMES.get(name, name) for name in skipped}
    empty = {name: value for name, value in _EMPTY.items() if name in left_out & members.keys()}
    left_out &= _DISPENSABLE
    return {name: value for name, value in members.items() if name not in left_out} | empty


def _flags(status: str) -> Member:
    over = status in FINAL
    return {
        "isQueued": status in _QUEUED,
        "isExecuting": status in _EXECUTING,
        "isWaiting": status == "WAITING",
        "isCompleted": over,
        "isSuccess": status == "COMPLETED",
        "isFailed": over and status != "COMPLETED",
        "isCancelled": status == "CANCELED",
    }


def _object(value: object) -> Member | None:
    if isinstance(value, str):
        value = decoded(value, JSON)
    return cast("Member", value) if isinstance(value, dict) else None


def _error(value: object) -> Member | None:
    """An error as `{name?, message, stackTrace?}`."""
    text = error(value if isinstance(value, str) else orjson.dumps(value).decode())
    if text is None:
        return None
    found: Member = orjson.loads(text)
    match found["type"]:
        case "BUILT_IN_ERROR":
            return {name: found[name] for name in ("name", "message", "stackTrace")}
        case "INTERNAL_ERROR":
            stack = {"stackTrace": found["stackTrace"]} if "stackTrace" in found else {}
            return {"name": found["code"], "message": found.get("message", found["code"]), **stack}
        case _:
            return {"message": found["raw"]}
