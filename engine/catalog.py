"""Tables and columns as Postgres's catalog describes them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    `type` is `pg_type.typname`; of an array column it is the element type's. `dims` is 0 for a scalar
    and at least 1 for an array. `kind` is `pg_type.typtype` of that (element) type: `b` base, `e` enum,
    `d` domain, `c` composite, `r` range, `m` multirange, `p` pseudo. `base` is the type a domain stands
    for (equal to `type` otherwise). `modifier` is `atttypmod`, -1 for none. `key_index` is the 0-based position in the
    primary key, or None. `collation` is the column's collation name, None if its type has none.
    """

    name: str
    type: str
    type_oid: int
    dims: int = 0
    kind: str = "b"
    base: str = ""
    modifier: int = -1
    not_null: bool = False
    key_index: int | None = None
    generated: bool = False
    collation: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table that a shape can follow. `columns` are in table order. `kind` is `r` or `p` (partitioned)."""

    oid: int
    schema: str
    name: str
    columns: tuple[Column, ...]
    kind: str = "r"

    @property
    def primary_key(self) -> tuple[Column, ...]:
        """Key columns in the order of the primary key's index; empty for a table without one."""
        keyed = [column for column in self.columns if column.key_index is not None]
        return tuple(sorted(keyed, key=lambda column: column.key_index or 0))
