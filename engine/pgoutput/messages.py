"""What Postgres says over logical replication, in the words of its manual ("Logical Replication
Message Formats").

Every time is in microseconds since the Unix epoch. A schema that the server sends as an empty
string is `pg_catalog`.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

from engine.lsn import Lsn

UNCHANGED: Final = 0
"""Stands in a row for a TOASTed value that the change left alone and that was not sent."""

Row: TypeAlias = list[str | int | None]
"""One value per column: its text, None for NULL, or `UNCHANGED`."""

Change: TypeAlias = tuple[str, int, Row | None, Row | None, bool]
"""One changed row: `(op, relation_oid, new, old, old_is_key)`.

`op` is `I`, `U` or `D`, for insert, update and delete. `new` is None for a delete. `old` is None
for an insert and for an update whose key stayed (unless the replica identity is full). If
`old_is_key`, the columns of `old` outside the replica identity are None whatever their values were.
A plain tuple, as there is one per change.
"""


class Begin(NamedTuple):
    """A transaction that is sent as a whole starts. `final_lsn` is its Commit's `commit_lsn`."""

    final_lsn: Lsn
    commit_time_us: int
    xid: int


class Commit(NamedTuple):
    """The transaction's end. `commit_lsn` is where its commit record starts, `end_lsn` where the
    next record does."""

    flags: int
    commit_lsn: Lsn
    end_lsn: Lsn
    commit_time_us: int


class Origin(NamedTuple):
    """The transaction was replicated to this server from another one, where it committed."""

    commit_lsn: Lsn
    name: str


class RelationColumn(NamedTuple):
    """`modifier` is `atttypmod`, -1 for none; `is_key`: the column is in the replica identity."""

    name: str
    type_oid: int
    modifier: int
    is_key: bool


class Relation(NamedTuple):
    """A table, before its first change and again after its definition changed.

    `replica_identity` is `pg_class.relreplident`: `d` default, `n` nothing, `f` full, `i` index.
    """

    oid: int
    schema: str
    name: str
    replica_identity: str
    columns: tuple[RelationColumn, ...]


class Type(NamedTuple):
    """A type that is not built in, before the first Relation with a column of it."""

    oid: int
    schema: str
    name: str


class Truncate(NamedTuple):
    relation_oids: tuple[int, ...]
    cascade: bool
    restart_identity: bool


class LogicalMessage(NamedTuple):
    """What `pg_logical_emit_message` wrote. Outside of any transaction unless `transactional`."""

    transactional: bool
    lsn: Lsn
    prefix: str
    content: bytes


class StreamStart(NamedTuple):
    """A block of a transaction that is still in progress. `xid` is the top-level transaction's."""

    xid: int
    first_segment: bool


class StreamStop(NamedTuple):
    """The end of the block that the last StreamStart began."""


class StreamCommit(NamedTuple):
    """The transaction of earlier blocks commits; the LSNs are those of Commit."""

    xid: int
    flags: int
    commit_lsn: Lsn
    end_lsn: Lsn
    commit_time_us: int


class StreamAbort(NamedTuple):
    """A subtransaction of earlier blocks, or all of it if `subxid` is `xid`, is rolled back."""

    xid: int
    subxid: int


Message: TypeAlias = (
    Begin
    | Commit
    | Origin
    | Relation
    | Type
    | Truncate
    | LogicalMessage
    | StreamStart
    | StreamStop
    | StreamCommit
    | StreamAbort
    | Change
)
