"""Clients that ask for the next chunks before they have the last one, and for ones that never come."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from follower import Answer, Follower, ask, controls_of
from serving import Serving
from tables import Tables

CHUNK_BYTES = 10000
ROWS = 700
"""Of about 280 bytes of JSON each."""


@pytest.fixture(scope="module")
def large(brief_tables: Tables) -> str:
    name = brief_tables.make("id int primary key, label text")
    brief_tables.run(
        f"insert into {name} select i, repeat('x', 150) from generate_series(1, {ROWS}) i"
    )
    return name


def chunk(server: Serving, table: str, handle: str, offset: str) -> Answer:
    return ask(server.url, table=table, offset=offset, handle=handle)


@pytest.mark.parametrize("where", [None, "id > 0", "id > -1"])
def test_all_chunks_at_once(brief: Serving, large: str, where: str | None) -> None:
    """While the snapshot is still taken. What is beyond its end is the log."""
    first = ask(brief.url, table=large, offset=-1, where=where)
    with ThreadPoolExecutor(40) as threads:
        asked = [
            threads.submit(
                ask,
                brief.url,
                table=large,
                offset=f"0_{number}",
                handle=first.handle,
                where=where,
            )
            for number in range(40)
        ]
        answers = [one.result() for one in asked]
    found = [int(change["value"]["id"]) for change in first.changes]
    for number, answer in enumerate(answers):
        assert answer.status == 200
        assert answer.handle == first.handle
        in_snapshot = answer.offset.startswith("0_")
        assert answer.up_to_date == (not in_snapshot)
        if in_snapshot:
            assert answer.offset == f"0_{number + 1}"
        else:
            assert answer.changes == []
        found += [int(change["value"]["id"]) for change in answer.changes]
    assert sorted(found) == list(range(1, ROWS + 1))
    snapshot = [answer for answer in answers if not answer.up_to_date]
    assert 10 < len(snapshot) < 40
    ends = [controls_of(answer.messages) for answer in snapshot]
    assert ends == [[]] * (len(snapshot) - 1) + [["snapshot-end"]]
    for answer in [first, *snapshot[:-1]]:
        assert 0.8 * CHUNK_BYTES <= len(answer.text) <= 1.2 * CHUNK_BYTES


def test_a_row_larger_than_a_chunk(brief: Serving, brief_tables: Tables) -> None:
    name = brief_tables.make("id int primary key, label text")
    brief_tables.run(
        f"insert into {name} select i, repeat('x', 25000) from generate_series(1, 4) i"
    )
    reader = Follower(brief.url, name).sync()
    assert len(reader.rows) == 4
    start = reader.offset
    brief_tables.run(f"update {name} set label = repeat('y', 30000)")
    reader.take(4)
    again = Follower(brief.url, name)
    again.rows = {key: {"id": row["id"]} for key, row in reader.rows.items()}
    again.handle, again.offset = reader.handle, start
    per_answer = [len(again.step().changes) for _ in range(4)]
    assert sum(per_answer) == 4
    assert max(per_answer) == 1


def test_live_requests_in_the_snapshot_begin_at_its_end(
    brief: Serving, brief_tables: Tables
) -> None:
    """A suite may go live without an up-to-date before."""
    name = brief_tables.make("id int primary key")
    handle = ask(brief.url, table=name, offset=-1).handle
    brief_tables.run(f"insert into {name} values (1)")
    for offset in ("0_0", "0_inf"):
        answer = ask(brief.url, table=name, offset=offset, handle=handle, live="")
        assert answer.status == 200
        assert [change["value"] for change in answer.changes] == [{"id": "1"}]
        assert "electric-cursor" in answer.headers
        assert answer.up_to_date


def test_live_requests_in_the_middle_of_the_snapshot(brief: Serving, large: str) -> None:
    """A chunk, with what a live answer must have."""
    handle = ask(brief.url, table=large, offset=-1).handle
    answer = ask(brief.url, table=large, offset="0_0", handle=handle, live=True, cursor="")
    assert (answer.status, answer.offset) == (200, "0_1")
    assert answer.changes
    assert not answer.up_to_date
    assert answer.headers["electric-cursor"].isdigit()
    assert answer.headers["cache-control"] == "public, max-age=5, stale-while-revalidate=5"


def test_chunks_of_a_shape_that_has_ended(brief: Serving, brief_tables: Tables) -> None:
    name = brief_tables.make("id int primary key, label text")
    brief_tables.run(
        f"insert into {name} select i, repeat('x', 150) from generate_series(1, 200) i"
    )
    first = ask(brief.url, table=name, offset=-1)
    assert chunk(brief, name, first.handle, "0_0").status == 200
    brief_tables.run(f"truncate {name}")
    deadline = time.monotonic() + 20
    while chunk(brief, name, first.handle, "0_inf").status == 200:
        assert time.monotonic() < deadline, "it does not end"
    # Nobody follows it: that it has ended is found out by whoever comes to the log first.
    for offset in ("0_0", "0_1", "0_inf"):
        answer = chunk(brief, name, first.handle, offset)
        assert (answer.status, answer.text) == (409, '[{"headers":{"control":"must-refetch"}}]')
        assert answer.headers.get("electric-handle") != first.handle
