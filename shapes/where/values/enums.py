"""Enums: their labels are their values, which sort by their places in the catalog."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from shapes.where.errors import EnumLabelError, UnknownLabelError


def read_label(text: str, *, enum: str, labels: tuple[str, ...]) -> str:
    """A constant of an enum type. Raises EnumLabelError."""
    if text not in labels:
        raise EnumLabelError(f'invalid input value for enum {enum}: "{text}"')
    return text


class _Places(dict[str, int]):
    """Label to place; raises UnknownLabelError for one that is not in the catalog as it was read."""

    def __missing__(self, label: str) -> int:
        raise UnknownLabelError


def places(labels: tuple[str, ...]) -> Mapping[str, int]:
    return _Places({label: place for place, label in enumerate(labels)})


def by_place(
    compare: Callable[[int, int], bool], labels: tuple[str, ...]
) -> Callable[[str, str], bool]:
    """The comparison of two labels by their places. It raises UnknownLabelError."""
    place = places(labels)

    def apply(left: str, right: str) -> bool:
        return compare(place[left], place[right])

    return apply


def by_place_with(
    compare: Callable[[int, int], bool], labels: tuple[str, ...], right: str
) -> Callable[[Any], bool]:
    """The same with a constant second label."""
    place = places(labels)
    wanted = place[right]
    return lambda left: compare(place[left], wanted)
