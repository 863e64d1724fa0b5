"""Ticks: at their place in the log, rows leave a window because time has gone by. Pure.

A window is a table's rows whose column is not older than so many seconds. Its cut-off moves in steps,
and each step is a transaction of its own with one logical message, so that it has its place among the
changes: `pg_logical_emit_message(true, <name of the publication>, content)`. The content is a JSON
object (`Tick` without what follows), the `pg_current_snapshot()` that the rows were read with, and the
rows that leave, as JSON arrays of the `carried` columns' texts, each on a line of its own.

Times are texts as Postgres prints them in UTC with ISO dates. They sort as the times do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import orjson

from engine.log.layout import UNCHANGED, RelationColumn, RelationVersion, Row
from engine.replication.visibility import Visibility

TICK_IDENTITY: Final = "w"
"""What stands for the replica identity in the relation version of a tick's rows."""


class Tick(NamedTuple):
    """The cut-off of a window moves from `since` to `until`; `rows` are those in between.

    `since` is None for a beginning: nothing that was said of this window before holds. `columns` are
    all of the table's, by name, type and modifier. `rows` have a value of 0 for those not `carried`.
    """

    oid: int
    schema: str
    name: str
    columns: tuple[tuple[str, int, int], ...]
    carried: tuple[str, ...]
    key: tuple[str, ...]
    column: str
    seconds: int
    since: str | None
    until: str
    visibility: Visibility
    rows: list[Row]

    @property
    def window(self) -> bytes:
        return window_key(self.oid, self.column, self.seconds)

    @property
    def relation(self) -> RelationVersion:
        """How its rows are to be read; without a number."""
        columns = [RelationColumn(*one, one[0] in self.key) for one in self.columns]
        return RelationVersion(0, self.oid, self.schema, self.name, TICK_IDENTITY, tuple(columns))

    def leaving(
        self, since: str, unseen: Iterable[tuple[Mapping[str, int], Row | None, Row | None]]
    ) -> list[Row]:
        """The rows between `since` and the new cut-off, brought up to date by the changes that the
        query did not see, in their order: where the columns are, new row, old row."""
        names = [column[0] for column in self.columns]
        places = {name: place for place, name in enumerate(names)}
        carried, at = set(self.carried), places[self.column]

        def key(row: Row) -> tuple[str | int | None, ...]:
            return tuple([row[places[name]] for name in self.key])

        rows = {key(row): row for row in self.rows if is_inside(row[at], since)}
        for positions, new, old in unseen:
            known = [name if name in carried and name in positions else None for name in names]
            for change in (old, new):
                if change is not None:
                    row = [UNCHANGED if n is None else change[positions[n]] for n in known]
                    rows.pop(key(row), None)
                    if change is new and _is_between(row[at], since, self.until):
                        rows[key(row)] = row
        return list(rows.values())


def window_key(oid: int, column: str, seconds: int) -> bytes:
    """What a window is known by in the log."""
    return blake2b(orjson.dumps([oid, column, seconds]), digest_size=8).digest()


def is_inside(value: str | int | None, cutoff: str) -> bool:
    """Whether a timestamp or date, as text, is not before the cut-off."""
    if not isinstance(value, str):
        return False
    if value[4:5] == "-":
        return value >= cutoff and value[-1:] != "C"
    # A year with more digits, or infinity.
    return value[:1] != "-" and value[-1:] != "C"


def _is_between(value: str | int | None, since: str, until: str) -> bool:
    return is_inside(value, since) and not is_inside(value, until)


def read_tick(content: bytes) -> Tick | None:
    """The tick that a message is; None if it is none, whatever it is: anybody may write messages."""
    try:
        header, snapshot, *lines = content.decode().split("\n")
        fields: dict[str, Any] = orjson.loads(header)
        columns = tuple((str(n), int(t), int(m)) for n, t, m in fields["columns"])
        since, until = fields["since"], str(fields["until"])
        tick = Tick(
            oid=int(fields["oid"]),
            schema=str(fields["schema"]),
            name=str(fields["name"]),
            columns=columns,
            carried=tuple(map(str, fields["carried"])),
            key=tuple(map(str, fields["key"])),
            column=str(fields["column"]),
            seconds=int(fields["seconds"]),
            since=None if since is None else str(since),
            until=until,
            visibility=Visibility.parse(snapshot),
            rows=[],
        )
        places = [[name for name, _, _ in columns].index(name) for name in tick.carried]
        tick.rows.extend(_read_row(line, places, len(columns)) for line in lines if line)
    except (ValueError, TypeError, KeyError):
        return None
    return tick if {*tick.key, tick.column} <= set(tick.carried) and until else None


def _read_row(line: str, places: list[int], size: int) -> Row:
    row: Row = [UNCHANGED] * size
    for place, value in zip(places, orjson.loads(line), strict=True):
        row[place] = None if value is None else str(value)
    return row


def tick_header(tick: Tick) -> str:
    """The first line of a tick's content."""
    fields = tick._asdict()
    del fields["visibility"], fields["rows"]
    return orjson.dumps(fields).decode()
