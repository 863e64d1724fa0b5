"""A table for tests of where clauses, and short ways to ask about it."""

from __future__ import annotations

from collections.abc import Mapping

from engine.postgres.table import Column, Table
from shapes.where import Condition, Row, WhereError, parse_where

_FIRST_USER_OID = 16_384


MOODS = ("sad", "ok", "happy")


def _text(name: str, collation: str = "default", *, deterministic: bool = True) -> Column:
    bytewise = collation in ("C", "POSIX")
    return Column(
        name, "text", 25, collation=collation, deterministic=deterministic, bytewise=bytewise
    )


TABLE = Table(
    4711,
    "public",
    "everything",
    (
        Column("id", "text", 25, key_index=0, not_null=True, collation="C"),
        Column("i2", "int2", 21),
        Column("i4", "int4", 23),
        Column("i8", "int8", 20),
        Column("n", "numeric", 1700),
        Column("f4", "float4", 700),
        Column("f8", "float8", 701),
        Column("b", "bool", 16),
        _text("t"),
        _text("c", "C"),
        _text("posix", "POSIX"),
        _text("nocase", "nocase", deterministic=False),
        Column("vc", "varchar", 1043, collation="C"),
        Column("ch", "bpchar", 1042, modifier=8, collation="C"),
        Column("nm", "name", 19, collation="C"),
        Column("u", "uuid", 2950),
        Column("d", "date", 1082),
        Column("ts", "timestamp", 1114),
        Column("tz", "timestamptz", 1184),
        Column("tm", "time", 1083),
        Column("iv", "interval", 1186),
        Column("e", "mood", _FIRST_USER_OID, kind="e", enum="public.mood", labels=MOODS),
        Column("e2", "weather", _FIRST_USER_OID + 1, kind="e", enum="public.weather", labels=MOODS),
        Column("j", "jsonb", 3802),
        Column("by", "bytea", 17),
        Column("ip", "inet", 869),
        Column("point", "pair", _FIRST_USER_OID + 2, kind="c"),
        Column("small", "small", _FIRST_USER_OID + 3, kind="d", base="int4"),
        Column("hidden", "hidden", _FIRST_USER_OID + 4, kind="d", base="pair"),
        Column("fake", "text", _FIRST_USER_OID + 5),
        Column("gone", "int4", 23, generated=True, virtual=True),
        Column("tags", "text", 1009, dims=1, collation="C"),
        Column("ia", "int4", 1007, dims=1),
        Column("na", "numeric", 1231, dims=1),
        Column("ba", "bool", 1000, dims=1),
        Column("va", "varchar", 1015, dims=1, collation="C"),
        Column('Odd "Name', "text", 25, collation="C"),
        Column("time", "int4", 23),
        Column("js", "json", 114),
        Column("tt", "timetz", 1266),
        Column("mac", "macaddr", 829),
        Column(
            "moods", "mood", _FIRST_USER_OID + 6, dims=1, kind="e", enum="public.mood", labels=MOODS
        ),
        Column(
            "temper",
            "temper",
            _FIRST_USER_OID + 7,
            kind="d",
            base="mood",
            enum="public.mood",
            labels=MOODS,
        ),
        Column(
            "odd", "Odd", _FIRST_USER_OID + 8, kind="e", enum='other."Odd"', labels=("it's", "")
        ),
    ),
)
POSITIONS = {column.name: place for place, column in enumerate(TABLE.columns)}
COLUMNS = {column.name: column for column in TABLE.columns}


def parse(clause: str, *params: str) -> Condition:
    """The condition of a clause with `$1`, `$2` and so on."""
    return parse_where(clause, dict(enumerate(params, 1)), TABLE)


def row(**values: str | int | None) -> Row:
    """A row with these values, NULL in all other columns."""
    return full_row(values)


def full_row(values: Mapping[str, str | int | None]) -> Row:
    assert values.keys() <= POSITIONS.keys()
    return [values.get(name) for name in POSITIONS]


def holds(clause: str, *params: str, **values: str | int | None) -> bool:
    """Whether a clause is TRUE of a row."""
    return parse(clause, *params).compile(POSITIONS)(row(**values))


def truth(clause: str, **values: str | int | None) -> bool | None:
    """TRUE, FALSE or NULL of a row."""
    found = [
        outcome
        for outcome, test in ((True, "TRUE"), (False, "FALSE"), (None, "UNKNOWN"))
        if holds(f"({clause}) IS {test}", **values)
    ]
    (outcome,) = found
    assert holds(clause, **values) == (outcome is True)
    assert holds(f"NOT ({clause})", **values) == (outcome is False)
    return outcome


def error(clause: str, *params: str) -> str:
    """The message with which a clause is refused."""
    try:
        condition = parse(clause, *params)
    except WhereError as refusal:
        return str(refusal)
    raise AssertionError(f"accepted as {condition.sql}")
