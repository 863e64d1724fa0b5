"""The SQL that reads a shape's rows as finished JSON messages. Pure.

One COPY statement does it all: its first line names the snapshot that it sees and a WAL position
after everything in it, the others are messages. A single statement has a single snapshot, so no
transaction has to be held open around it. CSV with control characters as quote and delimiter leaves
JSON as it is (COPY's text format would double every backslash).
"""

from __future__ import annotations

import orjson

from engine.catalog import Column, Table
from engine.sql_text import quote_ident, quote_literal, quote_name
from shapes.identifiers import relation_label
from shapes.shape import Shape

# Types whose text form never needs escaping in JSON.
_PLAIN = frozenset(
    """bool int2 int4 int8 oid float4 float8 numeric uuid date time timetz timestamp timestamptz
    interval money inet cidr macaddr macaddr8 pg_lsn xid xid8""".split()  # noqa: SIM905
)


COPY_OPTIONS = {"format": "csv", "delimiter": "\x02", "quote": "\x01", "encoding": "UTF8"}


def snapshot_query(shape: Shape) -> str:
    """The query to COPY with COPY_OPTIONS. Lines after the first end with a comma."""
    rows = "" if shape.changes_only else f" union all {_rows(shape)}"
    return f"select concat(pg_current_snapshot(), ' ', pg_current_wal_insert_lsn()){rows}"


def _rows(shape: Shape) -> str:
    table = shape.table
    only = "" if table.kind == "p" else "only "
    condition = f" where {shape.condition.sql}" if shape.condition is not None else ""
    return f"select {_message(shape)} from {only}{quote_name(table.schema, table.name)}{condition}"


def _message(shape: Shape) -> str:
    """An expression for a row's insert message."""
    table = shape.table
    headers = orjson.dumps(
        {"headers": {"operation": "insert", "relation": [table.schema, table.name]}}
    )
    parts = [quote_literal('{"key":'), _key(table, shape.projection.key_columns)]
    lead = ',"value":{'
    for column in shape.projection.columns:
        name = orjson.dumps(column.name).decode()
        parts += [quote_literal(f"{lead}{name}:"), _json_value(column)]
        lead = ","
    parts.append(quote_literal("}," + headers.decode()[1:] + ","))
    # concat takes at most 100 arguments.
    groups = [", ".join(parts[at : at + 90]) for at in range(0, len(parts), 90)]
    return "concat(" + ", ".join(f"concat({group})" for group in groups) + ")"


def _json_value(column: Column) -> str:
    """An expression for a column's value: its text form as a JSON string, or null.

    concat() applies the type's output function, which a cast to text does not always (bool, char(n)).
    """
    name = quote_ident(column.name)
    if column.type in _PLAIN and not column.dims:
        text = f"concat('\"', {name}, '\"')"
    elif column.type == "text" and not column.dims:
        text = f"to_json({name})::text"
    else:
        text = f"to_json(concat({name}))::text"
    return text if column.not_null else f"case when {name} is null then 'null' else {text} end"


def _key(table: Table, columns: tuple[Column, ...]) -> str:
    """An expression for a row's key as a JSON string; must agree with `Encoder.key`."""
    label = relation_label(table.schema, table.name)
    if all(column.type in _PLAIN and not column.dims and column.not_null for column in columns):
        # Nothing in the values to escape (a date has no slash in ISO style; cidr and inet do).
        if not any(column.type in ("inet", "cidr") for column in columns):
            return _plain_key(label, columns)
    parts = [quote_literal(label)]
    for column in columns:
        name = quote_ident(column.name)
        value = f"concat('/\"', replace(concat({name}), '/', '//'), '\"')"
        parts.append(
            value if column.not_null else f"case when {name} is null then '/_' else {value} end"
        )
    groups = [f"concat({', '.join(parts[at : at + 90])})" for at in range(0, len(parts), 90)]
    return f"to_json(concat({', '.join(groups)}))::text"


def _plain_key(label: str, columns: tuple[Column, ...]) -> str:
    start = orjson.dumps(label).decode()[:-1]
    parts = [quote_literal(start)]
    for column in columns:
        parts += [quote_literal('/\\"'), quote_ident(column.name), quote_literal('\\"')]
    return f"concat({', '.join(parts)}, '\"')"
