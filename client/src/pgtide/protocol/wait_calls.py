"""Wait tokens: somebody waits, somebody else says what for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from pgtide.errors import InvalidRequestError, WaitTimeoutError
from pgtide.protocol.exchange import call, json_object, text_field
from pgtide.protocol.packets import unpack
from pgtide.protocol.run_following import Identity
from pgtide.protocol.steps import Plan, clock, pause


@dataclass(frozen=True, slots=True)
class WaitTokenHandle:
    """A token that was made. `public_access_token` lets a browser complete it; a POST to `url` does
    without one."""

    id: str
    url: str = field(repr=False)
    public_access_token: str | None = field(default=None, repr=False)
    is_cached: bool = False


@dataclass(frozen=True, slots=True)
class WaitToken:
    """A token as it is now. `status` is WAITING, COMPLETED or TIMED_OUT; `output` what it was completed
    with."""

    id: str
    status: str
    output: Any = None
    tags: tuple[str, ...] = ()
    created_at: datetime | None = None
    completed_at: datetime | None = None
    timeout_at: datetime | None = None

    @property
    def is_completed(self) -> bool:
        return self.status == "COMPLETED"

    @property
    def is_timed_out(self) -> bool:
        return self.status == "TIMED_OUT"


def create_token(
    *,
    timeout: str | timedelta | datetime | None = None,
    tags: str | Sequence[str] = (),
    idempotency_key: str | None = None,
    idempotency_key_ttl: str | None = None,
) -> Plan[WaitTokenHandle]:
    """Make a token. `timeout`: a span ("10m"), a timedelta, or the time at which it ends."""
    body: dict[str, Any] = {}
    if timeout is not None:
        body["timeout"] = _timeout(timeout)
    if tags:
        body["tags"] = [tags] if isinstance(tags, str) else list(tags)
    if idempotency_key is not None:
        body["idempotencyKey"] = idempotency_key
    if idempotency_key_ttl is not None:
        body["idempotencyKeyTTL"] = idempotency_key_ttl
    answer = yield from call("POST", "/api/v1/waitpoints/tokens", body=body)
    known = json_object(answer)
    return WaitTokenHandle(
        text_field(known, "id"),
        str(known.get("url") or ""),
        answer.headers.get("x-trigger-jwt"),
        bool(known.get("isCached")),
    )


def complete_token(
    token: Identity, data: object = None, *, access_token: str | None = None
) -> Plan[None]:
    """Say what was waited for. A token that is completed already stays as it is."""
    path = f"{_path(token)}/complete"
    yield from call("POST", path, body={"data": data}, token=access_token)


def retrieve_token(token: Identity) -> Plan[WaitToken]:
    """A token as it is now. Raises NotFoundError."""
    answer = yield from call("GET", _path(token))
    return _read(json_object(answer))


def for_token(
    token: Identity, *, interval: float = 1.0, timeout: float | None = None
) -> Plan[WaitToken]:
    """Wait until a token is completed or has timed out, asking every `interval` seconds.

    `timeout` in seconds; raises WaitTimeoutError after it.
    """
    began = yield from clock()
    while True:
        found = yield from retrieve_token(token)
        if found.status != "WAITING":
            return found
        if timeout is not None and (yield from clock()) - began + interval > timeout:
            raise WaitTimeoutError(f"the token {found.id} was not completed in {timeout} seconds")
        yield from pause(interval)


def _read(body: Mapping[str, Any]) -> WaitToken:
    return WaitToken(
        text_field(body, "id"),
        text_field(body, "status"),
        _output(body),
        tuple(body.get("tags") or ()),
        _time(body.get("createdAt")),
        _time(body.get("completedAt")),
        _time(body.get("timeoutAt")),
    )


def _output(body: Mapping[str, Any]) -> Any:
    output = body.get("output")
    if isinstance(output, str) and body.get("outputType"):
        return unpack(output, body.get("outputType"))
    return output


def _time(text: Any) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None


def _timeout(timeout: str | timedelta | datetime) -> str:
    if isinstance(timeout, str):
        return timeout
    if isinstance(timeout, timedelta):
        return f"{round(timeout.total_seconds())}s"
    if timeout.tzinfo is None:
        raise InvalidRequestError("give the time with a time zone")
    return timeout.isoformat()


def _path(token: Identity) -> str:
    identity = token if isinstance(token, str) else token.id
    return f"/api/v1/waitpoints/tokens/{quote(identity, safe='')}"
