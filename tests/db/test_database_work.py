"""`Database.work()`: transactions of the API's writers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import psycopg
import pytest

from shapes.database import Database, DatabaseUnavailableError

POOL = 6
WRITERS = 2
"""Connections that `work` has of so many."""


@asynccontextmanager
async def opened(url: str, silence: float = 10.0) -> AsyncGenerator[Database]:
    database = Database(url, POOL, silence)
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture
async def made(connection: psycopg.AsyncConnection) -> psycopg.AsyncConnection:
    await connection.execute("create table t (i int primary key)")
    return connection


async def numbers(connection: psycopg.AsyncConnection) -> list[int]:
    return [
        row[0] for row in await (await connection.execute("select i from t order by i")).fetchall()
    ]


async def connections(observer: psycopg.AsyncConnection) -> int:
    """How many others there are to the database."""
    cursor = await observer.execute(
        "select count(*) from pg_stat_activity where application_name = 'pgtide'"
        " and datname = current_database() and pid <> pg_backend_pid()"
    )
    [(count,)] = await cursor.fetchall()
    return count


async def run(writer: Database, *statements: str, error: Exception | None = None) -> None:
    async with writer.work() as work:
        for statement in statements:
            await work.execute(statement)
        if error is not None:
            raise error


async def test_all_or_nothing(database: str, made: psycopg.AsyncConnection) -> None:
    async with opened(database) as writer:
        async with writer.work() as work:
            await work.execute("insert into t values ($1)", 1)
            assert await numbers(made) == []
        with pytest.raises(KeyError):
            await run(writer, "insert into t values (2)", error=KeyError())
        with pytest.raises(asyncpg.UniqueViolationError):
            await run(writer, "insert into t values (3)", "insert into t values (1)")
        assert await numbers(made) == [1]


async def test_a_swallowed_error_is_no_success(
    database: str, made: psycopg.AsyncConnection
) -> None:
    async with opened(database) as writer:

        async def careless() -> None:
            async with writer.work() as work:
                await work.execute("insert into t values (1)")
                with suppress(asyncpg.PostgresError):
                    await work.execute("select 1 / 0")

        with pytest.raises(RuntimeError, match="nothing was committed"):
            await careless()
        assert await numbers(made) == []


async def test_a_cancelled_writer_leaves_nothing_behind(
    database: str, made: psycopg.AsyncConnection
) -> None:
    begun = asyncio.Event()

    async def write(writer: Database) -> None:
        async with writer.work() as work:
            await work.execute("insert into t values (1)")
            begun.set()
            await work.execute("select pg_sleep(60)")

    async with opened(database) as writer:
        task = asyncio.create_task(write(writer))
        await begun.wait()
        task.cancel()
        await asyncio.wait([task], timeout=30)
        assert task.cancelled()
        for _ in range(WRITERS):
            async with writer.work() as work:
                # Waits for the lock of the first one, if that is still there.
                await work.execute("insert into t values (1) on conflict do nothing")
    assert await numbers(made) == [1]


async def test_connections_that_broke_meanwhile(
    database: str, made: psycopg.AsyncConnection
) -> None:
    async with opened(database) as writer:
        async with writer.work() as one, writer.work() as other:
            pids = [await one.fetchval("select pg_backend_pid()"), other.get_server_pid()]
        await made.execute("select pg_terminate_backend(pid, 5000) from unnest(%s) pid", (pids,))
        async with writer.work() as work:
            await work.execute("insert into t values (1)")
        end_itself = "select pg_terminate_backend(pg_backend_pid())"
        with pytest.raises(DatabaseUnavailableError):
            await run(writer, "insert into t values (2)", end_itself, "select 1")
    assert await numbers(made) == [1]


async def test_a_server_that_is_away_or_does_not_answer(
    database: str, made: psycopg.AsyncConnection
) -> None:
    nowhere = urlunsplit(urlsplit(database)._replace(netloc="postgres@127.0.0.1:1", query=""))
    async with opened(nowhere) as writer:
        with pytest.raises(DatabaseUnavailableError):
            await run(writer)
    async with opened(database, silence=0.2) as writer:
        with pytest.raises(DatabaseUnavailableError):
            await run(writer, "select pg_sleep(60)")
        async with writer.work() as work:
            await work.execute("insert into t values (1)")
    assert await numbers(made) == [1]


async def test_rest_does_not_break_off_work(database: str, made: psycopg.AsyncConnection) -> None:
    async with opened(database) as writer:
        async with writer.work() as work:
            await work.execute("insert into t values (1)")
            writer.resting = True
            await writer.close()
            await work.execute("insert into t values (2)")
        await writer.close()
        async with asyncio.timeout(20):
            while await connections(made):
                await asyncio.sleep(0.01)
    assert await numbers(made) == [1, 2]


async def test_rest_does_not_break_off_a_look_up(
    database: str, made: psycopg.AsyncConnection
) -> None:
    async with opened(database) as node:
        async with node.lookups() as connection:
            query = asyncio.create_task(connection.execute("select pg_sleep(0.3)"))
            await asyncio.sleep(0.05)
            node.resting = True
            await node.close()
            await query
            await connection.execute("select 1")
        await node.close()
        async with asyncio.timeout(20):
            while await connections(made):
                await asyncio.sleep(0.01)
