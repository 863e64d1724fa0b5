"""Connections to Postgres that break, stall, or break at the worst moment."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from urllib.parse import urlsplit, urlunsplit

import psycopg
from load import CREATE, Clients, Load, subjects
from log_progress import log_state
from serving import Serving, Setting
from shape_client import ShapeClient
from shape_rows import Subject
from tcp_proxy import TcpProxy

from engine.embedded import EmbeddedPostgres

CUTTING_SECONDS = 2.5
SILENCE_SECONDS = 2


def through(url: str, proxy: TcpProxy) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.username}@127.0.0.1:{proxy.port}"))


@asynccontextmanager
async def serving(url: str, folder: Path, **settings: Setting) -> AsyncGenerator[Serving]:
    """Started and stopped in a thread: the proxy in between needs this one."""
    server = Serving(url, folder, **settings)
    try:
        await asyncio.to_thread(server.start)
        yield server
    except BaseException as error:
        error.add_note(f"pgtide's log:\n{server.log[-6000:]}")
        raise
    finally:
        await asyncio.to_thread(server.stop)
    server.check_log()


async def test_cut_connections(database: str, tmp_path: Path) -> None:
    """Cut at random, and refused for a while: no client notices more than a delay."""
    seed = secrets.token_hex(4)
    random = Random(seed)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(CREATE.encode())
    async with TcpProxy(urlsplit(database).port or 5432).running() as proxy:
        url = through(database, proxy)
        async with serving(url, tmp_path / "pgtide", long_poll_timeout=3, sse_timeout=4) as server:
            data = server.folder / "data"
            epoch = log_state(data).epoch
            clients = Clients(server.url, subjects=subjects()[::2])
            async with clients.following():
                ends = time.monotonic() + CUTTING_SECONDS
                async with Load(database, seed, writers=3).running():
                    while time.monotonic() < ends:
                        await asyncio.sleep(random.random() * 0.6)
                        proxy.cut()
                    proxy.refuse()
                    await asyncio.sleep(0.5)
                    proxy.accept()
                    proxy.delay = 0.02
                    await asyncio.sleep(0.5)
                    proxy.delay = 0
                    clients.check()
                await clients.converge(database, data, seed)
            assert log_state(data).epoch == epoch


async def test_a_stalled_connection_is_given_up(database: str, tmp_path: Path) -> None:
    """Half open: nobody answers, nobody hangs up. New connections are made, and all goes on."""
    seed = secrets.token_hex(4)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(CREATE.encode())
    async with TcpProxy(urlsplit(database).port or 5432).running() as proxy:
        url = through(database, proxy)
        async with serving(
            url,
            tmp_path / "pgtide",
            long_poll_timeout=3,
            sse_timeout=4,
            database_silence=SILENCE_SECONDS,
        ) as server:
            clients = Clients(server.url, subjects=subjects()[::4])
            async with clients.following():
                proxy.stall()
                begin = time.monotonic()
                async with Load(database, seed, writers=2).running():
                    late = ShapeClient(server.url, Subject("jobs", "progress > 3"), name="late")
                    late.start()
                    assert await late.until(lambda: late.up_to_date), late.describe()
                    print(f"gone on after {time.monotonic() - begin:.1f} s")
                clients.clients.append(late)
                await clients.converge(database, server.folder / "data", seed)
            assert "the connection is taken for dead" in server.log


async def test_a_snapshot_of_what_a_crash_takes_back(
    own_postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """Rows that were committed asynchronously can be seen before they are durable. If Postgres dies
    then, they have never been; so no client may keep them."""
    database = own_postgres.database_url
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(CREATE.encode())
        # Nobody else flushes the WAL for a while.
        connection.execute("alter system set wal_writer_delay = '10s'")
        connection.execute("select pg_reload_conf()")
    async with TcpProxy(own_postgres.port).running() as proxy:
        url = through(database, proxy)
        async with serving(url, tmp_path / "pgtide", nodes=1) as server:
            early = ShapeClient(server.url, Subject("jobs"))
            await early.catch_up()
            proxy.hold(b"pg_logical_emit_message")
            with psycopg.connect(database, autocommit=True) as connection:
                connection.execute("set synchronous_commit = off")
                connection.execute("insert into jobs values (5000, 'lost', '{}', 1, 1, null)")
            client = ShapeClient(server.url, Subject("jobs", "status = 'lost'"))
            client.start()
            await asyncio.wait_for(proxy.held.wait(), 60)
            await asyncio.to_thread(own_postgres.kill)
            await asyncio.to_thread(own_postgres.start)
            proxy.release()
            with psycopg.connect(database, autocommit=True) as connection:
                row = connection.execute("select count(*) from jobs where id = 5000").fetchone()
                assert row == (0,), "the crash took nothing back"
                for number in range(50):
                    connection.execute(f"update jobs set progress = {number}".encode())
            assert await client.until(lambda: client.up_to_date), client.describe()
            await client.stop()
            await client.catch_up()
            assert client.rows == {}
