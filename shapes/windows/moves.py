"""The SQL with which a window moves. Pure. For connections with SNAPSHOT_SETTINGS."""

from __future__ import annotations

from typing import Final

from engine.postgres.sql_text import quote_ident, quote_literal
from engine.postgres.table import Table
from engine.replication.tick import Tick, tick_header
from engine.replication.visibility import Visibility
from shapes.snapshots.snapshot_sql import column_text, from_table
from shapes.windows.window import Window, is_date

PAGE_ROWS: Final = 5000
"""About how many rows leave at one place of the log, at most."""

_NOBODY: Final = Visibility(0, 0, frozenset())


class WindowMove:
    """The statements that move one window of a table."""

    def __init__(self, table: Table, window: Window, carried: set[str]) -> None:
        """`carried` are the columns that rows must come with; those that are no more are left out."""
        self._table = table
        self._window = window
        names = {column.name for column in table.columns}
        key = table.primary_key or table.columns
        self._key = tuple(column.name for column in key)
        self.carried = (carried | set(self._key) | {window.column}) & names
        self._column = quote_ident(window.column)
        self._is_date = is_date(window, table)

    def due(self, step: int) -> str:
        """Gives the server's time in seconds, and where the cut-off belongs now."""
        form = "YYYY-MM-DD" if self._is_date else "YYYY-MM-DD HH24:MI:SS"
        seconds = f"floor((extract(epoch from now) - {self._window.seconds}) / {step}) * {step}"
        return (
            "select extract(epoch from now)::float8, "
            f"to_char(to_timestamp({seconds}) at time zone 'UTC', '{form}') "
            "from (select clock_timestamp() as now) n"
        )

    def count(self, since: str, until: str, most: int) -> str:
        """Gives how many rows are between two cut-offs, up to `most` and one."""
        rows = f"select 1 {self._between(since, until)} limit {most + 1}"
        return f"select count(*) from ({rows}) r"

    def page(self, since: str, until: str) -> str:
        """Gives two cut-offs, the second a little later than the first: around the row that is one
        too many to leave at once. Nothing if there is no such row."""
        column = self._column
        form = "YYYY-MM-DD" if self._is_date else "YYYY-MM-DD HH24:MI:SS"
        later = f"{column} + 1" if self._is_date else f"{column} + interval '1 second'"
        return (
            f"select to_char({column}, '{form}'), to_char({later}, '{form}') "
            f"{self._between(since, until)} order by {column} limit 1 offset {PAGE_ROWS}"
        )

    def emit(self, prefix: str, since: str | None, until: str) -> str:
        """Writes the tick; without `since` it is a beginning."""
        table, names = self._table, sorted(self.carried)
        tick = Tick(
            oid=table.oid,
            schema=table.schema,
            name=table.name,
            columns=tuple((one.name, one.type_oid, one.modifier) for one in table.columns),
            carried=tuple(names),
            key=self._key,
            column=self._window.column,
            seconds=self._window.seconds,
            since=since,
            until=until,
            visibility=_NOBODY,
            rows=[],
        )
        texts = {column.name: column_text(column) for column in table.columns}
        values = ", ".join(texts[name] for name in names)
        rows = "(select null::text as row where false) r"
        if since is not None:
            row = f"array_to_json(array[{values}]::text[])::text"
            rows = f"(select {row} as row {self._between(since, until)}) r"
        content = (
            f"concat({quote_literal(tick_header(tick))}, chr(10), pg_current_snapshot(), chr(10), "
            "string_agg(r.row, chr(10)))"
        )
        return (
            f"select pg_logical_emit_message(true, {quote_literal(prefix)}, {content}) from {rows}"
        )

    def _between(self, since: str, until: str) -> str:
        column = self._column
        return (
            f"{from_table(self._table)} where {column} >= {quote_literal(since)} "
            f"and {column} < {quote_literal(until)}"
        )
