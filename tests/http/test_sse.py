"""Server-sent events."""

from __future__ import annotations

import threading
import time
from typing import Any

from follower import Follower, Message, ask, changes_of, controls_of, ends_up_to_date, events
from serving import Serving
from tables import Tables


def place_of(reader: Follower) -> dict[str, Any]:
    return {**reader.parameters, "offset": reader.offset, "handle": reader.handle}


def resume_at(batch: list[Message]) -> str:
    """Where a client goes on after a batch, as it makes that out for itself."""
    return f"{batch[-1]['headers']['global_last_seen_lsn']}_0"


def test_commits_come_one_by_one(server: Serving, tables: Tables) -> None:
    name = tables.make("id int primary key, label text")
    reader = Follower(server.url, name).sync()
    with events(server.url, **place_of(reader)) as stream:
        for number in range(5):
            tables.run(f"insert into {name} values ({number}, 'a')")
            batch = stream.next_batch()
            reader.take_in(batch)
            assert [one["value"]["id"] for one in changes_of(batch)] == [str(number)]
        tables.run(f"update {name} set label = 'b'; delete from {name} where id = 0")
        batch = stream.next_batch()
        reader.take_in(batch)
        assert len(changes_of(batch)) == 6
    # What came as events is what the log says.
    start, reader.offset = reader.offset, resume_at(batch)
    assert reader.step().changes == []
    assert reader.request(offset=start).changes == reader.changes


def test_backlog_comes_first(server: Serving, tables: Tables) -> None:
    name = tables.make("id int primary key")
    reader = Follower(server.url, name).sync()
    asked = place_of(reader)
    tables.run(f"insert into {name} values (1)")
    tables.run(f"insert into {name} values (2)")
    reader.take(2)
    with events(server.url, **asked) as stream:
        # A client that is cut off before the up-to-date goes on from this header.
        assert stream.answer.offset == asked["offset"]
        assert [one["value"]["id"] for one in changes_of(stream.next_batch())] == ["1", "2"]
        tables.run(f"insert into {name} values (3)")
        assert [one["value"]["id"] for one in changes_of(stream.next_batch())] == ["3"]


def test_backlog_of_many_chunks_is_one_batch(brief: Serving, brief_tables: Tables) -> None:
    name = brief_tables.make("id int primary key, label text")
    reader = Follower(brief.url, name).sync()
    asked = place_of(reader)
    insert = f"insert into {name} select i, repeat('x', 150) from generate_series(1, 300) i"
    brief_tables.run(insert)
    while len(reader.changes) < 300:
        reader.step(live=reader.live)
    with events(brief.url, **asked) as stream:
        batch = stream.next_batch()
    assert changes_of(batch) == reader.changes
    assert controls_of(batch) == ["up-to-date"]


def test_straight_from_the_snapshot(server: Serving, tables: Tables) -> None:
    name = tables.make("id int primary key")
    tables.run(f"insert into {name} values (1)")
    first = ask(server.url, table=name, offset=-1)
    tables.run(f"insert into {name} values (2)")
    with events(server.url, table=name, offset="0_0", handle=first.handle) as stream:
        cut_off = stream.answer.offset
        batch: list[Message] = []
        while not changes_of(batch):
            batch = stream.next_batch()
    assert [one["value"]["id"] for one in changes_of(batch)] == ["2"]
    again = ask(server.url, table=name, offset=cut_off, handle=first.handle)
    assert again.changes == changes_of(batch)


def test_silence_is_broken_and_the_stream_ends(brief: Serving, brief_tables: Tables) -> None:
    reader = Follower(brief.url, brief_tables.make("id int primary key")).sync()
    begin = time.monotonic()
    with events(brief.url, **place_of(reader)) as stream:
        messages = stream.rest()
    assert 1.5 <= time.monotonic() - begin < 10
    assert changes_of(messages) == []
    assert set(stream.comments) == {"keep-alive"}
    assert len(stream.comments) <= 4


def test_the_stream_resumes_exactly(brief: Serving, brief_tables: Tables) -> None:
    """Cut by the server every 1.5 s and by the client in between, while others write."""
    name = brief_tables.make("id int primary key, label text")
    reader = Follower(brief.url, name, where="label <> 'out'").sync()
    ended = threading.Event()
    writers = [threading.Thread(target=_write, args=(brief_tables, name, n, ended)) for n in (0, 1)]
    for writer in writers:
        writer.start()
    connections = 0
    begin = time.monotonic()
    while time.monotonic() - begin < 4:
        connections += 1
        with events(brief.url, **place_of(reader)) as stream:
            for _ in range(connections % 7 + 1):
                try:
                    batch = stream.next_batch()
                except StopIteration:
                    break
                # The follower refuses what comes twice, and what does not fit what came before.
                reader.take_in(batch)
                reader.offset = resume_at(batch)
    ended.set()
    for writer in writers:
        writer.join()
    assert connections > 5
    assert len(reader.changes) > 20
    tables_end = brief_tables.run("select pg_current_wal_insert_lsn() - '0/0'")[0][0]
    brief_tables.run(f"insert into {name} values (-1, 'end')")
    while '"public"."' + name + '"/"-1"' not in reader.rows:
        reader.step()
    assert int(reader.offset.split("_")[0]) >= tables_end
    held = sorted((int(row["id"]), row["label"]) for row in reader.values())
    assert held == brief_tables.run(f"select * from {name} where label <> 'out' order by id")


def _write(tables: Tables, name: str, seed: int, ended: threading.Event) -> None:
    """Small transactions on a few rows: new, changed, moved in and out, gone."""
    with tables.transaction() as connection:
        for number in range(1_000_000):
            row = 2 * (number * 7 % 20) + seed
            label = ("in", "out", f"n{number}")[number % 3]
            connection.execute(
                f"insert into {name} values (%s, %s)"
                " on conflict (id) do update set label = excluded.label".encode(),
                (row, label),
            )
            if number % 5 == 0:
                connection.execute(f"delete from {name} where id = %s".encode(), (row,))
            connection.commit()
            if ended.wait(0.002):
                return


def test_adjacent_commits_are_told_apart(server: Serving, tables: Tables) -> None:
    """One commit record right after the other: the end of the first is the place of the second."""
    name = tables.make("id int primary key")
    reader = Follower(server.url, name).sync()
    adjacent = 0
    for number in range(0, 20, 2):
        with tables.transaction() as one, tables.transaction() as other:
            one.execute(f"insert into {name} values ({number})".encode())
            other.execute(f"insert into {name} values ({number + 1})".encode())
            before = reader.offset
            with events(server.url, **place_of(reader)) as stream:
                one.commit()
                batch = stream.next_batch()
            reader.take_in(batch)
            reader.offset = resume_at(batch)
            other.commit()
        first, second = reader.take(2)
        assert reader.request(offset=resume_at(batch)).changes == [second]
        at_first = f"{first['headers']['lsn']}_{first['headers']['op_position']}"
        assert reader.request(offset=at_first).changes == [second]
        assert reader.request(offset=before).changes == [first, second]
        adjacent += resume_at(batch) == f"{int(second['headers']['lsn']) - 1}_0"
    assert adjacent, "no commits were adjacent"


def test_shape_that_ends(server: Serving, tables: Tables) -> None:
    name = tables.make("id int primary key")
    tables.run(f"insert into {name} values (1)")
    reader = Follower(server.url, name).sync()
    with events(server.url, **place_of(reader)) as stream:
        tables.run(f"truncate {name}")
        rest = stream.rest()
    assert "must-refetch" not in controls_of(rest)
    again = ask(server.url, live=True, live_sse=True, **place_of(reader))
    assert again.status == 409
    assert again.headers.get("electric-handle") != reader.handle


def test_what_is_wrong_at_once_is_an_ordinary_answer(server: Serving, tables: Tables) -> None:
    name = tables.make("id int primary key")
    stream: dict[str, Any] = {"live": True, "live_sse": True, "experimental_live_sse": True}
    unknown = ask(server.url, table=name, offset="0_0", handle="1-1", **stream)
    assert unknown.status == 409
    assert unknown.headers["content-type"] == "application/json; charset=utf-8"
    refused = ask(server.url, table=name, offset="x", handle="1-1", **stream)
    assert (refused.status, refused.error["errors"]) == (400, {"offset": ["has invalid format"]})


def test_the_deprecated_name_of_the_parameter(server: Serving, tables: Tables) -> None:
    name = tables.make("id int primary key")
    reader = Follower(server.url, name).sync()
    tables.run(f"insert into {name} values (1)")
    with events(
        server.url, live_sse=None, experimental_live_sse=True, **place_of(reader)
    ) as stream:
        assert ends_up_to_date(stream.next_batch())
