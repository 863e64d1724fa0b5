"""One history: random tables, writers and clients; in the end every client is compared with SELECT."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import psycopg
from log_progress import reach
from psycopg import errors
from random_shapes import RandomShape, random_shape
from random_tables import SESSION, ident, random_alteration, random_table, select
from random_values import PREPARE
from random_writers import Writer
from shape_client import ShapeClient
from shape_rows import Row, difference

CONVERGE_SECONDS = 30.0


@dataclass
class Report:
    """What a history was made of, for the curious."""

    transactions: int = 0
    rolled_back: int = 0
    truncated: int = 0
    alterations: int = 0
    clients: int = 0
    messages: int = 0
    rows: int = 0
    refused: list[str] = field(default_factory=list[str])
    failures: list[str] = field(default_factory=list[str])


class History:
    """Everything drawn from `seed`. `run` returns what happened; failures are in its report."""

    def __init__(self, seed: str, database: str, url: str, data: Path) -> None:
        self._random = Random(f"{seed}/plan")
        self._seed = seed
        self._database = database
        self._url = url
        self._data = data
        self._clients: list[tuple[ShapeClient, RandomShape]] = []
        number = self._random.randint(1, 10**6)
        count = self._random.randint(1, 3)
        self._tables = [random_table(self._random, number * 10 + n) for n in range(count)]
        self._truncates = self._random.random() < 0.2
        self._alters = self._random.random() < 0.3
        self.report = Report()

    async def run(self, seconds: float) -> Report:
        async with await psycopg.AsyncConnection.connect(
            self._database, autocommit=True
        ) as connection:
            await connection.execute(SESSION)
            for table in self._tables:
                await connection.execute(table.create().encode())
            writers = [
                Writer(Random(f"{self._seed}/writer/{n}"), self._tables, truncates=self._truncates)
                for n in range(self._random.randint(2, 5))
            ]
            try:
                async with asyncio.TaskGroup() as group:
                    for writer in writers:
                        group.create_task(writer.run(self._database, seconds))
                    group.create_task(self._open_clients(seconds))
                    if self._alters:
                        group.create_task(self._alter_tables(seconds))
                await self._compare(connection)
            finally:
                await asyncio.gather(*(client.stop() for client, _ in self._clients))
        self._count(writers)
        return self.report

    async def _open_clients(self, seconds: float) -> None:
        """Some at once, the others spread over the time in which the writers write."""
        random = self._random
        ends = time.monotonic() + seconds
        for number in range(random.randint(10, 20)):
            shape = random_shape(random, random.choice(self._tables))
            client = ShapeClient(
                self._url,
                shape.subject,
                sse=random.random() < 0.4,
                wander=random.random() < 0.3,
                name=f"client-{number}",
            )
            self._clients.append((client, shape))
            client.start()
            if random.random() < 0.7:
                await asyncio.sleep(min(random.random() * 0.4, max(0.0, ends - time.monotonic())))

    async def _alter_tables(self, seconds: float) -> None:
        """Columns come, change and go behind the tables' own."""
        random = Random(f"{self._seed}/alterations")
        ends = time.monotonic() + seconds
        async with await psycopg.AsyncConnection.connect(self._database, autocommit=True) as one:
            # Behind a lock that waits, everybody else waits.
            await one.execute("set lock_timeout = '200ms'")
            while time.monotonic() < ends:
                await asyncio.sleep(random.random() * seconds / 2)
                with contextlib.suppress(errors.LockNotAvailable, errors.DeadlockDetected):
                    await one.execute(random_alteration(random, self._tables).encode())
                    self.report.alterations += 1

    async def _compare(self, connection: psycopg.AsyncConnection) -> None:
        if self._alters:
            # The stream shows an alteration with the table's next change.
            for table in self._tables:
                name = ident(table.columns[0].name)
                await connection.execute(f"update {table.sql} set {name} = {name}".encode())
        await reach(self._data, connection)
        for client, shape in self._clients:
            same, rows, copies = await _converge(connection, client, shape)
            self.report.rows += len(rows)
            await client.stop()
            if same and client.violation is None:
                # Nothing more may come, and what comes may change nothing.
                columns = client.columns
                await asyncio.wait_for(client.catch_up(), CONVERGE_SECONDS)
                if client.columns != columns:
                    # It had all of a snapshot that was older than a column.
                    rows, copies = await select(
                        connection, shape.table, client.columns, shape.condition
                    )
            if client.violation is not None and "status 400" in str(client.violation):
                self.report.refused.append(str(client.violation)[:500])
            elif client.violation is not None:
                self.report.failures.append(f"{client.name}: {client.violation}")
            elif wrong := difference(client.rows, rows):
                self.report.failures.append(f"{client.name}: {wrong}\n{client.describe()}")
            elif client.state.copies != copies:
                found = client.state.copies
                self.report.failures.append(f"{client.name}: {found - copies} {copies - found}")
            elif client.counts.conflicts and not (self._truncates or self._alters):
                self.report.failures.append(f"{client.name} had to refetch\n{client.describe()}")

    def _count(self, writers: list[Writer]) -> None:
        report = self.report
        report.transactions = sum(writer.transactions for writer in writers)
        report.rolled_back = sum(writer.rolled_back for writer in writers)
        report.truncated = sum(writer.truncated for writer in writers)
        report.clients = len(self._clients)
        report.messages = sum(client.counts.messages for client, _ in self._clients)

    def describe(self) -> str:
        return "\n".join(table.create() for table in self._tables)


async def _converge(
    connection: psycopg.AsyncConnection, client: ShapeClient, shape: RandomShape
) -> tuple[bool, dict[str, Row], Counter[str]]:
    """Whether it gets there, and what it must hold.

    A column that is added ends no shape: a client goes on with those of its snapshot.
    """
    columns = client.columns
    rows, copies = await select(connection, shape.table, columns, shape.condition)
    same = await client.until(
        lambda: client.columns != columns or (client.rows, client.state.copies) == (rows, copies),
        CONVERGE_SECONDS,
    )
    if client.columns != columns:
        # It had to begin anew.
        return await _converge(connection, client, shape)
    return same, rows, copies


async def prepare(database: str) -> None:
    """Types that the random tables use."""
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute(PREPARE.encode())
