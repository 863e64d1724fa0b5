"""Connections and roles for tests of the Postgres side."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import psycopg
import pytest
from postgres_side import Connect
from psycopg import sql


@pytest.fixture
async def connect(database: str) -> AsyncIterator[Connect]:
    """Opens connections to the test's database, in autocommit mode, as superuser."""
    async with AsyncExitStack() as stack:

        async def open_connection() -> psycopg.AsyncConnection:
            connection = await psycopg.AsyncConnection.connect(database, autocommit=True)
            return await stack.enter_async_context(connection)

        yield open_connection


@pytest.fixture
async def connection(connect: Connect) -> psycopg.AsyncConnection:
    return await connect()


@pytest.fixture
def role(database: str) -> Iterator[str]:
    """A role with login and nothing else."""
    name = f"test_role_{secrets.token_hex(6)}"
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(sql.SQL("create role {} login").format(sql.Identifier(name)))
        yield name
        admin.execute(sql.SQL("reassign owned by {} to postgres").format(sql.Identifier(name)))
        admin.execute(sql.SQL("drop owned by {}").format(sql.Identifier(name)))
        admin.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))
