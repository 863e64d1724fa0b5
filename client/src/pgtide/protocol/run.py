"""A run, as followers and callers see it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, cast

from pgtide.errors import UnexpectedAnswerError
from pgtide.protocol.packets import unpack


class RunStatus(StrEnum):
    """Where a run stands. Compares equal to its word."""

    DELAYED = "DELAYED"
    QUEUED = "QUEUED"
    PENDING_VERSION = "PENDING_VERSION"
    DEQUEUED = "DEQUEUED"
    EXECUTING = "EXECUTING"
    WAITING = "WAITING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CRASHED = "CRASHED"
    SYSTEM_FAILURE = "SYSTEM_FAILURE"
    EXPIRED = "EXPIRED"
    TIMED_OUT = "TIMED_OUT"
    CANCELED = "CANCELED"

    @classmethod
    def read(cls, word: str) -> RunStatus:
        """Of the stored word or the API's; one that nobody knows counts as queued."""
        word = _STORED.get(word, word)
        return cls(word) if word in _WORDS else cls.QUEUED


_WORDS = frozenset(RunStatus)
_STORED = {
    "PENDING": "QUEUED",
    "WAITING_FOR_DEPLOY": "PENDING_VERSION",
    "RETRYING_AFTER_FAILURE": "EXECUTING",
    "WAITING_TO_RESUME": "WAITING",
    "PAUSED": "WAITING",
    "COMPLETED_SUCCESSFULLY": "COMPLETED",
    "COMPLETED_WITH_ERRORS": "FAILED",
    "INTERRUPTED": "FAILED",
}
_QUEUED = (RunStatus.DELAYED, RunStatus.QUEUED, RunStatus.PENDING_VERSION)
_EXECUTING = (RunStatus.DEQUEUED, RunStatus.EXECUTING)
_FAILED = (
    *(RunStatus.FAILED, RunStatus.CRASHED, RunStatus.SYSTEM_FAILURE),
    *(RunStatus.EXPIRED, RunStatus.TIMED_OUT),
)


@dataclass(frozen=True, slots=True)
class RunError:
    """Why a run failed."""

    message: str
    name: str | None = None
    stack_trace: str | None = None

    @classmethod
    def read(cls, value: Any) -> RunError | None:
        """Of the stored, tagged form or the API's."""
        if not isinstance(value, dict):
            return None if value is None else cls(str(cast("object", value)))
        known = cast("dict[str, Any]", value)
        message = known.get("message")
        if message is None:
            message = known.get("raw", known.get("code", ""))
        stack = known.get("stackTrace")
        name = known.get("name", known.get("code"))
        return cls(str(message), None if name is None else str(name), stack or None)


@dataclass(frozen=True, slots=True)
class Run:
    """One run. Times are aware, in UTC.

    `payload` and `output` are decoded; they, like all that a subscription skips, are None where the
    server does not send them.
    """

    id: str
    task: str
    status: RunStatus
    created_at: datetime
    updated_at: datetime
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    payload: Any = None
    output: Any = None
    error: RunError | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    queued_at: datetime | None = None
    delayed_until: datetime | None = None
    expired_at: datetime | None = None
    number: int = 0
    is_test: bool = False
    duration_ms: int = 0
    cost_in_cents: float = 0.0
    base_cost_in_cents: float = 0.0
    ttl: str | None = None
    realtime_streams: tuple[str, ...] = ()
    batch_id: str | None = None
    idempotency_key: str | None = None

    @property
    def is_queued(self) -> bool:
        return self.status in _QUEUED

    @property
    def is_executing(self) -> bool:
        return self.status in _EXECUTING

    @property
    def is_waiting(self) -> bool:
        return self.status is RunStatus.WAITING

    @property
    def is_completed(self) -> bool:
        """With success or with failure; one that was cancelled is not completed."""
        return self.is_success or self.is_failed

    @property
    def is_success(self) -> bool:
        return self.status is RunStatus.COMPLETED

    @property
    def is_failed(self) -> bool:
        return self.status in _FAILED

    @property
    def is_cancelled(self) -> bool:
        return self.status is RunStatus.CANCELED

    @property
    def is_finished(self) -> bool:
        """Nothing more will happen to it: completed, failed or cancelled."""
        return self.finished_at is not None


Columns = Mapping[str, Any]


def run_of_row(row: Columns) -> Run:
    """From a row of the run endpoints' shapes. Raises UnexpectedAnswerError."""
    return _run(
        row,
        identity=str(row.get("friendlyId") or row.get("id") or ""),
        metadata=_object(row.get("metadata")),
        payload=unpack(row.get("payload"), row.get("payloadType")),
        output=unpack(row.get("output"), row.get("outputType")),
        names=_ROW_NAMES,
    )


def run_of_answer(body: Columns) -> Run:
    """From what `GET /api/v3/runs/{id}` and the list answer. Raises UnexpectedAnswerError."""
    return _run(
        body,
        identity=str(body.get("id") or ""),
        metadata=_object(body.get("metadata")),
        payload=body.get("payload"),
        output=body.get("output"),
        names=_API_NAMES,
    )


_ROW_NAMES = {
    "tags": "runTags",
    "finished_at": "completedAt",
    "delayed_until": "delayUntil",
    "duration_ms": "usageDurationMs",
}
_API_NAMES = {
    "tags": "tags",
    "finished_at": "finishedAt",
    "delayed_until": "delayedUntil",
    "duration_ms": "durationMs",
}


def _run(
    row: Columns,
    *,
    identity: str,
    metadata: dict[str, Any],
    payload: Any,
    output: Any,
    names: Mapping[str, str],
) -> Run:
    created, updated = _time(row.get("createdAt")), _time(row.get("updatedAt"))
    if not identity or created is None:
        raise UnexpectedAnswerError("a run has no id or no createdAt. Is this pgtide's address?")
    return Run(
        id=identity,
        task=str(row.get("taskIdentifier") or ""),
        status=RunStatus.read(str(row.get("status"))),
        created_at=created,
        updated_at=updated or created,
        tags=tuple(row.get(names["tags"]) or ()),
        metadata=metadata,
        payload=payload,
        output=output,
        error=RunError.read(row.get("error")),
        started_at=_time(row.get("startedAt")),
        finished_at=_time(row.get(names["finished_at"])),
        queued_at=_time(row.get("queuedAt")),
        delayed_until=_time(row.get(names["delayed_until"])),
        expired_at=_time(row.get("expiredAt")),
        number=row.get("number") or 0,
        is_test=bool(row.get("isTest")),
        duration_ms=row.get(names["duration_ms"]) or 0,
        cost_in_cents=row.get("costInCents") or 0.0,
        base_cost_in_cents=row.get("baseCostInCents") or 0.0,
        ttl=row.get("ttl"),
        realtime_streams=tuple(row.get("realtimeStreams") or ()),
        batch_id=row.get("batchId"),
        idempotency_key=row.get("idempotencyKey"),
    )


def _time(value: Any) -> datetime | None:
    """Without a zone it is UTC."""
    if value is None:
        return None
    try:
        time = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _object(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
