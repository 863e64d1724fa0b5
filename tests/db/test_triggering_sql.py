"""What triggering has in the database: its migration, durations, runs that expire."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest

from engine.postgres.migrate import migrate, read_migrations, sql_folder
from shapes.runs.durations import duration_of

pytestmark = pytest.mark.migrated

TEXTS = [
    *("90s", "10m", "1h", "1hr", "2d", "1w", "1h30m", "1w2d3h4m5s", "0s", "100m", "999999999s"),
    *("", "1", "s", "1y", "1m1h", "-1s", "1.5h", "1h 30m", "PT1H", "1H", "１s", " 1s", "1s\n"),
    *("9999999999s", "9999999w", "1s;"),
]


@pytest.mark.migrated(False)
async def test_a_database_that_has_runs_already(
    database: str, connection: psycopg.AsyncConnection
) -> None:
    first = read_migrations(sql_folder())[0]
    await connection.execute(
        "create schema pgtide; create table pgtide.migrations (number integer primary key,"
        " name text not null, checksum text not null, applied_at timestamptz default now())"
    )
    await connection.execute(first.text.encode())
    await connection.execute(
        "insert into pgtide.migrations values (1, %s, %s)", (first.name, first.checksum)
    )
    await connection.execute(
        "insert into pgtide.runs (id, task, status) values ('a', 't', 'EXECUTING');"
        "insert into pgtide.batches (id, run_ids) values ('b', '{a}')"
    )
    assert "0002_triggering.sql" in await migrate(database)
    cursor = await connection.execute(
        "select depth, trigger_function, idempotency_key_expires_at, updated_at = created_at"
        " from pgtide.runs"
    )
    assert await cursor.fetchall() == [(0, "trigger", None, True)]
    cursor = await connection.execute("select parent_id, trigger_function from pgtide.batches")
    assert await cursor.fetchall() == [(None, "batchTrigger")]


@pytest.fixture
async def runs(database: str, connection: psycopg.AsyncConnection) -> psycopg.AsyncConnection:
    return connection


async def test_durations_mean_the_same_in_sql(runs: psycopg.AsyncConnection) -> None:
    cursor = await runs.execute(
        "select text, extract(epoch from pgtide.duration(text)) from unnest(%s::text[]) text",
        (TEXTS,),
    )
    for text, seconds in await cursor.fetchall():
        found = None if seconds is None else timedelta(seconds=float(seconds))
        assert found == duration_of(text), text


async def test_runs_that_expire(runs: psycopg.AsyncConnection) -> None:
    await runs.execute(
        """
        insert into pgtide.runs (id, task, status, ttl, queued_at, delay_until, started_at) values
            ('late', 't', 'QUEUED', '10m', now() - interval '11 min', null, null),
            ('late too', 't', 'QUEUED', '600s', now() - interval '11 min', null, null),
            ('in time', 't', 'QUEUED', '10m', now() - interval '9 min', null, null),
            ('forever', 't', 'QUEUED', null, now() - interval '9 days', null, null),
            ('unclear', 't', 'QUEUED', 'soon', now() - interval '9 days', null, null),
            ('begun', 't', 'EXECUTING', '1s', now() - interval '1 day', null, now()),
            ('again', 't', 'QUEUED', '1s', now() - interval '1 day', null, now()),
            ('delayed', 't', 'DELAYED', '1s', null, now() + interval '1 day', null)
        """
    )
    counts = [
        (await (await runs.execute(f"select pgtide.expire_runs({most})".encode())).fetchone())
        for most in ("1", "", "")
    ]
    assert counts == [(1,), (1,), (0,)]
    cursor = await runs.execute(
        "select id, error ->> 'raw', completed_at is not null, expired_at is not null"
        " from pgtide.runs where status = 'EXPIRED' order by id"
    )
    text = "It was not begun within its time to live, "
    assert await cursor.fetchall() == [
        ("late", text + "10m", True, True),
        ("late too", text + "600s", True, True),
    ]


async def test_workers_need_not_read_the_whole_table(runs: psycopg.AsyncConnection) -> None:
    await runs.execute(
        "insert into pgtide.runs (task, status) select 't', 'COMPLETED' from generate_series(1, 5000);"
        "insert into pgtide.runs (task) values ('t'); analyze pgtide.runs"
    )
    cursor = await runs.execute(
        "explain select id from pgtide.runs where completed_at is null and status = 'QUEUED'"
        " order by created_at limit 1 for update skip locked"
    )
    plan = "\n".join(row[0] for row in await cursor.fetchall())
    assert "runs_unfinished_index" in plan
