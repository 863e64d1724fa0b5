"""A synchronous standby: commits return, and become visible, only once it has their WAL."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import psycopg
from postgres_choice import program

from engine.embedded import EmbeddedPostgres

NAME = "test_standby"


class SynchronousStandby:
    """`pg_receivewal --synchronous` on an embedded server, which waits for it meanwhile."""

    def __init__(self, postgres: EmbeddedPostgres) -> None:
        self._postgres = postgres
        self._folder = tempfile.TemporaryDirectory(prefix="pgtide-test-standby-")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        url = f"{self._postgres.database_url}?application_name={NAME}"
        binary = program(self._postgres, "pg_receivewal")
        self._process = subprocess.Popen(
            [str(binary), "-D", self._folder.name, "--synchronous", "--no-loop", "-d", url],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self._wait(
            "exists (select from pg_stat_replication where application_name = '" + NAME + "')"
        )
        self._require(NAME)
        self._wait(
            f"(select sync_state = 'sync' from pg_stat_replication where application_name = '{NAME}')"
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._require("")
        assert self._process is not None
        self._process.terminate()
        self._process.communicate()
        self._folder.cleanup()

    def _require(self, name: str) -> None:
        require_standby(self._postgres.database_url, name)

    def _wait(self, condition: str) -> None:
        deadline = time.monotonic() + 20
        with psycopg.connect(self._postgres.database_url, autocommit=True) as connection:
            while True:
                row = connection.execute(f"select {condition}".encode()).fetchone()
                if row is not None and row[0]:
                    return
                assert time.monotonic() < deadline, f"the standby does not come up: {condition}"
                assert self._process is not None
                assert self._process.poll() is None, self._process.communicate()[1].decode()
                time.sleep(0.02)


@asynccontextmanager
async def commits_waiting(database_url: str) -> AsyncGenerator[None]:
    """Inside, every commit of the server waits for a standby that does not exist."""
    waiting: list[asyncio.Task[None]] = []
    require_standby(database_url, "nobody")
    try:
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as one:
            # The server takes the new setting in its own time: try until a commit does wait.
            while not await _somebody_waits(one):
                waiting.append(asyncio.create_task(_commit(database_url)))
                await asyncio.sleep(0.05)
            yield
    finally:
        require_standby(database_url, "")
        await asyncio.gather(*waiting)


async def _somebody_waits(connection: psycopg.AsyncConnection) -> bool:
    cursor = await connection.execute(
        "select exists (select from pg_stat_activity where wait_event = 'SyncRep')"
    )
    row = await cursor.fetchone()
    return row is not None and row[0]


async def _commit(database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute("select pg_logical_emit_message(true, 'test', '')")


def require_standby(database_url: str, name: str) -> None:
    """From now on commits wait for the standby of that name, or for none if it is empty."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("set synchronous_commit = off")
        connection.execute(f"alter system set synchronous_standby_names = '{name}'".encode())
        connection.execute("select pg_reload_conf()")
