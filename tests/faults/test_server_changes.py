"""The server is not what it was: its slot was invalidated, its timeline changed, it is another one."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import psycopg
from load import CREATE
from log_progress import log_state
from serving import Serving
from shape_client import ShapeClient
from shape_rows import Subject

from engine.embedded import EmbeddedPostgres

ROW = '"public"."jobs"/"1"'


async def check_refetched(
    client: ShapeClient, connection: psycopg.Connection, conflicts: int, progress: int
) -> None:
    """The client was told to begin anew, has what is there now, and hears of what comes."""
    assert await client.until(lambda: client.counts.conflicts == conflicts), client.describe()
    for value in (progress, progress + 1):
        connection.execute("update jobs set progress = %s where id = 1", (value,))
        assert await client.until(
            lambda v=str(value): client.rows.get(ROW, {}).get("progress") == v
        ), client.describe()


def invalidate(connection: psycopg.Connection) -> None:
    """Write more than the slot may retain."""
    connection.execute("alter system set max_slot_wal_keep_size = '1MB'")
    connection.execute("select pg_reload_conf()")
    for _ in range(4):
        connection.execute("select pg_logical_emit_message(false, 'filler', '')")
        connection.execute("select pg_switch_wal()")
    connection.execute("checkpoint")
    row = connection.execute("select wal_status from pg_replication_slots").fetchone()
    assert row == ("lost",)
    connection.execute("alter system reset max_slot_wal_keep_size")
    connection.execute("select pg_reload_conf()")


def become_standby(postgres: EmbeddedPostgres) -> None:
    """Replay WAL until promoted, as a restored or failed-over server does."""
    postgres.stop()
    data = postgres.directory / "data"
    owner = data.stat()
    signal = data / "standby.signal"
    signal.touch()
    os.chown(signal, owner.st_uid, owner.st_gid)
    postgres.start()


async def test_it_is_noticed(own_postgres: EmbeddedPostgres, database: str, tmp_path: Path) -> None:
    url = own_postgres.database_url
    data = tmp_path / "data"
    settings = {"data_dir": data, "nodes": 1, "long_poll_timeout": 2}
    server = Serving(url, tmp_path / "first", **settings)
    with server:
        client = ShapeClient(server.url, Subject("jobs"))
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(CREATE.encode())
            client.start()
            assert await client.until(lambda: client.up_to_date)
            epochs = [log_state(data).epoch]

            await asyncio.to_thread(server.kill)
            invalidate(connection)
            await asyncio.to_thread(server.start)
            await check_refetched(client, connection, 1, 10)
            assert "it has lost its WAL" in server.log
            epochs.append(log_state(data).epoch)

        await asyncio.to_thread(become_standby, own_postgres)
        await asyncio.to_thread(
            server.until, lambda: "the server is in recovery" in server.log, "does not wait"
        )
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("select pg_promote()")
            await asyncio.to_thread(
                server.until, lambda: "another server or timeline" in server.log, "does not notice"
            )
            await check_refetched(client, connection, 2, 20)
        epochs.append(log_state(data).epoch)

    # The same folder, but another server.
    other = Serving(database, tmp_path / "second", stream_id=server.stream_id, **settings)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(CREATE.encode())
        connection.execute("delete from jobs where id > 1")
        with other:
            moved, client.url = client.url, other.url
            assert moved != other.url
            await check_refetched(client, connection, 3, 30)
            assert len(client.rows) == 1
            await client.stop()
    epochs.append(log_state(data).epoch)
    assert epochs == sorted(set(epochs))
