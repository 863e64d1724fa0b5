"""Reading a shape request. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote_plus

from shapes.definition import Definition, Invalid, InvalidRequestError, Subset
from shapes.runs.durations import duration_of
from shapes.windows.window import Window
from shapes.wire import LogOffset, RequestOffset, Special, parse_offset

Parameters = dict[str, str]
"""Flat, as in a query string: `params[1]`, `subset__where`, `subset__params[1]`."""


@dataclass(frozen=True, slots=True)
class ShapeRequest:
    """A valid request for a shape's log, or for a subset of its rows.

    `handle` is None for the offsets -1 and `now`. A `private` one is served to one
    credential. `is_over` tells by its messages whether a shape that can come to its end has.
    """

    definition: Definition
    offset: RequestOffset
    handle: str | None
    live: bool
    sse: bool
    cursor: str
    subset: Subset | None = None
    private: bool = False
    is_over: Callable[[Sequence[bytes]], bool] | None = None


def query_parameters(query: bytes) -> Parameters:
    """The query string as a mapping; of a repeated name the last value counts.

    Blank values count as absent, except for flags, whose presence is what matters, and for the
    values of `where`, where an empty text is one.
    """
    parameters: Parameters = {}
    try:
        pairs = query.decode().split("&")
        split = [_unquoted(pair) if "%" in pair or "+" in pair else _split(pair) for pair in pairs]
    except UnicodeDecodeError as error:
        raise InvalidRequestError.of("query", "is not valid UTF-8") from error
    for name, value in split:
        if value.strip() or name in _FLAGS or "params[" in name:
            parameters[name] = value
    return parameters


def _split(pair: str) -> tuple[str, str]:
    name, _, value = pair.partition("=")
    return name, value


@lru_cache(maxsize=4096)
def _unquoted(pair: str) -> tuple[str, str]:
    """Of a shape's requests only the offset and the cursor change; filters come again and again."""
    name, value = _split(pair)
    return unquote_plus(name, errors="strict"), unquote_plus(value, errors="strict")


_FLAGS = frozenset(("live", "live_sse", "experimental_live_sse"))
_REPLICA = {"default": False, "full": True}
_LOG = {"full": False, "changes_only": True}
_BOOLEAN = {"true": True, "1": True, "false": False, "0": False}


def read_request(parameters: Parameters) -> ShapeRequest:
    """Check a request's parameters, in the order in which Electric does.

    Raises InvalidRequestError. What needs the catalog is checked later, by `Definitions`.
    """
    invalid: Invalid = {}
    full_replica = _choice(parameters, "replica", _REPLICA, invalid)
    changes_only = _choice(parameters, "log", _LOG, invalid)
    # Taken, and without effect: the log is shared by all shapes and is never rewritten. A reader for
    # whom it would be long gets a new snapshot.
    _choice(parameters, "experimental_compaction", _BOOLEAN, invalid)
    subset = _subset(parameters, invalid)
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
    definition = _definition(parameters, full_replica=full_replica, changes_only=changes_only)
    cursor = parameters.get("cursor", "")
    return ShapeRequest(definition, offset, handle, live, sse, cursor, subset)


def read_deletion(parameters: Parameters) -> tuple[Definition | None, str | None]:
    """What a DELETE means: a definition, a handle, or both. Raises InvalidRequestError."""
    invalid: Invalid = {}
    full_replica = _choice(parameters, "replica", _REPLICA, invalid)
    changes_only = _choice(parameters, "log", _LOG, invalid)
    for name in _FLAGS:
        _choice(parameters, name, _BOOLEAN, invalid)
    if invalid:
        raise InvalidRequestError(invalid)
    handle = parameters.get("handle")
    if "table" not in parameters:
        if handle is None:
            raise InvalidRequestError.of(
                "handle", "can't be blank when shape definition is missing"
            )
        return None, handle
    definition = _definition(parameters, full_replica=full_replica, changes_only=changes_only)
    return definition, handle


def _definition(parameters: Parameters, *, full_replica: bool, changes_only: bool) -> Definition:
    table = parameters.get("table")
    if table is None:
        raise InvalidRequestError.of("table", "can't be blank")
    return Definition(
        table,
        parameters.get("where"),
        _map(parameters, "params["),
        parameters.get("columns"),
        full_replica,
        changes_only,
        parameters.get("queryable_columns"),
        window=_window(parameters),
    )


def _window(parameters: Parameters) -> Window | None:
    """`window[created_at]=24h`: only rows that are not older."""
    windows = _map(parameters, "window[")
    if not windows:
        return None
    (column, text), *others = windows
    length = duration_of(text)
    if others:
        raise InvalidRequestError.of("window", "there can be one only")
    if length is None:
        raise InvalidRequestError.of("window", "must be a duration such as 90s, 24h or 7d")
    return Window(column, int(length.total_seconds()))


def _choice(
    parameters: Parameters,
    name: str,
    choices: dict[str, bool],
    invalid: Invalid,
) -> bool:
    value = parameters.get(name)
    if value is not None and value not in choices:
        invalid[name] = ["is invalid"]
    return choices.get(value or "", False)


def _flag(parameters: Parameters, name: str) -> bool:
    value = parameters.get(name)
    return value is not None and value != "false"


def _map(parameters: Parameters, prefix: str) -> tuple[tuple[str, str], ...]:
    found = [
        (name[len(prefix) : -1], value)
        for name, value in parameters.items()
        if name.startswith(prefix) and name.endswith("]")
    ]
    return tuple(sorted(found))


# -- subsets ---------------------------------------------------------------------------------------

_SUBSET = "subset__"


def _subset(parameters: Parameters, invalid: Invalid) -> Subset | None:
    """The subset that is asked for; what is wrong with it beyond types is found later."""
    if not any(name.startswith(_SUBSET) for name in parameters):
        return None
    wrong: dict[str, list[str]] = {}
    limit = _integer(parameters, "limit", wrong)
    offset = _integer(parameters, "offset", wrong)
    if wrong:
        invalid["subset"] = wrong
    params = parameters.get("subset__params") or _map(parameters, "subset__params[")
    where, order_by = parameters.get("subset__where"), parameters.get("subset__order_by")
    return Subset(where, params, order_by, limit, offset)


def _integer(parameters: Parameters, name: str, wrong: dict[str, list[str]]) -> int | None:
    text = parameters.get(_SUBSET + name)
    if text is None:
        return None
    digits = text.strip().removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 100):
        wrong[name] = ["is invalid"]
        return None
    return int(text)
