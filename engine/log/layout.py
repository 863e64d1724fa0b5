"""What the bytes of the log mean. Pure.

The log is one LMDB environment with four databases:

| database | key | value |
|---|---|---|
| `blocks` | commit LSN (8 bytes), index of the first change (4) | a block |
| `relations` | relation version (4) | JSON of a `RelationVersion` |
| `xids` | transaction id (4) | commit LSN (8) |
| `meta` | `state`, `identity` | a `LogState`; which server, timeline and slot the log copies |
| | see `engine.log.cutoffs` | where cut-offs of windows moved |

All integers are big-endian, so that keys sort as numbers do. A *block* holds consecutive changes of
one transaction: a header (`HEADER`, then the versions of the relations that it touches) and a JSON
array of changes. A change is `[relation version, operation, new row, old row]`; the change at
position i of the array has the index `first index + 2 * i`. Rows are arrays of text values in the
relation's column order, `null` for NULL, the number 0 for a TOASTed value that Postgres did not send.

| operation | meaning | new row | old row |
|---|---|---|---|
| `I` | insert | row | null |
| `U` | update | row | row |
| `u` | update, old row incomplete | row | key columns only, or null if the key did not change |
| `D` | delete | null | row |
| `d` | delete, old row incomplete | null | key columns only |
| `T` | truncate of this relation | null | null |
| `W` | a window's cut-off moves | column, seconds, cut-off before or null, new cut-off | null |
| `X` | a row leaves that window | null | row, with 0 for most columns |
| `S` | something was appended to streams | one text: bytes, as Latin-1 characters | null |

A transaction with a tick (`engine.replication.tick`) consists of it alone. Every block of it begins
with the `W`, and its relation version describes the rows of ticks (`tick.TICK_IDENTITY`).
The `S` stand among a transaction's other changes, in the order in which all were made; theirs is a
relation version without columns that stands for all streams (`NOTICE_IDENTITY`).

Only the last block of a transaction carries its end LSN; the others have 0 there.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Any, NamedTuple

import orjson

from engine.errors import LogError
from engine.lsn import Offset

UNCHANGED = 0
"""Stands for a TOASTed value that the stream left out because it did not change."""

Row = list[str | None | int]
Change = tuple[int, str, Row | None, Row | None]

NOTICE_IDENTITY = "s"
"""What stands for the replica identity in the relation version of `S`."""

FIRST_INDEX = 2
INDEX_STEP = 2
MAX_INDEX = 2**32 - 1

KEY = Struct(">QI")
HEADER = Struct(">IQqIH")
XID = Struct(">I")
LSN = Struct(">Q")
STATE = Struct(">qQQQQI")


class LogState(NamedTuple):
    """How far the log reaches. Written in the same LMDB transaction as the changes it speaks of.

    `epoch` is the time (microseconds since the Unix epoch) at which this log began without a gap.
    `commit_lsn` and `end_lsn` belong to the last transaction in the log; both equal the starting
    point while there is none. Every transaction that commits before `progress` (>= `end_lsn`) is in
    the log. Offsets at or after `horizon` can be resumed from.
    """

    epoch: int
    commit_lsn: int
    end_lsn: int
    progress: int
    horizon: Offset

    def pack(self) -> bytes:
        return STATE.pack(self.epoch, self.commit_lsn, self.end_lsn, self.progress, *self.horizon)

    @classmethod
    def unpack(cls, data: bytes) -> LogState:
        epoch, commit_lsn, end_lsn, progress, lsn, index = STATE.unpack(data)
        return cls(epoch, commit_lsn, end_lsn, progress, Offset(lsn, index))


class Block(NamedTuple):
    """Consecutive changes of one transaction. `end_lsn` is 0 but in the transaction's last block."""

    commit_lsn: int
    index: int
    xid: int
    end_lsn: int
    commit_time: int
    count: int
    relations: tuple[int, ...]
    payload: bytes

    @property
    def last(self) -> Offset:
        """The offset of the last change in it."""
        return Offset(self.commit_lsn, self.index + INDEX_STEP * (self.count - 1))

    def changes(self) -> list[Change]:
        """The decoded changes; each is a list of four as the module's table says."""
        return orjson.loads(self.payload)


def pack_body(relations: tuple[int, ...], payload: bytes) -> bytes:
    """The part of a block that does not depend on how its transaction ends."""
    if len(relations) == 1:
        return XID.pack(relations[0]) + payload
    return Struct(f">{len(relations)}I").pack(*relations) + payload


def unpack_body(body: bytes, relations: int) -> tuple[tuple[int, ...], bytes]:
    """Relation versions and payload of a body that names so many relations."""
    return Struct(f">{relations}I").unpack_from(body), body[4 * relations :]


def pack_header(xid: int, end_lsn: int, commit_time: int, count: int, relations: int) -> bytes:
    """The header that goes in front of a block's body."""
    return HEADER.pack(xid, end_lsn, commit_time, count, relations)


def unpack_block(key: bytes | memoryview, value: bytes | memoryview) -> Block:
    """Read a block. Raises LogError if the bytes cannot be one."""
    try:
        commit_lsn, index = KEY.unpack(key)
        xid, end_lsn, commit_time, count, number = HEADER.unpack_from(value)
        body = HEADER.size + 4 * number
        if number == 1:
            relations: tuple[int, ...] = XID.unpack_from(value, HEADER.size)
        else:
            relations = Struct(f">{number}I").unpack_from(value, HEADER.size)
    except Exception as error:
        raise LogError(
            "a block of the log is damaged: move the log folder away and restart"
        ) from error
    return Block(
        commit_lsn, index, xid, end_lsn, commit_time, count, relations, bytes(value[body:])
    )


@dataclass(frozen=True, slots=True)
class RelationColumn:
    """A column as a Relation message describes it."""

    name: str
    type_oid: int
    modifier: int
    is_key: bool


@dataclass(frozen=True, slots=True)
class RelationVersion:
    """A relation as it was while some changes were made. Rows have its columns in its order.

    `ancestors` are the partitioned tables above it, nearest first, as (oid, schema, name).
    """

    id: int
    oid: int
    schema: str
    name: str
    replica_identity: str
    columns: tuple[RelationColumn, ...]
    ancestors: tuple[tuple[int, str, str], ...] = ()

    @property
    def positions(self) -> dict[str, int]:
        """Column name to position in a row."""
        return {column.name: position for position, column in enumerate(self.columns)}

    def pack(self) -> bytes:
        return orjson.dumps(self)

    @classmethod
    def unpack(cls, data: bytes) -> RelationVersion:
        fields: dict[str, Any] = orjson.loads(data)
        fields["columns"] = tuple(RelationColumn(**column) for column in fields["columns"])
        fields["ancestors"] = tuple(tuple(ancestor) for ancestor in fields["ancestors"])
        return cls(**fields)
