"""Columns of which clients have been told that they are never NULL. Pure.

A client that believes it throws when it gets a NULL. NOT NULL can be dropped, and a NULL be stored,
before anybody has looked at the catalog again; no Relation message tells of it. But the NULL does.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

from engine.log.layout import RelationVersion, Row
from shapes.shape import Projection


class Promises:
    """The promises of one table's shapes."""

    def __init__(self) -> None:
        self._by_column: dict[str, set[Projection]] = {}
        self._known: set[Projection] = set()
        self._getters: dict[int, Callable[[Row], Any] | None] = {}

    def __bool__(self) -> bool:
        return bool(self._by_column)

    def add(self, projection: Projection) -> None:
        """Watch over what a shape with these columns promises."""
        if projection in self._known:
            return
        self._known.add(projection)
        for column in projection.columns:
            # A key's columns stay NOT NULL as long as it is the key.
            if column.not_null and column.key_index is None:
                self._by_column.setdefault(column.name, set()).add(projection)
                self._getters.clear()

    def broken(self, version: RelationVersion, row: Row) -> set[Projection]:
        """The projections that promised what this new row does not keep; each is told only once."""
        getter = self._getters.get(version.id)
        if getter is None:
            getter = self._getters[version.id] = self._getter(version)
        if None not in getter(row):
            return set()
        found: set[Projection] = set()
        for name, at in version.positions.items():
            if row[at] is None:
                found |= self._by_column.pop(name, set())
        self._known -= found
        self._getters.clear()
        return found

    def _getter(self, version: RelationVersion) -> Callable[[Row], Any]:
        positions = [at for name, at in version.positions.items() if name in self._by_column]
        # With two positions at least it gives a tuple.
        return itemgetter(*positions, positions[-1]) if positions else lambda _: ()
