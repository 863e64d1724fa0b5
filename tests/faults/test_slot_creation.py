"""Making the slot: what it waits for is said, an engine that died over it leaves no trace, and slots
that end by themselves."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import psycopg
import pytest
from load import CREATE
from serving import Serving
from shape_client import ShapeClient
from shape_rows import Subject

ROW = '"public"."jobs"/"1"'


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(CREATE.encode())
        yield connection


def slots(connection: psycopg.Connection) -> list[tuple[str, bool, bool]]:
    """Name, temporary, active; of this database."""
    return connection.execute(
        "select slot_name::text, temporary, active from pg_replication_slots"
        " where database = current_database()"
    ).fetchall()


def until_slots(connection: psycopg.Connection, count: int) -> list[tuple[str, bool, bool]]:
    deadline = time.monotonic() + 60
    while len(found := slots(connection)) != count:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


async def asked_in_vain(http: httpx.AsyncClient) -> None:
    """Until the answer is that transactions are waited for, as soon as the engine is that far."""
    message = ""
    while "pending transactions" not in message:
        answer = await http.get("/v1/shape?table=jobs&offset=-1")
        assert answer.status_code == 503
        message = answer.json()["message"]


async def test_it_waits_for_an_open_transaction(
    database: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    """And says which; so does a request. An engine that is killed meanwhile is not in the way."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    server = Serving(database, tmp_path / "pgtide", nodes=1, port=port)
    server.url = f"http://127.0.0.1:{port}"
    with psycopg.connect(database) as blocker:
        blocker.execute("update jobs set progress = 1 where id = 1")
        server.launch()
        try:
            until_slots(connection, 1)
            server.kill_engine()
            async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
                asking = asyncio.create_task(asked_in_vain(http))
                await asyncio.sleep(0)
                said = f"Process {blocker.info.backend_pid} (idle in transaction"
                await asyncio.to_thread(
                    server.until, lambda: said in server.log, "does not name the transaction"
                )
                await asyncio.wait_for(asking, 60)
            assert f"select pg_terminate_backend({blocker.info.backend_pid})" in server.log
            assert server.health() == '{"status":"starting"}'
            blocker.commit()
            server.wait_active()
            client = ShapeClient(server.url, Subject("jobs"))
            await client.catch_up()
            assert client.rows[ROW]["progress"] == "1"
            assert len(slots(connection)) == 1
        finally:
            server.stop()
    server.check_log()


async def test_a_temporary_slot_of_another_name_each_time(
    database: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    with Serving(
        database,
        tmp_path / "pgtide",
        nodes=1,
        temporary_slot=True,
        temporary_slot_random_name=True,
        long_poll_timeout=2,
    ) as server:
        ((name, temporary, active),) = slots(connection)
        assert (temporary, active) == (True, True)
        assert re.fullmatch("pgtide_[0-9a-f]{32}", name)
        client = ShapeClient(server.url, Subject("jobs"))
        client.start()
        assert await client.until(lambda: client.up_to_date)
        server.kill_engine()
        # What happened meanwhile is unknown: everybody fetches anew.
        connection.execute("update jobs set progress = 5 where id = 1")
        assert await client.until(lambda: client.counts.conflicts == 1), client.describe()
        assert await client.until(
            lambda: ROW in client.rows and client.rows[ROW]["progress"] == "5"
        ), client.describe()
        connection.execute("update jobs set progress = 6 where id = 1")
        assert await client.until(lambda: client.rows[ROW]["progress"] == "6"), client.describe()
        await client.stop()
        assert client.counts.conflicts == 1
        assert slots(connection)[-1][0] != name
    until_slots(connection, 0)


def test_who_makes_a_slot_can_be_stopped(
    database: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    """The connection is used by a thread then, which waits for others' transactions."""
    server = Serving(database, tmp_path / "pgtide", nodes=1, temporary_slot=True)
    with psycopg.connect(database) as blocker:
        blocker.execute("update jobs set progress = 1 where id = 1")
        server.launch()
        try:
            until_slots(connection, 1)
            (engine,) = server.engine_pids()
            os.kill(engine, signal.SIGTERM)
            server.until(lambda: "engine ended" in server.log, "does not notice")
            assert re.search("engine ended, .* exit=0 ", server.log), server.log
        finally:
            server.stop()
    server.check_log()


def test_a_lasting_slot_gives_way_to_a_temporary_one(
    database: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    """Whoever changes their mind is not left with a slot that retains WAL for ever."""
    with Serving(database, tmp_path / "a", nodes=1) as lasting:
        assert slots(connection)[0][1] is False
    with Serving(
        database, tmp_path / "b", nodes=1, temporary_slot=True, stream_id=lasting.stream_id
    ):
        assert slots(connection) == [(f"pgtide_{lasting.stream_id}", True, True)]
