"""The seam between a snapshot and the log, under as many commits as the machine can do.

Each client opens a shape that nobody has opened before, so that it has a snapshot of its own, and
must hold exactly what SELECT returns in the end. PGTIDE_ORACLE_SECONDS and PGTIDE_SEED as in
`test_histories`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random

import psycopg
import pytest
from log_progress import reach
from own_ports import own_port
from postgres_choice import new_server
from psycopg import errors
from psycopg.rows import dict_row
from serving import Serving
from shape_client import ShapeClient
from shape_rows import Row, Subject, difference
from standby import SynchronousStandby, commits_waiting

from engine.embedded import EmbeddedPostgres
from engine.log.reader import LogReader

SECONDS = float(os.environ.get("PGTIDE_ORACLE_SECONDS") or 12) * 0.15
KEYS = 60
COLUMNS = tuple(f"c{n}" for n in range(12))
OPTIONS = {"max_prepared_transactions": "20", "wal_writer_delay": "1s"}


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[EmbeddedPostgres]:
    """A server whose settings these tests may change."""
    with tempfile.TemporaryDirectory(prefix="pgtide-test-") as folder:
        Path(folder).chmod(0o755)
        server = new_server(Path(folder) / "postgres", own_port(), OPTIONS)
        server.start()
        try:
            yield server
        finally:
            server.remove()


class Stress:
    """Writers and openers on one table."""

    def __init__(self, seed: str, database: str, server: Serving) -> None:
        self._seed = seed
        self._database = database
        self._server = server
        self._table = f"seam_{secrets.token_hex(3)}"
        self._numbers = count(1)
        self._ends = 0.0
        self.clients: list[ShapeClient] = []
        self.commits = 0

    async def run(self, seconds: float) -> None:
        async with await psycopg.AsyncConnection.connect(self._database, autocommit=True) as one:
            columns = ", ".join(f"{name} int not null default 0" for name in COLUMNS)
            await one.execute(
                f"create table {self._table} (id int primary key, {columns})".encode()
            )
            await one.execute(
                f"insert into {self._table} select i from generate_series(1, {KEYS}) i".encode()
            )
            self._ends = time.monotonic() + seconds
            async with asyncio.TaskGroup() as group:
                for number in range(6):
                    group.create_task(self._write(Random(f"{self._seed}/writer/{number}")))
                for number in range(3):
                    group.create_task(self._hold(Random(f"{self._seed}/holder/{number}")))
                for number in range(3):
                    group.create_task(self._open(Random(f"{self._seed}/opener/{number}")))
            await reach(self._server.folder / "data", one)
            await self._compare(one)

    async def _write(self, random: Random) -> None:
        """Small transactions, one after the other."""
        async with await psycopg.AsyncConnection.connect(self._database, autocommit=True) as one:
            await one.execute("set deadlock_timeout = '10ms'")
            while time.monotonic() < self._ends:
                mode = random.choice(("off", "off", "local", "on"))
                await one.execute(f"set synchronous_commit = {mode}".encode())
                with contextlib.suppress(errors.DeadlockDetected):
                    async with one.transaction(force_rollback=random.random() < 0.1):
                        for _ in range(random.choice((1, 1, 2))):
                            await self._change(one, random)
                self.commits += 1

    async def _hold(self, random: Random) -> None:
        """Transactions that stay open while snapshots are taken; some prepared for a later commit."""
        async with await psycopg.AsyncConnection.connect(self._database, autocommit=True) as one:
            await one.execute("set deadlock_timeout = '10ms'")
            while time.monotonic() < self._ends:
                name = f"{self._table}-{next(self._numbers)}"
                with contextlib.suppress(errors.DeadlockDetected):
                    try:
                        await one.execute("begin")
                        for _ in range(3):
                            async with one.transaction(force_rollback=random.random() < 0.3):
                                await self._change(one, random)
                            await asyncio.sleep(random.random() * 0.03)
                        if random.random() < 0.3:
                            await one.execute(f"prepare transaction '{name}'".encode())
                            await asyncio.sleep(random.random() * 0.05)
                            end = random.choice(("commit", "commit", "rollback"))
                            await one.execute(f"{end} prepared '{name}'".encode())
                        else:
                            await one.execute("commit")
                    except errors.DeadlockDetected:
                        await one.execute("rollback")
                        raise

    async def _change(self, one: psycopg.AsyncConnection, random: Random) -> None:
        key, other = random.randint(1, KEYS), random.randint(1, KEYS)
        column = random.choice(COLUMNS)
        value = random.randint(1, 10**6)
        statement = random.choice(
            (
                f"update {self._table} set {column} = {value} where id = {key}",
                f"update {self._table} set {column} = {value} where id = {key}",
                (
                    f"insert into {self._table} (id, {column}) values ({key}, {value})"
                    f" on conflict (id) do update set {column} = {value}"
                ),
                f"delete from {self._table} where id = {key}",
                (
                    f"update {self._table} t set id = {other} where id = {key} and not exists"
                    f" (select from {self._table} where id = {other})"
                ),
            )
        )
        # Another writer may take the key between the check and the write.
        with contextlib.suppress(errors.UniqueViolation):
            async with one.transaction():
                await one.execute(statement.encode(), prepare=False)

    async def _open(self, random: Random) -> None:
        while time.monotonic() < self._ends:
            number = next(self._numbers)
            columns = [name for bit, name in enumerate(COLUMNS) if number >> bit & 1]
            subject = Subject(self._table, columns=("id", *columns), full=random.random() < 0.5)
            client = ShapeClient(self._server.url, subject, wander=True, name=f"client-{number}")
            self.clients.append(client)
            await client.catch_up()
            await asyncio.sleep(random.random() * 0.01)

    async def _compare(self, one: psycopg.AsyncConnection) -> None:
        cursor = one.cursor(row_factory=dict_row)
        await cursor.execute(f"select * from {self._table}".encode())
        rows = {row["id"]: row for row in await cursor.fetchall()}
        for client in self.clients:
            await client.catch_up()
            columns = client.subject.columns or ()
            expected: dict[str, Row] = {
                f'"public"."{self._table}"/"{key}"': {name: str(row[name]) for name in columns}
                for key, row in rows.items()
            }
            wrong = difference(client.rows, expected)
            assert not wrong, f"seed {self._seed}: {wrong}\n{client.describe()}"
            assert client.counts.conflicts + client.counts.restarts == 0, client.describe()


@pytest.mark.timeout(SECONDS * 4 + 120)
@pytest.mark.parametrize("standby", [False, True], ids=["alone", "synchronous-standby"])
async def test_every_snapshot_joins_the_log_exactly(
    standby: bool, seed: str, own_postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """With a synchronous standby commits are in the log long before others see them."""
    with contextlib.ExitStack() as stack:
        if standby:
            stack.enter_context(SynchronousStandby(own_postgres))
        server = stack.enter_context(Serving(own_postgres.database_url, tmp_path / "pgtide"))
        ends = time.monotonic() + SECONDS
        for number in count():
            stress = Stress(f"{seed}/{number}", own_postgres.database_url, server)
            await stress.run(min(SECONDS, 2.5))
            done = f"{len(stress.clients)} clients, {stress.commits} commits"
            print(f"history {number}: {done}")
            if time.monotonic() >= ends:
                return


async def test_commit_that_waits_for_its_standby(
    own_postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """It is in the log already, but invisible, and younger than all that its snapshot lists."""
    url = own_postgres.database_url
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as one:
        await one.execute("create table waiting (id int primary key, note text, other text)")
        with Serving(url, tmp_path / "pgtide", nodes=1) as server:
            early = ShapeClient(server.url, Subject("waiting"))
            await early.catch_up()
            await one.execute("insert into waiting values (1, 'a')")
            await reach(server.folder / "data", one)
            async with commits_waiting(url):
                await one.execute("begin")
                await one.execute("insert into waiting values (2, 'b')")
                row = await (await one.execute("select txid_current()::text")).fetchone()
                assert row is not None
                commit = asyncio.create_task(one.execute("commit"))
                await _until_in_log(server.folder / "data/log", int(row[0]) & 0xFFFFFFFF)
                late = ShapeClient(server.url, Subject("waiting", columns=("id", "note")))
                await late.catch_up()
                assert not commit.done()
            await commit
            for client in (early, late):
                await client.catch_up()
                assert set(client.rows) == {f'"public"."waiting"/"{key}"' for key in (1, 2)}


async def _until_in_log(log: Path, xid: int) -> None:
    reader = LogReader(log)
    deadline = time.monotonic() + 10
    while reader.commit_lsn_of(xid) is None:
        assert time.monotonic() < deadline, "the log does not get the transaction"
        await asyncio.sleep(0.01)
    reader.close()
