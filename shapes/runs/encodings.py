"""What payloads and outputs mean, by the type that says how they are encoded. Pure."""

from __future__ import annotations

from typing import Any, cast

import orjson

from shapes.runs.values import JSON

SUPER_JSON = "application/super+json"
"""JSON with a note of the values that are dates and such: what the SDK sends."""

STORE = "application/store"
"""The path of something that is stored elsewhere."""

NOTHING = object()
"""What there is no value of, not even null."""

Member = dict[str, Any]


def decoded(data: object, kind: str | None) -> object:
    """What a payload or an output means, as JSON has it: dates are texts, and so on. NOTHING also
    for what is stored elsewhere."""
    kind = kind or JSON
    if data is None or data == "" or kind == STORE:
        return NOTHING
    value = data  # In a column of JSON it is decoded already.
    if isinstance(data, str) and kind in (JSON, SUPER_JSON):
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError:
            return data
    if kind == SUPER_JSON and isinstance(value, dict):
        return _plain(cast("Member", value))
    return value


def _plain(document: Member) -> object:
    """A super-JSON document without the types of its values; what was undefined is absent."""
    value: object = document.get("json")
    meta = document.get("meta")
    types = cast("Member", meta).get("values") if isinstance(meta, dict) else None
    if isinstance(types, list):
        return NOTHING if cast("list[Any]", types)[:1] == ["undefined"] else value
    for path, kinds in (cast("Member", types) if isinstance(types, dict) else {}).items():
        if kinds == ["undefined"]:
            _remove(value, path)
    return value


def _remove(value: object, path: str) -> None:
    """Remove the member at a path whose segments are separated by dots (escaped in names)."""
    *parents, last = [part.replace("\0", ".") for part in path.replace("\\.", "\0").split(".")]
    for part in parents:
        if isinstance(value, dict):
            value = cast("Member", value).get(part)
        elif (
            isinstance(value, list)
            and part.isdecimal()
            and int(part) < len(cast("list[Any]", value))
        ):
            value = cast("list[Any]", value)[int(part)]
        else:
            return
    if isinstance(value, dict):
        cast("Member", value).pop(last, None)
