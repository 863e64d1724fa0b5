"""A filter that cannot be evaluated for a row ends its shape, and no other."""

from __future__ import annotations

import json

import pytest
from follower import Follower, ask
from serving import Serving
from tables import Tables


@pytest.mark.parametrize("where", ["a::int > 0", "a::int = 1", "b = 1 and a::int > 0"])
def test_a_row_that_a_filter_fails_for(server: Serving, tables: Tables, where: str) -> None:
    name = tables.make("id int primary key, a text, b int")
    tables.run(f"insert into {name} values (1, '1', 1)")
    failing = Follower(server.url, name, where=where).sync()
    other = Follower(server.url, name, where="a = 'x'").sync()
    tables.run(f"insert into {name} values (2, 'x', 1)")
    assert other.take(1)[0]["value"]["a"] == "x"
    assert failing.request(live=True).status == 409
    # Postgres says what is wrong with it.
    answer = ask(server.url, table=name, where=where, offset="-1")
    assert answer.status == 503
    assert json.loads(answer.text)["message"] == (
        'Unable to create initial snapshot: invalid input syntax for type integer: "…"'
    )
    tables.run(f"update {name} set a = '1' where id = 2")
    again = Follower(server.url, name, where=where).sync()
    assert set(again.rows) == {f'"public"."{name}"/"{key}"' for key in (1, 2)}
    assert again.handle != failing.handle
