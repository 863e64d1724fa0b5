"""Tables and columns, as far as following them needs to know. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    `type` is `pg_type.typname`; of an array column it is the element type's. `type_oid` is the
    column's own type (`atttypid`: the array type's of an array column), as a Relation message has
    it. `dims` is 0 for a scalar and at least 1 for an array. `kind` is `pg_type.typtype` of that
    (element) type: `b` base, `e` enum, `d` domain, `c` composite, `r` range, `m` multirange, `p`
    pseudo. `base` is the type a domain stands for, through domains over domains (equal to `type`
    otherwise); a domain over an array has `dims` 0 and the array type's own name (`_int4`) as
    `base`. `modifier` is `atttypmod`, -1 for none. `key_index` is the 0-based position in the
    primary key, or None. `generated` is true of stored and virtual generated columns, `virtual`
    only of the latter: no publication sends those. `collation` is the column's collation name
    (`default` for the database's), None if its type has none.

    `deterministic`: strings are equal only if their bytes are. `bytewise`: strings also sort by
    their UTF-8 bytes, i.e. by code point. Both are true of types without a collation.

    `enum` is the SQL name, with its schema, of the enum that the column, its elements or its domain
    are of; `labels` are the enum's labels in their order. None for all other columns. A new label
    alters no row, so labels take no part in comparison and in `repr`; see `Table.keeps_labels`.
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
    virtual: bool = False
    deterministic: bool = True
    bytewise: bool = True
    enum: str | None = None
    labels: tuple[str, ...] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Table:
    """A table that a shape can follow. `columns` are in table order.

    `kind` is `r` (also of a partition) or `p` (partitioned).
    """

    oid: int
    schema: str
    name: str
    columns: tuple[Column, ...]
    kind: str = "r"

    @property
    def labels(self) -> tuple[tuple[str, ...] | None, ...]:
        """The enum labels of every column."""
        return tuple(column.labels for column in self.columns)

    def keeps_labels(self, before: Table) -> bool:
        """Whether enums that this table had before have new labels at most: what was said of its
        rows in terms of the old ones still holds."""
        for old, new in zip(before.labels, self.labels, strict=True):
            remaining = iter(new or ())
            if not all(label in remaining for label in old or ()):
                return False
        return True

    @property
    def primary_key(self) -> tuple[Column, ...]:
        """Key columns in the order of the primary key's index; empty for a table without one."""
        keyed = [column for column in self.columns if column.key_index is not None]
        return tuple(sorted(keyed, key=lambda column: column.key_index or 0))
