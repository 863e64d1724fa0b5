"""SuperJSON, as the JavaScript SDK writes payloads and outputs: JSON, and beside it which values stand
for types that JSON does not have."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from datetime import UTC, date, datetime
from typing import Any, cast

LARGEST_EXACT = 2**53 - 1
_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf, "-0": -0.0}

Notes = dict["str | None", Any]
"""Annotations by path; under None the document's own kind."""


class _Box:
    """The document's top value, so that it has a place like all others."""

    def __init__(self, value: Any) -> None:
        self.items = [value]


def decode(document: Any) -> Any:
    """The value of `{"json": …, "meta": {"values": …}}`. Kinds that Python has no type for stay as
    JSON has them."""
    if not isinstance(document, dict) or "json" not in document:
        return cast("object", document)
    known = cast("dict[str, Any]", document)
    box = _Box(known["json"])
    meta: Any = known.get("meta")
    if isinstance(meta, dict):
        annotations = cast("dict[str, Any]", meta)
        # From version 1 on a backslash in a key is written twice.
        _annotate(box.items, 0, annotations.get("values"), annotations.get("v", 0) >= 1)
    return box.items[0]


def _annotate(parent: Any, key: Any, tree: Any, escaped: bool) -> None:
    """Give the value at `key`, and what is below, the types of the tree: a mapping of paths, or a list
    of the value's own kind and such a mapping."""
    if isinstance(tree, list) and tree:
        kind, *below = cast("list[Any]", tree)
        if below:
            _annotate(parent, key, below[0], escaped)
        parent[key] = _revive(parent[key], kind)
    elif isinstance(tree, dict):
        for path, inner in cast("dict[str, Any]", tree).items():
            # Some versions of the library leave out the escapes of a key that stands alone.
            place = _walk(parent[key], _segments(path, escaped)) or _walk(parent[key], [path])
            if place is not None:
                _annotate(*place, inner, escaped)


def _walk(value: Any, segments: list[str]) -> tuple[Any, Any] | None:
    """The container and the key that a path leads to."""
    for segment in segments[:-1]:
        key = _key(value, segment)
        if key is None:
            return None
        value = value[key]
    key = _key(value, segments[-1])
    return None if key is None else (value, key)


def _key(container: Any, segment: str) -> Any:
    if isinstance(container, list):
        length = len(cast("list[Any]", container))
        return int(segment) if segment.isdecimal() and int(segment) < length else None
    return segment if isinstance(container, dict) and segment in container else None


def _segments(path: str, escaped: bool) -> list[str]:
    segments, present = [""], iter(path)
    for character in present:
        if character == ".":
            segments.append("")
            continue
        if character == "\\":
            following = next(present, "")
            if following == "." or (escaped and following == "\\"):
                character = following
            else:
                character += following
        segments[-1] += character
    return segments


def _revive(value: Any, kind: Any) -> Any:
    try:
        return _revived(value, kind)
    except (ValueError, TypeError):
        return value


def _revived(value: Any, kind: Any) -> Any:
    match kind:
        case "Date":
            return None if value is None else datetime.fromisoformat(value)
        case "bigint":
            return int(value)
        case "number":
            return _NUMBERS.get(value, value)
        case "undefined":
            return None
        case "set":
            items = cast("list[Any]", value)
            return set(items) if all(isinstance(item, Hashable) for item in items) else items
        case "map":
            pairs = cast("list[list[Any]]", value)
            return {_hashable(name): inner for name, inner in pairs}
        case _:
            return value


def _hashable(value: Any) -> Any:
    return value if isinstance(value, Hashable) else repr(value)


def encode(value: Any) -> tuple[Any, dict[str, Any] | None]:
    """A value in JSON's types, and the annotations for what JSON does not have (None: nothing).

    Dates, sets, mappings with keys that are no texts, NaN and infinities, integers of more than 53
    bits. UUIDs, decimals and enums become texts or plain values. Raises TypeError for the rest.
    """
    notes: Notes = {}
    plain = _encoded(value, [], notes)
    if not notes:
        return plain, None
    # A note for the document itself takes the place of the mapping, and holds the others.
    own = notes.pop(None, None)
    values: Any = notes if own is None else [own, notes] if notes else [own]
    # Older readers know no version, and no backslashes that are written twice.
    return plain, {"values": values, "v": 1} if _has_backslash(values) else {"values": values}


def _encoded(value: Any, path: list[str], notes: Notes) -> Any:
    kind, plain = _as_plain(value)
    if kind is not None:
        notes[_path(path)] = [kind] if path else kind
    if isinstance(plain, Mapping):
        items = cast("Mapping[Any, Any]", plain)
        return {name: _encoded(inner, [*path, name], notes) for name, inner in items.items()}
    if isinstance(plain, list):
        items = cast("list[Any]", plain)
        if kind is not None:
            below: Notes = {}
            listed = [_encoded(item, [str(at)], below) for at, item in enumerate(items)]
            if below:
                _nest(notes, path, kind, below)
            return listed
        return [_encoded(item, [*path, str(at)], notes) for at, item in enumerate(items)]
    return plain


def _nest(notes: Notes, path: list[str], kind: str, below: Notes) -> None:
    if path:
        notes[_path(path)] = [kind, below]
    else:
        notes.update(below)


def _has_backslash(notes: Any) -> bool:
    """Whether a key of an annotated value has one, which paths have doubled."""
    if isinstance(notes, list):
        return any(map(_has_backslash, cast("list[Any]", notes)))
    if isinstance(notes, dict):
        found = cast("dict[str, Any]", notes).items()
        return any("\\\\" in path or _has_backslash(inner) for path, inner in found)
    return False


def _path(path: list[str]) -> str | None:
    if not path:
        return None
    return ".".join(part.replace("\\", "\\\\").replace(".", "\\.") for part in path)


def _as_plain(value: Any) -> tuple[str | None, Any]:
    """The kind that JSON does not have, if it is one, and the value in JSON's types, one level deep."""
    match value:
        case None | bool() | str():
            return None, value
        case int():
            return (None, int(value)) if abs(value) <= LARGEST_EXACT else ("bigint", str(value))
        case float():
            return (None, value) if math.isfinite(value) else ("number", _number(value))
        case datetime():
            return "Date", _javascript_time(value)
        case date():
            return None, value.isoformat()
        case set() | frozenset():
            return "set", list(cast("set[Any]", value))
        case Mapping():
            items = cast("Mapping[Any, Any]", value)
            if all(isinstance(name, str) for name in items):
                return None, items
            return "map", [[name, inner] for name, inner in items.items()]
        case list() | tuple():
            return None, list(cast("list[Any]", value))
        case _:
            return None, _as_text(value)


def _number(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _javascript_time(value: datetime) -> str:
    """A datetime without a zone counts as UTC."""
    aware = value if value.tzinfo else value.replace(tzinfo=UTC)
    text = aware.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"


def _as_text(value: Any) -> Any:
    import dataclasses
    from decimal import Decimal
    from uuid import UUID

    if isinstance(value, UUID | Decimal):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"a value of type {type(value).__name__} has no form in JSON")
