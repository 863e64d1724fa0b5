"""Filters on enum columns, whose labels may become more while shapes are followed."""

from __future__ import annotations

import secrets

import pytest
from follower import Follower, ask
from serving import Serving
from tables import Tables


@pytest.fixture
def moods(tables: Tables) -> tuple[str, str]:
    """An enum, and a table with a column of it."""
    enum = f"mood_{secrets.token_hex(4)}"
    tables.run(f"create type {enum} as enum ('sad', 'happy')")
    return enum, tables.make(f"id int primary key, mood {enum}")


def test_a_new_label_ends_nothing_and_can_be_used_at_once(
    server: Serving, tables: Tables, moods: tuple[str, str]
) -> None:
    enum, table = moods
    tables.run(f"insert into {table} values (1, 'sad'), (2, 'happy')")
    follower = Follower(server.url, table, where="mood <> 'sad'").sync()
    assert [row["id"] for row in follower.values()] == ["2"]
    tables.run(f"alter type {enum} add value 'so so' before 'happy'")
    tables.run(f"insert into {table} values (3, 'so so')")
    assert follower.take_operations(1) == [("insert", {"id": "3", "mood": "so so"})]
    between = Follower(server.url, table, where="mood BETWEEN 'sad' AND 'so so'").sync()
    assert [row["id"] for row in between.values()] == ["1", "3"]
    tables.run(f"update {table} set mood = 'so so' where id = 2")
    assert between.take_operations(1) == [("insert", {"id": "2", "mood": "so so"})]


def test_what_is_no_label(server: Serving, moods: tuple[str, str]) -> None:
    enum, table = moods
    answer = ask(server.url, table=table, offset=-1, where="mood = $1", params=["glad"])
    assert answer.status == 400
    assert answer.error["errors"] == {
        "where": [f'At location 7: invalid input value for enum {enum}: "glad"']
    }


def test_a_filter_by_order_is_made_anew_for_a_new_label(
    server: Serving, tables: Tables, moods: tuple[str, str]
) -> None:
    enum, table = moods
    tables.run(f"insert into {table} values (1, 'sad'), (2, 'happy')")
    follower = Follower(server.url, table, where="mood < 'happy'").sync()
    tables.run(f"alter type {enum} add value 'so so' before 'happy'")
    tables.run(f"insert into {table} values (3, 'so so')")
    # A node that looked the table up since knows the label; one that has not must not guess.
    answer = follower.request(live=True, cursor="")
    assert answer.status == 409 or [one["value"]["id"] for one in answer.changes] == ["3"]
    again = Follower(server.url, table, where="mood < 'happy'").sync()
    assert [row["id"] for row in again.values()] == ["1", "3"]
    tables.run(f"update {table} set mood = 'so so' where id = 2")
    assert again.take_operations(1) == [("insert", {"id": "2", "mood": "so so"})]
