"""Changes to messages. Pure.

An `Entry` is a change that belongs to a shape; `Encoder` turns it into the JSON messages that clients
read. One encoder serves all shapes with the same projection and replica mode, for one relation version.
"""

from __future__ import annotations

from typing import NamedTuple

import orjson

from engine.log.layout import RelationVersion, Row
from shapes.identifiers import relation_label
from shapes.runs.presentation import Presentation
from shapes.shape import Projection

INSERT = 1
UPDATE = 2
DELETE = 3
REKEY = 4
"""The row's key changed while the row stayed in the shape: a delete and an insert."""


class Entry(NamedTuple):
    """One change of one shape. `kind` is INSERT, UPDATE, DELETE or REKEY as this shape sees it."""

    lsn: int
    index: int
    kind: int
    version: int
    xid: int
    new: Row | None
    old: Row | None


class Encoder:
    """Encodes entries of one relation version for one projection."""

    def __init__(
        self, projection: Projection, version: RelationVersion, *, full_replica: bool
    ) -> None:
        table = projection.table
        positions = version.positions
        self._full = full_replica
        self._columns = [
            (column.name, positions[column.name])
            for column in projection.columns
            if column.name in positions
        ]
        self._key = [positions[c.name] for c in projection.key_columns if c.name in positions]
        keys = {column.name for column in projection.key_columns}
        self._key_columns = [(name, at) for name, at in self._columns if name in keys]
        self._others = [(name, at) for name, at in self._columns if name not in keys]
        self._label = relation_label(table.schema, table.name)
        self._relation = [table.schema, table.name]
        self._all = len(self._columns) == len(version.columns)
        # Without replica identity FULL an old row has its key columns only, the rest is null.
        partial = version.replica_identity != "f"
        known = {column.name for column in version.columns if column.is_key or not partial}
        self._old = [(name, at) for name, at in self._columns if name in known]

    def kind_of_update(self, old: Row, new: Row) -> int:
        """UPDATE or REKEY for a row that stays in the shape; 0 if nothing that it shows changed."""
        for at in self._key:
            if old[at] != new[at]:
                return REKEY
        if self._all:
            return UPDATE if old != new else 0
        for _, at in self._others:
            if old[at] != new[at]:
                return UPDATE
        return 0

    def key(self, row: Row) -> str:
        """The row's key, the same wherever the row appears."""
        key = self._label
        for at in self._key:
            value = row[at]
            if value is None:
                key += "/_"
            else:
                text = str(value)
                key += f'/"{text.replace("/", "//") if "/" in text else text}"'
        return key

    def encode(self, entry: Entry, *, last: bool) -> list[bytes]:
        """The messages of one entry; two for a REKEY. `last`: the shape's last in its transaction."""
        _, _, kind, _, _, new, old = entry
        if kind == INSERT and new is not None:
            return [self._message(entry, "insert", self.key(new), self._values(new), last=last)]
        if kind == DELETE:
            row = old if old is not None else new
            return [] if row is None else [self._delete(entry, row, last=last)]
        if new is None:
            return []
        if kind == UPDATE:
            return [self._update(entry, new, old, last=last)]
        return [] if old is None else self._rekey(entry, new, old, last=last)

    def _values(self, row: Row) -> dict[str, str | int | None]:
        # A value of 0 is one that Postgres did not send.
        return {name: row[at] for name, at in self._columns if row[at] != 0}

    def _deleted_values(self, row: Row) -> dict[str, str | int | None]:
        columns = self._old if self._full else self._key_columns
        return {name: row[at] for name, at in columns if row[at] != 0}

    def _changed_values(self, new: Row, old: Row) -> dict[str, str | int | None]:
        values = {name: new[at] for name, at in self._key_columns}
        for name, at in self._others:
            if new[at] != old[at]:
                values[name] = new[at]
        return values

    def _delete(self, entry: Entry, row: Row, *, last: bool) -> bytes:
        return self._message(entry, "delete", self.key(row), self._deleted_values(row), last=last)

    def _update(self, entry: Entry, new: Row, old: Row | None, *, last: bool) -> bytes:
        known = None if self._full else old
        values = self._values(new) if known is None else self._changed_values(new, known)
        before = None
        if self._full and old is not None:
            before = {name: old[at] for name, at in self._columns if old[at] != new[at]}
        return self._message(entry, "update", self.key(new), values, before, last=last)

    def _rekey(self, entry: Entry, new: Row, old: Row, *, last: bool) -> list[bytes]:
        old_key, new_key = self.key(old), self.key(new)
        return [
            self._message(
                entry,
                "delete",
                old_key,
                self._deleted_values(old),
                moved={"key_change_to": new_key},
            ),
            self._message(
                entry._replace(index=entry.index + 1),
                "insert",
                new_key,
                self._values(new),
                moved={"key_change_from": old_key},
                last=last,
            ),
        ]

    def _message(
        self,
        entry: Entry,
        operation: str,
        key: str,
        values: dict[str, str | int | None],
        before: dict[str, str | int | None] | None = None,
        *,
        moved: dict[str, str] | None = None,
        last: bool = False,
    ) -> bytes:
        headers: dict[str, object] = {
            "operation": operation,
            "relation": self._relation,
            "txids": [entry.xid],
            "lsn": str(entry.lsn),
            "op_position": entry.index,
        }
        if moved:
            headers.update(moved)
        if last:
            headers["last"] = True
        message: dict[str, object] = {"key": key, "value": values, "headers": headers}
        if before is not None:
            message["old_value"] = before
        return orjson.dumps(message)


class PresentingEncoder(Encoder):
    """Encodes for a projection whose rows are presented in another form."""

    def __init__(
        self, projection: Projection, version: RelationVersion, presentation: Presentation
    ) -> None:
        super().__init__(projection, version, full_replica=False)
        self._presentation = presentation
        self._places = [version.positions.get(name) for name in presentation.columns]

    def _row(self, row: Row) -> list[str | int | None]:
        return [None if at is None else row[at] for at in self._places]

    def _values(self, row: Row) -> dict[str, str | int | None]:
        return self._presentation.values(self._row(row))

    def _changed_values(self, new: Row, old: Row) -> dict[str, str | int | None]:
        return self._presentation.changed(self._row(new), self._row(old))

    def _deleted_values(self, row: Row) -> dict[str, str | int | None]:
        return self._presentation.key_values(self._row(row))


def make_encoder(
    projection: Projection, version: RelationVersion, *, full_replica: bool
) -> Encoder:
    """The encoder for a projection's entries of one relation version."""
    presentation = projection.presentation
    if presentation is None:
        return Encoder(projection, version, full_replica=full_replica)
    return PresentingEncoder(projection, version, presentation)
