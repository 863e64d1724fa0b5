"""What the log forgets, and who must not notice."""

from __future__ import annotations

import asyncio
import math
import os
import secrets
import signal
from pathlib import Path

import psycopg
from load import CREATE, Clients, Load, subjects
from log_progress import log_state, reach
from serving import Serving
from shape_client import ShapeClient
from shape_rows import Subject

RETENTION_BYTES = 1 << 20
FILLING = (60, 30, 60 * 32)
"""Updates, rows of each, bytes of each row. Old rows go with the new ones: that is some seven times
what is retained."""


async def fill(connection: psycopg.AsyncConnection, data: Path) -> None:
    """More than the log keeps, in small transactions, and wait until it has forgotten the first."""
    begin = log_state(data).commit_lsn
    updates, rows, size = FILLING
    for number in range(updates):
        await connection.execute(
            "update jobs set note = repeat(md5(random()::text), %s), progress = %s where id <= %s",
            (size // 32, number, rows),
        )
    await reach(data, connection)
    for _ in range(600):
        if log_state(data).horizon.lsn > begin:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"the log still begins before {begin}: {log_state(data)}")


def retained(client: ShapeClient, data: Path) -> bool:
    """Whether the log still reaches back to where the client is."""
    return int(client.offset.partition("_")[0]) > log_state(data).horizon.lsn


async def test_old_offsets_are_refetched_and_quiet_shapes_are_not(
    database: str, tmp_path: Path
) -> None:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute(CREATE.encode())
        with Serving(
            database,
            tmp_path / "pgtide",
            retention_bytes=RETENTION_BYTES,
            long_poll_timeout=1,
            sse_timeout=1,
        ) as server:
            data = server.folder / "data"
            url = server.url
            sleeper = ShapeClient(url, Subject("jobs", "id <= 30"), name="sleeper")
            await connection.execute("update jobs set progress = 1 where id = 100")
            await sleeper.catch_up()
            quiet = [
                ShapeClient(url, Subject("jobs", "id = 100"), sse=sse, name=f"quiet {sse=}")
                for sse in (False, True)
            ]
            for client in quiet:
                client.start()
            sizes: list[int] = []
            for _ in range(3):
                await fill(connection, data)
                # A quiet client learns of a newer offset when its request runs out.
                for client in quiet:
                    assert await client.until(lambda c=client: retained(c, data)), client.describe()
                sizes.append((data / "log/data.mdb").stat().st_blocks * 512 >> 10)
            print(f"the log's size, KiB: {sizes}")
            # What was freed is used again: no two rounds are there at a time.
            assert sizes[-1] < 2 * (2 * math.prod(FILLING)) >> 10
            await connection.execute("update jobs set progress = 2 where id = 100")
            for client in quiet:
                row = '"public"."jobs"/"100"'
                seen = await client.until(lambda c=client, r=row: c.rows[r]["progress"] == "2")
                assert seen, client.describe()
                await client.stop()
                assert client.counts.conflicts == 0, client.describe()
            await sleeper.catch_up()
            assert sleeper.counts.conflicts == 1, sleeper.describe()
            assert sleeper.rows['"public"."jobs"/"30"']["progress"] == "59"


async def test_age(database: str, tmp_path: Path) -> None:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute(CREATE.encode())
        with Serving(
            database, tmp_path / "pgtide", nodes=1, retention_age=1, long_poll_timeout=1
        ) as server:
            client = ShapeClient(server.url, Subject("jobs", "id = 7"))
            await connection.execute("update jobs set progress = 1 where id = 7")
            await client.catch_up()
            await connection.execute("update jobs set progress = 2 where id = 7")
            await reach(server.folder / "data", connection)
            changed = log_state(server.folder / "data").end_lsn
            for _ in range(200):
                # The last transaction stays, whatever its age.
                await connection.execute("update jobs set progress = 3 where id = 8")
                if log_state(server.folder / "data").horizon.lsn >= changed:
                    break
                await asyncio.sleep(0.05)
            await client.catch_up()
            assert client.counts.conflicts == 1, client.describe()
            assert client.rows['"public"."jobs"/"7"']["progress"] == "2"


async def test_a_node_that_is_overtaken_by_the_log(database: str, tmp_path: Path) -> None:
    """It was stopped for so long that the log has forgotten what it had to read next."""
    seed = secrets.token_hex(4)
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute(CREATE.encode())
        with Serving(
            database, tmp_path / "pgtide", nodes=1, retention_bytes=RETENTION_BYTES
        ) as server:
            data = server.folder / "data"
            clients = Clients(server.url, subjects=subjects()[::3])
            async with clients.following():
                [node] = server.node_pids()
                os.kill(node, signal.SIGSTOP)
                try:
                    await connection.execute("delete from jobs where id % 5 = 0")
                    await fill(connection, data)
                    await fill(connection, data)
                finally:
                    os.kill(node, signal.SIGCONT)
                async with Load(database, seed, writers=2).running():
                    await asyncio.sleep(0.5)
                await clients.converge(database, data, seed, conflicts=True)
