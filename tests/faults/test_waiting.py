"""A pgtide whose lock somebody else holds: what it says, what it refuses, and how it gets the lock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest
from serving import Serving

WAITING = '{"status":"waiting"}'


@contextmanager
def waiting(
    database: str, folder: Path, **settings: bool
) -> Generator[tuple[Serving, httpx.Client]]:
    """A server that waits for its lock; its address is known although it is not active."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("create table if not exists items (id int primary key)")
    server = Serving(database, folder, nodes=1, **settings)
    with holding(database, server) as _:
        server.launch()
        try:
            server.until(lambda: "pgtide waits at http" in server.log, "does not wait")
            server.url = server.log.partition("pgtide waits at ")[2].partition(": ")[0]
            with httpx.Client(base_url=server.url, timeout=60) as client:
                yield server, client
        finally:
            server.stop()
    server.check_log()


@contextmanager
def holding(
    database: str, server: Serving, name: str = "somebody"
) -> Generator[psycopg.Connection]:
    """A session that has the lock of `server`."""
    with psycopg.connect(database, autocommit=True, application_name=name) as holder:
        holder.execute("select pg_advisory_lock(hashtext(%s))", (f"pgtide_{server.stream_id}",))
        yield holder


@pytest.fixture(scope="module")
def shared(
    database_of_waiting: str, tmp_path_factory: pytest.TempPathFactory
) -> Generator[tuple[Serving, httpx.Client]]:
    with waiting(database_of_waiting, tmp_path_factory.mktemp("waiting"), enable_delete=True) as it:
        yield it


def test_health(shared: tuple[Serving, httpx.Client]) -> None:
    answer = shared[1].get("/v1/health")
    assert (answer.status_code, answer.text) == (202, WAITING)
    assert answer.headers["cache-control"] == "no-cache, no-store, must-revalidate"


async def test_what_needs_the_lock_is_refused(shared: tuple[Serving, httpx.Client]) -> None:
    async def refused(method: str) -> httpx.Response:
        return await client.request(method, "/v1/shape", params={"table": "items", "offset": "-1"})

    begin = time.monotonic()
    async with httpx.AsyncClient(base_url=shared[0].url, timeout=60) as client:
        answers = await asyncio.gather(*map(refused, ("GET", "POST", "DELETE")))
    assert time.monotonic() - begin > 4
    for answer in answers:
        assert answer.status_code == 503
        assert answer.json()["message"].startswith("Timeout waiting for Postgres lock acquisition")
        assert answer.headers["retry-after"] == "5"
        assert "retry-after" in answer.headers["access-control-expose-headers"]


def test_a_wrong_request_need_not_wait(shared: tuple[Serving, httpx.Client]) -> None:
    begin = time.monotonic()
    answer = shared[1].get("/v1/shape", params={"table": "items", "offset": "elephant"})
    assert answer.status_code == 400
    assert "offset" in answer.json()["errors"]
    assert shared[1].options("/v1/shape").status_code == 204
    assert shared[1].get("/").status_code == 200
    assert time.monotonic() - begin < 4.5, "it has waited for the lock"


def test_a_lock_that_a_dead_engine_left_behind(database: str, tmp_path: Path) -> None:
    """Its backend bears our name and reads no slot: it is ended after a while, nobody else's is."""
    server = Serving(database, tmp_path / "pgtide", nodes=1)
    with holding(database, server, "pgtide") as holder:
        begin = time.monotonic()
        with server:
            assert time.monotonic() - begin > 4, "it did not wait for a living engine"
            assert f"process {holder.info.backend_pid} holds the lock" in server.log
        with pytest.raises(psycopg.OperationalError):
            holder.execute("select 1")
