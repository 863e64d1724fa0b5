"""DELETE /v1/shape, which empties what a client holds."""

from __future__ import annotations

import threading
from collections.abc import Generator
from typing import Any

import pytest
from follower import Answer, ask
from serving import Serving, fresh_database
from tables import Tables

MISMATCH = "The specified shape definition and handle do not match."


@pytest.fixture(scope="module")
def deletable(
    server_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Generator[tuple[Serving, Tables]]:
    """Two nodes that let shapes be deleted."""
    with fresh_database(server_url) as url:
        folder = tmp_path_factory.mktemp("pgtide-deletable")
        with Serving(url, folder, enable_delete=True, long_poll_timeout=20) as serving:
            tables = Tables(url)
            yield serving, tables
            tables.close()


@pytest.fixture(scope="module")
def url(deletable: tuple[Serving, Tables]) -> str:
    return deletable[0].url


@pytest.fixture
def items(deletable: tuple[Serving, Tables]) -> str:
    name = deletable[1].make("id int primary key, label text")
    deletable[1].run(f"insert into {name} values (1, 'one')")
    return name


def delete(url: str, **parameters: Any) -> Answer:
    return ask(url, method="DELETE", **parameters)


def test_not_enabled(server: Serving) -> None:
    answer = delete(server.url, table="items")
    assert (answer.status, answer.error) == (405, {"message": "DELETE not allowed"})
    assert answer.headers["cache-control"] == "no-cache"


def test_by_definition(url: str, items: str) -> None:
    handle = ask(url, table=items, offset=-1, where="id < $1", params=[9]).handle
    answer = delete(url, table=items, where="id < 9", offset="whatever", live=True)
    assert (answer.status, answer.text) == (202, "")
    assert answer.headers["cache-control"] == "no-cache"
    again = ask(url, table=items, where="id < 9", offset="0_0", handle=handle)
    assert again.status == 409
    assert again.handle != handle


def test_by_handle_alone(url: str, items: str) -> None:
    for offset in (-1, "now"):
        handle = ask(url, table=items, offset=offset).handle
        assert delete(url, handle=handle).status == 202
        assert delete(url, handle=handle).status == 404
        assert ask(url, table=items, offset="0_0", handle=handle).status == 409


def test_of_nothing(url: str, items: str) -> None:
    for parameters in ({"table": items}, {"handle": "5-5"}, {"handle": "nonsense"}):
        answer = delete(url, **parameters)
        assert (answer.status, answer.error) == (404, {"message": "No existing shape found"})


def test_another_shapes_handle(url: str, items: str) -> None:
    handle = ask(url, table=items, offset=-1).handle
    other = ask(url, table=items, offset=-1, where="id = 1").handle
    answer = delete(url, table=items, where="id = 1", handle=handle)
    assert answer.status == 400
    assert answer.error["message"].startswith(MISMATCH)
    assert delete(url, table=items, where="id = 2", handle=handle).status == 404
    assert delete(url, table=items, where="id = 1", handle=other).status == 202
    assert ask(url, table=items, offset="0_0", handle=handle).status == 200


@pytest.mark.parametrize(
    ("parameters", "errors"),
    [
        ({}, {"handle": ["can't be blank when shape definition is missing"]}),
        ({"handle": "1-1", "live": "banana"}, {"live": ["is invalid"]}),
        ({"handle": "1-1", "log": "banana"}, {"log": ["is invalid"]}),
    ],
)
def test_refused(url: str, parameters: dict[str, str], errors: dict[str, list[str]]) -> None:
    answer = delete(url, **parameters)
    assert (answer.status, answer.error["errors"]) == (400, errors)


def test_waiting_readers_of_every_node_learn_of_it(url: str, items: str) -> None:
    answers: list[Answer] = []

    def wait() -> None:
        answers.append(ask(url, table=items, offset=first.offset, handle=first.handle, live=True))

    first = ask(url, table=items, offset="now")
    waiting = [threading.Thread(target=wait) for _ in range(8)]
    for thread in waiting:
        thread.start()
    # One that waits is answered when the shape ends, one that comes later finds it ended.
    assert delete(url, table=items).status == 202
    for thread in waiting:
        thread.join(60)
    assert [answer.status for answer in answers] == [409] * 8
