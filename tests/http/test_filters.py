"""Filters over HTTP: snapshot and live changes agree, and refusals say where."""

from __future__ import annotations

import json

import pytest
from follower import Follower, ask
from serving import Serving
from tables import Tables


@pytest.mark.parametrize(
    ("where", "inside", "outside"),
    [
        ("lower(label) LIKE 'é%'", "ÉTÉ", "ete"),
        ("label ILIKE '%straße'", "STRAßE", "STRASSE"),
        ("price / 3 > 0.33 AND LENGTH(label) > 1", "ab", "a"),
        ("CASE WHEN qty = 0 THEN label = 'none' ELSE 100 / qty > 10 END", "none", "some"),
        ("COALESCE(note, label) || '!' = 'in!' AND qty % 2 = 0", "in", "out"),
    ],
)
def test_snapshot_and_changes_agree(
    server: Serving, tables: Tables, where: str, inside: str, outside: str
) -> None:
    name = tables.make("id int primary key, label text, note text, qty int, price numeric(10, 2)")
    tables.run(
        f"insert into {name} values (1, '{inside}', null, 0, 1), (2, '{outside}', null, 0, 1)"
    )
    follower = Follower(server.url, name, where=where).sync()
    assert [row["id"] for row in follower.rows.values()] == ["1"]
    tables.run(
        f"insert into {name} values (3, '{outside}', null, 0, 1), (4, '{inside}', null, 0, 1)"
    )
    assert [one["value"]["id"] for one in follower.take(1)] == ["4"]
    tables.run(f"update {name} set label = '{outside}' where id = 4")
    assert [one["headers"]["operation"] for one in follower.take(1)] == ["delete"]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("qty = 1/0", "At location 7: Failed to apply function to constant arguments: division"),
        ("id IN (SELECT 1)", "At location 3: subqueries are not supported"),
        ("label < 'a' OR qty > 1 +", "At location 39: syntax error at end of input"),
        ("qty + 1", "WHERE clause must return a boolean"),
    ],
)
def test_refusals(server: Serving, tables: Tables, where: str, message: str) -> None:
    name = tables.make("id int primary key, label text, qty int")
    answer = ask(server.url, table=name, where=where, offset="-1")
    assert answer.status == 400
    assert message in json.loads(answer.text)["errors"]["where"][0]


def test_generated_columns_that_are_not_replicated(server: Serving, tables: Tables) -> None:
    if int(tables.run("show server_version_num")[0][0]) >= 180000:
        pytest.skip("from 18 on they can be")
    name = tables.make("id int primary key, double int generated always as (id * 2) stored")
    answer = ask(server.url, table=name, columns="id", where="double = 2", offset="-1")
    assert answer.status == 400
    assert "generated and not replicated" in json.loads(answer.text)["errors"]["where"][0]
