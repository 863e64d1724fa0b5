"""Migrations: each once, in order, by one at a time."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import psycopg
import pytest
from postgres_side import as_role

from engine.postgres.migrate import MigrationError, migrate, read_migrations, sql_folder

FILES = [path.name for path in sorted(sql_folder().glob("[0-9]*.sql"))]


async def test_each_file_is_applied_once(
    database: str, connection: psycopg.AsyncConnection
) -> None:
    assert await migrate(database) == FILES
    assert await migrate(database) == []
    cursor = await connection.execute("select name, length(checksum) from pgtide.migrations")
    assert await cursor.fetchall() == [(name, 64) for name in FILES]


async def test_many_at_once(database: str) -> None:
    applied = await asyncio.gather(*(migrate(database) for _ in range(4)))
    assert sorted(applied) == [[], [], [], FILES]


async def test_the_tables_are_published(database: str, connection: psycopg.AsyncConnection) -> None:
    await migrate(database, stream_id="other")
    cursor = await connection.execute(
        "select pubname, tablename from pg_publication_tables order by tablename"
    )
    assert await cursor.fetchall() == [("pgtide_other", "batches"), ("pgtide_other", "runs")]
    cursor = await connection.execute(
        "select relreplident::text from pg_class where oid = any(%s::regclass[])",
        (["pgtide.runs", "pgtide.batches"],),
    )
    assert await cursor.fetchall() == [("f",), ("f",)]


async def test_manual_publishing(database: str, connection: psycopg.AsyncConnection) -> None:
    await migrate(database, publish=False)
    cursor = await connection.execute("select count(*) from pg_publication")
    assert await cursor.fetchone() == (0,)


async def test_a_changed_file_is_refused(
    database: str, connection: psycopg.AsyncConnection
) -> None:
    await migrate(database)
    await connection.execute("update pgtide.migrations set checksum = repeat('0', 64)")
    with pytest.raises(MigrationError, match=f"{FILES[0]} was applied .* new file"):
        await migrate(database)


async def test_a_database_that_is_ahead_is_refused(
    database: str, connection: psycopg.AsyncConnection
) -> None:
    await migrate(database)
    await connection.execute(
        "insert into pgtide.migrations (number, name, checksum) values (9999, '9999_later.sql', '')"
    )
    with pytest.raises(MigrationError, match=r"9999_later\.sql.*update pgtide"):
        await migrate(database)


async def test_a_failure_leaves_nothing(database: str, connection: psycopg.AsyncConnection) -> None:
    await connection.execute("create schema pgtide; create table pgtide.runs (mine int)")
    with pytest.raises(MigrationError, match=f"{FILES[0]} failed, and nothing of it was kept"):
        await migrate(database)
    cursor = await connection.execute(
        "select relname from pg_class where relnamespace = 'pgtide'::regnamespace"
        " and relkind = 'r' order by relname"
    )
    assert await cursor.fetchall() == [("migrations",), ("runs",)]
    await connection.execute("drop table pgtide.runs")
    assert await migrate(database) == FILES


async def test_a_role_without_the_right(
    database: str, connection: psycopg.AsyncConnection, role: str
) -> None:
    url = as_role(database, role)
    with pytest.raises(MigrationError) as caught:
        await migrate(url)
    statement = str(caught.value).partition("run: ")[2].partition(";")[0]
    await connection.execute(statement.encode())
    assert await migrate(url) == FILES


async def test_a_schema_that_an_administrator_made(
    database: str, connection: psycopg.AsyncConnection, role: str
) -> None:
    await connection.execute(f'create schema pgtide authorization "{role}"'.encode())
    assert await migrate(as_role(database, role), publish=False) == FILES


async def test_runs_from_the_first_version_go_on(
    database: str,
    connection: psycopg.AsyncConnection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copy(sql_folder() / FILES[0], tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("engine.postgres.migrate.sql_folder", lambda: tmp_path)
        assert await migrate(database) == FILES[:1]
    await connection.execute(
        "insert into pgtide.runs (id, task, status, error) values ('r', 't', 'FAILED', '\"no\"')"
    )
    assert await migrate(database) == FILES[1:]
    # What is written now gets the new form; what was there stays until then.
    cursor = await connection.execute(
        "update pgtide.runs set metadata = '{\"a\": 1}' returning error, completed_at is not null"
    )
    assert await cursor.fetchone() == ("no", True)
    cursor = await connection.execute(
        "update pgtide.runs set error = '\"now\"' returning error ->> 'raw'"
    )
    assert await cursor.fetchone() == ("now",)


@pytest.mark.parametrize("name", ["0003_gap.sql", "0001_twice.sql", "2_short.sql"])
def test_files_must_be_numbered_in_order(tmp_path: Path, name: str) -> None:
    (tmp_path / "0001_first.sql").write_text("select 1")
    (tmp_path / name).write_text("select 2")
    with pytest.raises(MigrationError, match="0002_"):
        read_migrations(tmp_path)
