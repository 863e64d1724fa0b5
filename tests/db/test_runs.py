"""Runs and batches as a backend writes them: plain SQL, and triggers that keep the times."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import errors

from engine.postgres.migrate import sql_folder

pytestmark = pytest.mark.migrated


@pytest.fixture
async def backend(database: str, connection: psycopg.AsyncConnection) -> psycopg.AsyncConnection:
    return connection


async def row(connection: psycopg.AsyncConnection, statement: str) -> tuple[Any, ...]:
    found = await (await connection.execute(statement.encode())).fetchone()
    assert found is not None
    return found


async def test_the_life_of_a_run(backend: psycopg.AsyncConnection) -> None:
    times = "queued_at = now(), started_at is null, completed_at is null"
    created = await row(
        backend,
        f"insert into pgtide.runs (task, tags) values ('resize', '{{a,b}}') "
        f"returning id ~ '^run_[0-9a-f]{{32}}$', status, tags, {times}",
    )
    assert created == (True, "QUEUED", ["a", "b"], True, True, True)
    started = await row(
        backend,
        "update pgtide.runs set status = 'EXECUTING' returning status, started_at = now(), "
        "queued_at < now(), updated_at = now(), created_at < now(), completed_at is null",
    )
    assert started == ("EXECUTING", True, True, True, True, True)
    progress = await row(
        backend,
        """update pgtide.runs set metadata = metadata || '{"progress": 40}' """
        "returning metadata, metadata_version, started_at < now()",
    )
    assert progress == ({"progress": 40}, 1, True)
    finished = await row(
        backend,
        """update pgtide.runs set status = 'COMPLETED', output = '{"ok": true}' """
        "returning status, completed_at = now(), started_at < now(), metadata_version",
    )
    assert finished == ("COMPLETED", True, True, 1)
    retried = await row(
        backend,
        "update pgtide.runs set status = 'QUEUED' returning completed_at is null, queued_at < now()",
    )
    assert retried == (True, True)


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("completed", "COMPLETED"),
        ("COMPLETED_SUCCESSFULLY", "COMPLETED"),
        ("COMPLETED_WITH_ERRORS", "FAILED"),
        ("Cancelled", "CANCELED"),
        ("PENDING", "QUEUED"),
        ("running", "EXECUTING"),
        ("PAUSED", "WAITING"),
        ("EXPIRED", "EXPIRED"),
    ],
)
async def test_words_for_a_status(
    backend: psycopg.AsyncConnection, written: str, kept: str
) -> None:
    final = kept in ("COMPLETED", "FAILED", "CANCELED", "EXPIRED")
    created = await row(
        backend,
        f"insert into pgtide.runs (task, status) values ('t', '{written}') "
        "returning status, completed_at is not null, expired_at is not null",
    )
    assert created == (kept, final, kept == "EXPIRED")


async def test_times_that_the_backend_sets_are_kept(backend: psycopg.AsyncConnection) -> None:
    created = await row(
        backend,
        "insert into pgtide.runs (task, status, started_at, completed_at)"
        " values ('t', 'FAILED', '2020-01-01', '2020-01-02')"
        " returning started_at::date::text, completed_at::date::text",
    )
    assert created == ("2020-01-01", "2020-01-02")


@pytest.mark.parametrize(
    "columns",
    [
        "(task) values (null)",
        "(task, status) values ('t', 'SLEEPING')",
        "(task, tags) values ('t', array['a', null])",
        "(task, metadata) values ('t', '[1]')",
    ],
)
async def test_what_is_refused(backend: psycopg.AsyncConnection, columns: str) -> None:
    with pytest.raises(errors.IntegrityError):
        await backend.execute(f"insert into pgtide.runs {columns}".encode())


async def test_keys_that_are_unique(backend: psycopg.AsyncConnection) -> None:
    keyed = "insert into pgtide.runs (task, idempotency_key, one_time_use_token) values "
    await backend.execute(f"{keyed} ('a', 'k', 'x'), ('b', 'k', null), ('a', null, null)".encode())
    for values in ("('a', 'k', null)", "('c', null, 'x')"):
        with pytest.raises(errors.UniqueViolation):
            await backend.execute(keyed.encode() + values.encode())


async def test_a_batch(backend: psycopg.AsyncConnection) -> None:
    await backend.execute(
        """
        with batch as (insert into pgtide.batches (run_count) values (100) returning id)
        insert into pgtide.runs (task, batch_id, payload)
        select 'resize', batch.id, jsonb_build_object('page', page)::text
        from batch, generate_series(1, 100) as page
        """
    )
    found = await row(
        backend,
        "select count(*), count(distinct batch_id) from pgtide.runs join pgtide.batches b"
        " on b.id = batch_id",
    )
    assert found == (100, 1)
    sealed = await row(
        backend,
        "update pgtide.batches set sealed = true, status = 'COMPLETED'"
        " returning sealed_at = now(), completed_at = now(), updated_at = now()",
    )
    assert sealed == (True, True, True)


async def test_progress_touches_no_index(backend: psycopg.AsyncConnection) -> None:
    """Only so do frequent updates stay cheap; an index on updated_at, say, would end that."""
    if backend.info.server_version < 150000:
        pytest.skip("what was counted cannot be asked for at once before Postgres 15")
    await backend.execute("insert into pgtide.runs (task) values ('t')")
    for percent in range(10):
        await backend.execute(
            "update pgtide.runs set metadata = jsonb_build_object('progress', %s::int)", (percent,)
        )
    await backend.execute("select pg_stat_force_next_flush()")
    found = await row(
        backend,
        "select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables where relname = 'runs'",
    )
    assert found == (10, 10)


async def test_every_column_is_explained(backend: psycopg.AsyncConnection) -> None:
    found = await row(
        backend,
        """
        select array_agg(attrelid::regclass || '.' || attname)
        from pg_attribute
        where attrelid in ('pgtide.runs'::regclass, 'pgtide.batches'::regclass)
            and attnum > 0 and col_description(attrelid, attnum) is null
        """,
    )
    assert found == (None,)


def test_the_examples_at_the_top_of_the_file_are_what_is_tested_here() -> None:
    text = (sql_folder() / "0001_runs.sql").read_text()
    assert """set metadata = metadata || '{"progress": 40}'""" in text
    assert (
        "with batch as (insert into pgtide.batches (run_count) values (100) returning id)" in text
    )
