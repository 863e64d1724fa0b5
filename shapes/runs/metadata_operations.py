"""Operations on a run's metadata, with the effect that `@trigger.dev/core` gives them. Pure.

The SDK applies them in the worker and the server again, so both must come to the same result, with its
oddities: see `shapes.runs.metadata_paths` for those of paths. What every JavaScript object inherits
(`toString`, …) and the `length` of arrays are not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple, cast

from engine.errors import PgtideError
from shapes.runs.metadata_paths import (
    ABSENT,
    PATH_PREFIX,
    Path,
    PathError,
    Walk,
    names_below_root,
    names_nothing_unsafe,
)

Json = Any
Metadata = dict[str, Json]

MOST_STEPS = 2_000_000
"""Values that one list of operations may look at: about half a second."""

_VALUES = {"append", "remove", "set"}
_KEYS = {"delete", "increment", *_VALUES}
_EXACT = 1 << 53
_WHOLE = range(-1 << 63, 1 << 64)
"""Whole numbers that can be written as such; others are written as 1e+20, which is the same number."""


class InvalidOperationError(PgtideError):
    """A request holds something that is no operation."""

    code = "invalid_operation"


class TooMuchWorkError(PgtideError):
    """A list of operations looks at too much of the metadata too often."""

    code = "too_much_work"


class Operation(NamedTuple):
    """`type` is set, delete, append, remove, increment or update; `key` is empty for update."""

    type: str
    key: str = ""
    value: Json = None


def parse_operations(items: object, where: str) -> list[Operation]:
    """Read a JSON array of operations; None is an empty one. Raises InvalidOperationError.

    `where` names the array in what the error says.
    """
    if items is None:
        return []
    if not isinstance(items, list):
        raise InvalidOperationError(f"{where} must be an array")
    return [
        _parse(item, f"{where}[{index}]") for index, item in enumerate(cast("list[object]", items))
    ]


def _parse(item: object, where: str) -> Operation:
    if not isinstance(item, dict):
        raise InvalidOperationError(f"{where} must be an object")
    given = cast("dict[str, object]", item)
    kind, key, value = given.get("type"), given.get("key"), given.get("value")
    if kind == "update":
        if not isinstance(value, dict):
            raise InvalidOperationError(f"{where}.value must be an object")
        return Operation("update", "", value)
    if kind not in _KEYS:
        raise InvalidOperationError(
            f"{where}.type must be one of {', '.join(sorted((*_KEYS, 'update')))}"
        )
    if not isinstance(key, str):
        raise InvalidOperationError(f"{where}.key must be a string")
    if not names_below_root(key):
        raise InvalidOperationError(f"{where}.key must name something below $")
    if not names_nothing_unsafe(key):
        raise InvalidOperationError(f"{where}.key may not name __proto__, constructor or prototype")
    if kind in _VALUES and "value" not in given:
        raise InvalidOperationError(f"{where}.value is missing")
    if kind == "increment" and not _is_number(value):
        raise InvalidOperationError(f"{where}.value must be a number")
    return Operation(str(kind), key, value)


def apply_operations(
    metadata: Metadata, operations: Iterable[Operation]
) -> tuple[Metadata, list[Operation]]:
    """The metadata after the operations, and those that were not applied.

    Takes the metadata and the operations' values over: they become parts of the result and are
    changed. Raises TooMuchWorkError.
    """
    work = _Work(metadata)
    unapplied = [operation for operation in operations if not work.apply(operation)]
    return work.metadata, unapplied


class _Work:
    """The metadata in the course of a list of operations."""

    def __init__(self, metadata: Metadata) -> None:
        self.metadata = metadata
        self._walk = Walk(self._spend)
        self._steps = 0

    def apply(self, operation: Operation) -> bool:
        """Whether the operation could be applied."""
        kind, key, value = operation
        if kind == "update":
            self.metadata = value
            return True
        if not (names_below_root(key) and names_nothing_unsafe(key)):
            return False
        self._spend(1)
        if kind == "delete":
            self.metadata.pop(key, None)
            return True
        try:
            return self._change(kind, key, value)
        except (PathError, RecursionError):
            return False

    def _change(self, kind: str, key: str, value: Json) -> bool:
        place = self._place(key)
        if kind == "set":
            self._put(place, value)
            return True
        present = self._get(place)
        match kind:
            case "append":
                self._append(place, present, value)
            case "remove":
                if not isinstance(present, list):
                    return False
                self._put(place, self._without(cast("list[Json]", present), value))
            case "increment":
                total = add(cast("float", present) if _is_number(present) else 0, value)
                self._put(self._place(key), total)
            case _:
                return False
        return True

    def _append(self, place: str | Path, present: Json, value: Json) -> None:
        if not isinstance(present, list):
            self._put(place, [value] if present is ABSENT else [present, value])
            return
        items = cast("list[Json]", present)
        if isinstance(place, str):
            items.append(value)
        else:
            self._spend(len(items))
            self._put(place, [*items, value])

    def _without(self, items: list[Json], value: Json) -> list[Json]:
        members = len(cast("list[Json]", value)) if isinstance(value, (list, dict)) else 0
        self._spend(len(items) * (4 + members))
        return [item for item in items if not deep_equal(item, value)]

    def _place(self, key: str) -> str | Path:
        """A name at the top, or a path."""
        return self._walk.parse(key) if key.startswith(PATH_PREFIX) else key

    def _get(self, place: str | Path) -> Json:
        if isinstance(place, str):
            return self.metadata.get(place, ABSENT)
        return self._walk.first(place, self.metadata)

    def _put(self, place: str | Path, value: Json) -> None:
        if isinstance(place, str):
            self.metadata[place] = value
        else:
            self._walk.put(place, self.metadata, value)

    def _spend(self, steps: int) -> None:
        self._steps += steps
        if self._steps > MOST_STEPS:
            raise TooMuchWorkError("these operations look at too much: send fewer at a time")


def deep_equal(left: Json, right: Json) -> bool:
    """Whether two JSON values are the same; numbers as JavaScript compares them."""
    if isinstance(left, bool) or isinstance(right, bool) or left is None or right is None:
        return left is right
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return float(left) == float(right)
    if isinstance(left, dict) and isinstance(right, dict):
        ours, theirs = cast("Mapping[str, Json]", left), cast("Mapping[str, Json]", right)
        return ours.keys() == theirs.keys() and all(
            deep_equal(value, theirs[name]) for name, value in ours.items()
        )
    if isinstance(left, list) and isinstance(right, list):
        items, others = cast("list[Json]", left), cast("list[Json]", right)
        return len(items) == len(others) and all(map(deep_equal, items, others))
    return isinstance(left, str) and left == right


def add(left: float, right: float) -> float:
    """The sum as JavaScript would print it: without a fraction if it is whole.

    Infinity is printed as null, as JavaScript does.
    """
    if isinstance(left, int) and isinstance(right, int):
        total = left + right
        if max(abs(left), abs(right), abs(total)) <= _EXACT:
            return total
    total = float(left) + float(right)
    if not total.is_integer():
        return total
    # Of a whole number above 2^53 JavaScript prints the shortest digits, then zeros.
    whole = int(Decimal(repr(total)))
    return whole if whole in _WHOLE else total


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
