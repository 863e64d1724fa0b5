"""The workers of examples and documentation against a real database."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

pytestmark = pytest.mark.migrated

WORKER = Path(__file__).resolve().parents[2] / "examples" / "worker.py"


@pytest.fixture
def documented(database: str) -> Iterator[subprocess.Popen[bytes]]:
    """The short worker of docs/runs.md."""
    text = (WORKER.parents[1] / "docs" / "runs.md").read_text()
    found = re.search(r"```python\n(\"\"\"DATABASE_URL=.*?)```", text, re.DOTALL)
    assert found is not None
    environ = {**os.environ, "DATABASE_URL": database}
    with subprocess.Popen([sys.executable, "-c", found[1]], env=environ) as process:
        yield process
        process.kill()


@pytest.fixture
def worker(database: str) -> Iterator[subprocess.Popen[bytes]]:
    """Of a database with the table of runs."""
    environ = {**os.environ, "DATABASE_URL": database}
    with subprocess.Popen([sys.executable, str(WORKER)], env=environ) as process:
        yield process
        process.kill()


async def until(connection: psycopg.AsyncConnection, condition: str) -> None:
    """Wait for a condition on the runs."""
    async with asyncio.timeout(30):
        while True:
            cursor = await connection.execute(f"select bool_and({condition}) from runs".encode())
            if (await cursor.fetchone()) == (True,):
                return
            await asyncio.sleep(0.02)


async def statuses(connection: psycopg.AsyncConnection) -> dict[str, str]:
    cursor = await connection.execute("select id, status from runs")
    return {row[0]: row[1] for row in await cursor.fetchall()}


async def test_what_it_carries_out(
    worker: subprocess.Popen[bytes], connection: psycopg.AsyncConnection
) -> None:
    await connection.execute("set search_path = pgtide")
    await connection.execute(
        """
        insert into runs (id, task, status, payload, payload_type, ttl, delay_until) values
            ('one', 'render-video', 'QUEUED', '{"seconds": 0.5}', default, '1h', null),
            ('two', 'render-video', 'QUEUED', '{"json":{"seconds":0}}', 'application/super+json',
                null, null),
            ('due', 'render-video', 'DELAYED', '{"seconds": 0}', default, null, now()),
            ('broken', 'render-video', 'QUEUED', 'no JSON', default, null, null),
            ('later', 'render-video', 'DELAYED', '{}', default, null, now() + interval '1 h'),
            ('others', 'something-else', 'QUEUED', '{}', default, null, null)
        """
    )
    await until(connection, "completed_at is not null or id in ('later', 'others')")
    assert await statuses(connection) == {
        "one": "COMPLETED",
        "two": "COMPLETED",
        "due": "COMPLETED",
        "broken": "FAILED",
        "later": "DELAYED",
        "others": "QUEUED",
    }
    cursor = await connection.execute(
        "select output, metadata, attempt_number from runs where id = 'one'"
    )
    assert await cursor.fetchall() == [('{"frames": 12}', {"progress": 1, "step": "done"}, 1)]
    cursor = await connection.execute(
        "select error ->> 'name', error ->> 'type', error ? 'stackTrace' from runs"
        " where id = 'broken'"
    )
    assert await cursor.fetchall() == [("JSONDecodeError", "BUILT_IN_ERROR", True)]


async def test_how_it_stops(
    worker: subprocess.Popen[bytes], connection: psycopg.AsyncConnection
) -> None:
    await connection.execute("set search_path = pgtide")
    insert = "insert into runs (id, task, payload) values (%s, 'render-video', '{\"seconds\": 60}')"
    await connection.execute(insert, ("canceled",))
    await until(connection, "metadata ? 'progress'")
    await connection.execute("update runs set status = 'CANCELED'")
    await connection.execute(insert, ("long",))
    # It has let go of the first one at its next note.
    await until(connection, "metadata ? 'progress'")
    worker.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(worker.wait, 20) == 0
    assert await statuses(connection) == {"canceled": "CANCELED", "long": "QUEUED"}


async def test_it_survives_postgres(
    worker: subprocess.Popen[bytes], connection: psycopg.AsyncConnection
) -> None:
    await connection.execute("set search_path = pgtide")
    insert = "insert into runs (task, payload) values ('render-video', '{\"seconds\": 0}')"
    await connection.execute(insert)
    await until(connection, "completed_at is not null")
    await connection.execute(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()"
    )
    await connection.execute(insert)
    await until(connection, "completed_at is not null")
    assert worker.poll() is None


async def test_the_one_in_the_documentation(
    documented: subprocess.Popen[bytes], connection: psycopg.AsyncConnection
) -> None:
    await connection.execute("set search_path = pgtide")
    await connection.execute(
        "insert into runs (id, task, payload) values"
        " ('one', 'resize', '{\"width\": 80}'), ('broken', 'resize', '{}')"
    )
    await until(connection, "completed_at is not null")
    cursor = await connection.execute(
        "select status, output, metadata, error ->> 'message' from runs order by created_at, id desc"
    )
    assert await cursor.fetchall() == [
        ("COMPLETED", '{"width": 80, "height": 60}', {"progress": 1}, None),
        ("FAILED", None, {"progress": 1}, "'width'"),
    ]
