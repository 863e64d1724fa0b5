"""Handles: one for all who ask for the same, another for everything else."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from follower import UNUSED_TLS, WAIT_SECONDS, Follower, ask, query
from serving import Serving
from tables import Tables


@pytest.fixture
def items(tables: Tables) -> str:
    name = tables.make("id int primary key, label text")
    tables.run(f"insert into {name} select i, 'x' from generate_series(1, 1000) i")
    return name


async def first_answers(server: Serving, count: int, **parameters: Any) -> list[httpx.Response]:
    """Answers to equal requests that arrive at the same time at both nodes."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(timeout=WAIT_SECONDS, limits=limits, verify=UNUSED_TLS) as http:
        url = f"{server.url}/v1/shape"
        asked = query(offset=-1, **parameters)
        return await asyncio.gather(*(http.get(url, params=asked) for _ in range(count)))


async def test_many_first_requests_make_one_shape(server: Serving, items: str) -> None:
    snapshots = Path(server.folder, "data", "snapshots")
    before = set(snapshots.rglob("*"))
    answers = await first_answers(server, 60, table=items)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.headers["electric-handle"] for answer in answers}) == 1
    assert len({answer.text for answer in answers}) == 1
    assert len(answers[0].json()) == 1001
    handle = answers[0].headers["electric-handle"]
    made = {path for path in set(snapshots.rglob("*")) - before if path.is_file()}
    assert made
    for path in made:
        generation = handle.partition("-")[2]
        assert generation in str(path), "a second snapshot was taken"


async def test_new_and_old_readers_share_a_shape(server: Serving, items: str) -> None:
    handles = {(await first_answers(server, 1, table=items))[0].headers["electric-handle"]}
    for answer in await first_answers(server, 10, table=items):
        handles.add(answer.headers["electric-handle"])
    assert len(handles) == 1


def test_what_makes_a_shape(server: Serving, items: str) -> None:
    definitions: list[dict[str, Any]] = [
        {},
        {"where": "id = 1"},
        {"where": "id = $1", "params": [2]},
        {"where": "id = $1", "params": [3]},
        {"columns": "id"},
        {"columns": "id,label"},
        {"replica": "full"},
        {"log": "changes_only"},
    ]
    handles = [
        ask(server.url, table=items, offset=-1, **definition).handle for definition in definitions
    ]
    assert len(set(handles)) == len(definitions)


@pytest.mark.parametrize(
    "same",
    [
        {"table": "{}"},
        {"table": "public.{}"},
        {"table": '"public"."{}"'},
        {"replica": "default"},
        {"log": "full"},
        {"where": ""},
        {"cursor": "17", "expired_handle": "x", "cache-buster": "y", "what": "ever"},
        {"handle": "whatever"},
    ],
)
def test_what_does_not(server: Serving, items: str, same: dict[str, str]) -> None:
    handle = ask(server.url, table=items, offset=-1).handle
    given: dict[str, Any] = {"table": items} | {
        key: value.format(items) for key, value in same.items()
    }
    assert ask(server.url, offset=-1, **given).handle == handle


def test_equal_filters_however_written(server: Serving, items: str) -> None:
    handles = {
        ask(server.url, table=items, offset=-1, where=where, params=params).handle
        for where, params in [
            ("id=1", None),
            ("  (id) = 1 ", None),
            ('"id" = 1', None),
            ("id = $1", ["1"]),
        ]
    }
    assert len(handles) == 1


@pytest.mark.parametrize("handle", ["1-1", "no handle at all", "9" * 50, "-", "1-", "ü", "%00"])
def test_unknown_handle(server: Serving, items: str, handle: str) -> None:
    answer = ask(server.url, table=items, offset="0_0", handle=handle)
    assert answer.status == 409
    reader = Follower(server.url, items)
    reader.handle = answer.handle
    reader.offset = "-1"
    assert len(reader.sync().rows) == 1000


def test_handle_of_another_shape(server: Serving, items: str) -> None:
    whole = ask(server.url, table=items, offset=-1)
    other = ask(server.url, table=items, offset=-1, where="id < 10")
    for live in (None, True):
        answer = ask(server.url, table=items, offset="0_0", handle=other.handle, live=live)
        assert answer.status == 409
        assert answer.handle == whole.handle


def test_handle_from_before_the_log_began(database: str, tmp_path: Path) -> None:
    """Without its data folder pgtide cannot know what a client has missed."""
    tables = Tables(database)
    name = tables.make("id int primary key")
    tables.run(f"insert into {name} values (1)")
    with Serving(database, tmp_path / "one", nodes=1, stream_id="same") as serving:
        reader = Follower(serving.url, name).sync()
    with Serving(database, tmp_path / "two", nodes=1, stream_id="same") as serving:
        reader.url = serving.url
        answer = reader.request()
        assert answer.status == 409
        assert answer.handle != reader.handle
        assert len(Follower(serving.url, name).sync().rows) == 1
    tables.close()


def test_a_redirection_never_names_the_handle_that_was_sent(server: Serving, items: str) -> None:
    """The client would take it for a stale answer of a cache, ask again, and give up in the end."""
    first = ask(server.url, table=items, offset=-1)
    refused = ask(server.url, table=items, offset="1_0", handle=first.handle)
    assert refused.status == 409
    assert refused.handle != first.handle
    assert ask(server.url, table=items, offset="0_0", handle=refused.handle).status == 200
    # It was that client's offset that was bad; others go on with what they have.
    assert ask(server.url, table=items, offset="0_inf", handle=first.handle).status == 200


def test_an_offset_past_all_of_a_transaction(server: Serving, tables: Tables, items: str) -> None:
    reader = Follower(server.url, items).sync()
    tables.run(f"update {items} set label = 'y' where id = 1")
    [change] = reader.take(1)
    lsn = change["headers"]["lsn"]
    after = reader.request(offset=f"{lsn}_inf")
    assert after.changes == []
    assert int(after.offset.partition("_")[0]) > int(lsn)
