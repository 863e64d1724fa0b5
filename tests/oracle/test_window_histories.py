"""Windows that move all the time over rows that are written all the time, at their edges most of all.

Clients that check every message (no delete of a row that they lack, no insert of one that they hold)
follow, stay away for a while, come back at another node, or open shapes that nobody had. In the end
they hold what is left when all else has aged. PGTIDE_ORACLE_SECONDS and PGTIDE_SEED as in
`test_histories`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from itertools import count
from pathlib import Path
from random import Random

import psycopg
import pytest
from psycopg import errors
from serving import Serving
from shape_client import ShapeClient
from shape_rows import Row, difference
from window_subject import WindowSubject

SECONDS = float(os.environ.get("PGTIDE_ORACLE_SECONDS") or 12) * 0.3
HISTORY_SECONDS = 6.0
KEYS = 300
LENGTHS = (2, 3)
COLUMNS = ("at", "local")
CONDITIONS = (None, "g = 1", "g in (2, 3)", "v > 5", "g = 1 or v < 3")
AFTERWARDS = 40.0

FILLER = 60_000
"""Rows that nobody sees, without an index: they make queries slow, so that much happens meanwhile."""


class History:
    """Writers and clients on one table. Rows of the far future are those that stay."""

    def __init__(self, seed: str, database: str, server: Serving) -> None:
        self._seed = seed
        self._database = database
        self._server = server
        self._table = f"aging_{secrets.token_hex(3)}"
        self._ends = 0.0
        self._lasting: list[ShapeClient] = []
        self.clients: list[ShapeClient] = []

    async def run(self, seconds: float) -> None:
        async with await psycopg.AsyncConnection.connect(self._database, autocommit=True) as one:
            await one.execute(
                f"create table {self._table} (id int primary key, g int, v int, at timestamptz, "
                f"local timestamp) with (fillfactor = 10); insert into {self._table} (id) select -i "
                f"from generate_series(1, {FILLER}) i".encode()
            )
        self._ends = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(self._write(Random(f"{self._seed}/writer/{number}")))
            for number, condition in enumerate(CONDITIONS):
                group.create_task(self._follow(Random(f"{self._seed}/{number}"), condition))
                group.create_task(self._come_and_go(Random(f"{self._seed}/{number}b"), condition))
            group.create_task(self._open(Random(f"{self._seed}/opener")))

    # -- writing -----------------------------------------------------------------------------------

    async def _write(self, random: Random) -> None:
        connection = await psycopg.AsyncConnection.connect(self._database)
        async with connection:
            await connection.execute("set timezone to 'America/St_Johns'")
            await connection.commit()
            while time.monotonic() < self._ends:
                with contextlib.suppress(errors.UniqueViolation, errors.DeadlockDetected):
                    for _ in range(random.choice((1, 1, 1, 4))):
                        await connection.execute(self._statement(random).encode())
                    if random.random() < 0.2:
                        await asyncio.sleep(random.random() * 0.3)
                    if random.random() < 0.9:
                        await connection.commit()
                await connection.rollback()

    def _statement(self, random: Random) -> str:
        table, key = self._table, random.randrange(KEYS)
        values = f"{random.randrange(4)}, {random.randrange(10)}, {_moment(random)}"
        match random.randrange(10):
            case 0 | 1 | 2 | 3:
                return (
                    f"insert into {table} (id, g, v, at, local) values ({key}, {values}) on conflict "
                    "(id) do update set at = excluded.at, local = excluded.local"
                )
            case 4:
                return f"update {table} set v = {random.randrange(10)} where id = {key}"
            case 5:
                return f"update {table} set g = {random.randrange(4)} where id = {key}"
            case 6:
                return f"update {table} set (g, v, at, local) = ({values}) where id = {key}"
            case 7:
                return f"update {table} set id = {random.randrange(KEYS)} where id = {key}"
            case 8:
                # Rows at the edge come back.
                return (
                    f"update {table} set at = clock_timestamp(), local = clock_timestamp() at time "
                    f"zone 'UTC' where at < clock_timestamp() - interval '2s' and id % 7 = {key % 7}"
                )
            case _:
                return f"delete from {table} where id = {key}"

    # -- following ---------------------------------------------------------------------------------

    def _client(self, random: Random, condition: str | None) -> ShapeClient:
        subject = WindowSubject(
            self._table,
            condition,
            full=random.random() < 0.3,
            column=random.choice(COLUMNS),
            length=f"{random.choice(LENGTHS)}s",
        )
        client = ShapeClient(
            self._server.url,
            subject,
            wander=random.random() < 0.7,
            sse=random.random() < 0.3,
            name=f"{self._seed} {len(self.clients)}",
        )
        self.clients.append(client)
        return client

    async def _follow(self, random: Random, condition: str | None) -> None:
        client = self._client(random, condition)
        self._lasting.append(client)
        client.start()

    async def _come_and_go(self, random: Random, condition: str | None) -> None:
        client = self._client(random, condition)
        self._lasting.append(client)
        while time.monotonic() < self._ends:
            client.start()
            await asyncio.sleep(random.random())
            await client.stop()
            await asyncio.sleep(random.random() * 3)
        client.start()

    async def _open(self, random: Random) -> None:
        """Shapes of their own, most of which nobody reads again until the end."""
        opened: list[ShapeClient] = []
        while time.monotonic() < self._ends:
            client = self._client(random, f"v <> {100 + len(opened)}")
            opened.append(client)
            if len(opened) % 4:
                await client.catch_up()
            else:
                client.start()
        for number, client in enumerate(opened, 1):
            if number % 4:
                client.start()
        self._lasting += opened

    # -- the end -----------------------------------------------------------------------------------

    async def check(self) -> None:
        async with await psycopg.AsyncConnection.connect(self._database) as connection:
            for client in self._lasting:
                expected = await self._expected(connection, client)
                agreed = await client.until(lambda c=client, e=expected: c.rows == e, AFTERWARDS)
                client.check()
                assert agreed, f"{client.describe()}\n{difference(client.rows, expected)}"
        for client in self.clients:
            client.check()
            await client.stop()

    async def _expected(
        self, connection: psycopg.AsyncConnection, client: ShapeClient
    ) -> dict[str, Row]:
        subject = client.subject
        cursor = await connection.execute(
            f"select id::text, g::text, v::text, (at at time zone 'UTC')::text || '+00', local::text "
            f"from {self._table} where ({subject.where or 'true'}) "
            "and at > now() + interval '1 hour'".encode()
        )
        names = ("id", "g", "v", "at", "local")
        return {
            f'"public"."{self._table}"/"{row[0]}"': dict(zip(names, row, strict=True))
            async for row in cursor
        }


def _moment(random: Random) -> str:
    """For `at` and `local`: about as old as a window is long, or far ahead, or never."""
    if random.random() < 0.15:
        return "null, null"
    if random.random() < 0.2:
        return "'2100-01-01 00:00:00+00', '2100-01-01 00:00:00'"
    seconds = random.choice((0, 1, 1.9, 2, 2.5, 3, 3.5, 4)) + random.random() / 2
    age = f"interval '{seconds:.6f} s'"
    return f"clock_timestamp() - {age}, clock_timestamp() at time zone 'UTC' - {age}"


@pytest.mark.timeout(SECONDS * 3 + 120)
async def test_rows_age_while_they_are_written(seed: str, database: str, tmp_path: Path) -> None:
    with Serving(database, tmp_path / "pgtide", window_step=1, long_poll_timeout=1) as server:
        ends = time.monotonic() + SECONDS
        for number in count():
            history = History(f"{seed}/{number}", database, server)
            try:
                await history.run(min(SECONDS, HISTORY_SECONDS))
                await history.check()
            finally:
                for client in history.clients:
                    await client.stop()
            moved = sum(client.counts.messages for client in history.clients)
            conflicts = sum(client.counts.conflicts for client in history.clients)
            told = f"{len(history.clients)} clients, {moved} messages, {conflicts} conflicts"
            print(f"history {number}: {told}")
            assert not conflicts
            if time.monotonic() >= ends:
                return
