"""Streams reach their readers through the WAL: only what was committed, never before the rows of its
transaction, and without gap or repetition when the engine, a node or the log is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack
from typing import NamedTuple

import httpx
import psycopg
import pytest
from psycopg import sql
from serving import Serving, fresh_database
from stream_follower import StreamFollower

from engine.postgres.migrate import migrate

ROUNDS = 40
APPEND = "select pgtide.append(%s, %s::jsonb)"


class Served(NamedTuple):
    serving: Serving
    database_url: str


@pytest.fixture(scope="module")
def served(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Served]:
    """Two nodes."""
    with fresh_database(server_url) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            # Larger transactions are sent while they are in progress.
            name = sql.Identifier(connection.info.dbname)
            connection.execute(
                sql.SQL("alter database {} set logical_decoding_work_mem to '64kB'").format(name)
            )
        serving = Serving(
            url, tmp_path_factory.mktemp("streams"), sse_timeout=600, long_poll_timeout=3
        )
        asyncio.run(migrate(url, stream_id=serving.stream_id))
        with serving:
            yield Served(serving, url)


@pytest.fixture
async def connection(served: Served) -> AsyncGenerator[psycopg.AsyncConnection]:
    async with await psycopg.AsyncConnection.connect(served.database_url, autocommit=True) as made:
        yield made


async def append(
    connection: psycopg.AsyncConnection, path: str, number: int, padding: int = 0
) -> None:
    """A number; with `padding` spaces, of which more than a few thousand keep it out of the notice."""
    await connection.execute(
        "select pgtide.append_chunk(%s, %s, 'application/json')",
        (path, b" " * padding + b"%d" % number),
    )


async def followers(stack: AsyncExitStack, served: Served, path: str) -> list[StreamFollower]:
    """Some that stay with one node and some that come to another each time."""
    return [
        await stack.enter_async_context(
            StreamFollower(served.serving.url, path, sse=number % 3 > 0)
        )
        for number in range(9)
    ]


async def arrived(all_of: list[StreamFollower], count: int) -> None:
    for one in all_of:
        await one.until(lambda one=one: one.count >= count)
        assert one.count == count


async def test_only_what_was_committed_is_seen(
    served: Served, connection: psycopg.AsyncConnection
) -> None:
    path = "live/commits"
    await append(connection, path, 0)
    async with AsyncExitStack() as stack:
        readers = await followers(stack, served, path)
        await arrived(readers, 1)
        number = 1
        for turn in range(20):
            async with connection.transaction(force_rollback=True):
                await append(connection, path, 1000)
                await append(connection, path, 1001, padding=20_000)
            async with connection.transaction():
                await append(connection, path, number)
                async with connection.transaction(force_rollback=True):
                    await append(connection, path, 1002)
                await append(connection, path, number + 1, padding=20_000 if turn % 4 else 0)
            number += 2
        # One that Postgres sends before it is rolled back, and one before it is committed.
        for rolled_back in (True, False):
            async with connection.transaction(force_rollback=rolled_back):
                for place in range(30):
                    await append(connection, path, number + place, padding=8000)
                    async with connection.transaction(force_rollback=True):
                        await append(connection, path, 1003, padding=8000)
        number += 30
        await arrived(readers, number)
        await connection.execute("select pgtide.close(%s)", (path,))
        for one in readers:
            await one.until(lambda one=one: one.closed)


@pytest.mark.parametrize("weight", [0, 20 << 20], ids=["small", "large"])
async def test_a_message_never_comes_before_the_rows_of_its_transaction(
    served: Served, connection: psycopg.AsyncConnection, weight: int
) -> None:
    path, table = f"live/rows-{weight}", f"rows_{weight}"
    await connection.execute(f"create table {table} (id int primary key, weight text)".encode())
    await connection.execute(f"alter table {table} alter weight set storage external".encode())
    await append(connection, path, 0)
    url = f"{served.serving.url}/v1/shape"
    async with httpx.AsyncClient(timeout=30) as client:
        first = await client.get(url, params={"table": table, "offset": "-1", "columns": "id"})
    assert first.status_code == 200, first.text
    place = {"handle": first.headers["electric-handle"], "offset": first.headers["electric-offset"]}
    late: list[int] = []
    asked = 0

    async def look(number: int, client: httpx.AsyncClient) -> None:
        nonlocal asked
        answer = await client.get(url, params={"table": table, "columns": "id", **place})
        assert answer.status_code == 200, answer.text
        seen = {one["value"]["id"] for one in answer.json() if "value" in one}
        if str(number) not in seen:
            late.append(number)
        asked += 1

    rounds = 2 if weight else ROUNDS
    async with httpx.AsyncClient(timeout=30) as client, asyncio.TaskGroup() as looks:

        def heard(numbers: list[int]) -> None:
            for number in numbers:
                if number:
                    looks.create_task(look(number, client))

        async with AsyncExitStack() as stack:
            readers = [
                await stack.enter_async_context(
                    StreamFollower(served.serving.url, path, sse=sse, on_messages=heard)
                )
                for sse in (True, True, False)
            ]
            await arrived(readers, 1)
            for number in range(1, rounds + 1):
                async with connection.transaction():
                    # First the message, then the row.
                    await append(connection, path, number)
                    if weight:
                        await connection.execute(
                            f"insert into {table} select -{number}00 - n, repeat('x', 1 << 20) "
                            f"from generate_series(1, {weight >> 20}) n".encode()
                        )
                    await connection.execute(f"insert into {table} values ({number})".encode())
                await asyncio.sleep(0)
            await arrived(readers, rounds + 1)
    assert asked == 3 * rounds
    assert not late


class Appender:
    """Appends numbers to a stream until it is told to stop, each in a transaction of its own."""

    def __init__(self, database_url: str, path: str) -> None:
        self._url = database_url
        self._path = path
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.count = 0

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        self._stop.set()
        assert self._task is not None
        await self._task

    async def until(self, count: int) -> None:
        while self.count < count:
            assert self._task is not None
            assert not self._task.done(), self._task
            await asyncio.sleep(0.005)

    async def _run(self) -> None:
        async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as connection:
            while not self._stop.is_set():
                padding = 10_000 if self.count % 7 == 3 else 0
                await append(connection, self._path, self.count, padding)
                self.count += 1
                await asyncio.sleep(0.004)


async def test_no_gap_and_no_repetition_whatever_is_lost(
    served: Served, connection: psycopg.AsyncConnection
) -> None:
    path = "live/losses"
    await append(connection, path, 0)
    serving = served.serving
    appender = Appender(served.database_url, path)
    appender.count = 1
    async with AsyncExitStack() as stack:
        readers = await followers(stack, served, path)
        await arrived(readers, 1)
        appender.start()
        for lose in (lose_engine, lose_slot, lose_node):
            cuts = sum(one.cuts for one in readers)
            await appender.until(appender.count + 50)
            await lose(serving, connection)
            before = appender.count
            await appender.until(before + 20)
            for one in readers:
                await one.until(lambda one=one, before=before: one.count > before, 60)
            if lose is not lose_node:
                # Event streams and polls go on where they are.
                assert sum(one.cuts for one in readers) == cuts
        await appender.stop()
        await arrived(readers, appender.count)


async def lose_engine(serving: Serving, _: psycopg.AsyncConnection) -> None:
    await asyncio.to_thread(serving.kill_engine)


async def lose_node(serving: Serving, _: psycopg.AsyncConnection) -> None:
    await asyncio.to_thread(serving.kill_node)


async def lose_slot(serving: Serving, connection: psycopg.AsyncConnection) -> None:
    """The log begins anew."""
    while True:
        for pid in await asyncio.to_thread(serving.engine_pids):
            await asyncio.to_thread(serving.kill_engine)
            del pid
        try:
            await connection.execute(
                "select pg_drop_replication_slot(%s)", (f"pgtide_{serving.stream_id}",)
            )
            return
        except (psycopg.errors.ObjectInUse, psycopg.errors.UndefinedObject):
            await asyncio.sleep(0.01)
