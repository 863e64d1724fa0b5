"""The SQL that reads a shape's rows as finished JSON messages. Pure.

One COPY statement does it all: its first line names the snapshot that it sees and a WAL position
after everything in it, the others are messages. A single statement has a single snapshot, so no
transaction has to be held open around it. CSV with control characters as quote and delimiter leaves
JSON as it is (COPY's text format would double every backslash).
"""

from __future__ import annotations

import orjson

from engine.postgres.sql_text import quote_ident, quote_literal, quote_name
from engine.postgres.table import Column, Table
from shapes.identifiers import relation_label
from shapes.shape import Shape

DELIMITER = "\x02"
QUOTE = "\x01"

# Types whose cast to text is their output function, and whose text has no slash in it.
_PLAIN = frozenset(
    """int2 int4 int8 oid float4 float8 numeric uuid time timetz timestamp timestamptz date
    """.split()  # noqa: SIM905
)


def snapshot_query(shape: Shape, cutoff: str | None = None) -> str:
    """The query to COPY, as CSV with DELIMITER and QUOTE. Lines after the first end with a comma.

    A shape with a window has the rows from `cutoff` on.
    """
    if shape.changes_only:
        return _VISIBILITY
    inside = "" if cutoff is None else between(shape, cutoff)
    return f"{_VISIBILITY} union all {_messages(shape, rows_of(shape, inside))}"


def subset_query(
    shape: Shape, mark: int, *, where: str = "", order_by: str = "", limit: str = ""
) -> str:
    """The query for a part of the shape's rows, in the same form; `mark` goes into every message.

    The clauses are finished SQL: conditions, sort keys, and `limit … offset …`.
    """
    # The rows are chosen and sorted before their columns become texts of the same names.
    rows = f"select * {rows_of(shape, where)}"
    rows += f" order by {order_by}" if order_by else ""
    rows += f" {limit}" if limit else ""
    messages = _messages(shape, f"from ({rows}) t", {"snapshot_mark": mark})
    return f"{_VISIBILITY} union all {messages}"


_VISIBILITY = (
    "select concat_ws(' ', pg_current_snapshot(), pg_current_wal_insert_lsn(), "
    "pg_current_wal_flush_lsn())"
)


def between(shape: Shape, since: str, until: str | None = None) -> str:
    """The condition of rows that are in the shape's window since a cut-off, but not until another."""
    if shape.window is None:
        return ""
    column = quote_ident(shape.window.column)
    end = "" if until is None else f" and {column} < {quote_literal(until)}"
    return f"{column} >= {quote_literal(since)}{end}"


def from_table(table: Table) -> str:
    """The clause for the rows that a shape of this table has."""
    only = "" if table.kind == "p" else "only "
    return f"from {only}{quote_name(table.schema, table.name)}"


def rows_of(shape: Shape, where: str = "") -> str:
    """The clauses that give the shape's rows; with `where` only those of them that meet it, too."""
    rows = from_table(shape.table)
    conditions = [shape.condition.sql] if shape.condition is not None else []
    if where:
        conditions.append(where)
    if conditions:
        rows += " where " + " and ".join(f"({condition})" for condition in conditions)
    return rows


def _messages(shape: Shape, rows: str, headers: dict[str, int] | None = None) -> str:
    """An insert message per row. The inner query has the delivered columns as texts."""
    table = shape.table
    fields = {"operation": "insert", "relation": [table.schema, table.name], **(headers or {})}
    end = orjson.dumps({"headers": fields}).decode()
    columns = ", ".join(
        f"{column_text(column)} as {quote_ident(column.name)}"
        for column in shape.projection.columns
    )
    message = ", ".join(
        (
            quote_literal('{"key":'),
            _key(table, shape.projection.key_columns),
            quote_literal(',"value":'),
            # Not `r`: a column may have that name.
            "row_to_json(r.*)",
            quote_literal("," + end[1:] + ","),
        )
    )
    return f"select concat({message}) from (select {columns} {rows}) r"


def column_text(column: Column) -> str:
    """A column's value as its type's output function prints it, which a cast does not for all."""
    name = quote_ident(column.name)
    if column.type in _PLAIN and not column.dims:
        return f"{name}::text"
    if column.type == "text" and not column.dims:
        return name
    return f"case when {name} is not null then concat({name}) end"


def _key(table: Table, columns: tuple[Column, ...]) -> str:
    """A row's key as a JSON string; must agree with `Encoder.key`. Refers to the inner query."""
    label = relation_label(table.schema, table.name)
    if all(column.type in _PLAIN and not column.dims and column.not_null for column in columns):
        start = orjson.dumps(label).decode()[:-1]
        parts = [
            f"{quote_literal('/' + chr(92) + chr(34))}, r.{quote_ident(column.name)}, "
            f"{quote_literal(chr(92) + chr(34))}"
            for column in columns
        ]
        return f"{quote_literal(start)}, {', '.join(parts)}, '\"'"
    values = " || ".join(_key_value(column) for column in columns)
    return f"to_json({quote_literal(label)} || {values})"


def _key_value(column: Column) -> str:
    name = f"r.{quote_ident(column.name)}"
    value = f"'/\"' || replace({name}, '/', '//') || '\"'"
    return f"({value})" if column.not_null else f"coalesce({value}, '/_')"
