"""Paths into a run's metadata, `$.a.0.b`, as `@trigger.dev/core` reads them. Pure.

A path is split at dots, except at those behind a backslash. A component is the name of a member, the
index of an element, `*` for all of them, or `[1:3]` for some elements. Parents that are missing are not
made, and what is null is not replaced. Where core would throw an error, PathError is raised.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, cast

from engine.errors import PgtideError

Json = Any
PATH_PREFIX = "$."
ABSENT: Final = cast("Any", object())
"""Takes the place of a value where there is none."""

MOST_ELEMENTS = 1 << 16
"""Elements of an array that is made longer by writing behind its end: more would not fit the limit of
metadata's size."""

STEP = 20
"""What a step along a path takes, in looks at a value."""

_COMPONENTS = re.compile(r"(?:[^.\\]|\\[^\n\r\u2028\u2029])+")
_SLICE = re.compile(r"\[([0-9]*):(-?[0-9]*)?\]")
_BOUNDARIES = re.compile(r"""[.\[\]'"\\]+""")
_INDEX = re.compile(r"0|[1-9][0-9]{0,9}")
_UNSAFE = frozenset(("__proto__", "constructor", "prototype"))


class PathError(PgtideError):
    """A path cannot be followed or written."""

    code = "invalid_path"


class Key(NamedTuple):
    """A member's name or an element's index."""

    name: str


class Some(NamedTuple):
    """The elements from `start` until before `end`."""

    start: int
    end: int | None


class Every(NamedTuple):
    """All members or elements."""


Component = Key | Some | Every
Path = tuple[Component, ...]


class _Place(NamedTuple):
    """Where a path has led to, written as a path again; `depth` counts the arrays it went through
    with more than one way on."""

    path: Path
    value: Json
    depth: int


def names_below_root(key: str) -> bool:
    """Whether a key is no path, or one that names something."""
    return not key.startswith(PATH_PREFIX) or len(_COMPONENTS.findall(key)) > 1


def names_nothing_unsafe(key: str) -> bool:
    """Whether a key names nothing that would change what JavaScript objects inherit."""
    if not key.startswith(PATH_PREFIX):
        return key != "__proto__"
    return _UNSAFE.isdisjoint(_BOUNDARIES.split(key))


class Walk:
    """Follows paths. `spend` is told how much work is ahead, in looks at a value."""

    def __init__(self, spend: Callable[[int], None]) -> None:
        self._spend = spend
        self._after_slice = False

    def parse(self, text: str) -> Path:
        """Read a path. It matters how often that is done: see `_component`."""
        parts = _COMPONENTS.findall(text)
        if parts and parts[0] == "$":
            del parts[0]
        return tuple(map(self._component, parts))

    def first(self, path: Path, root: Json) -> Json:
        """The first value at a path; None if there is no such place, ABSENT if it is empty."""
        for place in self._all(path, root):
            return _flat(place.value, place.depth)
        return None

    def put(self, path: Path, root: Json, value: Json) -> None:
        """Write a value at every place of a path. Raises PathError."""
        for place in self._all(path, root):
            if not place.path:
                raise PathError("a member without a name cannot be written")
            parents = self._all(place.path[:-1], root)
            # On the way through a member that is called `*` an array is a copy, which nobody sees.
            parent = _flat(parents[0].value, parents[0].depth) if parents else None
            self._write(parent, _text(place.path[-1]), value)

    def _all(self, components: Path, root: Json) -> list[_Place]:
        places = [_Place((), root, 0)]
        for component in components:
            places = [found for place in places for found in self._follow(component, place)]
        return places

    def _follow(self, component: Component, place: _Place) -> Iterator[_Place]:
        path, value, depth = place
        self._spend(STEP)
        match component:
            case Key(name):
                if not isinstance(value, (dict, list)):
                    if value is None:
                        raise PathError("the path leads through null")
                    return
                found = _read(cast("Json", value), name)
                if found is not None:
                    yield _Place(self._child(path, name), found, depth)
            case Every():
                for name, found in list(_members(value)):
                    self._spend(STEP)
                    yield _Place(self._child(path, name), found, depth + 1)
            case Some(start, end):
                if isinstance(value, list):
                    items = cast("list[Json]", value)[start:end]
                    for index, found in enumerate(items, start):
                        self._spend(1)
                        yield _Place(self._child(path, str(index)), found, depth + 1)

    def _child(self, path: Path, name: str) -> Path:
        """The path one step on. It is written out and read again, which splits names at their dots."""
        return self.parse(".".join(("$", *map(_text, path), name)))

    def _component(self, text: str) -> Component:
        if text == "*":
            return Every()
        # Core's pattern searches for a slice from where it found the last one in the text before.
        found = None if self._after_slice else _SLICE.fullmatch(text)
        self._after_slice = found is not None
        if found is not None:
            start, end = found.groups()
            # What has no digits is no number, and counts as 0.
            return Some(int(start or 0), None if not end else 0 if end == "-" else int(end))
        name = text.replace("\\.", ".").replace("\\\\", "\\").replace("~1", "/", 1)
        return Key(name)

    def _write(self, parent: Json, name: str, value: Json) -> None:
        if isinstance(parent, dict):
            parent[name] = value
        elif isinstance(parent, list):
            items = cast("list[Json]", parent)
            index = _index(name)
            if index is None:
                return  # A property of the array, which is not shown.
            missing = index + 1 - len(items)
            if missing > MOST_ELEMENTS:
                raise PathError(f"an array with {index} elements is too long")
            if missing > 0:
                self._spend(missing)
                items.extend([None] * missing)
            items[index] = value
        else:
            raise PathError("the path leads through what has no members")


def _text(component: Component) -> str:
    match component:
        case Key(name):
            return name.replace(".", "\\.")
        case Some(start, None):
            return f"[{start}]"
        case Some(start, end):
            return f"[{start}:{end}]"
        case Every():
            return "*"


def _read(value: Json, name: str) -> Json:
    if isinstance(value, dict):
        return cast("dict[str, Json]", value).get(name, ABSENT)
    index = _index(name)
    return value[index] if index is not None and index < len(value) else ABSENT


def _members(value: Json) -> Iterator[tuple[str, Json]]:
    if isinstance(value, dict):
        yield from sorted(cast("dict[str, Json]", value).items(), key=_rank)
    elif isinstance(value, list):
        for index, item in enumerate(cast("list[Json]", value)):
            yield str(index), item


def _rank(member: tuple[str, Json]) -> tuple[bool, int]:
    """JavaScript has names that are numbers first, in their order, then the others in theirs."""
    index = _index(member[0])
    return index is None, index or 0


def _index(name: str) -> int | None:
    return int(name) if _INDEX.fullmatch(name) else None


def _flat(value: Json, depth: int) -> Json:
    """An array with the elements of arrays in it, `depth` levels of them."""
    if depth == 0 or not isinstance(value, list):
        return value
    flat: list[Json] = []
    for item in cast("list[Json]", value):
        inner = _flat(item, depth - 1) if isinstance(item, list) else item
        if isinstance(inner, list):
            flat += cast("list[Json]", inner)
        else:
            flat.append(inner)
    return flat
