"""A row looks the same wherever it appears: its values and its key, in the snapshot and in the log."""

from __future__ import annotations

import json
from typing import Any

import pytest
from follower import Follower, ask
from serving import Serving
from tables import Tables

# A column's type, an expression, and what it must be in JSON.
VALUES: list[tuple[str, str, str | None]] = [
    ("bool", "true", "t"),
    ("bool", "false", "f"),
    ("int2", "-32768", "-32768"),
    ("int8", "9223372036854775807", "9223372036854775807"),
    ("float4", "0.1", "0.1"),
    ("float8", "'NaN'", "NaN"),
    ("float8", "'-Infinity'", "-Infinity"),
    ("float8", "1e300", "1e+300"),
    ("numeric", "12.50", "12.50"),
    ("numeric(6,2)", "3.5", "3.50"),
    ("numeric", "'NaN'", "NaN"),
    ("text", "'as is'", "as is"),
    ("text", "''", ""),
    ("text", "null", None),
    (
        "text",
        "e'tab\\t newline\\n quote\" back\\\\slash control\\x01\\x02'",
        'tab\t newline\n quote" back\\slash control\x01\x02',
    ),
    ("text", "e'\\u2028 \\U0001F600 \\u00e9 \\x7f'", "\u2028 \U0001f600 é \x7f"),
    ("varchar(5)", "'abc'", "abc"),
    ("char(4)", "'ab'", "ab  "),
    ('"char"', "'c'", "c"),
    ("name", "'a name'", "a name"),
    ("uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("bytea", "'\\x01ff00'", "\\x01ff00"),
    ("date", "'2026-03-01'", "2026-03-01"),
    ("date", "'infinity'", "infinity"),
    ("date", "'0044-03-15 BC'", "0044-03-15 BC"),
    ("time", "'10:20:30'", "10:20:30"),
    ("timetz", "'10:20:30+02'", "10:20:30+02"),
    ("timestamp", "'2026-03-01 10:20:30.5'", "2026-03-01 10:20:30.5"),
    ("timestamptz", "'2026-03-01 12:20:30.5+02'", "2026-03-01 10:20:30.5+00"),
    ("interval", "'1 day 2 hours'", "P1DT2H"),
    ("json", '\'{"a" : [1,  "x\\"y"]}\'', '{"a" : [1,  "x\\"y"]}'),
    ("jsonb", '\'{"b": "é/\\\\", "a": null}\'', '{"a": null, "b": "é/\\\\"}'),
    ("int[]", "'{1,2,null}'", "{1,2,NULL}"),
    ("text[]", '\'{{a,"b c"},{d,"e\\"f"}}\'', '{{a,"b c"},{d,"e\\"f"}}'),
    ("text[]", "'{}'", "{}"),
    ("bool[]", "'{t,f}'", "{t,f}"),
    ("bytea[]", "array['\\x01'::bytea]", '{"\\\\x01"}'),
    ("timestamptz[]", "array['2026-03-01 12:00+02'::timestamptz]", '{"2026-03-01 10:00:00+00"}'),
    ("inet", "'10.0.0.1/8'", "10.0.0.1/8"),
    ("cidr", "'10.0.0.0/8'", "10.0.0.0/8"),
    ("macaddr", "'08:00:2b:01:02:03'", "08:00:2b:01:02:03"),
    ("bit(4)", "b'1010'", "1010"),
    ("varbit", "b'1'", "1"),
    ("int4range", "'[1,5)'", "[1,5)"),
    ("tstzrange", "'[2026-01-01 00:00+00,)'", '["2026-01-01 00:00:00+00",)'),
    ("point", "'(1,2)'", "(1,2)"),
    ("money", "12.5::numeric::money", "$12.50"),
    ("tsvector", "'a fat cat'", "'a' 'cat' 'fat'"),
    ("pg_lsn", "'16/B374D848'", "16/B374D848"),
    ("mood", "'so so'", "so so"),
    ("mood[]", "'{\"so so\",happy}'", '{"so so",happy}'),
    ("positive", "7", "7"),
    ("positives", "'{1,2}'", "{1,2}"),
    ("pair", "row(1, 'a,b')", '(1,"a,b")'),
]


@pytest.fixture(scope="module")
def types(tables: Tables) -> None:
    tables.run(
        "create type mood as enum ('sad', 'so so', 'happy');"
        "create domain positive as int check (value > 0);"
        "create domain positives as int[];"
        "create type pair as (a int, b text)"
    )


@pytest.mark.usefixtures("types")
def test_every_type(server: Serving, tables: Tables) -> None:
    columns = ", ".join(f"c{number} {kind}" for number, (kind, _, _) in enumerate(VALUES))
    name = tables.make(f"id int primary key, {columns}")
    values = ", ".join(expression for _, expression, _ in VALUES)
    tables.run(f"insert into {name} values (1, {values})")
    reader = Follower(server.url, name).sync()
    tables.run(f"insert into {name} values (2, {values})")
    tables.run(f"delete from {name} where id = 2")
    assert reader.take(2)[0]["value"] == reader.rows[f'"public"."{name}"/"1"'] | {"id": "2"}
    row = reader.values()[0]
    for number, (kind, expression, expected) in enumerate(VALUES):
        assert row[f"c{number}"] == expected, (kind, expression)
    nulls = ", ".join("null" for _ in VALUES)
    tables.run(f"insert into {name} values (3, {nulls})")
    assert set(reader.take(1)[0]["value"].values()) == {"3", None}
    # A reader of both rows' snapshots has what the log brought.
    again = Follower(server.url, name, where="id > 0").sync()
    assert again.rows == reader.rows


ODD = [
    "plain",
    "with/slash",
    "//",
    'quo"te',
    "quo''te",
    "back\\slash",
    "",
    " ",
    "a.b",
    "é 😀",
    "tab\t\nnewline",
    "_",
    "null",
    '"/"',
    "\x01\x02\x1f",
    "%s $1 :x",
]


@pytest.mark.parametrize("kind", ["text", "varchar(40)", "char(12)"])
def test_odd_characters_in_keys(server: Serving, tables: Tables, kind: str) -> None:
    name = tables.make(f"a {kind}, b {kind}, n int, primary key (a, b)")
    insert = f"insert into {name} values (%s, %s, %s)"
    for number, odd in enumerate(ODD):
        tables.run(insert, odd, ODD[number - 1], number)
    before = Follower(server.url, name).sync()
    assert len(before.rows) == len(ODD)
    tables.run(f"update {name} set n = n + 1")
    tables.run(f"delete from {name}")
    assert {change["key"] for change in before.take(2 * len(ODD))} == {
        change["key"] for change in before.changes[: len(ODD)]
    }
    assert before.rows == {}


def test_keys_escape_slashes_only(server: Serving, tables: Tables) -> None:
    name = tables.make("a text, b inet, primary key (a, b)")
    tables.run(f"insert into {name} values (%s, '10.0.0.0/8')", 'a/"b"')
    reader = Follower(server.url, name).sync()
    assert list(reader.rows) == [f'"public"."{name}"/"a//"b""/"10.0.0.0//8"']
    tables.run(f"delete from {name}")
    reader.take(1)


@pytest.mark.parametrize(
    ("schema", "name", "label"),
    [
        ("public", "Mixed Case", '"public"."Mixed Case"'),
        ("Odd.Schema", "my.table", '"Odd..Schema"."my..table"'),
        ("public", "a/b", '"public"."a//b"'),
        ("public", 'say "hi"', '"public"."say "hi""'),
        ("public", "größe 😀", '"public"."größe 😀"'),
        ("public", "back\\slash%", '"public"."back\\slash%"'),
        ("public", "it's", '"public"."it\'s"'),
    ],
)
def test_odd_table_names(
    server: Serving, tables: Tables, schema: str, name: str, label: str
) -> None:
    quoted = ".".join('"' + part.replace('"', '""') + '"' for part in (schema, name))
    tables.run(
        f'create schema if not exists "{schema}";'
        f"create table {quoted} (id int primary key, label text);"
        f"insert into {quoted} values (1, 'a')"
    )
    reader = Follower(server.url, quoted).sync()
    assert list(reader.rows) == [f'{label}/"1"']
    tables.run(f"update {quoted} set label = 'b'")
    tables.run(f"insert into {quoted} values (2, 'c')")
    for change in reader.take(2):
        assert change["headers"]["relation"] == [schema, name]
    assert list(reader.rows) == [f'{label}/"1"', f'{label}/"2"']


def test_odd_column_names(server: Serving, tables: Tables) -> None:
    names = ["Mixed", 'quo"te', "com,ma", "back\\slash", "größe", "😀", "it's", "a/b", "%s", "id "]
    names += ["r", "t", "key", "value"]  # as in the query that takes the snapshot
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    name = tables.make("id int primary key, " + ", ".join(f"{one} int" for one in quoted))
    tables.run(f"insert into {name} values (1, {', '.join('7' for _ in names)})")
    reader = Follower(server.url, name).sync()
    row = {"id": "1"} | dict.fromkeys(names, "7")
    assert reader.values() == [row]
    tables.run(f"insert into {name} values (2, {', '.join('7' for _ in names)})")
    assert reader.take_operations(1) == [("insert", row | {"id": "2"})]
    chosen = Follower(server.url, name, columns=",".join(["id", *quoted[:5]]))
    answer = chosen.request()
    assert answer.headers["electric-schema"].isascii()
    assert set(json.loads(answer.headers["electric-schema"])) == {"id", *names[:5]}
    filtered = Follower(server.url, name, where=f"{quoted[1]} = 7 and {quoted[4]} > 1").sync()
    assert filtered.values() == reader.values()


SCHEMA: list[tuple[str, dict[str, Any]]] = [
    ("int2 not null", {"type": "int2", "not_null": True}),
    ("bool", {"type": "bool"}),
    ("varchar(7)", {"type": "varchar", "max_length": 7}),
    ("varchar", {"type": "varchar"}),
    ("char(4)", {"type": "bpchar", "length": 4}),
    ("bit(5)", {"type": "bit", "length": 5}),
    ("varbit(6)", {"type": "varbit", "length": 6}),
    ("numeric", {"type": "numeric"}),
    ("numeric(6,2)", {"type": "numeric", "precision": 6, "scale": 2}),
    ("numeric(6)", {"type": "numeric", "precision": 6, "scale": 0}),
    ("numeric(3,-2)", {"type": "numeric", "precision": 3, "scale": -2}),
    ("time(3)", {"type": "time", "precision": 3}),
    ("timestamptz(2)", {"type": "timestamptz", "precision": 2}),
    ("timestamp", {"type": "timestamp"}),
    ("interval", {"type": "interval"}),
    ("interval(4)", {"type": "interval", "precision": 4}),
    ("interval year to month", {"type": "interval", "fields": "YEAR TO MONTH"}),
    ("interval day to second(3)", {"type": "interval", "fields": "DAY TO SECOND", "precision": 3}),
    ("interval hour", {"type": "interval", "fields": "HOUR"}),
    ("int[]", {"type": "int4", "dims": 1}),
    ("text[][]", {"type": "text", "dims": 2}),
    ("varchar(9)[]", {"type": "varchar", "dims": 1, "max_length": 9}),
    ("jsonb", {"type": "jsonb"}),
    ("bytea", {"type": "bytea"}),
    ("mood", {"type": "mood"}),
    ("mood[]", {"type": "mood", "dims": 1}),
    ("positive", {"type": "positive"}),
    ("pair", {"type": "pair"}),
]


@pytest.mark.usefixtures("types")
def test_schema_header(server: Serving, tables: Tables) -> None:
    # A scale below zero is new in Postgres 15.
    old = int(tables.run("show server_version_num")[0][0]) < 150000
    known = [each for each in SCHEMA if not (old and "-" in each[0])]
    columns = ", ".join(f"c{number} {kind}" for number, (kind, _) in enumerate(known))
    name = tables.make(f"{columns}, k1 text, k0 int8, primary key (k0, k1)")
    schema = json.loads(ask(server.url, table=name, offset=-1).headers["electric-schema"])
    assert schema.pop("k0") == {"type": "int8", "pk_index": 0, "not_null": True}
    assert schema.pop("k1") == {"type": "text", "pk_index": 1, "not_null": True}
    for number, (kind, expected) in enumerate(known):
        assert schema.pop(f"c{number}") == expected, kind
    assert schema == {}


def test_schema_header_of_selected_columns(server: Serving, tables: Tables) -> None:
    name = tables.make("id int primary key, a text, b text")
    answer = ask(server.url, table=name, offset=-1, columns="b,id")
    assert set(json.loads(answer.headers["electric-schema"])) == {"id", "b"}


def test_array_without_declared_dimensions(server: Serving, tables: Tables) -> None:
    """Clients parse an array only if the header says that it is one."""
    name = tables.make("id int primary key")
    tables.run(f"create table {name}_made as select 1 as id, array[1,2] as list")
    schema = ask(server.url, table=f"{name}_made", offset=-1).headers["electric-schema"]
    assert json.loads(schema)["list"] == {"type": "int4", "dims": 1}
