"""Runs page by page, the latest first, and what they are filtered by."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from engine.runs.table import RunTable
from shapes.database import Database
from shapes.runs.durations import duration_of
from shapes.runs.new_run import InvalidRunError
from shapes.runs.retrieved import PACKETS
from shapes.runs.run_conditions import Conditions, needed, record_of
from shapes.runs.run_store import Record, RunStore

PAGE = 25
MOST_PAGE = 100
MOST_VALUES = 100
_UNKNOWN = ("version", "bulkAction", "schedule", "queue", "machine", "region")
"""What upstream's runs have and these have not."""


class Page(NamedTuple):
    """`next` and `previous` are cursors; None if there is nothing."""

    runs: list[Record]
    next: str | None
    previous: str | None


class Cursor(NamedTuple):
    """A run's place in the order. Clients that go on from a page send its request's cursor along with
    the new one, so each tells how many steps it is from the first page: the later one counts."""

    step: int
    time: str
    run_id: str

    @classmethod
    def parse(cls, text: str | None) -> Cursor | None:
        """Raises InvalidRunError."""
        if not text:
            return None
        try:
            padded = text + "=" * (-len(text) % 4)
            step, time, run_id = (
                base64.b64decode(padded, b"-_", validate=True).decode().split(" ", 2)
            )
            datetime.fromisoformat(time)
            return cls(int(step[:9]), time, run_id)
        except ValueError as error:
            raise InvalidRunError(
                "page[after] and page[before] take cursors of a page", 400
            ) from error

    def __str__(self) -> str:
        text = f"{self.step} {self.time} {self.run_id}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


class RunList:
    """The runs of a table."""

    def __init__(self, database: Database, store: RunStore) -> None:
        self._database = database
        self._store = store

    async def page(self, environment: str, query: Mapping[str, str]) -> Page:
        """The page that a query asks for: `page[size]`, `page[after]` or `page[before]`, and filters
        as `filter[status]`. Raises InvalidRunError, MissingColumnError."""
        size = page_size(query.get("page[size]"), PAGE)
        after, before = (
            Cursor.parse(query.get("page[after]")),
            Cursor.parse(query.get("page[before]")),
        )
        backwards = before is not None and (after is None or before.step > after.step)
        cursor = before if backwards else after
        table = self._store.table
        where = self._store.where(environment)
        _filter(where, table, query)
        if cursor is not None:
            _turn(where, table, cursor, ">" if backwards else "<")
        order = "asc" if backwards else "desc"
        keys = ", ".join(f"r.{table.quoted(name)} {order}" for name in ("created_at", "id"))
        fields = [name for name in table.columns if name not in PACKETS]
        async with self._database.work() as work:
            rest = f" order by {keys} limit {size + 1}"
            runs = await self._store.select(work, where, rest, fields)
        more, runs = len(runs) > size, runs[:size]
        if backwards:
            runs.reverse()
        has_next, has_previous = (True, more) if backwards else (more, cursor is not None)
        step = 1 + (0 if cursor is None else cursor.step)

        def at(run: Record) -> str:
            return str(Cursor(step, run["created_at"], run["id"]))

        return Page(
            runs,
            at(runs[-1]) if runs and has_next else None,
            at(runs[0]) if runs and has_previous else None,
        )


def values_of(query: Mapping[str, str], name: str) -> list[str]:
    """The values of a filter, of which a run has to have one. Raises InvalidRunError."""
    values = [value for value in query.get(f"filter[{name}]", "").split(",") if value]
    if len(values) > MOST_VALUES:
        raise InvalidRunError(f"filter[{name}] may have {MOST_VALUES} values at most", 400)
    return list(dict.fromkeys(values))


def _turn(where: Conditions, table: RunTable, cursor: Cursor, operator: str) -> None:
    """Only what lies behind the cursor."""
    names = ("created_at", "id")
    place = where.parameter(record_of(table, {"created_at": cursor.time, "id": cursor.run_id}))
    left = ", ".join(f"r.{table.quoted(name)}" for name in names)
    right = ", ".join(f"n.{table.quoted(name)}" for name in names)
    read = f"json_populate_record(null::{table.sql}, {place}::json)"
    where.add(f"({left}) {operator} (select {right} from {read} as n)")


def _filter(where: Conditions, table: RunTable, query: Mapping[str, str]) -> None:
    for name in _UNKNOWN:
        if query.get(f"filter[{name}]"):
            raise InvalidRunError(f"runs cannot be filtered by {name} here", 400)
    if statuses := values_of(query, "status"):
        where.one_of("status", [word for status in statuses for word in _words(table, status)])
    if tasks := values_of(query, "taskIdentifier"):
        where.one_of("task", tasks)
    if batches := values_of(query, "batch"):
        where.one_of("batch_id", batches)
    if tags := values_of(query, "tag"):
        needed(table, "tags")
        _compare(where, table, "tags", "&&", tags)
    if test := query.get("filter[isTest]"):
        truth = f"coalesce(r.{needed(table, 'is_test')}, false)"
        where.add(truth if test == "true" else f"not {truth}")
    _filter_times(where, table, query)


def _filter_times(where: Conditions, table: RunTable, query: Mapping[str, str]) -> None:
    bounds: list[tuple[str, str, Callable[[str], datetime | None]]] = [
        (">=", "from", _date),
        ("<=", "to", _date),
        (">=", "period", _ago),
    ]
    for operator, name, read in bounds:
        text = query.get(f"filter[createdAt][{name}]")
        if not text:
            continue
        time = read(text)
        if time is None:
            raise InvalidRunError(f"filter[createdAt][{name}] cannot be read", 400)
        _compare(where, table, "created_at", operator, time)


def _compare(where: Conditions, table: RunTable, name: str, operator: str, value: object) -> None:
    place, column = where.parameter(record_of(table, {name: value})), table.quoted(name)
    source = f"json_populate_record(null::{table.sql}, {place}::json)"
    where.add(f"r.{column} {operator} (select n.{column} from {source} as n)")


def _words(table: RunTable, status: str) -> list[str]:
    """The table's words for a status."""
    return [
        *(word for word, meant in table.statuses.items() if meant == status),
        *([] if status in table.statuses.values() else [status]),
    ]


def _date(text: str) -> datetime | None:
    """A time in milliseconds since 1970, or as ISO 8601."""
    try:
        if text.lstrip("-").isdecimal():
            return datetime.fromtimestamp(int(text) / 1000, UTC)
        time = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _ago(text: str) -> datetime | None:
    duration = duration_of(text)
    return None if duration is None else datetime.now(UTC) - duration


def page_size(text: str | None, usual: int) -> int:
    """How many a page may have. Raises InvalidRunError."""
    if not text:
        return usual
    if not text.isdecimal() or len(text) > 9 or not 1 <= int(text) <= MOST_PAGE:
        raise InvalidRunError(f"page[size] must be a number from 1 to {MOST_PAGE}", 400)
    return int(text)
