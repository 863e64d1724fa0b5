"""The doctor finds each thing that is wrong, and what it recommends mends it.

One long file, because each requirement has its test and they share the crippled servers.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from postgres_choice import new_server
from postgres_side import Connect, as_role

from engine.configuration.settings import Settings
from engine.doctor import doctor
from engine.doctor.examination import examine
from engine.doctor.finding import Finding
from engine.doctor.server import check_server, read_facts
from engine.embedded import EmbeddedPostgres
from engine.postgres.migrate import migrate
from engine.postgres.publication import ensure_publication
from engine.replication.slot import drop_slot, ensure_slot

StartServer: TypeAlias = Callable[..., EmbeddedPostgres]
HBA = """
host all scram 127.0.0.1/32 scram-sha-256
host all refused 127.0.0.1/32 reject
host all all 127.0.0.1/32 trust
"""


@pytest.fixture
def settings(database: str, tmp_path: Path) -> Settings:
    return Settings(database_url=database, data_dir=tmp_path / "data")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Not pytest's, which Postgres's own account could not enter."""
    with tempfile.TemporaryDirectory(prefix="pgtide-doctor-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def start_server(folder: Path) -> Iterator[StartServer]:
    """Starts servers of the same version as the run's, with options of their own."""
    with ExitStack() as stack:

        def start(name: str, **options: str) -> EmbeddedPostgres:
            all_options = {"fsync": "off", "max_connections": "20", **options}
            server = new_server(folder / name, options=all_options)
            stack.callback(server.remove)
            server.start()
            return server

        yield start


@pytest.fixture(scope="module")
def narrow(start_server: StartServer, folder: Path) -> EmbeddedPostgres:
    """A server with one slot and one walsender, and password authentication for some."""
    (folder / "hba").write_text(HBA)
    (folder / "hba").chmod(0o644)
    server = start_server(
        "narrow",
        hba_file=str(folder / "hba"),
        max_replication_slots="1",
        max_wal_senders="1",
        max_prepared_transactions="1",
        min_wal_size="32MB",
    )
    with psycopg.connect(server.database_url, autocommit=True) as admin:
        admin.execute("create role scram login replication password 'right'")
        admin.execute("create role refused login")
    return server


async def findings(settings: Settings) -> list[Finding]:
    return [finding async for finding in examine(settings)]


async def failure(settings: Settings, text: str) -> Finding:
    """The one ✗ or ! whose text has `text` in it."""
    (found,) = [each for each in await findings(settings) if each.mark != "✓" and text in each.text]
    return found


def statement(finding: Finding) -> bytes:
    """The SQL that a finding recommends."""
    return finding.remedy.partition(": ")[2].partition(" (on")[0].encode()


# All is well


async def test_a_new_database(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert await doctor(settings) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 10
    assert all(line.startswith("✓ ") for line in lines)


async def test_a_database_in_use(settings: Settings) -> None:
    assert settings.database_url is not None
    await migrate(settings.database_url)
    marks = {finding.mark for finding in await findings(settings)}
    assert marks == {"✓"}
    texts = [finding.text for finding in await findings(settings)]
    assert "table pgtide.runs" in texts


async def test_a_schema_of_an_older_version(
    settings: Settings, connection: psycopg.AsyncConnection, database: str
) -> None:
    await migrate(database)
    await connection.execute("delete from pgtide.migrations where number = 4")
    found = await failure(settings, "0004_")
    assert (found.mark, found.remedy) == ("✗", "Run: pgtide migrate")


async def test_nothing_is_changed(settings: Settings, connection: psycopg.AsyncConnection) -> None:
    await doctor(settings)
    cursor = await connection.execute(
        "select (select count(*) from pg_publication),"
        " (select count(*) from pg_replication_slots where database = current_database()),"
        " to_regnamespace('pgtide')"
    )
    assert await cursor.fetchone() == (0, 0, None)
    assert not settings.data_dir.exists()


# The connection


async def test_nobody_answers(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = replace(settings, database_url="postgresql://me:hidden@127.0.0.1:1/x")
    assert (await failure(wrong, "no connection")).mark == "✗"
    assert await doctor(wrong) == 1
    output = capsys.readouterr().out
    assert "Start Postgres" in output
    assert "hidden" not in output


async def test_no_url(settings: Settings) -> None:
    assert "DATABASE_URL" in (await failure(replace(settings, database_url=None), "no data")).remedy


async def test_a_wrong_password(
    narrow: EmbeddedPostgres, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    right = as_role(narrow.database_url, "scram", "right")
    assert [each.text for each in await findings(replace(settings, database_url=right))].count(
        "role scram may replicate"
    )
    wrong = replace(settings, database_url=as_role(narrow.database_url, "scram", "guess123"))
    found = await failure(wrong, "password authentication failed")
    assert "Correct user and password" in found.remedy
    await doctor(wrong)
    assert "guess123" not in capsys.readouterr().out


async def test_pg_hba_refuses(narrow: EmbeddedPostgres, settings: Settings) -> None:
    wrong = replace(settings, database_url=as_role(narrow.database_url, "refused"))
    assert "pg_hba.conf" in (await failure(wrong, "no connection")).remedy


async def test_an_unknown_database(settings: Settings, database: str) -> None:
    wrong = replace(settings, database_url=database + "x")
    assert "create database" in (await failure(wrong, "does not exist")).remedy


# A pooler in the way


@asynccontextmanager
async def pooler(url: str) -> AsyncGenerator[str]:
    """The URL of what behaves like PgBouncer: process numbers of its own, and no replication."""
    server = urlsplit(url)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            key = data.find(b"K\0\0\0\x0c")
            if key >= 0:
                data = data[: key + 5] + (987654321).to_bytes(4, "big") + data[key + 9 :]
            writer.write(data)
        writer.close()
        await writer.wait_closed()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = await reader.readexactly(4)
        startup = await reader.readexactly(int.from_bytes(length, "big") - 4)
        if b"\0replication\0" in startup:
            fields = b"SFATAL\0C08P01\0Munsupported startup parameter: replication\0\0"
            writer.write(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)
            writer.close()
            return await writer.wait_closed()
        upstream_reader, upstream = await asyncio.open_connection(server.hostname, server.port)
        upstream.write(length + startup)
        await asyncio.gather(pass_on(reader, upstream), pass_on(upstream_reader, writer))
        return None

    async with asyncio.TaskGroup() as group:

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            group.create_task(serve(reader, writer))

        listener = await asyncio.start_server(accept, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        netloc = f"{server.username}@127.0.0.1:{port}"
        query = "sslmode=disable&gssencmode=disable"
        yield urlunsplit(server._replace(netloc=netloc, query=query))
        listener.close()


async def test_a_pooler_at_the_database_url(settings: Settings, database: str) -> None:
    async with pooler(database) as url:
        wrong = replace(settings, database_url=url)
        assert "PGTIDE_POOLED_DATABASE_URL" in (await failure(wrong, "pooler answers")).remedy
        found = await failure(wrong, "no replication connection")
        assert "not to a connection pooler" in found.remedy


async def test_a_pooler_where_it_belongs(settings: Settings, database: str) -> None:
    async with pooler(database) as url:
        found = await findings(replace(settings, pooled_database_url=url))
    assert {each.mark for each in found} == {"✓"}


async def test_a_pooler_of_another_database(settings: Settings, narrow: EmbeddedPostgres) -> None:
    wrong = replace(settings, pooled_database_url=narrow.database_url)
    assert (await failure(wrong, "another database")).mark == "✗"


# The server


async def test_an_old_version(connection: psycopg.AsyncConnection) -> None:
    facts = replace(await read_facts(connection), version="13.1", version_number=130001)
    found = [each async for each in check_server(facts) if each.mark == "✗"]
    assert [each.text for each in found] == ["Postgres 13.1 is too old"]


async def test_wal_level_and_standby(start_server: StartServer, settings: Settings) -> None:
    server = start_server("replica", wal_level="replica")
    here = replace(settings, database_url=server.database_url)
    assert "alter system set wal_level = logical" in (await failure(here, "wal_level")).remedy

    server.stop()
    data = server.directory / "data"
    (data / "standby.signal").touch()
    owner = data.stat()
    os.chown(data / "standby.signal", owner.st_uid, owner.st_gid)
    server.start()
    found = await failure(replace(settings, database_url=server.database_url), "standby")
    with psycopg.connect(server.database_url, autocommit=True) as admin:
        admin.execute(found.remedy.partition("run: ")[2].encode())
    texts = [
        each.text for each in await findings(replace(settings, database_url=server.database_url))
    ]
    assert "the server is a primary" in texts


async def test_all_slots_are_taken(narrow: EmbeddedPostgres, settings: Settings) -> None:
    here = replace(settings, database_url=narrow.database_url)
    with psycopg.connect(narrow.database_url, autocommit=True) as admin:
        admin.execute("select pg_create_physical_replication_slot('forgotten')")
        found = await failure(here, "all 1 replication slots are in use")
        assert "max_replication_slots = 6" in found.remedy
        statement = found.remedy.partition("run: ")[2].partition(";")[0]
        admin.execute(statement.encode())
    assert "1 of 1 replication slots are free" in [each.text for each in await findings(here)]


async def test_all_walsenders_are_taken(narrow: EmbeddedPostgres, settings: Settings) -> None:
    here = replace(settings, database_url=narrow.database_url)
    async with await psycopg.AsyncConnection.connect(
        narrow.database_url, autocommit=True, replication="database"
    ) as other:
        await other.execute(b"IDENTIFY_SYSTEM")
        assert "max_wal_senders = 6" in (await failure(here, "all 1 walsenders")).remedy
        found = await failure(here, "no replication connection")
        assert "alter system set max_wal_senders" in found.remedy


# The role


async def test_a_role_without_rights(
    settings: Settings, connection: psycopg.AsyncConnection, database: str, role: str
) -> None:
    limited = replace(settings, database_url=as_role(database, role))
    assert (await failure(limited, "no replication connection")).mark == "✗"
    for text in (f"role {role} may not replicate", "may not create it"):
        await connection.execute(statement(await failure(limited, text)))
    assert {each.mark for each in await findings(limited)} == {"✓"}


# Slot and transactions


async def test_a_slot_that_somebody_reads(
    settings: Settings, database: str, connection: psycopg.AsyncConnection
) -> None:
    name = f"x{connection.info.dbname}"
    here = replace(settings, stream_id=name)
    await ensure_slot(connection, here.slot)
    assert {each.mark for each in await findings(here)} == {"✓"}
    await drop_slot(connection, here.slot)
    async with await psycopg.AsyncConnection.connect(
        database, autocommit=True, replication="database"
    ) as reader:
        slot = await ensure_slot(reader, here.slot, temporary=True)
        found = await failure(here, f"is read by process {slot.active_pid}")
        assert found.mark == "!"
        assert f"pg_terminate_backend({slot.active_pid})" in found.remedy


async def test_a_slot_of_another_database(
    settings: Settings, connection: psycopg.AsyncConnection, server_url: str
) -> None:
    here = replace(settings, stream_id=f"y{connection.info.dbname}")
    await ensure_slot(connection, here.slot)
    found = await failure(replace(here, database_url=server_url), f"slot {here.slot} is of")
    await connection.execute(found.remedy.partition("run: ")[2].encode())


async def test_a_lost_slot(narrow: EmbeddedPostgres, settings: Settings) -> None:
    here = replace(settings, database_url=narrow.database_url)
    async with await psycopg.AsyncConnection.connect(narrow.database_url, autocommit=True) as admin:
        await ensure_slot(admin, here.slot)
        await admin.execute("alter system set max_slot_wal_keep_size = '1MB'")
        await admin.execute("select pg_reload_conf()")
        for _ in range(4):
            await admin.execute("select pg_logical_emit_message(false, 'x', repeat('x', 1000))")
            await admin.execute("select pg_switch_wal()")
        await admin.execute("checkpoint")
        found = await failure(here, f"slot {here.slot} is lost")
        await admin.execute(found.remedy.partition(": ")[2].partition(";")[0].encode())
        await admin.execute("alter system reset max_slot_wal_keep_size")
    assert {each.mark for each in await findings(here)} == {"✓"}


async def test_what_the_database_sets_for_sessions(
    settings: Settings, connection: psycopg.AsyncConnection
) -> None:
    name = connection.info.dbname
    for setting in (
        "default_transaction_read_only = on",
        "synchronous_commit = off",
        "statement_timeout = '30s'",
    ):
        await connection.execute(f"alter database {name} set {setting}".encode())
    assert (await failure(settings, "only reads")).mark == "✗"
    for text in ("only reads", "a crash may cost", "statement_timeout = 30000ms"):
        found = await failure(settings, text)
        await connection.execute(b"set default_transaction_read_only = off")
        await connection.execute(statement(found))
    assert {each.mark for each in await findings(settings)} == {"✓"}
    await connection.execute(f"alter role postgres in database {name} reset all".encode())


async def test_transactions_that_a_new_slot_waits_for(
    settings: Settings, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.doctor.server.SLOT_SECONDS", 0)
    writer = await connect()
    await writer.execute("begin; create table t ()")
    pid = writer.info.backend_pid
    found = await failure(settings, f"Process {pid} (idle in transaction")
    assert found.remedy.endswith(f"select pg_terminate_backend({pid})")


async def test_a_prepared_transaction(
    narrow: EmbeddedPostgres, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.doctor.server.SLOT_SECONDS", 0)
    here = replace(settings, database_url=narrow.database_url)
    with psycopg.connect(narrow.database_url, autocommit=True) as admin:
        admin.execute("begin; create table p (); prepare transaction 'left ''behind'")
        found = await failure(here, "Prepared")
        admin.execute(found.remedy.partition("run: ")[2].encode())
    assert "no open transaction delays the slot" in [each.text for each in await findings(here)]


# Publication and tables


async def test_what_a_publication_lacks(
    settings: Settings, connection: psycopg.AsyncConnection
) -> None:
    await connection.execute(
        "create publication pgtide_default with (publish = 'insert', publish_via_partition_root)"
    )
    for text in ("does not send all operations", "sends changes of partitions"):
        await connection.execute(statement(await failure(settings, text)))
    if connection.info.server_version >= 180000:
        found = await failure(settings, "leaves out generated columns")
        assert found.mark == "!"
        await connection.execute(statement(found))
    assert {each.mark for each in await findings(settings)} == {"✓"}


async def test_manual_mode(settings: Settings, connection: psycopg.AsyncConnection) -> None:
    manual = replace(settings, manual_table_publishing=True)
    await connection.execute(statement(await failure(manual, "does not exist")))
    assert "add table" in (await failure(manual, "has no table")).remedy


async def test_what_a_table_lacks(
    settings: Settings, connection: psycopg.AsyncConnection, database: str, role: str
) -> None:
    # Row filters are new in Postgres 15.
    filtered = connection.info.server_version >= 150000
    row_filter = "where (id > 1)" if filtered else ""
    await ensure_publication(connection, "pgtide_default")
    await connection.execute(
        f"""
        create schema s;
        create table s.a (id int, v int);
        alter table s.a enable row level security;
        alter publication pgtide_default add table s.a {row_filter};
        alter role "{role}" replication;
        """.encode()
    )
    limited = replace(settings, database_url=as_role(database, role))
    for text in (
        "belongs to another role: tables",
        "table s.a belongs",
        "has no primary key",
        *(["is sent with a row filter"] if filtered else []),
    ):
        await failure(limited, text)
    await connection.execute(statement(await failure(limited, "does not send old rows")))
    await connection.execute(statement(await failure(limited, "cannot be read")))  # the schema
    await connection.execute(statement(await failure(limited, "cannot be read")))  # the table
    await connection.execute(statement(await failure(limited, "row-level security")))
    await connection.execute(
        "alter publication pgtide_default set table s.a; alter table s.a add primary key (id)"
    )
    manual = replace(limited, manual_table_publishing=True)
    left = {each.text for each in await findings(manual) if each.mark != "✓"}
    assert left == set()


# The folder


async def test_a_folder_that_cannot_be_written(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    wrong = replace(settings, data_dir=tmp_path / "file" / "data")
    assert "PGTIDE_DATA_DIR" in (await failure(wrong, "cannot be written")).remedy


async def test_little_room(settings: Settings, tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    found = await failure(replace(settings, retention_bytes=2 * free), "the log may grow")
    assert found.mark == "!"
