"""Ticks and rows with a time, for tests of windows: a table of `id`, `tag` and `at`."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from log_builder import OID, Transaction, insert, relation, transaction

from engine.log.layout import Change, RelationColumn, RelationVersion
from engine.postgres.table import Column, Table
from engine.replication.tick import TICK_IDENTITY, Tick, tick_header
from engine.replication.visibility import Visibility
from shapes.shape import Projection, Shape, make_shape
from shapes.where import parse_where
from shapes.windows.window import Window

TIMESTAMP = 1114
HOUR = Window("at", 3600)
DESCRIBED = (("id", 20, -1), ("tag", 25, -1), ("at", TIMESTAMP, -1), ("note", 25, -1))
ROWS = relation(1, columns=[(name, oid) for name, oid, _ in DESCRIBED])
TICKS = RelationVersion(
    2,
    OID,
    "public",
    "t",
    TICK_IDENTITY,
    tuple(RelationColumn(name, oid, -1, name == "id") for name, oid, _ in DESCRIBED),
)
TABLE = Table(
    OID,
    "public",
    "t",
    (
        Column("id", "int8", 20, base="int8", not_null=True, key_index=0),
        Column("tag", "text", 25, base="text", collation="C"),
        Column("at", "timestamp", TIMESTAMP, base="timestamp"),
        Column("note", "text", 25, base="text", collation="C"),
    ),
)


def moment(minute: int) -> str:
    """A minute of a day that all these tests are about."""
    return f"2026-11-21 {minute // 60:02}:{minute % 60:02}:00"


NOON_US = 1_795_262_400_000_000
"""12:00 of that day: when all transactions with a tick commit."""


def row(number: int, minute: int | None, tag: str = "a", note: str = "") -> list[str | None]:
    return [str(number), tag, None if minute is None else moment(minute), note]


def leaving(number: int, minute: int, tag: str | int = "a") -> list[str | None | int]:
    """A row as it comes with a tick; with 0 for what the tick does not carry."""
    return [str(number), tag, moment(minute), 0]


def added(lsn: int, *rows: list[str | None]) -> Transaction:
    return transaction(lsn, *(insert(*one) for one in rows))


def ticked(
    lsn: int, since: int | None, until: int, *rows: Sequence[str | None | int], blocks: int = 1000
) -> Transaction:
    """A tick as it is in the log."""
    start = None if since is None else moment(since)
    head: Change = (2, "W", ["at", "3600", start, moment(until)], None)
    changes: list[Change] = []
    for number, one in enumerate(rows):
        changes += [head] if number % blocks == 0 else []
        changes.append((2, "X", None, list(one)))
    return transaction(lsn, *(changes or [head]), blocks=blocks + 1)


def windowed(
    where: str | None = None, window: Window | None = HOUR, *, full: bool = False
) -> Shape:
    condition = None if where is None else parse_where(where, {}, TABLE)
    projection = Projection(TABLE, TABLE.columns, False)
    return make_shape(projection, condition, full_replica=full, window=window)


def tick(
    since: int | None,
    until: int,
    *rows: Sequence[str | None],
    seen: Visibility = Visibility(1 << 31, 1 << 31, frozenset()),  # noqa: B008
) -> Tick:
    """A tick as it comes from Postgres; `rows` have id, tag and at."""
    return Tick(
        OID,
        "public",
        "t",
        DESCRIBED,
        ("id", "tag", "at"),
        ("id",),
        *HOUR,
        None if since is None else moment(since),
        moment(until),
        seen,
        [[*one[:3], 0] for one in rows],
    )


def content(of: Tick) -> bytes:
    """The message that a tick comes in."""
    seen = of.visibility
    snapshot = f"{seen.xmin}:{seen.xmax}:{','.join(map(str, sorted(seen.xip)))}"
    lines = [orjson.dumps(one[:3]).decode() for one in of.rows]
    return "\n".join([tick_header(of), snapshot, *lines]).encode()
