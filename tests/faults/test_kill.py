"""kill -9 of the engine, of nodes and of Postgres under load, in random order.

PGTIDE_FAULT_SECONDS is how long it goes on, PGTIDE_SEED repeats the order of one run.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from random import Random

import psycopg
import pytest
from load import CREATE, Clients, Load, subjects
from log_progress import log_state
from serving import Serving

from engine.embedded import EmbeddedPostgres
from engine.log.layout import LogState
from engine.lsn import parse_lsn

SECONDS = float(os.environ.get("PGTIDE_FAULT_SECONDS") or 10)
FAULTS = ("engine", "node", "postgres", "engine and nodes", "everything", "restart")


@pytest.mark.timeout(SECONDS * 2 + 180)
async def test_nothing_is_lost_or_repeated(
    seed: str, own_postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    database = own_postgres.database_url
    random = Random(f"{seed}/faults")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(CREATE.encode())
    with Serving(
        database, tmp_path / "pgtide", long_poll_timeout=3, sse_timeout=5, sse_keepalive=1
    ) as server:
        data = server.folder / "data"
        began = log_state(data).epoch
        clients = Clients(server.url, subjects=subjects())
        async with clients.following():
            done: list[str] = []
            ends = time.monotonic() + SECONDS
            load = Load(database, seed)
            async with load.running():
                while time.monotonic() < ends:
                    done.append(random.choice(FAULTS))
                    print(f"kill {done[-1]}", flush=True)
                    await _kill(done[-1], own_postgres, server)
                    await asyncio.sleep(random.random() * 2.5)
                    clients.check()
            await clients.converge(database, data, seed, seconds=60)
        print(f"{done}, {load.commits} commits, {clients.describe()}")
        server.kill()
        state = log_state(data)
        assert state.epoch == began, "the log began anew"
        await _check_acknowledged(database, server, state)
        server.start()


async def _kill(victim: str, postgres: EmbeddedPostgres, server: Serving) -> None:
    """Kill, and bring back to life what does not come by itself."""
    if victim == "engine":
        await asyncio.to_thread(server.kill_engine)
    elif victim == "node":
        await asyncio.to_thread(server.kill_node)
    elif victim == "postgres":
        await asyncio.to_thread(postgres.kill)
        await asyncio.to_thread(postgres.start)
    elif victim == "engine and nodes":
        pids = server.node_pids()
        await asyncio.gather(
            asyncio.to_thread(server.kill_engine),
            *(asyncio.to_thread(server.kill_node, pid) for pid in pids),
        )
    elif victim == "everything":
        await asyncio.gather(asyncio.to_thread(postgres.kill), asyncio.to_thread(server.kill))
        await asyncio.to_thread(postgres.start)
        await asyncio.to_thread(server.start)
    else:
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)


async def _check_acknowledged(database: str, server: Serving, state: LogState) -> None:
    """What Postgres may throw away is in the log."""
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        cursor = await connection.execute(
            "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = %s",
            (f"pgtide_{server.stream_id}",),
        )
        row = await cursor.fetchone()
    assert row is not None
    assert parse_lsn(row[0]) <= state.progress
