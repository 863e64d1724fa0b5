"""Streams of runs in tables of the user's own: they are named, if there is a place for that."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import uuid4

import psycopg
import pytest

from engine.runs.table import RunTable
from shapes.database import Database
from shapes.runs.run_changes import NoSuchRunError
from shapes.runs.run_lookup import Found, RunLookup
from shapes.runs.run_store import RunStore
from shapes.runs.run_streams import NoTargetError, RunIsOverError, RunStreams

JOBS = """
    create table jobs (
        job uuid primary key,
        state text not null default 'busy',
        made timestamp not null default now(),
        above uuid,
        "its streams" varchar(50)[]
    )
"""
COLUMNS = {
    "id": "job",
    "status": "state",
    "created_at": "made",
    "parent_id": "above",
    "realtime_streams": "its streams",
}
STATUSES = {"busy": "EXECUTING", "done": "COMPLETED"}
WITH_NAMES = RunTable("public", "jobs", COLUMNS, STATUSES, {"task": "job"})
WITHOUT = RunTable(
    "public",
    "jobs",
    {name: column for name, column in COLUMNS.items() if name != "realtime_streams"},
    STATUSES,
    {"task": "job"},
)


@asynccontextmanager
async def streams_of(url: str, table: RunTable) -> AsyncGenerator[tuple[RunStreams, RunLookup]]:
    database = Database(url, 4, 10.0)
    try:
        yield RunStreams(database, RunStore(table)), RunLookup(database, table)
    finally:
        await database.close()


async def test_streams_are_named_once(database: str, connection: psycopg.AsyncConnection) -> None:
    await connection.execute(JOBS)
    parent, job = str(uuid4()), str(uuid4())
    await connection.execute(
        "insert into jobs (job, above) values (%s, null), (%s, %s)", (parent, job, parent)
    )
    async with streams_of(database, WITH_NAMES) as (runs, _):
        for key in ("ai", "logs", "ai"):
            assert await runs.check("default", job, key=key) == job
        assert await runs.open("default", job, "ai", "parent") == parent
        cursor = await connection.execute('select job::text, "its streams" from jobs')
        assert dict(await cursor.fetchall()) == {parent: ["ai"], job: ["ai", "logs"]}
        with pytest.raises(NoTargetError):
            await runs.open("default", parent, "ai", "parent")


async def test_without_a_place_for_names(
    database: str, connection: psycopg.AsyncConnection
) -> None:
    await connection.execute(JOBS)
    job = str(uuid4())
    await connection.execute("insert into jobs (job) values (%s)", (job,))
    async with streams_of(database, WITHOUT) as (runs, lookup):
        assert await runs.open("default", job, "ai") == job
        for unknown in (str(uuid4()), "run_x"):
            with pytest.raises(NoSuchRunError):
                await runs.open("default", unknown, "ai")
        assert await lookup.several([job], "default") == {job: Found("job", (), None)}
        await connection.execute("update jobs set state = 'done'")
        with pytest.raises(RunIsOverError):
            await runs.check("default", job)
        assert await runs.find("default", job, "self") == job
        found = await lookup.run(job, "default")
        assert found is not None
        assert found.over
