"""Reading a shape from its beginning: snapshot, log, chunks."""

from __future__ import annotations

import re

import pytest
from follower import Follower, ask, changes_of, controls_of
from serving import Serving
from tables import Tables

CHUNK_BYTES = 10000
PLAIN = re.compile(r"[1-9]\d*_\d+")
"""An offset in the log."""


def test_small_shape(server: Serving, tables: Tables) -> None:
    name = tables.make("id int primary key, label text")
    tables.run(f"insert into {name} values (1, 'one')")
    first = ask(server.url, table=name, offset=-1)
    assert first.offset == "0_0"
    assert not first.up_to_date
    row, end = first.messages
    assert row == {
        "key": f'"public"."{name}"/"1"',
        "value": {"id": "1", "label": "one"},
        "headers": {"operation": "insert", "relation": ["public", name]},
    }
    assert end["headers"].keys() == {"control", "xmin", "xmax", "xip_list"}
    assert end["headers"]["control"] == "snapshot-end"
    assert int(end["headers"]["xmin"]) <= int(end["headers"]["xmax"])

    second = ask(server.url, table=name, offset="0_0", handle=first.handle)
    assert second.up_to_date
    assert controls_of(second.messages) == ["up-to-date"]
    # Where Electric says 0_inf, pgtide gives a place in the log.
    assert PLAIN.fullmatch(second.offset)

    tables.run(f"update {name} set label = 'uno'")
    third = ask(server.url, table=name, offset=second.offset, handle=first.handle, live=True)
    assert third.up_to_date
    change, closing = third.messages
    assert change["value"] == {"id": "1", "label": "uno"}
    lsn = change["headers"]["lsn"]
    assert third.offset == f"{lsn}_{change['headers']['op_position']}"
    assert int(closing["headers"]["global_last_seen_lsn"]) > int(lsn)


def test_end_of_the_snapshot_by_its_electric_name(server: Serving, tables: Tables) -> None:
    name = tables.make("id int primary key")
    reader = Follower(server.url, name).sync()
    tables.run(f"insert into {name} values (1)")
    reader.take(1)
    answer = reader.request(offset="0_inf")
    assert answer.up_to_date
    assert [change["value"] for change in answer.changes] == [{"id": "1"}]


def test_empty_table(server: Serving, tables: Tables) -> None:
    name = tables.make("id int primary key, label text")
    first = ask(server.url, table=name, offset=-1)
    assert controls_of(first.messages) == ["snapshot-end"]
    assert first.headers["electric-schema"].startswith("{")
    assert first.changes == []


def test_now_skips_history(server: Serving, tables: Tables) -> None:
    name = tables.make("id int primary key")
    tables.run(f"insert into {name} values (1)")
    now = ask(server.url, table=name, offset="now")
    tables.run(f"insert into {name} values (2)")
    live = ask(server.url, table=name, offset=now.offset, handle=now.handle, live=True)
    assert [change["value"] for change in live.changes] == [{"id": "2"}]


def test_changes_only(server: Serving, tables: Tables) -> None:
    name = tables.make("id int primary key, label text")
    tables.run(f"insert into {name} values (1, 'one')")
    whole = ask(server.url, table=name, offset=-1)
    first = ask(server.url, table=name, offset=-1, log="changes_only")
    assert first.handle != whole.handle
    assert controls_of(first.messages) == ["snapshot-end"]
    assert first.changes == []
    second = ask(server.url, table=name, offset="0_0", handle=first.handle, log="changes_only")
    tables.run(f"update {name} set label = 'uno'")
    third = ask(
        server.url,
        table=name,
        offset=second.offset,
        handle=first.handle,
        log="changes_only",
        live=True,
    )
    assert [change["value"] for change in third.changes] == [{"id": "1", "label": "uno"}]


@pytest.fixture
def large(brief_tables: Tables) -> str:
    """Rows of about 280 bytes of JSON each, in 12 chunks."""
    name = brief_tables.make("id int primary key, label text")
    brief_tables.run(
        f"insert into {name} select i, repeat(chr(97 + i % 26), 150) from generate_series(1, 420) i"
    )
    return name


def test_snapshot_in_chunks(brief: Serving, large: str) -> None:
    reader = Follower(brief.url, large)
    bodies: list[str] = []
    controls: list[list[str]] = []
    for number in range(100):
        answer = reader.step()
        if answer.up_to_date:
            break
        assert answer.offset == f"0_{number}"
        bodies.append(answer.text)
        controls.append(controls_of(answer.messages))
    assert len(bodies) > 5
    for body in bodies[:-1]:
        assert 0.8 * CHUNK_BYTES <= len(body) <= 1.2 * CHUNK_BYTES
    assert len(bodies[-1]) <= 1.2 * CHUNK_BYTES
    assert controls == [[]] * (len(bodies) - 1) + [["snapshot-end"]]
    # The follower refuses a second insert of a key.
    assert sorted(int(row["id"]) for row in reader.values()) == list(range(1, 421))
    assert PLAIN.fullmatch(reader.offset)


def test_chunks_stay_as_they_are(brief: Serving, large: str, brief_tables: Tables) -> None:
    reader = Follower(brief.url, large).sync()
    before = reader.request(offset="0_0")
    brief_tables.run(f"update {large} set label = 'new' where id = 1")
    reader.take(1)
    after = reader.request(offset="0_0")
    assert (after.text, after.headers["etag"]) == (before.text, before.headers["etag"])
    again = reader.request(offset="0_0", headers={"if-none-match": before.headers["etag"]})
    assert again.status == 304


def test_prefetch_beyond_the_last_chunk(brief: Serving, large: str) -> None:
    reader = Follower(brief.url, large)
    last = -1
    while not reader.step().up_to_date:
        last += 1
    for number in (last, last + 1, last + 2):
        answer = reader.request(offset=f"0_{number}")
        assert answer.status == 200
        assert changes_of(answer.messages) == []


def test_log_in_chunks(brief: Serving, brief_tables: Tables) -> None:
    name = brief_tables.make("id int primary key, label text")
    reader = Follower(brief.url, name).sync()
    start = reader.offset
    brief_tables.run(
        f"insert into {name} select i, repeat('x', 150) from generate_series(1, 400) i"
    )
    while len(reader.changes) < 400:
        reader.step(live=reader.live)

    again = Follower(brief.url, name)
    again.handle, again.offset = reader.handle, start
    sizes: list[int] = []
    while not (answer := again.step()).up_to_date:
        assert controls_of(answer.messages) == []
        assert "electric-has-data" in answer.headers
        sizes.append(len(answer.text))
    assert again.rows == reader.rows
    assert len(sizes) > 5
    for size in sizes:
        assert 0.8 * CHUNK_BYTES <= size <= 1.2 * CHUNK_BYTES
    # One transaction, cut into chunks: only its very last message is its last.
    assert ["last" in change["headers"] for change in again.changes] == [False] * 399 + [True]


def test_live_request_far_behind_gets_a_chunk(brief: Serving, brief_tables: Tables) -> None:
    name = brief_tables.make("id int primary key, label text")
    reader = Follower(brief.url, name).sync()
    start = reader.offset
    brief_tables.run(
        f"insert into {name} select i, repeat('x', 150) from generate_series(1, 200) i"
    )
    while len(reader.changes) < 200:
        reader.step(live=reader.live)
    answer = reader.request(offset=start, live=True)
    assert "electric-cursor" in answer.headers
    assert not answer.up_to_date
    assert len(answer.text) <= 1.2 * CHUNK_BYTES
