"""Public access tokens: what browsers may see and do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Required, TypedDict

from pgtide.errors import InvalidRequestError
from pgtide.protocol.exchange import call, json_object, text_field
from pgtide.protocol.run_following import wire_name
from pgtide.protocol.steps import Plan

Permission = Mapping[str, "str | Sequence[str] | bool"] | bool
"""By resource, e.g. `{"runs": ["run_1"], "tags": "user:7"}`; True: all of that type; alone: of all."""
Expiry = str | int | timedelta | datetime

RESOURCES = (
    *("runs", "tasks", "tags", "batch", "waitpoints", "inputStreams", "sessions", "shapes"),
    *("streams", "all"),
)
_OTHER_NAMES = {"input_streams": "inputStreams", "batches": "batch", "wait_tokens": "waitpoints"}


class TableGrant(TypedDict, total=False):
    """Shapes of a table that may be read: of these columns, of the rows that `where` lets through."""

    table: Required[str]
    columns: Sequence[str]
    where: str
    params: Mapping[str, str]


def create_public_token(
    *,
    read: Permission | None = None,
    write: Permission | None = None,
    trigger: Permission | None = None,
    batch_trigger: Permission | None = None,
    shapes: Sequence[TableGrant] = (),
    scopes: Sequence[str] = (),
    expires_in: Expiry = "15m",
    skip_columns: Sequence[str] = (),
    one_time: bool = False,
) -> Plan[str]:
    """A token that allows what is given, and nothing else; the server signs it.

    `read`, `write`, …: ids by resource, e.g. `read={"runs": ["run_1"], "tags": "user:7"}`; True for all
    of a type. `shapes`: tables, e.g. `[{"table": "orders", "where": "customer = 7"}]`.
    `expires_in`: "15m", seconds, a timedelta, or the time at which it ends. `skip_columns`: columns of
    runs that its holder never sees. `one_time`: it starts one run, or one batch.
    """
    body: dict[str, Any] = {
        "scopes": flattened(
            {"read": read, "write": write, "trigger": trigger, "batchTrigger": batch_trigger},
            scopes,
        ),
        "expirationTime": expiration(expires_in),
    }
    if shapes:
        body["shapes"] = [dict(shape) for shape in shapes]
    if not body["scopes"] and not shapes:
        raise InvalidRequestError(
            "a token without scopes allows nothing: give read, write, trigger or shapes"
        )
    if one_time:
        body["oneTimeUse"] = True
    if skip_columns:
        if isinstance(skip_columns, str):
            raise InvalidRequestError("skip_columns is a list of names")
        body["realtime"] = {"skipColumns": [wire_name(name) for name in skip_columns]}
    answer = yield from call("POST", "/api/v1/auth/public-tokens", body=body)
    return text_field(json_object(answer), "token")


def create_trigger_token(
    tasks: str | Sequence[str], *, expires_in: Expiry = "15m", multiple_use: bool = False
) -> Plan[str]:
    """A token that starts one run of one of these tasks, or, with `multiple_use`, any number."""
    return create_public_token(
        trigger={"tasks": tasks}, expires_in=expires_in, one_time=not multiple_use
    )


def flattened(permissions: Mapping[str, Permission | None], scopes: Sequence[str]) -> list[str]:
    """The scopes, as texts. Raises InvalidRequestError for unknown resources and blank ids."""
    found: list[str] = []
    for action, permission in permissions.items():
        if permission is None or permission is False:
            continue
        if permission is True:
            found.append(f"{action}:all")
            continue
        for name, ids in permission.items():
            found += _scopes(action, _resource(name), ids)
    found += scopes
    if any(not scope.strip() for scope in found):
        raise InvalidRequestError("a scope is blank")
    return list(dict.fromkeys(found))


def _scopes(action: str, resource: str, ids: str | Sequence[str] | bool) -> list[str]:
    if isinstance(ids, bool):
        return [f"{action}:{resource}"] if ids else []
    listed = [ids] if isinstance(ids, str) else list(ids)
    if any(not identity.strip() for identity in listed):
        raise InvalidRequestError(f"a blank id in {action} of {resource}: it would allow nothing")
    return [f"{action}:{resource}:{identity}" for identity in listed]


def _resource(name: str) -> str:
    name = _OTHER_NAMES.get(name, name)
    if name not in RESOURCES:
        known = ", ".join(RESOURCES)
        raise InvalidRequestError(f"{name!r} is no resource of scopes. There are: {known}")
    return name


def expiration(expires_in: Expiry) -> str | int:
    """A span as text, or a time in seconds since 1970."""
    if isinstance(expires_in, str):
        return expires_in
    if isinstance(expires_in, datetime):
        aware = expires_in if expires_in.tzinfo else expires_in.replace(tzinfo=UTC)
        return int(aware.timestamp())
    seconds = expires_in.total_seconds() if isinstance(expires_in, timedelta) else expires_in
    if seconds <= 0:
        raise InvalidRequestError("expires_in is how long the token lasts")
    return f"{round(seconds)}s"
