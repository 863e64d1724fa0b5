"""The body of a POST to `/v1/shape`: parameters that are too long for a URL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import orjson

from engine.errors import PgtideError
from shapes.definition import Invalid, InvalidRequestError, texts_of
from shapes.http.request import Parameters
from shapes.http.responses import Receive

MOST_BYTES = 8_000_000

_OF_SUBSET = frozenset(
    ("where", "order_by", "limit", "offset", "params", "where_expr", "order_by_expr")
)
_KNOWN = frozenset(
    """table offset handle live live_sse experimental_live_sse where columns queryable_columns replica
    log experimental_compaction order_by limit""".split()  # noqa: SIM905
)
_QUERY_ONLY = frozenset(("secret", "api_secret", "cursor"))


class BodyError(PgtideError):
    """The body of a request cannot be read. `answer` is what to tell the client."""

    code = "invalid_body"

    def __init__(self, status: int, error: str, details: str | None = None) -> None:
        super().__init__(error)
        self.status = status
        self.answer = {"error": error} | ({} if details is None else {"details": details})


async def read_body(receive: Receive) -> bytes:
    """The whole body. Raises BodyError."""
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise BodyError(400, "Failed to read request body")
        piece = message.get("body", b"")
        size += len(piece)
        if size > MOST_BYTES:
            raise BodyError(413, "Request body too large")
        pieces.append(piece)
        if not message.get("more_body"):
            return b"".join(pieces)


def merged(parameters: Parameters, body: bytes) -> Parameters:
    """The parameters of the URL with those of the body over them.

    A body that does not name a subset but has keys of one is a subset as a whole; its other keys are
    ordinary parameters. Raises BodyError and InvalidRequestError.
    """
    if not body.strip():
        return parameters
    try:
        values: object = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BodyError(400, "Invalid JSON in request body", str(error)) from error
    if not isinstance(values, dict):
        raise BodyError(400, "Request body must be a JSON object")
    given = dict(cast("dict[str, object]", values))
    subset: Mapping[str, object] = {}
    if isinstance(given.get("subset"), dict):
        subset = cast("dict[str, object]", given.pop("subset"))
    elif _OF_SUBSET & given.keys() and "subset" not in given:
        subset = {name: given.pop(name) for name in tuple(given) if name in _OF_SUBSET}
    invalid: Invalid = {}
    result = dict(parameters)
    for name, value in given.items():
        if name not in _QUERY_ONLY:
            _put(result, name, value, invalid)
    wrong: Invalid = {}
    for name, value in subset.items():
        _put(result, f"subset__{name}", value, wrong)
    if wrong:
        invalid["subset"] = {name.removeprefix("subset__"): why for name, why in wrong.items()}
    if invalid:
        raise InvalidRequestError(invalid)
    return result


def _put(parameters: Parameters, name: str, value: object, invalid: Invalid) -> None:
    """Put one member of the body where a query string would have put it."""
    if name in ("params", "subset__params"):
        _put_params(parameters, name, value, invalid)
    elif name in ("columns", "queryable_columns") and isinstance(value, list):
        _put_columns(parameters, name, cast("list[object]", value), invalid)
    elif isinstance(value, bool):
        parameters[name] = "true" if value else "false"
    elif isinstance(value, str | int | float):
        parameters[name] = str(value)
    elif value is not None and name.removeprefix("subset__") in _KNOWN:
        invalid[name] = ["is invalid"]


def _put_params(parameters: Parameters, name: str, value: object, invalid: Invalid) -> None:
    if name == "subset__params" and isinstance(value, str):
        parameters[name] = value
        return
    texts = texts_of(value)
    if texts is None:
        wrong = "params must be a JSON object" if name == "subset__params" else "is invalid"
        invalid[name] = [wrong]
        return
    for one in [one for one in parameters if one == name or one.startswith(f"{name}[")]:
        del parameters[one]
    for number, text in texts:
        parameters[f"{name}[{number}]"] = text


def _put_columns(
    parameters: Parameters,
    name: str,
    values: list[object],
    invalid: Invalid,
) -> None:
    """A list holds names as they are, without SQL's quotes."""
    if not all(isinstance(value, str) for value in values):
        invalid[name] = ["is invalid"]
    elif not values:
        what = "columns" if name == "columns" else "queryable columns"
        invalid[name] = [f"The list of {what} must not be empty"]
    elif "" in values:
        invalid[name] = ["Invalid zero-length identifier"]
    else:
        quoted = [str(value).replace('"', '""') for value in values]
        parameters[name] = ",".join(f'"{value}"' for value in quoted)
