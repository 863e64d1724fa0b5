"""Waiting for changes with long polls."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
from follower import UNUSED_TLS, WAIT_SECONDS, Follower, ask, controls_of, query
from serving import Serving
from tables import Tables


def test_a_poll_ends_after_its_timeout(brief: Serving, brief_tables: Tables) -> None:
    reader = Follower(brief.url, brief_tables.make("id int primary key")).sync()
    begin = time.monotonic()
    answer = reader.request(live=True)
    assert time.monotonic() - begin >= 0.4
    assert answer.offset == reader.offset
    assert controls_of(answer.messages) == ["up-to-date"]


def test_a_poll_goes_on_after_a_timeout(brief: Serving, brief_tables: Tables) -> None:
    name = brief_tables.make("id int primary key")
    reader = Follower(brief.url, name).sync()
    for number in range(3):
        reader.step(live=True)
        brief_tables.run(f"insert into {name} values ({number})")
        assert reader.take_operations(1) == [("insert", {"id": str(number)})]


async def polls(server: Serving, reader: Follower, count: int) -> list[httpx.Response]:
    """Answers to that many equal live requests, each on a connection of its own."""
    asked = query(
        **reader.parameters, handle=reader.handle, offset=reader.offset, live=True, cursor=""
    )
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(timeout=WAIT_SECONDS, limits=limits, verify=UNUSED_TLS) as http:
        url = f"{server.url}/v1/shape"
        return await asyncio.gather(*(http.get(url, params=asked) for _ in range(count)))


async def test_many_who_wait_get_the_same_answer(server: Serving, tables: Tables) -> None:
    name = tables.make("id int primary key, label text")
    reader = Follower(server.url, name, where="id > 0").sync()
    waiting = asyncio.create_task(polls(server, reader, 60))
    # Some have begun to wait by the first change, some not; none may miss anything.
    for number in (-1, 1, 2):
        await asyncio.sleep(0.15)
        tables.run(f"insert into {name} values ({number}, 'x')")
    answers = await waiting
    assert {answer.status_code for answer in answers} == {200}
    for answer in answers:
        ids = [one["value"]["id"] for one in answer.json() if "value" in one]
        assert ids in (["1"], ["1", "2"])
    by_offset = {answer.headers["electric-offset"]: answer.text for answer in answers}
    for answer in answers:
        assert answer.text == by_offset[answer.headers["electric-offset"]]


async def test_a_waiting_poll_learns_of_a_truncate(server: Serving, tables: Tables) -> None:
    name = tables.make("id int primary key")
    tables.run(f"insert into {name} values (1)")
    reader = Follower(server.url, name).sync()
    waiting = asyncio.create_task(polls(server, reader, 8))
    await asyncio.sleep(0.2)
    begin = time.monotonic()
    await asyncio.to_thread(tables.run, f"truncate {name}")
    answers = await waiting
    assert time.monotonic() - begin < 10, "the polls ran out"
    for answer in answers:
        assert answer.status_code == 409
        assert answer.json() == [{"headers": {"control": "must-refetch"}}]
        assert answer.headers.get("electric-handle") != reader.handle
    again = Follower(server.url, name).sync()
    assert again.rows == {}
    assert again.handle != reader.handle


def test_other_shapes_move_on_with_the_log(server: Serving, tables: Tables) -> None:
    """Once any shape has shown a change, a later answer for any other shape says so."""
    busy, quiet = (tables.make("id int primary key") for _ in range(2))
    one, other = (Follower(server.url, name).sync() for name in (busy, quiet))
    for number in range(15):
        tables.run(f"insert into {busy} values ({number})")
        lsn = int(one.take(1)[0]["headers"]["lsn"])
        seen = other.step().messages[-1]["headers"]["global_last_seen_lsn"]
        assert int(seen) >= lsn


def test_an_offset_ahead_of_the_log_is_refused(brief: Serving, brief_tables: Tables) -> None:
    reader = Follower(brief.url, brief_tables.make("id int primary key")).sync()
    for live in (None, True):
        begin = time.monotonic()
        answer = reader.request(offset="9999999999999_0", live=live)
        assert time.monotonic() - begin >= 0.2
        assert answer.status == 400
        assert answer.error == {
            "message": "Invalid request",
            "errors": {"offset": ["out of bounds for this shape"]},
        }


def test_an_offset_ahead_of_the_log_is_waited_for(server: Serving, tables: Tables) -> None:
    name = tables.make("id int primary key, label text")
    reader = Follower(server.url, name).sync()
    with ThreadPoolExecutor() as threads:
        position = "select pg_current_wal_insert_lsn() - '0/0'"
        ahead = int(tables.run(position)[0][0]) + 20_000
        waiting = threads.submit(reader.request, offset=f"{ahead}_0")
        number = 0
        while not waiting.done():
            number += 1
            assert number < 2000
            tables.run(f"insert into {name} values ({number}, repeat('x', 500))")
        answer = waiting.result()
    assert answer.status == 200
    assert all(int(one["headers"]["lsn"]) >= ahead for one in answer.changes)
    reader.take(number)


def test_any_offset_up_to_the_processed_log_is_in_bounds(server: Serving, tables: Tables) -> None:
    """Clients make offsets of positions that they know from other shapes."""
    busy, quiet = (tables.make("id int primary key") for _ in range(2))
    one, other = (Follower(server.url, name).sync() for name in (busy, quiet))
    tables.run(f"insert into {busy} values (1)")
    one.take(1)
    seen = one.step().messages[-1]["headers"]["global_last_seen_lsn"]
    answer = other.request(offset=f"{seen}_0")
    assert (answer.status, answer.changes) == (200, [])
    tables.run(f"insert into {quiet} values (1)")
    live = other.request(offset=answer.offset, live=True)
    assert [change["value"] for change in live.changes] == [{"id": "1"}]


@contextmanager
def stopped(pid: int) -> Generator[None]:
    """While this lasts a process takes no requests; others on its port do."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_client_goes_from_node_to_node(server: Serving, tables: Tables) -> None:
    name = tables.make("id int primary key, label text")
    tables.run(f"insert into {name} values (0, 'a')")
    first, second = server.node_pids()
    with stopped(second):
        reader = Follower(server.url, name).sync()
        tables.run(f"insert into {name} values (1, 'a')")
        reader.take(1)
    for number, pid in enumerate([first, second] * 3, 2):
        tables.run(f"update {name} set label = 'b{number}' where id = 0")
        with stopped(pid):
            tables.run(f"insert into {name} values ({number}, 'a')")
            reader.take(2)
    with stopped(first):
        fresh = Follower(server.url, name).sync()
    assert fresh.handle == reader.handle, "one snapshot serves both nodes"
    assert fresh.rows == reader.rows


def test_deleted_on_request(brief: Serving, brief_tables: Tables) -> None:
    name = brief_tables.make("id int primary key")
    brief_tables.run(f"insert into {name} values (1)")
    reader = Follower(brief.url, name).sync()
    deleted = ask(brief.url, method="DELETE", table=name)
    assert (deleted.status, deleted.text) == (202, "")
    assert deleted.headers["cache-control"] == "no-cache"
    answer = reader.request()
    assert answer.status == 409
    assert answer.headers.get("electric-handle") != reader.handle
    again = Follower(brief.url, name).sync()
    assert again.handle != reader.handle
    assert len(again.rows) == 1


def test_delete_of_what_is_not_there(brief: Serving, brief_tables: Tables) -> None:
    name = brief_tables.make("id int primary key")
    answer = ask(brief.url, method="DELETE", table=name)
    assert (answer.status, answer.error) == (404, {"message": "No existing shape found"})


def test_delete_is_off_by_default(server: Serving, tables: Tables) -> None:
    name = tables.make("id int primary key")
    answer = ask(server.url, method="DELETE", table=name)
    assert (answer.status, answer.error) == (405, {"message": "DELETE not allowed"})


def test_a_live_answer_is_no_larger_than_a_chunk(brief: Serving, brief_tables: Tables) -> None:
    name = brief_tables.make("id int primary key, filler text")
    reader = Follower(brief.url, name).sync()
    with ThreadPoolExecutor() as pool:
        # Whether it waits already when the rows come, or not, makes no difference.
        waiting = pool.submit(reader.step, live=True)
        rows = "select i, repeat('x', 1000) from generate_series(1, 35) i"
        brief_tables.run(f"insert into {name} {rows}")
        answers = [waiting.result()]
    while len(reader.changes) < 35:
        answers.append(reader.step(live=reader.live))
    answers = [answer for answer in answers if answer.changes]
    assert len(answers) >= 4
    assert max(len(answer.text) for answer in answers) < 12_000
    assert [answer.up_to_date for answer in answers] == [False] * (len(answers) - 1) + [True]


def test_a_live_request_within_the_snapshot(brief: Serving, brief_tables: Tables) -> None:
    name = brief_tables.make("id int primary key, filler text")
    brief_tables.run(
        f"insert into {name} select i, repeat('x', 1000) from generate_series(1, 25) i"
    )
    first = ask(brief.url, table=name, offset=-1)
    answer = ask(brief.url, table=name, offset="0_0", handle=first.handle, live=True, cursor="")
    assert answer.offset == "0_1"
    assert answer.headers["electric-cursor"].isdigit()
    assert "electric-schema" not in answer.headers
