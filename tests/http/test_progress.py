"""`global_last_seen_lsn`, transaction ids and positions, over several shapes and ways to read."""

from __future__ import annotations

import time
from typing import Any

from follower import Follower, Message, ask, changes_of, events
from serving import Serving
from tables import Tables


def seen_of(messages: list[Message]) -> int:
    """The up-to-date at the end of these messages."""
    return int(messages[-1]["headers"]["global_last_seen_lsn"])


def test_what_one_shape_has_shown_every_other_knows_of(server: Serving, tables: Tables) -> None:
    """However the one is read; both nodes serve."""
    busy, quiet = (tables.make("id int primary key") for _ in range(2))
    one, other = (Follower(server.url, name).sync() for name in (busy, quiet))
    place = {**one.parameters, "offset": one.offset, "handle": one.handle}
    with events(server.url, **place) as stream:
        for number in range(20):
            tables.run(f"insert into {busy} values ({number})")
            if number % 2:
                changes = changes_of(stream.next_batch())
                one.take(1)
            else:
                changes = one.take(1)
                stream.next_batch()
            shown = int(changes[0]["headers"]["lsn"])
            assert seen_of(other.request().messages) >= shown
            now = ask(server.url, table=quiet, offset="now")
            assert seen_of(now.messages) >= shown
            fresh = ask(server.url, table=quiet, offset="0_0", handle=other.handle)
            assert seen_of(fresh.messages) >= shown


def test_it_never_goes_back(brief: Serving, brief_tables: Tables) -> None:
    """For one client of one shape, while another shape moves on: live, timed out, catching up."""
    busy, quiet = (brief_tables.make("id int primary key") for _ in range(2))
    Follower(brief.url, busy).sync()
    reader = Follower(brief.url, quiet).sync()
    seen: list[int] = []
    for number in range(12):
        brief_tables.run(f"insert into {busy} values ({number})")
        if number % 3 == 0:
            brief_tables.run(f"insert into {quiet} values ({number})")
        seen.append(seen_of(reader.step(live=number % 2 == 0).messages))
    assert seen == sorted(seen)
    assert len(set(seen)) > 3


def test_a_timed_out_poll_knows_what_has_passed(brief: Serving, brief_tables: Tables) -> None:
    busy, quiet = (brief_tables.make("id int primary key") for _ in range(2))
    one = Follower(brief.url, busy).sync()
    reader = Follower(brief.url, quiet).sync()
    brief_tables.run(f"insert into {busy} values (1)")
    lsn = int(one.take(1)[0]["headers"]["lsn"])
    deadline = time.monotonic() + 10
    while seen_of(reader.step(live=True).messages) < lsn:
        assert time.monotonic() < deadline


def test_positions_of_mixed_transactions(server: Serving, tables: Tables) -> None:
    """Every change of a transaction counts two, whichever table it concerns; a key change has both."""
    followed, other = (tables.make("id int primary key, label text") for _ in range(2))
    tables.run(f"insert into {followed} values (1, 'a'), (2, 'a')")
    Follower(server.url, other).sync()
    reader = Follower(server.url, followed, where="label = 'a'").sync()
    with tables.transaction() as connection:
        row = connection.execute("select pg_current_xact_id()::xid::text").fetchone()
        assert row is not None
        for statement in (
            f"insert into {other} values (1, 'a')",
            f"update {followed} set id = 11 where id = 1",
            f"insert into {followed} values (3, 'b')",
            f"update {followed} set label = 'b' where id = 2",
            f"insert into {other} values (2, 'a')",
        ):
            connection.execute(statement.encode())
    headers: list[dict[str, Any]] = [change["headers"] for change in reader.take(3)]
    assert [one["operation"] for one in headers] == ["delete", "insert", "delete"]
    first = headers[0]["op_position"]
    assert [one["op_position"] - first for one in headers] == [0, 1, 4]
    assert first % 2 == 0
    assert [one.get("last") for one in headers] == [None, None, True]
    for one in headers:
        assert one["txids"] == [int(row[0])]
        assert isinstance(one["lsn"], str)
        assert isinstance(one["op_position"], int)
    assert len({one["lsn"] for one in headers}) == 1
    assert reader.offset == f"{headers[0]['lsn']}_{headers[2]['op_position']}"


def test_a_subtransaction_has_its_transactions_id(server: Serving, tables: Tables) -> None:
    name = tables.make("id int primary key")
    reader = Follower(server.url, name).sync()
    with tables.transaction() as connection:
        row = connection.execute("select pg_current_xact_id()::xid::text").fetchone()
        assert row is not None
        with connection.transaction():
            connection.execute(f"insert into {name} values (1)".encode())
            with connection.transaction():
                connection.execute(f"insert into {name} values (2)".encode())
        connection.execute(f"insert into {name} values (3)".encode())
    assert [change["headers"]["txids"] for change in reader.take(3)] == [[int(row[0])]] * 3
