"""The psql scripts that `pgtide migrate` does not run: roles, and publishing by hand."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from postgres_choice import program
from postgres_side import as_role, table_of
from psycopg import errors

from engine.embedded import EmbeddedPostgres
from engine.postgres.migrate import migrate, sql_folder
from engine.postgres.publication import ensure_publication, ensure_table_published
from engine.replication.slot import ensure_slot


@pytest.fixture
def psql(postgres: EmbeddedPostgres) -> Path:
    return program(postgres, "psql")


def run(psql: Path, url: str, script: str, **variables: str) -> None:
    command = [str(psql), "-X", "-q", url, "-f", str(sql_folder() / script)]
    for name, value in variables.items():
        command += ["-v", f"{name}={value}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.fixture
def names(database: str, role: str) -> Iterator[tuple[str, str]]:
    """Names of the two roles: the reader, and the writer's group."""
    reader, writer = f"{role}_reader", f"{role}_writer"
    yield reader, writer
    with psycopg.connect(database, autocommit=True) as admin:
        for name in (reader, writer):
            admin.execute(f"drop owned by {name}; drop role {name}".encode())


async def test_roles(
    database: str,
    connection: psycopg.AsyncConnection,
    psql: Path,
    role: str,
    names: tuple[str, str],
) -> None:
    reader, writer = names
    await migrate(database)
    await connection.execute("create table t (id int primary key)")
    for _ in range(2):  # it may be run again
        run(psql, database, "roles.sql", reader=reader, writer=writer)
    await connection.execute(f"create table later (id int); grant {writer} to {role}".encode())

    url = as_role(database, reader)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as limited:
        await limited.execute("select * from t; select * from later; select * from pgtide.runs")
        await ensure_publication(limited, "pgtide_default", manual=True)
        runs = await table_of(limited, "runs", "pgtide")
        await ensure_table_published(limited, "pgtide_default", runs, manual=True)
        await ensure_slot(limited, f"slot_{limited.info.dbname}")
        # What the API over HTTP does.
        await limited.execute(
            "insert into pgtide.runs (id, task) values ('r', 't');"
            "select pgtide.set_metadata('r', 'a', '1');"
            "insert into pgtide.batches default values;"
            "insert into pgtide.packets (path, content_type, data) values ('p', 'x', '');"
            "insert into pgtide.trigger_keys (key, id, expires_at) values ('', 'r', now());"
            "delete from pgtide.trigger_keys;"
            "insert into pgtide.wait_tokens (id) values ('waitpoint_r');"
            "select pgtide.complete_wait_token('waitpoint_r');"
            "select pgtide.append('s', 'a', 'p', 0, 0); select pgtide.close('s');"
            "select pgtide.delete_stream('s'); delete from pgtide.stream_remains;"
            "delete from pgtide.stream_chunks; select pgtide.open_stream_part();"
            "update pgtide.streams set head = tail;"
            "insert into pgtide.subscriptions (id, type, wake_stream, lease_ttl_ms, identity, base_url)"
            " values ('s', 'pull-wake', 'w', 1000, '', '');"
            "update pgtide.subscriptions set holder = '';"
            "insert into pgtide.subscription_streams (environment_id, subscription_id, path, explicit,"
            " matched) values ('default', 's', 'a', true, false);"
            "update pgtide.subscription_streams set acked = 0;"
            "select pgtide.subscription_links('default', 's'), pgtide.subscription_notice(0);"
            "insert into pgtide.webhook_seed (seed) values (''); delete from pgtide.subscriptions"
        )
        with pytest.raises(errors.ObjectNotInPrerequisiteState):
            await limited.execute("select pgtide.drop_stream_part(2)")
        with pytest.raises(errors.InsufficientPrivilege):
            await limited.execute("drop table pgtide.stream_chunks_1")
        with pytest.raises(errors.InsufficientPrivilege):
            await limited.execute("delete from t")

    url = as_role(database, role)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as backend:
        await backend.execute(
            "insert into pgtide.runs (task) values ('t'); update pgtide.runs set status = 'FAILED';"
            "select pgtide.forget_packets('0 s'); delete from pgtide.wait_tokens;"
            "insert into pgtide.runs (id, task) values ('other', 't');"
            "select pgtide.append_to_run('other', 'tokens', '1', 'p', 0, 0);"
            "select pgtide.append('s', 'a'); select pgtide.close('s');"
            "select pgtide.delete_stream('s'); delete from pgtide.runs"
        )
        for statement in (
            "select * from pgtide.migrations",
            "select * from pgtide.webhook_seed",
            "select * from pgtide.subscriptions",
            "update pgtide.stream_chunks set data = ''",
            "delete from pgtide.stream_chunks",
            "select pgtide.open_stream_part()",
            "select pgtide.drop_stream_part(1)",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                await backend.execute(statement.encode())


async def test_publishing_by_hand(
    database: str, connection: psycopg.AsyncConnection, psql: Path
) -> None:
    await connection.execute(
        'create table t (id int); create schema "S x"; create table "S x"."T" (id int)'
    )
    run(psql, database, "publication.sql", publication="pgtide_x", schema="public", table="t")
    run(psql, database, "publication.sql", publication="pgtide_x", schema="S x", table="T")
    publication = await ensure_publication(connection, "pgtide_x", manual=True)
    assert publication.generated_columns == (connection.info.server_version >= 180000)
    for table in (await table_of(connection, "t"), await table_of(connection, "T", "S x")):
        await ensure_table_published(connection, "pgtide_x", table, manual=True)
