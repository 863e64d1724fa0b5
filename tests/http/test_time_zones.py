"""Filters that name a time zone: the database is asked what it means."""

from __future__ import annotations

import pytest
from follower import Follower, ask
from serving import Serving
from tables import Tables

# In Berlin midnight is at 22:00 UTC in summer, at 23:00 in winter.
CLAUSE = "(at AT TIME ZONE 'Europe/Berlin')::date = '2026-07-02'"


@pytest.fixture
def moments(tables: Tables) -> str:
    return tables.make("id int primary key, at timestamptz")


def test_snapshot_and_changes_agree(server: Serving, tables: Tables, moments: str) -> None:
    tables.run(f"insert into {moments} values (1, '2026-07-01 21:59Z'), (2, '2026-07-01 22:00Z')")
    follower = Follower(server.url, moments, where=CLAUSE).sync()
    assert [row["id"] for row in follower.values()] == ["2"]
    tables.run(
        f"insert into {moments} values (3, '2026-07-01 21:00Z'), (4, '2026-07-02 21:59Z');"
        f"update {moments} set at = at + interval '1 minute'"
    )
    assert sorted((operation, value["id"]) for operation, value in follower.take_operations(4)) == [
        ("delete", "4"),
        ("insert", "1"),
        ("insert", "4"),
        ("update", "2"),
    ]


def test_a_zone_that_does_not_exist(server: Serving, moments: str) -> None:
    answer = ask(server.url, table=moments, offset=-1, where="at AT TIME ZONE 'Nowhere' IS NULL")
    assert answer.status == 400
    assert answer.error["errors"] == {
        "where": ['At location 3: time zone "Nowhere" not recognized']
    }
