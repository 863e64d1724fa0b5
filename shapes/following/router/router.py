"""Which subscribers does a change concern? Found through indexes, not by trying every condition."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final, Generic, TypeAlias, TypeVar

from engine.errors import PgtideError
from engine.postgres.table import Column
from shapes.following.router.groups import (
    BOTH,
    NEW,
    OLD,
    Found,
    Group,
    Tried,
    all_members,
    changed_positions,
    try_groups,
)
from shapes.following.router.indexes import make_lookup
from shapes.following.router.lookups import Exact, HashLookup, Lookup, TriedAt
from shapes.following.router.scans import Scan
from shapes.where import UNCHANGED, Condition, Index, Kind, Operand, Plan, Row
from shapes.where.values.arrays import split_elements

S = TypeVar("S", bound=Hashable)

_OTHER: Final = 0
_TEXT: Final = 1
"""A step whose keys are the texts in a column."""
_ELEMENTS: Final = 2
"""A step whose keys are the texts of the elements of an array in a column."""

_Step: TypeAlias = tuple[int, int, Lookup[S], Exact[S], TriedAt[S]]
"""What a change needs of an index, in one tuple: kind, the column's position, the index itself, its
maps. Position and maps are of no use if the kind is _OTHER."""

_WEIGHTS: Final = {
    Kind.VALUE: 2,
    Kind.ELEMENT: 4,
    Kind.PREFIX: 6,
    Kind.PART: 8,
    Kind.SPAN: 16,
}
"""How many rows have a key of each kind, in no particular unit."""
_WEIGHT_OF_EXPRESSION: Final = 4
_WEIGHT_OF_FEW_VALUES: Final = 64


class Router(Generic[S]):
    """Finds the subscribers of a change, for one layout of a table's rows.

    A subscriber whose condition has an exact plan (see `shapes.where.plans`) costs an entry in an
    index. All others with the same condition share one evaluation of it per row, which is made only
    if a key of the condition holds. Conditions without a plan are tried on every row, unless an
    update touches nothing that they or their subscribers look at.
    """

    def __init__(self, positions: Mapping[str, int], columns: Mapping[str, Column]) -> None:
        """`positions`: where each column is in a row. `columns`: the table's columns by name."""
        self.failed: list[S] = []
        """Subscribers of which the last change routed does not say whether it concerns them: their
        condition cannot be evaluated for it, or needs a value that was not sent."""
        self._positions = positions
        self._columns = columns
        self._conditions: dict[S, Condition | None] = {}
        self._unconditional: dict[S, None] = {}
        self._indexes: dict[Index, Lookup[S]] = {}
        self._steps: list[_Step[S]] = []
        self._groups: dict[bytes, Group[S]] = {}
        self._scans: dict[frozenset[int], Scan[S]] = {}
        self._reads: dict[frozenset[str], frozenset[int]] = {}

    def __len__(self) -> int:
        return len(self._conditions)

    # -- subscribers -------------------------------------------------------------------------------

    def add(
        self, subscriber: S, condition: Condition | None, shown: Iterable[str] | None = None
    ) -> None:
        """Let a subscriber have the rows of which `condition` is TRUE, or all rows if it is None.

        Of an update that changes none of the columns `shown` and leaves the row where it was, the
        subscriber need not hear. None: it must hear of all.
        """
        if subscriber in self._conditions:
            raise ValueError("the subscriber is in the router already")
        if condition is None:
            self._unconditional[subscriber] = None
        else:
            plans = condition.plans
            exact = _exact(plans)
            if exact is None:
                self._join_group(subscriber, condition, plans, shown)
            else:
                for index, value in exact.keys:
                    self._lookup(index).add(value, subscriber)
        self._conditions[subscriber] = condition

    def remove(self, subscriber: S) -> None:
        """Forget a subscriber; nothing happens if there is no such one."""
        if subscriber not in self._conditions:
            return
        condition = self._conditions.pop(subscriber)
        if condition is None:
            del self._unconditional[subscriber]
            return
        plans = condition.plans
        exact = _exact(plans)
        if exact is None:
            self._leave_group(subscriber, condition, plans)
            return
        for index, value in exact.keys:
            self._indexes[index].remove(value, subscriber)
            self._prune(index)

    def _lookup(self, index: Index) -> Lookup[S]:
        lookup = self._indexes.get(index)
        if lookup is None:
            lookup = self._indexes[index] = make_lookup(index, self._positions)
            self._list_steps()
        return lookup

    def _prune(self, index: Index) -> None:
        if not self._indexes[index]:
            del self._indexes[index]
            self._list_steps()

    def _list_steps(self) -> None:
        self._steps = [self._step(index, lookup) for index, lookup in self._indexes.items()]

    def _step(self, index: Index, lookup: Lookup[S]) -> _Step[S]:
        operand = index.operands[0]
        plain = len(index.operands) == 1 and operand == Operand(operand.column)
        if plain and isinstance(lookup, HashLookup):
            position = self._positions[operand.column]
            if index.kind is Kind.VALUE:
                return _TEXT, position, lookup, lookup.exact, lookup.tried
            if index.kind is Kind.ELEMENT:
                return _ELEMENTS, position, lookup, lookup.exact, lookup.tried
        return _OTHER, 0, lookup, {}, {}

    # -- conditions that must be tried -------------------------------------------------------------

    def _join_group(
        self, subscriber: S, condition: Condition, plans: list[Plan], shown: Iterable[str] | None
    ) -> None:
        name = _digest(condition)
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = self._make_group(condition, plans)
        group.add(subscriber)
        if group.choice is None:
            self._scans[group.reads].join(subscriber, self._places(shown))

    def _make_group(self, condition: Condition, plans: list[Plan]) -> Group[S]:
        reads = self._read_by(condition)
        if not plans:
            group = Group[S](condition, reads, None)
            self._scans.setdefault(reads, Scan(reads, self._positions)).add(group)
            return group
        choice = min(range(len(plans)), key=lambda number: self._cost(plans[number]))
        group = Group[S](condition, reads, choice)
        for index, value in plans[choice].keys:
            self._lookup(index).add_group(value, group)
        return group

    def _leave_group(self, subscriber: S, condition: Condition, plans: list[Plan]) -> None:
        name = _digest(condition)
        group = self._groups[name]
        group.remove(subscriber)
        if group.choice is None:
            self._leave_scan(subscriber, group)
        elif not group.members:
            for index, value in plans[group.choice].keys:
                self._indexes[index].remove_group(value, group)
                self._prune(index)
        if not group.members:
            del self._groups[name]

    def _leave_scan(self, subscriber: S, group: Group[S]) -> None:
        scan = self._scans[group.reads]
        scan.leave(subscriber)
        if not group.members:
            scan.remove(group)
            if not scan:
                del self._scans[group.reads]

    def _read_by(self, condition: Condition) -> frozenset[int]:
        reads = self._reads.get(condition.columns)
        if reads is None:
            reads = frozenset([self._positions[name] for name in condition.columns])
            self._reads[condition.columns] = reads
        return reads

    def _places(self, shown: Iterable[str] | None) -> frozenset[int] | None:
        """Where the columns are that a subscriber sees; those that are not in this layout are not."""
        if shown is None:
            return None
        positions = self._positions
        return frozenset([positions[name] for name in shown if name in positions])

    def _cost(self, plan: Plan) -> int:
        """How many groups will be tried in vain with such a plan, in no particular unit."""
        return sum(self._weight(key.index) * (1 + self._load(*key)) for key in plan.keys)

    def _weight(self, index: Index) -> int:
        weight = _WEIGHTS[index.kind]
        if index.kind is not Kind.VALUE:
            return weight
        operands = [
            one for one in index.operands if not one.null and not self._is_boolean(one.column)
        ]
        if not operands:
            return _WEIGHT_OF_FEW_VALUES
        if len(index.operands) > 1:
            return weight + 1
        if operands[0].sql:
            return _WEIGHT_OF_EXPRESSION
        column = self._columns.get(operands[0].column)
        return weight if column is None or column.key_index is None else 1

    def _is_boolean(self, name: str) -> bool:
        column = self._columns.get(name)
        return column is not None and (column.base or column.type) == "bool"

    def _load(self, index: Index, value: Any) -> int:
        lookup = self._indexes.get(index)
        return 0 if lookup is None else lookup.load(value)

    # -- changes -----------------------------------------------------------------------------------

    def route(self, old: Row | None, new: Row | None) -> list[tuple[S, bool, bool]]:
        """The subscribers that have the old row, the new one or both, with which of the two.

        `old` is None for an insert, `new` for a delete. See also `failed`.
        """
        found: Found[S] = {}
        tried: Tried[S] = {}
        failed: list[S] = []
        if old is not None and new is not None:
            self._find(old, new, found, tried, failed)
        elif old is not None or new is not None:
            row, side = (old, OLD) if old is not None else (new, NEW)
            assert row is not None
            self._find(row, row, found, tried, failed)
            found = dict.fromkeys(found, side)
        if tried:
            failed += all_members(try_groups(tried, old, new, self._positions, found))
        if self._scans:
            self._scan(old, new, found, failed)
        if self._unconditional:
            sides = (old is not None) * OLD | (new is not None) * NEW
            found.update(dict.fromkeys(self._unconditional, sides))
        self.failed = failed
        for one in failed:
            found.pop(one, None)
        return [(one, sides & OLD != 0, sides >= NEW) for one, sides in found.items()]

    def _find(self, old: Row, new: Row, found: Found[S], tried: Tried[S], failed: list[S]) -> None:
        """Look both rows up in every index."""
        for kind, position, lookup, exact, groups in self._steps:
            if kind:
                after = new[position]
                if after == old[position] and after is not UNCHANGED:
                    # Most often: nothing about this column changed, one look at it is enough.
                    if kind == _TEXT:
                        members = exact.get(after)
                        if members is not None:
                            for one in members:
                                found[one] = BOTH
                        if groups and after in groups:
                            tried.update(dict.fromkeys(groups[after], BOTH))
                        continue
                    for key in split_elements(after) if isinstance(after, str) else ():
                        members = exact.get(key)
                        if members is not None:
                            for one in members:
                                found[one] = BOTH
                        if groups and key in groups:
                            tried.update(dict.fromkeys(groups[key], BOTH))
                    continue
            try:
                lookup.find(old, new, found, tried)
            except PgtideError:
                # Conditions that this index settles cannot be told; others are tried as a whole.
                members, others = lookup.everybody()
                failed += dict.fromkeys(members)
                tried.update(dict.fromkeys(others, BOTH))

    def _scan(self, old: Row | None, new: Row | None, found: Found[S], failed: list[S]) -> None:
        changed = None
        if old is not None and new is not None:
            changed = changed_positions(old, new)
        for scan in self._scans.values():
            if changed is None or scan.concerns(changed):
                failed += all_members(scan.find(old, new, found))


def _exact(plans: list[Plan]) -> Plan | None:
    return next((plan for plan in plans if plan.exact), None)


def _digest(condition: Condition) -> bytes:
    """Names a condition among those of a table."""
    return blake2b(condition.sql.encode(), digest_size=16).digest()
