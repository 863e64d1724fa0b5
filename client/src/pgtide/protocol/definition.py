"""What a reader follows: an endpoint, its parameters, and how they are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypedDict

from pgtide.errors import InvalidRequestError
from pgtide.protocol.values import Parser

SHAPE_PATH = "/v1/shape"
LIVE_SECONDS = 45.0
CATCH_UP_SECONDS = 90.0

Replica = Literal["default", "full"]
Log = Literal["full", "changes_only"]
Params = Mapping[int | str, object] | Sequence[object]

_OWN = {
    *("offset", "handle", "live", "cursor", "live_sse", "experimental_live_sse"),
    *("expired_handle", "cache-buster", "log", "secret"),
}


@dataclass(frozen=True, slots=True)
class Definition:
    """The shape behind an endpoint: `query` is what is the same in all requests, without secrets."""

    path: str
    query: tuple[tuple[str, str], ...]
    log: Log = "full"
    secret: str | None = field(default=None, repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Following:
    """How a shape is followed.

    `live=False` ends at the present state. `max_retries` counts failures in a row; None: for ever.
    `live_seconds`: how long a live connection may be silent before it counts as dead.
    `token` takes the place of the client's credential; `spare_token` is used if there is none.
    """

    live: bool = True
    live_sse: bool = False
    parsers: Mapping[str, Parser] = field(default_factory=dict[str, Parser])
    max_retries: int | None = None
    live_seconds: float = LIVE_SECONDS
    token: str | None = field(default=None, repr=False)
    spare_token: str | None = field(default=None, repr=False)


class ShapeOptions(TypedDict, total=False):
    """What may be said about a shape of a table, and about following it.

    where, params   a condition in SQL, with the values of `$1`, `$2`, … as a list or by number
    columns         their names; all, if it is not given
    replica         "full": updates and deletes have all columns, updates also the old values
    log             "changes_only": leave out the rows that are there already
    live            False: end at the present state. Otherwise go on for ever
    live_sse        one connection with server-sent events instead of long polls
    parsers         functions from text to value by the name of a type, e.g. {"numeric": float}
    secret          the server's PGTIDE_SECRET, where that is what shapes need
    extra           further query parameters, for a proxy in between
    max_retries     failures in a row that are borne; None: for ever
    live_seconds    how long a live connection may be silent before it counts as dead
    access_token    in place of the client's credential
    """

    where: str | None
    params: Params | None
    columns: Sequence[str] | None
    replica: Replica
    log: Log
    live: bool
    live_sse: bool
    parsers: Mapping[str, Parser] | None
    secret: str | None
    extra: Mapping[str, str] | None
    max_retries: int | None
    live_seconds: float
    access_token: str | None


def table_definition(table: str, options: ShapeOptions) -> Definition:
    """A shape of any table. Raises InvalidRequestError."""
    query: dict[str, str] = dict(options.get("extra") or {})
    taken = sorted(_OWN & query.keys())
    if taken:
        raise InvalidRequestError(f"these parameters are the client's own: {', '.join(taken)}")
    query["table"] = table
    where = options.get("where")
    if where is not None:
        query["where"] = where
    for number, value in _numbered(options.get("params")):
        query[f"params[{number}]"] = _parameter(value)
    columns = options.get("columns")
    if columns is not None:
        if isinstance(columns, str):
            raise InvalidRequestError("columns is a list of names")
        query["columns"] = ",".join('"' + name.replace('"', '""') + '"' for name in columns)
    if options.get("replica", "default") != "default":
        query["replica"] = options.get("replica", "default")
    log = options.get("log", "full")
    return Definition(SHAPE_PATH, tuple(sorted(query.items())), log, options.get("secret"))


def table_following(options: ShapeOptions) -> Following:
    return Following(
        live=options.get("live", True),
        live_sse=options.get("live_sse", False),
        parsers=options.get("parsers") or {},
        max_retries=options.get("max_retries"),
        live_seconds=options.get("live_seconds", LIVE_SECONDS),
        token=options.get("access_token"),
    )


def _numbered(params: Params | None) -> list[tuple[str, object]]:
    if params is None:
        return []
    if isinstance(params, Mapping):
        return [(str(number), value) for number, value in params.items()]
    if isinstance(params, str):
        raise InvalidRequestError("params is a list of values, or values by number")
    return [(str(number), value) for number, value in enumerate(params, 1)]


def _parameter(value: object) -> str:
    """As Postgres reads it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return _array(value)  # pyright: ignore[reportUnknownArgumentType]
    return str(value)


def _array(values: Sequence[object]) -> str:
    return "{" + ",".join(map(_element, values)) + "}"


def _element(value: object) -> str:
    if value is None:
        return "NULL"
    text = _parameter(value)
    if isinstance(value, list | tuple):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
