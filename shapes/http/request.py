"""Reading a shape request. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote_plus

from shapes.definition import Definition, InvalidRequestError
from shapes.wire import LogOffset, RequestOffset, Special, parse_offset

SECRET_PARAMETERS = ("secret", "api_secret")


@dataclass(frozen=True, slots=True)
class ShapeRequest:
    """A valid request for a shape's log. `handle` is None for the offsets -1 and `now`."""

    definition: Definition
    offset: RequestOffset
    handle: str | None
    live: bool
    sse: bool
    cursor: str


def query_parameters(query: bytes) -> dict[str, str]:
    """The query string as a mapping; of a repeated name the last value counts.

    Blank values count as absent, except for flags, whose presence is what matters, and for the
    values of `where`, where an empty text is one.
    """
    parameters: dict[str, str] = {}
    for pair in query.decode("utf-8", "replace").split("&"):
        name, value = _unquoted(pair) if "%" in pair or "+" in pair else _split(pair)
        if value.strip() or name in _FLAGS or name.startswith("params["):
            parameters[name] = value
    return parameters


def _split(pair: str) -> tuple[str, str]:
    name, _, value = pair.partition("=")
    return name, value


@lru_cache(maxsize=4096)
def _unquoted(pair: str) -> tuple[str, str]:
    """Of a shape's requests only the offset and the cursor change; filters come again and again."""
    name, value = _split(pair)
    return unquote_plus(name), unquote_plus(value)


_FLAGS = frozenset(("live", "live_sse", "experimental_live_sse"))
_REPLICA = {"default": False, "full": True}
_LOG = {"full": False, "changes_only": True}


def read_request(parameters: dict[str, str]) -> ShapeRequest:
    """Check a request's parameters, in the order in which Electric does.

    Raises InvalidRequestError. What needs the catalog is checked later, by `Definitions`.
    """
    invalid: dict[str, list[str]] = {}
    full_replica = _choice(parameters, "replica", _REPLICA, invalid)
    changes_only = _choice(parameters, "log", _LOG, invalid)
    if "params" in parameters:
        invalid["params"] = ["is invalid"]
    text = parameters.get("offset")
    if text is None:
        invalid["offset"] = ["can't be blank"]
    if text is None or invalid:
        raise InvalidRequestError(invalid)
    offset = parse_offset(text.strip())
    if offset is None:
        raise InvalidRequestError.of("offset", "has invalid format")
    handle = parameters.get("handle") if isinstance(offset, LogOffset) else None
    if handle is None and isinstance(offset, LogOffset):
        raise InvalidRequestError.of("handle", "can't be blank when offset != -1")
    live = _flag(parameters, "live")
    if live and isinstance(offset, Special):
        limit = "offset is 'now'" if offset is Special.NOW else "offset == -1"
        raise InvalidRequestError.of("live", f"can't be true when {limit}")
    name = "live_sse" if "live_sse" in parameters else "experimental_live_sse"
    sse = _flag(parameters, name)
    if sse and not live:
        raise InvalidRequestError.of("live_sse", "can't be true unless live is also true")
    table = parameters.get("table")
    if table is None:
        raise InvalidRequestError.of("table", "can't be blank")
    definition = Definition(
        table,
        parameters.get("where"),
        _params(parameters),
        parameters.get("columns"),
        full_replica,
        changes_only,
    )
    return ShapeRequest(definition, offset, handle, live, sse, parameters.get("cursor", ""))


def _choice(
    parameters: dict[str, str], name: str, choices: dict[str, bool], invalid: dict[str, list[str]]
) -> bool:
    value = parameters.get(name)
    if value is not None and value not in choices:
        invalid[name] = ["is invalid"]
    return choices.get(value or "", False)


def _flag(parameters: dict[str, str], name: str) -> bool:
    value = parameters.get(name)
    return value is not None and value != "false"


def _params(parameters: dict[str, str]) -> tuple[tuple[str, str], ...]:
    found = [
        (name[7:-1], value)
        for name, value in parameters.items()
        if name.startswith("params[") and name.endswith("]")
    ]
    return tuple(sorted(found))
