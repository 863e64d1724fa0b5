"""Conditions that must be tried on rows: each is evaluated once for all its subscribers."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Final, Generic, TypeAlias, TypeVar

from engine.errors import PgtideError
from shapes.following.router.members import Members, with_member, without_member
from shapes.where import Condition, Predicate, Row

S = TypeVar("S", bound=Hashable)

OLD: Final = 1
NEW: Final = 2
BOTH: Final = 3
"""Sides of a change: in which of its rows something holds."""

Found: TypeAlias = dict[S, int]
"""Subscribers with the sides on which their condition is TRUE."""


class Group(Generic[S]):
    """A distinct condition, and its subscribers. `reads`: the positions of the columns in it."""

    __slots__ = ("_condition", "choice", "compiled", "members", "reads")

    def __init__(self, condition: Condition, reads: frozenset[int], choice: int | None) -> None:
        """`choice`: by which of its plans the condition is found, None if it is always tried."""
        self._condition = condition
        self.compiled: Predicate | None = None
        self.reads = reads
        self.choice = choice
        self.members: Members[S] = ()

    def add(self, subscriber: S) -> None:
        self.members = with_member(self.members, subscriber)

    def remove(self, subscriber: S) -> None:
        self.members = without_member(self.members, subscriber)

    def test(self, positions: Mapping[str, int]) -> Predicate:
        """The condition as a function, compiled when it is first needed."""
        if self.compiled is None:
            self.compiled = self._condition.compile(positions)
        return self.compiled


Tried: TypeAlias = dict[Group[S], int]
"""Groups to try, with the sides on which their condition may be TRUE."""


def try_groups(
    tried: Tried[S],
    old: Row | None,
    new: Row | None,
    positions: Mapping[str, int],
    found: Found[S],
) -> list[Group[S]]:
    """Evaluate each condition on the rows of which it may be TRUE, or once if it reads nothing that
    changed. Returns the groups whose condition could not be evaluated."""
    failed: list[Group[S]] = []
    changed: frozenset[int] | None = None
    if old is not None and new is not None and len(tried) > 2:
        changed = changed_positions(old, new)
    for group, where in tried.items():
        test = group.compiled or group.test(positions)
        try:
            if new is not None and changed is not None and changed.isdisjoint(group.reads):
                sides = BOTH if test(new) else 0
            else:
                sides = NEW if new is not None and where & NEW and test(new) else 0
                if old is not None and where & OLD and test(old):
                    sides |= OLD
        except PgtideError:
            failed.append(group)
            continue
        if sides:
            for subscriber in group.members:
                found[subscriber] = sides
    return failed


def changed_positions(old: Row, new: Row) -> frozenset[int]:
    """Where the rows differ."""
    pairs = enumerate(zip(old, new, strict=True))
    return frozenset([position for position, (one, other) in pairs if one != other])


def all_members(groups: Iterable[Group[S]]) -> list[S]:
    return [subscriber for group in groups for subscriber in group.members]
