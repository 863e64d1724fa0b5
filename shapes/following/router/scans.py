"""Conditions that no index finds: all that read the same columns are tried together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Final, Generic, NamedTuple, TypeVar

from engine.errors import PgtideError
from shapes.following.router.groups import BOTH, NEW, OLD, Found, Group
from shapes.where import Predicate, Row

S = TypeVar("S", bound=Hashable)

MOST_KEPT: Final = 256
MOST_KEPT_GROUPS: Final = 1 << 16
LONGEST_KEPT: Final = 4096
WORTH_KEEPING: Final = 8
"""Outcomes are kept of so many rows, of so many groups in all, of rows whose values are not longer
than this, and only if there are so many conditions to try."""


class Outcome(NamedTuple, Generic[S]):
    """The conditions that are TRUE of some values, and those that cannot be evaluated for them."""

    true: tuple[Group[S], ...]
    failed: tuple[Group[S], ...]


class Scan(Generic[S]):
    """All conditions without an index that read the same columns.

    They are functions of these columns alone. An update that leaves the columns as they are is looked
    at once, and the outcomes for the values seen last are kept: rows are often updated many times.
    """

    def __init__(self, reads: frozenset[int], positions: Mapping[str, int]) -> None:
        self._reads = tuple(sorted(reads))
        self._positions = positions
        self._tests: dict[Group[S], Predicate] = {}
        self._kept: dict[tuple[object, ...], Outcome[S]] = {}
        self._kept_groups = 0
        self._shown: dict[S, frozenset[int]] = {}
        self._shown_counts = Counter[frozenset[int]]()
        self._showing_all = 0

    def __bool__(self) -> bool:
        return bool(self._tests)

    # -- subscribers -------------------------------------------------------------------------------

    def add(self, group: Group[S]) -> None:
        self._tests[group] = group.test(self._positions)
        self._forget()

    def remove(self, group: Group[S]) -> None:
        del self._tests[group]
        self._forget()

    def join(self, subscriber: S, shown: frozenset[int] | None) -> None:
        """A subscriber of one of the groups, and the positions whose changes it must hear of (None:
        all of them)."""
        if shown is None:
            self._showing_all += 1
        else:
            self._shown[subscriber] = shown
            self._shown_counts[shown] += 1

    def leave(self, subscriber: S) -> None:
        shown = self._shown.pop(subscriber, None)
        if shown is None:
            self._showing_all -= 1
        else:
            self._shown_counts[shown] -= 1
            if not self._shown_counts[shown]:
                del self._shown_counts[shown]

    # -- changes -----------------------------------------------------------------------------------

    def concerns(self, changed: frozenset[int]) -> bool:
        """Whether an update of these positions matters to anybody here."""
        if self._showing_all or not changed.isdisjoint(self._reads):
            return True
        return not all(changed.isdisjoint(shown) for shown in self._shown_counts)

    def find(self, old: Row | None, new: Row | None, found: Found[S]) -> list[Group[S]]:
        """Note the subscribers of both rows. Returns the groups that could not be evaluated."""
        before = None if old is None else [old[position] for position in self._reads]
        after = None if new is None else [new[position] for position in self._reads]
        if old is not None and before == after:
            return self._note(old, BOTH, found)
        failed = [] if old is None else self._note(old, OLD, found)
        if new is not None:
            failed += self._note(new, NEW, found)
        return failed

    def _note(self, row: Row, side: int, found: Found[S]) -> list[Group[S]]:
        outcome = self._outcome(row)
        for group in outcome.true:
            for subscriber in group.members:
                found[subscriber] = found.get(subscriber, 0) | side
        return list(outcome.failed)

    def _outcome(self, row: Row) -> Outcome[S]:
        tests = self._tests
        if len(tests) < WORTH_KEEPING:
            return self._evaluate(row)
        values = tuple([row[position] for position in self._reads])
        kept = self._kept.get(values)
        if kept is not None:
            return kept
        outcome = self._evaluate(row)
        if sum([len(one) for one in values if isinstance(one, str)]) <= LONGEST_KEPT:
            self._keep(values, outcome)
        return outcome

    def _evaluate(self, row: Row) -> Outcome[S]:
        try:
            true = [group for group, test in self._tests.items() if test(row)]
        except PgtideError:
            return self._evaluate_each(row)
        return Outcome(tuple(true), ())

    def _evaluate_each(self, row: Row) -> Outcome[S]:
        true: list[Group[S]] = []
        failed: list[Group[S]] = []
        for group, test in self._tests.items():
            try:
                if test(row):
                    true.append(group)
            except PgtideError:
                failed.append(group)
        return Outcome(tuple(true), tuple(failed))

    # -- outcomes that are kept --------------------------------------------------------------------

    def _keep(self, values: tuple[object, ...], outcome: Outcome[S]) -> None:
        size = len(outcome.true)
        if size > MOST_KEPT_GROUPS // 4:
            return
        self._kept[values] = outcome
        self._kept_groups += size
        while len(self._kept) > MOST_KEPT or self._kept_groups > MOST_KEPT_GROUPS:
            oldest = self._kept.pop(next(iter(self._kept)))
            self._kept_groups -= len(oldest.true)

    def _forget(self) -> None:
        self._kept.clear()
        self._kept_groups = 0
