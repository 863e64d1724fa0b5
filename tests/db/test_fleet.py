"""The demo fleet's SQL against the real schema, and its process's end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from demo.fleet import abandon, statements, sweep
from demo.workload import Completed, Created, Event, Failed, Progressed, Started
from engine.postgres.migrate import migrate
from engine.processes import lifeline

pytestmark = pytest.mark.migrated

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
PAYLOAD = {"source": "inbox/interview-1.wav"}
RUN = Created("run_demo_1", "transcribe-audio", ["customer:ada", "region:eu"], None, PAYLOAD)
SIBLINGS = [Created(f"run_demo_{name}", "t", [], "batch_demo_1", {}) for name in ("a", "b")]


@pytest.fixture
async def connection(database: str) -> AsyncIterator[psycopg.AsyncConnection]:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        yield connection


async def write(connection: psycopg.AsyncConnection, *events: Event) -> None:
    for event in events:
        for statement, values in statements(event):
            await connection.execute(statement, values)


async def value(connection: psycopg.AsyncConnection, query: str) -> Any:
    cursor = await connection.execute(query.encode())
    row = await cursor.fetchone()
    return row[0] if row else None


async def test_a_run_from_its_creation_to_its_output(connection: psycopg.AsyncConnection) -> None:
    await write(connection, RUN)
    assert await value(connection, "select status from pgtide.runs") == "QUEUED"
    assert await value(connection, "select tags from pgtide.runs") == RUN.tags

    await write(connection, Started(RUN.id, "step 1 of 8"))
    assert await value(connection, "select status from pgtide.runs") == "EXECUTING"
    assert await value(connection, "select started_at is not null from pgtide.runs")

    await write(connection, Progressed(RUN.id, 0.25, "step 3 of 8"))
    metadata = await value(connection, "select metadata from pgtide.runs")
    assert metadata == {"progress": 0.25, "label": "step 3 of 8"}
    assert await value(connection, "select completed_at is null from pgtide.runs")

    await write(connection, Completed(RUN.id, "12 words", {"words": 12}))
    assert await value(connection, "select status from pgtide.runs") == "COMPLETED"
    assert await value(connection, "select completed_at is not null from pgtide.runs")
    assert await value(connection, "select output::json ->> 'words' from pgtide.runs") == "12"
    assert await value(connection, "select metadata ->> 'label' from pgtide.runs") == "12 words"


async def test_a_failed_run_says_why(connection: psycopg.AsyncConnection) -> None:
    await write(connection, RUN, Started(RUN.id, "step 1 of 8"), Failed(RUN.id, "No such file."))
    assert await value(connection, "select status from pgtide.runs") == "FAILED"
    assert await value(connection, "select error ->> 'raw' from pgtide.runs") == "No such file."


@pytest.mark.parametrize(
    ("last", "status"),
    [
        (Completed("run_demo_b", "", {}), "COMPLETED"),
        (Failed("run_demo_b", "No such file."), "PARTIAL_FAILED"),
    ],
    ids=["completed", "failed"],
)
async def test_a_batch_is_over_with_its_last_run(
    connection: psycopg.AsyncConnection, last: Event, status: str
) -> None:
    await write(connection, *SIBLINGS, Completed("run_demo_a", "", {}))
    await sweep(connection)
    assert await value(connection, "select status from pgtide.batches") == "PROCESSING"
    await write(connection, last)
    await sweep(connection)
    assert await value(connection, "select status from pgtide.batches") == status


async def test_only_old_runs_of_the_demo_are_deleted(connection: psycopg.AsyncConnection) -> None:
    await write(connection, RUN, *SIBLINGS)
    await write(connection, *(Completed(sibling.id, "", {}) for sibling in SIBLINGS))
    await connection.execute(
        "insert into pgtide.runs (id, task, status) values ('run_mine', 'hello', 'COMPLETED')"
    )
    old = "now() - interval '1 hour'"
    query = f"update pgtide.runs set created_at = {old}, completed_at = {old} where status <> %s"
    await connection.execute(query.encode(), ("QUEUED",))
    await sweep(connection)
    cursor = await connection.execute("select id from pgtide.runs order by id")
    assert await cursor.fetchall() == [("run_demo_1",), ("run_mine",)]
    assert await value(connection, "select count(*) from pgtide.batches") == 0


async def test_what_an_earlier_fleet_left_is_ended(connection: psycopg.AsyncConnection) -> None:
    await write(connection, RUN, Started(RUN.id, "step 1 of 8"), *SIBLINGS)
    await write(connection, Completed("run_demo_a", "", {}))
    await connection.execute("insert into pgtide.runs (id, task) values ('run_mine', 'hello')")
    await abandon(connection)
    cursor = await connection.execute("select status from pgtide.runs order by id")
    statuses = [row[0] for row in await cursor.fetchall()]
    assert statuses == ["CRASHED", "COMPLETED", "CRASHED", "QUEUED"]


@contextmanager
def fleet(
    database: str, descriptors: tuple[int, ...] = ()
) -> Generator[subprocess.Popen[str], None, None]:
    environ = {**os.environ, "PGTIDE_DATABASE_URL": database, "PYTHONPATH": str(ROOT)}
    if descriptors:
        environ[lifeline.VARIABLE] = str(descriptors[0])
    process = subprocess.Popen(
        [sys.executable, "-m", "demo.fleet"],
        env=environ,
        pass_fds=descriptors,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def until_it_writes(connection: psycopg.AsyncConnection) -> None:
    deadline = time.monotonic() + PATIENCE
    while not await value(connection, "select count(*) from pgtide.runs"):
        assert time.monotonic() < deadline, "the fleet writes nothing"


async def test_the_fleet_ends_in_order_when_told_to(
    connection: psycopg.AsyncConnection, database: str
) -> None:
    with fleet(database) as process:
        await until_it_writes(connection)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


async def test_the_fleet_ends_with_its_supervisor(
    connection: psycopg.AsyncConnection, database: str
) -> None:
    line = lifeline.Lifeline()
    with fleet(database, (line.reading,)) as process:
        await until_it_writes(connection)
        line.close()
        assert process.wait(PATIENCE) == 1


async def test_the_fleet_outlives_a_lost_connection(
    connection: psycopg.AsyncConnection, database: str
) -> None:
    with fleet(database) as process:
        await until_it_writes(connection)
        await connection.execute(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
            " where application_name = 'pgtide demo fleet'"
        )
        await connection.execute("delete from pgtide.runs")
        await until_it_writes(connection)
        assert process.poll() is None


@pytest.mark.migrated(False)
async def test_the_fleet_waits_for_the_schema(database: str) -> None:
    with fleet(database) as process:
        assert process.stderr is not None
        assert "run `pgtide migrate`" in process.stderr.readline()
        await migrate(database, publish=False)
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
            await until_it_writes(connection)


def test_without_a_database_it_says_what_to_set() -> None:
    unset = ("DATABASE_URL", "PGTIDE_DATABASE_URL")
    environ = {name: text for name, text in os.environ.items() if name not in unset}
    done = subprocess.run(
        [sys.executable, "-m", "demo.fleet"],
        env=environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 2
    assert done.stderr == "demo.fleet: no database is given: set DATABASE_URL\n"
