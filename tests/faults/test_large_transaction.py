"""Transactions of any size: bounded memory, live neighbours, and no trace of what is rolled back.

PGTIDE_BIG_ROWS is the size of the large ones.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from random import Random

import psycopg
import pytest
from log_progress import log_state, reach
from memory import Memory
from postgres_choice import stream_in_progress
from serving import Serving
from shape_client import ShapeClient
from shape_rows import Subject

ROWS = int(os.environ.get("PGTIDE_BIG_ROWS") or 300_000)
TICK_SECONDS = 0.05
MOST_GROWTH = 150 << 20
INSERT = "insert into big select i, i % 7, md5(i::text), repeat('x', 60) from generate_series"


class Ticker:
    """A row that changes all the time, and how long its readers wait for it."""

    def __init__(self, database: str, url: str) -> None:
        self._database = database
        self.client = ShapeClient(url, Subject("ticks"), sse=True, on_change=self._seen)
        self._last = 0.0
        self._sent: dict[str, float] = {}
        self.gap = 0.0
        """The longest time without news."""
        self.delay = 0.0
        """The longest time from a commit to its arrival."""

    def _seen(self, client: ShapeClient) -> None:
        now = time.monotonic()
        if self._last:
            self.gap = max(self.gap, now - self._last)
        self._last = now
        value = client.rows['"public"."ticks"/"1"']["n"] or ""
        self.delay = max(self.delay, now - self._sent.get(value, now))

    async def run(self, stop: asyncio.Event) -> None:
        self.client.start()
        number = 0
        async with await psycopg.AsyncConnection.connect(self._database, autocommit=True) as one:
            while not stop.is_set():
                number += 1
                self._sent[str(number)] = time.monotonic()
                await one.execute("update ticks set n = %s", (number,))
                await asyncio.sleep(TICK_SECONDS)
        caught = await self.client.until(
            lambda: self.client.rows['"public"."ticks"/"1"']["n"] == str(number), 120
        )
        await self.client.stop()
        self.client.check()
        assert caught, self.client.describe()


@pytest.mark.timeout(180 + ROWS // 5000)
async def test_a_large_transaction(database: str, tmp_path: Path) -> None:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute("create table ticks (id int primary key, n int)")
        await connection.execute("insert into ticks values (1, 0)")
        await connection.execute(
            "create table big (id int primary key, part int, digest text, filler text)"
        )
        with Serving(database, tmp_path / "pgtide", nodes=1, sse_timeout=300) as server:
            data = server.folder / "data"
            some = ShapeClient(server.url, Subject("big", "id IN (1, 777, 1000000)"), name="some")
            await some.catch_up()
            ticker = Ticker(database, server.url)
            [engine], [node] = server.engine_pids(), server.node_pids()
            memories = Memory(engine), Memory(node)
            stop = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                group.create_task(ticker.run(stop))
                sampling = group.create_task(_sample(memories))
                begin = time.monotonic()
                await connection.execute(f"{INSERT}(1, {ROWS}) i".encode())
                committed = time.monotonic() - begin
                await reach(data, connection, 600)
                logged = time.monotonic() - begin
                await asyncio.wait_for(some.catch_up(), 600)
                served = time.monotonic() - begin
                stop.set()
                sampling.cancel()
            print(
                f"{ROWS} rows: committed after {committed:.1f} s, in the log after {logged:.1f} s,"
                f" served after {served:.1f} s; engine grew by {memories[0]}, node by {memories[1]};"
                f" another shape waited {ticker.delay * 1000:.0f} ms at most,"
                f" its longest gap was {ticker.gap * 1000:.0f} ms"
            )
            wanted = [key for key in (1, 777, 1000000) if key <= ROWS]
            assert sorted(some.rows) == sorted(f'"public"."big"/"{key}"' for key in wanted)
            assert memories[0].private < MOST_GROWTH
            assert memories[1].private < MOST_GROWTH


async def _sample(memories: tuple[Memory, ...]) -> None:
    while True:
        for memory in memories:
            memory.sample()
        await asyncio.sleep(0.02)


async def test_large_rollbacks_and_savepoints(database: str, tmp_path: Path) -> None:
    """Streamed while in progress, in parts; some parts, or all, are taken back."""
    with psycopg.connect(database, autocommit=True) as admin:
        stream_in_progress(admin)
    random = Random(11)
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute(
            "create table big (id int primary key, part int, digest text, filler text)"
        )
        with Serving(database, tmp_path / "pgtide", nodes=1) as server:
            data = server.folder / "data"
            client = ShapeClient(server.url, Subject("big", "part = 3"), name="client")
            await client.catch_up()
            before = log_state(data).commit_lsn
            await connection.execute("begin")
            await connection.execute(f"{INSERT}(1, 20000) i".encode())
            await connection.execute("rollback")
            await reach(data, connection)
            assert log_state(data).commit_lsn == before
            await connection.execute("begin")
            await _savepoints(connection, random, depth=0, first=1)
            await connection.execute("commit")
            await reach(data, connection, 60)
            await client.catch_up()
            cursor = await connection.execute("select id from big where part = 3")
            expected = {f'"public"."big"/"{key}"' for (key,) in await cursor.fetchall()}
            print(f"{len(expected)} rows of the shape")
            assert set(client.rows) == expected
            assert list((data / "spool").iterdir()) == []


async def _savepoints(
    connection: psycopg.AsyncConnection, random: Random, *, depth: int, first: int
) -> int:
    """Insert many rows at a time, keep or take back; the next free id."""
    for _ in range(3):
        await connection.execute(f"savepoint s{depth}".encode())
        last = first + random.choice((10, 1000, 3000))
        await connection.execute(f"{INSERT}({first}, {last}) i".encode())
        first = last + 1
        if depth < 2:
            first = await _savepoints(connection, random, depth=depth + 1, first=first)
        end = random.choice(("release", "rollback to"))
        await connection.execute(f"{end} s{depth}".encode())
        await connection.execute(f"delete from big where id % 5 = {random.randint(0, 4)}".encode())
    return first
