"""Which subscribers does a change concern? Found through indexes, not by trying every condition."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Final, Generic, TypeAlias, TypeVar

from engine.table import Column
from shapes.where import UNCHANGED, Condition, Index, Plan, Predicate, Row, UnchangedValueError
from shapes.where.arrays import split_elements

S = TypeVar("S", bound=Hashable)

_OLD: Final = 1
_NEW: Final = 2
_BOTH: Final = 3
_MOST_IN_TUPLE: Final = 16


class _Group(Generic[S]):
    """A distinct condition that must be tried on a row, and its subscribers."""

    __slots__ = ("members", "plan", "positions", "test")

    def __init__(self, test: Predicate, positions: frozenset[int], plan: Plan | None) -> None:
        self.test = test
        self.positions = positions
        self.plan = plan
        self.members: dict[S, None] = {}


_Exact: TypeAlias = dict[Hashable, tuple[S, ...] | dict[S, None]]
_Tried: TypeAlias = dict[Hashable, dict[_Group[S], None]]
_Step: TypeAlias = tuple[int, int, "_Lookup[S]", _Exact[S], _Tried[S]]
"""What an update needs of a lookup, in one tuple: position, kind, the lookup itself, its maps."""

_OTHER: Final = 0
_VALUES: Final = 1
"""Kind of a lookup whose keys are the values in the row."""
_ELEMENTS: Final = 2
"""Kind of a lookup whose keys are the texts of an array's elements."""


class _Lookup(Generic[S]):
    """One index: by key, the subscribers whose condition it settles and the groups to try.

    Most keys have one subscriber, which is why they are kept in a tuple until there are many.
    """

    __slots__ = ("column", "exact", "parse", "position", "tried")

    def __init__(self, index: Index, position: int) -> None:
        self.column = index.column
        self.position = position
        self.parse: Callable[[str], Hashable] | None = index.parse
        self.exact: _Exact[S] = {}
        self.tried: _Tried[S] = {}

    def add(self, key: Hashable, subscriber: S) -> None:
        members = self.exact.get(key)
        if members is None:
            self.exact[key] = (subscriber,)
        elif isinstance(members, dict):
            members[subscriber] = None
        elif len(members) < _MOST_IN_TUPLE:
            self.exact[key] = (*members, subscriber)
        else:
            self.exact[key] = dict.fromkeys((*members, subscriber))

    def remove(self, key: Hashable, subscriber: S) -> None:
        members = self.exact[key]
        if isinstance(members, dict):
            del members[subscriber]
        else:
            members = self.exact[key] = tuple(one for one in members if one != subscriber)
        if not members:
            del self.exact[key]

    @property
    def step(self) -> _Step[S]:
        kind = _ELEMENTS if isinstance(self, _ElementLookup) else _VALUES
        return self.position, _OTHER if self.parse else kind, self, self.exact, self.tried

    def keys(self, value: str | int | None) -> Iterable[Hashable]:
        """The keys that a column's value in a row has in this index."""
        if value is None:
            return ()
        text = self.checked(value)
        return (text,) if self.parse is None else (self.parse(text),)

    def checked(self, value: str | int) -> str:
        """The value, which must have been sent. Raises UnchangedValueError."""
        if not isinstance(value, str):
            raise UnchangedValueError(self.column)
        return value


class _ElementLookup(_Lookup[S]):
    """An index by the elements of an array."""

    __slots__ = ()

    def keys(self, value: str | int | None) -> Iterable[Hashable]:
        if value is None:
            return ()
        elements = split_elements(self.checked(value))
        if self.parse is None:
            return elements
        return [self.parse(one) for one in elements if one is not None]


class Router(Generic[S]):
    """Finds the subscribers of a change, for one layout of a table's rows.

    A subscriber with a condition of the form `column = constant` (or of others that
    `shapes.where.keys` knows) costs an entry in an index; all others with the same condition share
    one evaluation of it per row.
    """

    def __init__(self, positions: Mapping[str, int], columns: Mapping[str, Column]) -> None:
        """`positions`: where each column is in a row. `columns`: the table's columns by name."""
        self._positions = positions
        self._columns = columns
        self._conditions: dict[S, Condition | None] = {}
        self._unconditional: dict[S, None] = {}
        self._indexes: dict[Index, _Lookup[S]] = {}
        self._steps: list[_Step[S]] = []
        self._groups: dict[str, _Group[S]] = {}
        self._scanned: dict[_Group[S], None] = {}

    def __len__(self) -> int:
        return len(self._conditions)

    # -- subscribers -------------------------------------------------------------------------------

    def add(self, subscriber: S, condition: Condition | None) -> None:
        """Let a subscriber have the rows of which `condition` is TRUE, or all rows if it is None."""
        if subscriber in self._conditions:
            raise ValueError("the subscriber is in the router already")
        if condition is None:
            self._unconditional[subscriber] = None
        else:
            plans = condition.plans
            exact = _exact(plans)
            if exact is not None:
                for index, value in exact.keys:
                    self._lookup(index).add(value, subscriber)
            else:
                self._group(condition, plans).members[subscriber] = None
        self._conditions[subscriber] = condition

    def remove(self, subscriber: S) -> None:
        """Forget a subscriber; nothing happens if there is no such one."""
        if subscriber not in self._conditions:
            return
        condition = self._conditions.pop(subscriber)
        if condition is None:
            del self._unconditional[subscriber]
            return
        exact = _exact(condition.plans)
        if exact is None:
            self._leave_group(subscriber, condition.sql)
            return
        for index, value in exact.keys:
            self._indexes[index].remove(value, subscriber)
            self._prune(index)

    def _lookup(self, index: Index) -> _Lookup[S]:
        lookup = self._indexes.get(index)
        if lookup is None:
            kind = _ElementLookup[S] if index.element else _Lookup[S]
            lookup = self._indexes[index] = kind(index, self._positions[index.column])
            self._list_steps()
        return lookup

    def _prune(self, index: Index) -> None:
        lookup = self._indexes[index]
        if not lookup.exact and not lookup.tried:
            del self._indexes[index]
            self._list_steps()

    def _list_steps(self) -> None:
        self._steps = [lookup.step for lookup in self._indexes.values()]

    def _group(self, condition: Condition, plans: list[Plan]) -> _Group[S]:
        sql = condition.sql
        group = self._groups.get(sql)
        if group is not None:
            return group
        positions = frozenset(self._positions[name] for name in condition.columns)
        plan = min(plans, key=self._cost) if plans else None
        group = _Group[S](condition.compile(self._positions), positions, plan)
        if plan is None:
            self._scanned[group] = None
        else:
            for index, value in plan.keys:
                self._lookup(index).tried.setdefault(value, {})[group] = None
        self._groups[sql] = group
        return group

    def _cost(self, plan: Plan) -> int:
        """How many groups will be tried in vain with such a plan, in no particular unit."""
        return sum(self._weight(key.index) * (1 + self._load(*key)) for key in plan.keys)

    def _weight(self, index: Index) -> int:
        column = self._columns[index.column]
        if (column.base or column.type) == "bool":
            return 64
        if index.element:
            return 4
        return 2 if column.key_index is None else 1

    def _load(self, index: Index, value: Hashable) -> int:
        lookup = self._indexes.get(index)
        return 0 if lookup is None else len(lookup.tried.get(value, ()))

    def _leave_group(self, subscriber: S, sql: str) -> None:
        group = self._groups[sql]
        del group.members[subscriber]
        if group.members:
            return
        del self._groups[sql]
        if group.plan is None:
            del self._scanned[group]
            return
        for index, value in group.plan.keys:
            tried = self._indexes[index].tried
            del tried[value][group]
            if not tried[value]:
                del tried[value]
            self._prune(index)

    # -- changes -----------------------------------------------------------------------------------

    def route(self, old: Row | None, new: Row | None) -> list[tuple[S, bool, bool]]:
        """The subscribers that have the old row, the new one or both, with which of the two.

        `old` is None for an insert, `new` for a delete. Raises UnchangedValueError if a column that
        a condition reads was not sent.
        """
        found: dict[S, int] = {}
        groups: dict[_Group[S], None] = {}
        if old is not None and new is not None:
            self._find(old, new, found, groups)
        elif old is not None or new is not None:
            row, side = (old, _OLD) if old is not None else (new, _NEW)
            assert row is not None
            self._find(row, row, found, groups)
            found = dict.fromkeys(found, side)
        if self._scanned:
            groups.update(self._scanned)
        if groups:
            _try(groups, old, new, found)
        if self._unconditional:
            sides = (old is not None) * _OLD | (new is not None) * _NEW
            found.update(dict.fromkeys(self._unconditional, sides))
        return [(one, sides & _OLD != 0, sides >= _NEW) for one, sides in found.items()]

    def _find(self, old: Row, new: Row, found: dict[S, int], groups: dict[_Group[S], None]) -> None:
        """Look both rows up in every index."""
        for position, kind, lookup, exact, tried in self._steps:
            after = new[position]
            if after != old[position]:
                _collect(lookup.keys(old[position]), _OLD, exact, tried, found, groups)
                _collect(lookup.keys(after), _NEW, exact, tried, found, groups)
            elif kind == _VALUES and after is not UNCHANGED:
                # Most often: nothing about this column changed, one look at it is enough.
                members = exact.get(after)
                if members is not None:
                    for subscriber in members:
                        found[subscriber] = _BOTH
                if tried and after in tried:
                    groups.update(tried[after])
            elif kind == _ELEMENTS and isinstance(after, str):
                for key in split_elements(after):
                    members = exact.get(key)
                    if members is not None:
                        for subscriber in members:
                            found[subscriber] = _BOTH
                    if tried and key in tried:
                        groups.update(tried[key])
            else:
                _collect(lookup.keys(after), _BOTH, exact, tried, found, groups)


def _collect(
    keys: Iterable[Hashable],
    side: int,
    exact: _Exact[S],
    tried: _Tried[S],
    found: dict[S, int],
    groups: dict[_Group[S], None],
) -> None:
    """Note the subscribers of keys that hold of one side or both, and the groups to try."""
    for key in keys:
        members = exact.get(key)
        if members is not None:
            for subscriber in members:
                found[subscriber] = found.get(subscriber, 0) | side
        if tried and key in tried:
            groups.update(tried[key])


def _exact(plans: list[Plan]) -> Plan | None:
    return next((plan for plan in plans if plan.exact), None)


def _try(
    groups: dict[_Group[S], None], old: Row | None, new: Row | None, found: dict[S, int]
) -> None:
    """Evaluate each condition on both rows, or once if it reads nothing that changed."""
    changed: frozenset[int] | None = None
    if old is not None and new is not None and len(groups) > 2:
        pairs = enumerate(zip(old, new, strict=True))
        changed = frozenset([position for position, (one, other) in pairs if one != other])
    for group in groups:
        sides = _NEW if new is not None and group.test(new) else 0
        if changed is not None and changed.isdisjoint(group.positions):
            sides = _BOTH if sides else 0
        elif old is not None and group.test(old):
            sides |= _OLD
        if sides:
            for subscriber in group.members:
                found[subscriber] = sides
