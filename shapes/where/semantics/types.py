"""The types that a where clause can speak of: a table that grows by one entry per type.

A type says how its texts become Python values that compare, sort and hash exactly as Postgres's own
values do, so that nothing else needs to know about it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final

from engine.postgres.table import Column
from shapes.where.values import binary, enums, intervals, json_text, jsonb, numbers, strings, times
from shapes.where.values.arrays import parse_array, read_array, write_array


@dataclass(frozen=True, slots=True, eq=False)
class Type:
    """A type. There is one object per type, so types compare by identity.

    `name`: `pg_type.typname`, of an array type the element type's and `[]`.
    `category`: Postgres's category letter; `X` of types of which nothing but NULL is known.
    `read`: a value from what a user wrote; raises ValueError.
    `parse`: a value from Postgres's own output; None if that text is the value.
    `write`: a text from a value that Postgres reads as the same value.
    `canonical`: two outputs of Postgres are the same text if and only if the values are equal.
    `as_text`: `value::text` is the same text as the output in a row.
    `preferred`: Postgres prefers it within its category when it must choose an operator.
    `labels`: of an enum type, in their order.
    """

    name: str
    category: str
    read: Callable[[str], Hashable]
    parse: Callable[[str], Hashable] | None
    write: Callable[[Any], str]
    canonical: bool = False
    as_text: bool = False
    preferred: bool = False
    element: Type | None = None
    sql_name: str = ""
    labels: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Type {self.name}>"

    @property
    def sql(self) -> str:
        """The type's name in SQL."""
        return self.sql_name or self.name


def _unreadable(text: str) -> str:
    raise ValueError("no constants of this type")


UNKNOWN: Final = Type("unknown", "?", _unreadable, None, str)
"""A string constant, a parameter or NULL, before its context gives it a type."""

BOOL: Final = Type(
    "bool", "B", strings.read_bool, strings.parse_bool, strings.write_bool, preferred=True
)
INT2: Final = Type("int2", "N", numbers.read_int2, int, str, canonical=True, as_text=True)
INT4: Final = Type("int4", "N", numbers.read_int4, int, str, canonical=True, as_text=True)
INT8: Final = Type("int8", "N", numbers.read_int8, int, str, canonical=True, as_text=True)
NUMERIC: Final = Type(
    "numeric",
    "N",
    numbers.read_numeric,
    numbers.parse_numeric,
    numbers.write_numeric,
    as_text=True,
)
FLOAT4: Final = Type(
    "float4", "N", numbers.read_float4, numbers.parse_float4, numbers.write_float4, as_text=True
)
FLOAT8: Final = Type(
    "float8",
    "N",
    numbers.read_float8,
    numbers.parse_float8,
    numbers.write_float8,
    as_text=True,
    preferred=True,
)
TEXT: Final = Type(
    "text", "S", strings.read_text, None, str, canonical=True, as_text=True, preferred=True
)
VARCHAR: Final = Type("varchar", "S", strings.read_text, None, str, canonical=True, as_text=True)
BPCHAR: Final = Type("bpchar", "S", strings.read_bpchar, strings.read_bpchar, str)
NAME: Final = Type("name", "S", strings.read_name, None, str, canonical=True, as_text=True)
UUID: Final = Type("uuid", "U", strings.read_uuid, None, str, canonical=True, as_text=True)
DATE: Final = Type(
    "date", "D", times.read_date, times.parse_date, times.write_date, canonical=True, as_text=True
)
TIMESTAMP: Final = Type(
    "timestamp",
    "D",
    times.read_timestamp,
    times.parse_timestamp,
    times.write_timestamp,
    canonical=True,
    as_text=True,
)
TIMESTAMPTZ: Final = Type(
    "timestamptz",
    "D",
    times.read_timestamptz,
    times.parse_timestamptz,
    times.write_timestamptz,
    canonical=True,
    as_text=True,
    preferred=True,
)
TIME: Final = Type(
    "time", "D", times.read_time, times.parse_time, times.write_time, canonical=True, as_text=True
)
INTERVAL: Final = Type(
    "interval",
    "T",
    intervals.read_interval,
    intervals.parse_interval,
    intervals.write_interval,
    preferred=True,
)

TIMETZ: Final = Type(
    "timetz",
    "D",
    times.read_timetz,
    times.parse_timetz,
    times.write_timetz,
    canonical=True,
    as_text=True,
)
BYTEA: Final = Type("bytea", "U", binary.read_bytea, None, str, canonical=True, as_text=True)
MACADDR: Final = Type("macaddr", "U", binary.read_macaddr, None, str, canonical=True, as_text=True)
JSON: Final = Type("json", "U", json_text.read_json, None, str, as_text=True)
JSONB: Final = Type(
    "jsonb", "U", jsonb.read_jsonb, jsonb.parse_jsonb, jsonb.write_json, as_text=True
)

TYPES: Final = {
    one.name: one
    for one in (
        *(BOOL, INT2, INT4, INT8, NUMERIC, FLOAT4, FLOAT8, TEXT, VARCHAR, BPCHAR, NAME, UUID),
        *(DATE, TIMESTAMP, TIMESTAMPTZ, TIME, TIMETZ, INTERVAL),
        *(BYTEA, MACADDR, JSON, JSONB),
    )
}
"""By name: the types of constants, casts and operators."""

_FIRST_USER_OID = 16_384


@cache
def array_of(element: Type) -> Type:
    """The array type over an element type."""
    return Type(
        f"{element.name}[]",
        "A",
        partial(read_array, read=element.read),
        partial(parse_array, parse=element.parse),
        partial(write_array, write=element.write),
        element=element,
        sql_name=f"{element.sql}[]",
    )


UNKNOWN_ARRAY: Final = array_of(UNKNOWN)
"""`ARRAY['a', 'b']` before its context gives it a type."""


@cache
def _enum(sql_name: str, labels: tuple[str, ...]) -> Type:
    """The enum with that qualified name. A label that is added later makes another type of it."""
    name = sql_name.removeprefix("public.")
    return Type(
        name,
        "E",
        partial(enums.read_label, enum=name, labels=labels),
        None,
        str,
        canonical=True,
        as_text=True,
        sql_name=sql_name,
        labels=labels,
    )


@cache
def _opaque(name: str, category: str) -> Type:
    return Type(name, category, _unreadable, None, str)


def type_of(column: Column) -> Type:
    """The type of a column's values; domains stand for their base types.

    Category `X` means that nothing but `IS NULL` can be asked, `C` that not even this can: NULL is
    something else for composite values, which a domain may hide.
    """
    user_made = column.kind == "b" and not column.dims and column.type_oid >= _FIRST_USER_OID
    found = TYPES.get(column.base or column.type)
    if found is None or user_made or column.kind not in "bd":
        found = _unsupported(column)
    return array_of(found) if column.dims else found


def _unsupported(column: Column) -> Type:
    if column.enum is not None:
        return _enum(column.enum, column.labels or ())
    hidden = column.kind == "d" and column.base not in _BUILT_IN and not column.base.startswith("_")
    if (column.kind == "c" and not column.dims) or hidden:
        return _opaque(column.type, "C")
    return _opaque(column.type, "X")


_BUILT_IN = frozenset(("json", "jsonb", "bytea", "inet", "cidr", "timetz", "bit", "varbit", "xml"))
