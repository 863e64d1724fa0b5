"""What a token claims, read and written. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from shapes.access.grant import AuthenticationError, TableGrant
from shapes.access.scopes import Scope
from shapes.definition import texts_of
from shapes.identifiers import parse_table

LEEWAY_SECONDS = 30.0
"""How far other machines' clocks may be ahead. Of the expiry there is none."""

INVALID = "Public Access Token is invalid"
EXPIRED = "Public Access Token has expired"


class ClaimError(ValueError):
    """A claim is not what it has to be."""


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a token that counts now."""

    subject: object
    scopes: tuple[Scope, ...]
    expires_at: float
    one_time: bool
    skip_columns: tuple[str, ...] | None
    tables: tuple[TableGrant, ...]


def is_public(payload: Mapping[str, Any]) -> bool:
    """Whether it is the payload of a token for browsers, rather than a key that looks like one."""
    return payload.get("pub") is True


def read_claims(payload: Mapping[str, Any], audience: str, now: float) -> Claims:
    """The claims of a token whose signature and issuer are verified. Raises AuthenticationError."""
    try:
        return _read(payload, audience, now)
    except ClaimError as error:
        raise AuthenticationError(INVALID) from error


def _read(payload: Mapping[str, Any], audience: str, now: float) -> Claims:
    if not is_public(payload):
        raise ClaimError("pub has to be true")
    audiences = payload.get("aud")
    if audience != audiences and not (
        isinstance(audiences, list) and audience in cast("list[object]", audiences)
    ):
        raise ClaimError("it is for somebody else")
    for name in ("iat", "nbf"):
        if name in payload and _time(payload, name) > now + LEEWAY_SECONDS:
            raise ClaimError("it does not count yet")
    expires_at = _time(payload, "exp")
    if expires_at <= now:
        raise AuthenticationError(EXPIRED)
    one_time = payload.get("otu", False)
    if not isinstance(one_time, bool):
        raise ClaimError("otu has to be true or false")
    return Claims(
        payload.get("sub"),
        tuple(Scope.parse(text) for text in _texts(payload.get("scopes") or [])),
        expires_at,
        one_time,
        skip_columns(payload.get("realtime")),
        table_grants(payload.get("shapes")),
    )


def skip_columns(realtime: object) -> tuple[str, ...] | None:
    """What the claim `realtime` says about columns. Raises ClaimError."""
    if realtime is None:
        return None
    if not isinstance(realtime, dict):
        raise ClaimError("realtime has to be an object")
    names = cast("Mapping[str, object]", realtime).get("skipColumns")
    return None if names is None else _texts(names)


def table_grants(shapes: object) -> tuple[TableGrant, ...]:
    """What the claim `shapes` says. Raises ClaimError."""
    if shapes is None:
        return ()
    if not isinstance(shapes, list):
        raise ClaimError("shapes has to be a list")
    return tuple(_table_grant(entry) for entry in cast("Sequence[object]", shapes))


def _table_grant(entry: object) -> TableGrant:
    if not isinstance(entry, dict):
        raise ClaimError("each of shapes has to be an object")
    members = cast("Mapping[str, object]", entry)
    # What is not understood might limit what is granted.
    if not set(members) <= {"table", "columns", "where", "params"}:
        raise ClaimError("each of shapes has table, columns, where and params only")
    table, where = members.get("table"), members.get("where")
    if not isinstance(table, str) or not (where is None or isinstance(where, str)):
        raise ClaimError("table and where have to be texts")
    try:
        schema, name = parse_table(table)
    except ValueError as error:
        raise ClaimError(f"table: {error}") from error
    columns = members.get("columns")
    params = texts_of(members.get("params", {}))
    if params is None:
        raise ClaimError("params has to be an object of plain values")
    names = None if columns is None else _texts(columns)
    if names == () or (where is not None and not where.strip()):
        raise ClaimError("columns and where must not be empty")
    return TableGrant(schema, name, names, where, params)


def _time(payload: Mapping[str, Any], name: str) -> float:
    value = payload.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ClaimError(f"{name} has to be a number of seconds")
    return float(value)


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ClaimError("not a list of texts")
    texts = cast("list[object]", value)
    if not all(isinstance(text, str) for text in texts):
        raise ClaimError("not a list of texts")
    return tuple(cast("list[str]", texts))
