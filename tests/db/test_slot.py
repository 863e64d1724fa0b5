"""The replication slot: made, read, refused, dropped."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import psycopg
import pytest
from postgres_side import Connect, as_role

from engine.replication.slot import (
    SlotActiveError,
    SlotError,
    SlotTimeoutError,
    drop_slot,
    ensure_slot,
    identify,
    read_slot,
)


@pytest.fixture
def name() -> str:
    """A slot's name: slots belong to the whole server."""
    return f"slot_{secrets.token_hex(6)}"


@pytest.fixture
async def replication(database: str) -> AsyncIterator[psycopg.AsyncConnection]:
    async with await psycopg.AsyncConnection.connect(
        database, autocommit=True, replication="database"
    ) as connection:
        yield connection


async def test_it_is_made_once(connection: psycopg.AsyncConnection, name: str) -> None:
    assert await read_slot(connection, name) is None
    slot = await ensure_slot(connection, name)
    assert (slot.name, slot.plugin, slot.temporary) == (name, "pgoutput", False)
    assert slot.database == connection.info.dbname
    assert 0 < slot.restart_lsn <= slot.confirmed_flush_lsn
    assert slot.wal_status == "reserved"
    assert not slot.active
    assert not slot.lost
    assert await ensure_slot(connection, name) == slot


async def test_it_is_dropped_once(connection: psycopg.AsyncConnection, name: str) -> None:
    await ensure_slot(connection, name)
    assert await drop_slot(connection, name)
    assert not await drop_slot(connection, name)
    assert await read_slot(connection, name) is None


async def test_a_temporary_one_on_a_replication_connection(
    connection: psycopg.AsyncConnection, replication: psycopg.AsyncConnection, name: str
) -> None:
    slot = await ensure_slot(replication, name, temporary=True)
    assert slot.temporary
    # Often enough for a driver that prepares statements: those are refused there.
    for _ in range(10):
        assert await read_slot(replication, name) == slot
    with pytest.raises(SlotActiveError, match=f"process {slot.active_pid} of the server"):
        await drop_slot(connection, name)
    await replication.execute(b"DROP_REPLICATION_SLOT " + name.encode())
    assert await read_slot(connection, name) is None


async def test_an_open_transaction_is_waited_for_and_named(
    connection: psycopg.AsyncConnection, connect: Connect, name: str
) -> None:
    writer = await connect()
    await writer.execute("begin; create table t (id int)")
    with pytest.raises(SlotTimeoutError, match=f"Process {writer.info.backend_pid}") as caught:
        await ensure_slot(connection, name, creation_timeout=0.2)
    assert "idle in transaction" in str(caught.value)
    assert await read_slot(connection, name) is None
    await writer.execute("commit")
    assert await ensure_slot(connection, name)


async def test_a_slot_of_another_plugin(connection: psycopg.AsyncConnection, name: str) -> None:
    await connection.execute("select pg_create_physical_replication_slot(%s)", (name,))
    try:
        with pytest.raises(SlotError, match="PGTIDE_STREAM_ID"):
            await ensure_slot(connection, name)
    finally:
        await drop_slot(connection, name)


async def test_without_the_right(
    connection: psycopg.AsyncConnection, database: str, role: str, name: str
) -> None:
    async with await psycopg.AsyncConnection.connect(
        as_role(database, role), autocommit=True
    ) as limited:
        with pytest.raises(SlotError) as caught:
            await ensure_slot(limited, name)
        assert f'alter role "{role}" replication' in str(caught.value)
        await connection.execute(f'alter role "{role}" replication'.encode())
        assert await ensure_slot(limited, name)


async def test_a_name_that_postgres_refuses(connection: psycopg.AsyncConnection) -> None:
    with pytest.raises(SlotError, match="lower-case"):
        await ensure_slot(connection, "Not-A-Slot")


async def test_the_server_is_identified(
    connection: psycopg.AsyncConnection,
    replication: psycopg.AsyncConnection,
    database: str,
    role: str,
) -> None:
    cursor = await replication.execute(b"IDENTIFY_SYSTEM")
    row = await cursor.fetchone()
    assert row is not None
    server = await identify(connection)
    assert (server.system_identifier, server.timeline) == (row[0], int(row[1]))
    assert server.database == row[3] == connection.info.dbname
    assert server.version == connection.info.server_version
    assert (server.wal_level, server.in_recovery) == ("logical", False)
    assert server.wal_sender_timeout_ms == 60000
    async with await psycopg.AsyncConnection.connect(as_role(database, role)) as limited:
        assert await identify(limited) == server
