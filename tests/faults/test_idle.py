"""Nobody asks and nothing changes: the connections to Postgres are closed until somebody asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from load import CREATE
from log_progress import log_state
from serving import Serving
from shape_client import ShapeClient
from shape_rows import Subject

from engine.postgres.database_url import APPLICATION_NAME

IDLE_SECONDS = 2.0


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(CREATE.encode())
        yield connection


def connections(connection: psycopg.Connection) -> int:
    """How many pgtide has to this database."""
    row = connection.execute(
        "select count(*) from pg_stat_activity where datname = current_database()"
        " and application_name = %s",
        (APPLICATION_NAME,),
    ).fetchone()
    assert row is not None
    return row[0]


async def until_none(connection: psycopg.Connection) -> None:
    deadline = time.monotonic() + 60
    while connections(connection):
        assert time.monotonic() < deadline, "the connections stay open"
        await asyncio.sleep(0.05)


async def test_an_idle_pgtide_lets_go_and_comes_back(
    database: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    with Serving(
        database,
        tmp_path / "pgtide",
        replication_idle_timeout=IDLE_SECONDS,
    ) as server:
        epoch = log_state(server.folder / "data").epoch
        client = ShapeClient(server.url, Subject("jobs"), sse=True)
        client.start()
        assert await client.until(lambda: client.up_to_date), client.describe()
        # It follows by a live request that lasts longer than the patience: nobody is idle.
        await asyncio.sleep(1.5 * IDLE_SECONDS)
        assert connections(connection)
        await client.stop()
        await until_none(connection)
        for _ in range(10):
            assert server.health() == '{"status":"active"}'
        assert not connections(connection), "asking for health woke it up"

        connection.execute("update jobs set progress = 77 where id = 7")
        late = ShapeClient(server.url, Subject("jobs", "id < 9"))
        begin = time.monotonic()
        await late.catch_up()
        print(f"a new shape after {time.monotonic() - begin:.2f} s")
        assert late.rows['"public"."jobs"/"7"']["progress"] == "77"
        # What changed while nobody looked was in the slot.
        client.start()
        assert await client.until(lambda: client.rows['"public"."jobs"/"7"']["progress"] == "77"), (
            client.describe()
        )
        assert connections(connection)
        await client.stop()
        assert client.counts.conflicts == 0
        assert log_state(server.folder / "data").epoch == epoch

        await until_none(connection)
        connection.execute("update jobs set progress = 78 where id = 7")
        await client.catch_up()
        client.start()
        assert await client.until(lambda: client.rows['"public"."jobs"/"7"']["progress"] == "78")
        await client.stop()
        assert not client.counts.refusals
