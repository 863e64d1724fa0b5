"""What the tests of the Postgres side share: looking things up, and waiting for what others do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias
from urllib.parse import urlsplit, urlunsplit

import psycopg

from engine.postgres.catalog import load_table
from engine.postgres.table import Table

Connect: TypeAlias = Callable[[], Awaitable[psycopg.AsyncConnection]]


def as_role(url: str, role: str, password: str | None = None) -> str:
    """The URL with another user."""
    parts = urlsplit(url)
    user = role if password is None else f"{role}:{password}"
    return urlunsplit(parts._replace(netloc=f"{user}@{parts.hostname}:{parts.port}"))


async def table_of(connection: psycopg.AsyncConnection, name: str, schema: str = "public") -> Table:
    table = await load_table(connection, schema, name)
    assert table is not None
    return table


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what another task or process brings about."""
    deadline = time.monotonic() + 60
    while not await condition():
        assert time.monotonic() < deadline, "it did not happen within a minute"
        await asyncio.sleep(0.01)


async def waits_for_lock(connection: psycopg.AsyncConnection, table: str) -> bool:
    """Whether somebody queues for a lock on the table."""
    cursor = await connection.execute(
        "select exists (select from pg_locks where relation = %s::regclass and not granted)",
        (table,),
    )
    row = await cursor.fetchone()
    return row is not None and row[0]
