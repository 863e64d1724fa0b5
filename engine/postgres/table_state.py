"""What of a table's place in the catalog matters to those who follow it, and what a change of it ends.

Rows can change without a single change in the WAL: a column is dropped and added again, a table is
rewritten, a partition with rows is attached, a table leaves the publication for a while. Only the
catalog tells. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

EVERYTHING = ""
"""In the place of a column's name: the whole table. No column has this name."""


@dataclass(frozen=True, slots=True)
class ColumnState:
    """One column. `changed` is the transaction that last altered its catalog entry, in any respect."""

    number: int
    name: str
    type_oid: int
    modifier: int
    not_null: bool
    collation: int
    changed: int
    type: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MemberState:
    """A relation of a partition tree: the table itself and its partitions on all levels.

    `made` and `linked` are the transactions that created it and made it a partition of `parent` (0
    and 0 for the table itself). `identity` is its replica identity, `file` changes when it is
    rewritten or truncated.
    """

    oid: int
    parent: int
    made: int
    linked: int
    identity: str
    file: int


@dataclass(frozen=True, slots=True)
class TableState:
    """A table. `key` are the numbers of the primary key's columns.

    `entries` are the oids of the entries, without row filter or column list, through which the
    publication has it. `complete`: the publication sends all operations. `via_root`: as changes of
    the root. `generated`: with stored generated columns.
    """

    oid: int
    kind: str
    key: tuple[int, ...]
    columns: tuple[ColumnState, ...]
    tree: tuple[MemberState, ...]
    entries: frozenset[int]
    complete: bool
    via_root: bool
    generated: bool

    @property
    def published(self) -> bool:
        """Whether changes of the table arrive, and with their old rows."""
        full = all(member.identity == "f" for member in self.tree)
        return bool(self.entries) and self.complete and full

    @classmethod
    def parse(cls, text: str) -> TableState:
        """Read the facts that `engine.postgres.table_look` asks Postgres for."""
        facts: dict[str, Any] = orjson.loads(text)
        return cls(
            oid=facts["oid"],
            kind=facts["kind"],
            key=tuple(facts["key"] or ()),
            columns=tuple(
                ColumnState(*fields, labels=tuple(labels or ()))
                for *fields, labels in facts["columns"] or ()
            ),
            tree=tuple(MemberState(*fields) for fields in facts["tree"]),
            entries=frozenset(facts["entries"] or ()),
            complete=facts["complete"],
            via_root=facts["via_root"],
            generated=facts["generated"],
        )


def endings(before: TableState, after: TableState | None) -> frozenset[str]:
    """The columns whose readers cannot go on, EVERYTHING for all readers of the table.

    An added column, a new default, NOT NULL gained, an index or a comment end nothing. Partitions
    that came with rows are not told apart here: see `newcomers`.
    """
    if after is None or _replaced(before, after) or _lapsed(before, after):
        return frozenset((EVERYTHING,))
    if not {one.oid for one in before.tree} <= {one.oid for one in after.tree}:
        # A partition has gone, with its rows.
        return frozenset((EVERYTHING,))
    rewritten = _rewritten(before, after)
    there = {column.name: column for column in after.columns}
    return frozenset(
        column.name
        for column in before.columns
        if not _lasts(column, there.get(column.name), rewritten=rewritten)
    )


def newcomers(before: TableState, after: TableState) -> list[MemberState]:
    """The relations that became partitions after they had been created, so maybe with rows.

    Of a whole subtree its top. What the transaction that attached it wrote, and what was written
    since, is in the log as its parent's.
    """
    known = {member.oid for member in before.tree}
    late = [
        member
        for member in after.tree
        if member.oid not in known and member.parent and member.made != member.linked
    ]
    below = {member.oid for member in late}
    return [member for member in late if member.parent not in below]


def _replaced(before: TableState, after: TableState) -> bool:
    return (before.oid, before.kind, _key_names(before)) != (
        after.oid,
        after.kind,
        _key_names(after),
    )


def _key_names(state: TableState) -> list[str]:
    names = {column.number: column.name for column in state.columns}
    return [names.get(number, "") for number in state.key]


def _lapsed(before: TableState, after: TableState) -> bool:
    """Whether changes may have been missed meanwhile. A publication's entry that was dropped and
    added again has another oid."""
    if not before.entries or not before.complete:
        return False
    kept = before.entries & after.entries
    return not kept or not after.complete or before.via_root != after.via_root


def _rewritten(before: TableState, after: TableState) -> bool:
    """Whether rows were written anew: also VACUUM FULL and TRUNCATE do that."""
    files = {member.oid: member.file for member in before.tree}
    return any(files.get(member.oid, member.file) != member.file for member in after.tree)


def _lasts(column: ColumnState, after: ColumnState | None, *, rewritten: bool) -> bool:
    if after is None or after.number != column.number:
        return False
    if (column.type_oid, column.modifier, column.collation) != (
        after.type_oid,
        after.modifier,
        after.collation,
    ):
        return False
    if column.not_null and not after.not_null:
        return False
    # ALTER TYPE … USING with the same type, SET EXPRESSION: other values, and nothing in the WAL.
    if rewritten and column.changed != after.changed:
        return False
    remaining = iter(after.labels)
    return all(label in remaining for label in column.labels)
