"""A row's key is the same in the snapshot, in the log and in subsets, whatever it is made of."""

from __future__ import annotations

import json

import pytest
from follower import Follower
from serving import Serving
from tables import Tables


def keys_of_subset(reader: Follower) -> list[str]:
    answer = reader.request(subset__where="true")
    assert answer.status == 200, answer.text
    return sorted(row["key"] for row in json.loads(answer.text)["data"])


def check(server: Serving, tables: Tables, name: str, insert: str, change: str) -> list[str]:
    """The keys; the same however a row is learnt of, and in the messages that end it."""
    in_log = Follower(server.url, name).sync()
    tables.run(f"insert into {name} {insert}")
    count = tables.run(f"select count(*) from {name}")[0][0]
    in_log.take(count)
    in_snapshot = Follower(server.url, name, where="true").sync()
    assert in_snapshot.rows == in_log.rows
    keys = sorted(in_log.rows)
    assert keys_of_subset(in_log) == keys
    if change:
        tables.run(f"update {name} set {change}")
        assert {one["key"] for one in in_log.take(count)} == set(keys)
    tables.run(f"delete from {name}")
    assert {one["key"] for one in in_log.take(count)} == set(keys)
    return [key.partition("/")[2] for key in keys]


@pytest.mark.parametrize(
    ("columns", "insert", "parts"),
    [
        (
            "a int, n int, primary key (a)",
            "values (7, 0), (-7, 0)",
            ['"-7"', '"7"'],
        ),
        ("a text, b text, n int, primary key (b, a)", "values ('x', 'y', 0)", ['"y"/"x"']),
        (
            "a text, b text, n int, primary key (a, b)",
            "values ('', '', 0), ('/', '//', 0), ('\"', '\"/\"', 0), ('_', '.', 0)",
            ['""/""', '"""/""//""', '"//"/"////"', '"_"/"."'],
        ),
        (
            "a text, n int, primary key (a)",
            "values (e'\\x01\\x1f\\x7f'), (e'tab\\tline\\n\\r'), ('\U0001f600 é\u2028')",
            ['"\x01\x1f\x7f"', '"tab\tline\n\r"', '"\U0001f600 é\u2028"'],
        ),
        (
            "a timestamptz, b bytea, c numeric(8,3), d bool, n int, primary key (a, b, c, d)",
            "values ('2026-03-01 12:20:30.5+02', '\\x2f22', 1.5, true, 0)",
            ['"2026-03-01 10:20:30.5+00"/"\\x2f22"/"1.500"/"t"'],
        ),
        ("a date, b interval, n int, primary key (a, b)", "values ('infinity', '1 day 2 h')", None),
        ("a char(4), n int, primary key (a)", "values ('ab'), ('a/')", ['"a//  "', '"ab  "']),
        ("a int4range, n int, primary key (a)", "values ('[1,5)'), ('empty')", None),
    ],
)
def test_keys(
    server: Serving, tables: Tables, columns: str, insert: str, parts: list[str] | None
) -> None:
    found = check(server, tables, tables.make(columns), insert, "n = 1")
    if parts is not None:
        assert sorted(found) == sorted(parts)


@pytest.mark.parametrize(
    ("columns", "insert", "parts"),
    [
        ("a int, b text", "values (1, null), (null, 'x'), (null, null)", None),
        (
            "b text, a int",
            "values (null, 1), ('_', null), ('', 2)",
            ['""/"2"', '"_"/_', '_/"1"'],
        ),
        ("a jsonb, b text[]", 'values (\'{"k": "/"}\', \'{"a/b",null}\')', None),
    ],
)
def test_without_a_primary_key_all_columns_are_the_key(
    server: Serving, tables: Tables, columns: str, insert: str, parts: list[str] | None
) -> None:
    found = check(server, tables, tables.make(columns), insert, "")
    if parts is not None:
        assert sorted(found) == sorted(parts)


def test_long_keys(server: Serving, tables: Tables) -> None:
    name = tables.make("a text, b text, n int, primary key (a, b)")
    insert = "values (repeat('/', 700), repeat('\"é', 400), 0)"
    (key,) = check(server, tables, name, insert, "n = 1")
    assert key == '"' + "//" * 700 + '"/"' + '"é' * 400 + '"'


def test_equal_rows_without_a_primary_key_share_a_key(server: Serving, tables: Tables) -> None:
    name = tables.make("a int, b text")
    tables.run(f"insert into {name} values (1, 'x'), (1, 'x'), (2, null)")
    reader = Follower(server.url, name)
    answer = reader.request()
    assert [change["key"].partition("/")[2] for change in answer.changes] == [
        *('"1"/"x"', '"1"/"x"', '"2"/_')
    ]
