"""The slot: it retains no WAL without need, and what happens to it behind our back is noticed."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import psycopg
import pytest
from load import CREATE, Clients, Load, subjects
from log_progress import current_lsn, log_state
from psycopg import errors
from serving import Serving, fresh_database
from shape_client import ShapeClient
from shape_rows import Subject

from engine.lsn import Lsn, parse_lsn

RELEASE_SECONDS = 5.0

Lose: TypeAlias = Callable[[psycopg.AsyncConnection, Serving], Awaitable[None]]


@asynccontextmanager
async def connected(database: str) -> AsyncGenerator[psycopg.AsyncConnection]:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        yield connection


async def confirmed(connection: psycopg.AsyncConnection, server: Serving) -> Lsn:
    cursor = await connection.execute(
        "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = %s",
        (f"pgtide_{server.stream_id}",),
    )
    row = await cursor.fetchone()
    assert row is not None
    return parse_lsn(row[0])


async def released(connection: psycopg.AsyncConnection, server: Serving) -> float:
    """Seconds until the slot stands where the WAL is now."""
    lsn = await current_lsn(connection)
    begin = time.monotonic()
    while (at := await confirmed(connection, server)) < lsn:
        waited = time.monotonic() - begin
        assert waited < RELEASE_SECONDS, f"after {waited:.1f} s the slot stands {lsn - at} B behind"
        await asyncio.sleep(0.05)
    return time.monotonic() - begin


async def write(database: str, table: str, stop: asyncio.Event) -> None:
    """Keep a table busy."""
    async with connected(database) as connection:
        while not stop.is_set():
            await connection.execute(f"insert into {table} select repeat('x', 5000)".encode())
            await asyncio.sleep(0.005)


async def test_wal_is_released(database: str, server_url: str, tmp_path: Path) -> None:
    """When idle, when only an unpublished table is busy, and when only another database is."""
    with Serving(database, tmp_path / "pgtide", nodes=1) as server:
        async with connected(database) as connection:
            await connection.execute(CREATE.encode())
            await connection.execute("create table unpublished (line text)")
            client = ShapeClient(server.url, Subject("jobs"))
            await client.catch_up()
            for _ in range(50):
                await connection.execute("update jobs set progress = progress + 1")
            print(f"idle: {await released(connection, server):.2f} s")
            with fresh_database(server_url) as other:
                async with connected(other) as elsewhere:
                    await elsewhere.execute("create table busy (line text)")
                for where, table in ((database, "unpublished"), (other, "busy")):
                    stop = asyncio.Event()
                    writing = asyncio.create_task(write(where, table, stop))
                    for _ in range(2):
                        await asyncio.sleep(0.3)
                        print(f"busy {table}: {await released(connection, server):.2f} s")
                    stop.set()
                    await writing


async def drop_slot(connection: psycopg.AsyncConnection, server: Serving) -> None:
    """While it is in use: again and again, until it succeeds between two lives of the engine."""
    name = f"pgtide_{server.stream_id}"
    while True:
        await _disconnect_walsender(connection, name)
        try:
            await connection.execute("select pg_drop_replication_slot(%s)", (name,))
            return
        except errors.ObjectInUse:
            continue


async def advance_slot(connection: psycopg.AsyncConnection, server: Serving) -> None:
    """Somebody else reads on from the slot, past what the engine has."""
    name = f"pgtide_{server.stream_id}"
    await connection.execute("update jobs set progress = 1000 where id = 1")
    server.kill()
    # A row that nobody else writes: whatever the load does, this is missing in the log.
    await connection.execute("insert into jobs values (5000, 'missed', '{}', 1, 1, null)")
    await connection.execute(
        "select pg_replication_slot_advance(%s, pg_current_wal_insert_lsn())", (name,)
    )
    server.start()


async def drop_publication(connection: psycopg.AsyncConnection, server: Serving) -> None:
    name = f"pgtide_{server.stream_id}"
    await connection.execute(f"drop publication {name}".encode())
    await connection.execute("update jobs set progress = 1002 where id = 2")
    await _disconnect_walsender(connection, name)


async def delete_data(connection: psycopg.AsyncConnection, server: Serving) -> None:
    server.kill()
    await connection.execute("update jobs set progress = 1003 where id = 3")
    shutil.rmtree(server.folder / "data")
    server.start()


async def _disconnect_walsender(connection: psycopg.AsyncConnection, slot: str) -> None:
    await connection.execute(
        "select pg_terminate_backend(active_pid, 5000) from pg_replication_slots"
        " where slot_name = %s and active_pid is not null",
        (slot,),
    )


@pytest.mark.parametrize("lose", [drop_slot, advance_slot, drop_publication, delete_data])
async def test_a_gap_is_noticed(lose: Lose, database: str, tmp_path: Path) -> None:
    """Changes are unknown: every client is told to fetch anew, and ends with what SELECT returns."""
    seed = secrets.token_hex(4)
    with Serving(database, tmp_path / "pgtide", long_poll_timeout=2, sse_timeout=3) as server:
        data = server.folder / "data"
        async with connected(database) as connection:
            await connection.execute(CREATE.encode())
            clients = Clients(server.url, subjects=subjects()[::3])
            async with clients.following():
                load = Load(database, seed, writers=2)
                async with load.running():
                    await asyncio.sleep(0.3)
                    before = log_state(data).epoch
                    await lose(connection, server)
                    await asyncio.sleep(1.0)
                await clients.converge(database, data, seed, conflicts=True)
                assert log_state(data).epoch > before
                for client in clients.clients:
                    assert client.counts.conflicts == 1, client.describe()


async def test_a_second_engine_waits_and_takes_over(database: str, tmp_path: Path) -> None:
    """Two on one slot: one reads, the other waits until it is gone."""
    async with connected(database) as connection:
        await connection.execute(CREATE.encode())
        with Serving(database, tmp_path / "first", nodes=1) as first:
            client = ShapeClient(first.url, Subject("jobs"))
            await client.catch_up()
            second = Serving(database, tmp_path / "second", nodes=1, stream_id=first.stream_id)
            second.launch()
            try:
                second.until(lambda: "another engine holds the lock" in second.log, "says nothing")
                await connection.execute("update jobs set progress = 1 where id = 1")
                await released(connection, first)
                await client.catch_up()
                assert client.rows['"public"."jobs"/"1"']["progress"] == "1"
                first.kill()
                second.wait_active()
                late = ShapeClient(second.url, Subject("jobs"))
                await late.catch_up()
                await connection.execute("update jobs set progress = 2 where id = 1")
                await released(connection, second)
                await late.catch_up()
                assert late.rows['"public"."jobs"/"1"']["progress"] == "2"
                assert late.counts.conflicts == 0
            finally:
                second.stop()


async def test_one_folder_is_for_one_engine(database: str, tmp_path: Path) -> None:
    with Serving(database, tmp_path / "first", nodes=1) as first:
        folder = first.folder / "data"
        second = Serving(database, tmp_path / "second", nodes=1, data_dir=folder)
        second.launch()
        try:
            second.until(lambda: "another process writes the log" in second.log, "says nothing")
            assert "--data-dir" in second.log
        finally:
            second.kill()
        assert first.health() == '{"status":"active"}'
