"""Transactions arrive whole, in order, once."""

from __future__ import annotations

import time

import psycopg
import pytest
from follower import Follower
from serving import Serving
from tables import Tables


@pytest.fixture
def items(tables: Tables) -> str:
    return tables.make("id int primary key, label text")


def test_changes_of_one_transaction(server: Serving, tables: Tables, items: str) -> None:
    other = tables.make("id int primary key")
    Follower(server.url, other).sync()
    reader = Follower(server.url, items).sync()
    tables.run(
        f"insert into {items} values (1, 'a');"
        f"insert into {other} values (1);"
        f"update {items} set label = 'b';"
        f"insert into {items} values (2, 'c');"
        f"delete from {items} where id = 1;"
        f"insert into {other} values (2)"
    )
    changes = reader.take(4)
    headers = [change["headers"] for change in changes]
    assert [one["operation"] for one in headers] == ["insert", "update", "insert", "delete"]
    assert len({one["lsn"] for one in headers}) == 1
    positions = [one["op_position"] for one in headers]
    # The other table's changes count too; a key change needs room for a second half.
    assert [position - positions[0] for position in positions] == [0, 4, 6, 8]
    assert [one.get("last") for one in headers] == [None, None, None, True]
    assert reader.offset == f"{headers[0]['lsn']}_{positions[-1]}"


def test_last_is_the_last_of_this_shape(server: Serving, tables: Tables, items: str) -> None:
    reader = Follower(server.url, items, where="label = 'in'").sync()
    tables.run(
        f"insert into {items} values (1, 'in'), (2, 'out'), (3, 'in'), (4, 'out');"
        f"insert into {items} values (5, 'out')"
    )
    first, second = (change["headers"] for change in reader.take(2))
    assert "last" not in first
    assert second["last"] is True
    assert second["op_position"] - first["op_position"] == 4


def test_in_commit_order(server: Serving, tables: Tables, items: str) -> None:
    reader = Follower(server.url, items).sync()
    with tables.transaction() as slow:
        slow.execute(f"insert into {items} values (1, 'began first')".encode())
        tables.run(f"insert into {items} values (2, 'committed first')")
        assert [one["value"]["id"] for one in reader.take(1)] == ["2"]
    assert [one["value"]["id"] for one in reader.take(1)] == ["1"]


def test_what_was_rolled_back_is_not_seen(server: Serving, tables: Tables, items: str) -> None:
    reader = Follower(server.url, items).sync()
    with pytest.raises(psycopg.errors.DivisionByZero):
        tables.run(f"insert into {items} values (1, 'never'); select 1 / 0")
    with tables.transaction() as connection:
        connection.execute(f"insert into {items} values (2, 'kept')".encode())
        with connection.transaction(force_rollback=True):
            connection.execute(f"insert into {items} values (3, 'undone')".encode())
            connection.execute(f"update {items} set label = 'undone'".encode())
        with connection.transaction():
            connection.execute(f"insert into {items} values (4, 'kept')".encode())
    assert [one["value"]["id"] for one in reader.take(2)] == ["2", "4"]
    assert [row["label"] for row in reader.values()] == ["kept", "kept"]


def test_open_during_a_transaction(server: Serving, tables: Tables, items: str) -> None:
    """The snapshot does not see it, so the log must bring it, from its beginning."""
    tables.run(f"insert into {items} values (1, 'a'), (2, 'b')")
    Follower(server.url, items, columns="id,label").sync()
    with tables.transaction() as connection:
        connection.execute(f"update {items} set label = 'x' where id = 1".encode())
        reader = Follower(server.url, items).sync()
        assert [row["label"] for row in reader.values()] == ["a", "b"]
        tables.run(f"delete from {items} where id = 2")
    assert reader.take_operations(2) == [
        ("delete", {"id": "2"}),
        ("update", {"id": "1", "label": "x"}),
    ]


def test_nothing_of_the_snapshot_is_repeated(server: Serving, tables: Tables, items: str) -> None:
    """Shapes opened right after a commit, while the log may still be behind."""
    for number in range(10):
        tables.run(f"insert into {items} values ({number}, 'a')")
        reader = Follower(server.url, items, where=f"id >= 0 and id <> {1000 + number}").sync()
        tables.run(f"update {items} set label = '{number}' where id = {number}")
        assert reader.take_operations(1) == [("update", {"id": str(number), "label": str(number)})]


def test_large_transaction_arrives_as_a_whole(server: Serving, tables: Tables, items: str) -> None:
    """Postgres sends it in parts while it is in progress, with what is rolled back in the end."""
    reader = Follower(server.url, items).sync()
    aside = Follower(server.url, items, where="id < 0").sync()
    insert = "insert into {} select i, repeat('x', {}) from generate_series({}, {}) i"
    with tables.transaction() as connection:
        connection.execute(insert.format(items, 100, 1, 10).encode())
        before = streamed(server, tables)
        with connection.transaction(force_rollback=True):
            connection.execute(insert.format(items, 500, 11, 50_000).encode())
            deadline = time.monotonic() + 60
            while streamed(server, tables) == before:
                assert time.monotonic() < deadline, "it was not sent in parts"
                time.sleep(0.01)
        # While it goes on, others are live.
        tables.run(f"insert into {items} values (-1, 'small')")
        assert aside.take_operations(1) == [("insert", {"id": "-1", "label": "small"})]
        reader.take(1)
        connection.execute(insert.format(items, 100, 11, 50_000).encode())
        connection.execute(f"insert into {items} values (-2, 'end')".encode())
    assert aside.take_operations(1) == [("insert", {"id": "-2", "label": "end"})]
    # The commit is there, so everything is.
    while not reader.step().up_to_date:
        pass
    changes = reader.changes[1:]
    assert len({change["headers"]["lsn"] for change in changes}) == 1
    assert [int(change["value"]["id"]) for change in changes] == [*range(1, 50_001), -2]
    assert [change["headers"].get("last") for change in changes] == [None] * 50_000 + [True]


def streamed(server: Serving, tables: Tables) -> int:
    """How often Postgres has sent a part of a transaction in progress."""
    slot = f"pgtide_{server.stream_id}"
    query = "select stream_count from pg_stat_replication_slots where slot_name = %s"
    return tables.run(query, slot)[0][0]
