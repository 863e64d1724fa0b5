"""Looking runs up: questions that wait for each other are asked together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import psycopg
import pytest

from engine.runs.table import RunTable
from shapes.database import Database
from shapes.runs.run_lookup import Found, RunLookup

pytestmark = pytest.mark.migrated


class _Counted(Database):
    """Counts how often somebody had the connection for look-ups."""

    uses = 0

    @asynccontextmanager
    async def lookups(self) -> AsyncGenerator[psycopg.AsyncConnection]:
        self.uses += 1
        async with super().lookups() as connection:
            yield connection


@asynccontextmanager
async def _lookup(
    database: str, runs: RunTable | None = None
) -> AsyncGenerator[tuple[RunLookup, _Counted]]:
    lookups = _Counted(database, 6, 10.0)
    try:
        yield RunLookup(lookups, runs or RunTable()), lookups
    finally:
        await lookups.close()


async def test_many_questions_are_few_queries(
    database: str, connection: psycopg.AsyncConnection
) -> None:
    await connection.execute(
        "insert into pgtide.runs (id, task, tags) "
        "select 'run_' || n, 'task-' || n, array['a', 'b'] from generate_series(1, 99) as n"
    )
    async with _lookup(database) as (lookup, lookups):
        asked = [*(f"run_{number}" for number in range(1, 121)), "RUN_1", 'a"b\\{,}', "run_1"]
        found = await asyncio.gather(*(lookup.run(one, "default") for one in asked))
        wanted = [Found(f"task-{number}", ("a", "b"), None) for number in range(1, 100)]
        assert found == [*wanted, *[None] * 23, wanted[0]]
        assert lookups.uses == 2
        assert await lookup.run("run_1", "another") is None


async def test_what_is_no_id_concerns_nobody_else(
    database: str, connection: psycopg.AsyncConnection
) -> None:
    await connection.execute("create table jobs (id bigint primary key, kind text)")
    await connection.execute("insert into jobs select n, 'k' from generate_series(1, 5) as n")
    runs = RunTable("public", "jobs", {"id": "id", "task": "kind"})
    async with _lookup(database, runs) as (lookup, _):
        asked = ["1", "x", "2", "\0", "03", "3"]
        found = await asyncio.gather(*(lookup.run(one, "default") for one in asked))
        known = Found("k", (), None)
        assert found == [known, None, known, None, None, known]


async def test_whoever_goes_leaves_the_others_their_answer(
    database: str, connection: psycopg.AsyncConnection
) -> None:
    await connection.execute("insert into pgtide.runs (id, task) values ('a', 't'), ('b', 't')")
    async with _lookup(database) as (lookup, _):
        asking = [asyncio.create_task(lookup.run(one, "default")) for one in "abab"]
        await asyncio.sleep(0)
        asking[0].cancel()
        await asyncio.sleep(0)
        asking[1].cancel()
        assert await asyncio.gather(*asking[2:]) == [Found("t", (), None)] * 2
        for one in asking[:2]:
            with suppress(asyncio.CancelledError):
                await one
        assert await lookup.run("b", "default") == Found("t", (), None)
