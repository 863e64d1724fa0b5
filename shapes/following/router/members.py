"""Small sets that keep the order in which their members came.

Most keys of an index have one member, which is why these are tuples until there are many.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, TypeAlias, TypeVar

M = TypeVar("M", bound=Hashable)

Members: TypeAlias = tuple[M, ...] | dict[M, None]

MOST_IN_TUPLE: Final = 16


def with_member(members: Members[M] | None, one: M) -> Members[M]:
    """The set with one more, which is not in it yet. A set of many changes in place."""
    if members is None:
        return (one,)
    if isinstance(members, dict):
        members[one] = None
        return members
    if len(members) < MOST_IN_TUPLE:
        return (*members, one)
    return dict.fromkeys((*members, one))


def without_member(members: Members[M], one: M) -> Members[M]:
    """The set without one that is in it. A set of many changes in place."""
    if isinstance(members, dict):
        del members[one]
        return members
    return tuple([other for other in members if other is not one and other != one])
