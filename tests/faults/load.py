"""Writers and clients that go on through faults, and the comparison at the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import psycopg
from log_progress import reach
from shape_client import ShapeClient
from shape_rows import Row, Subject, difference

TABLE = "jobs"
KEYS = 120
TAGS = 6
CREATE = f"""
    create table {TABLE} (
        id int primary key, status text not null, tags text[] not null, batch int,
        progress int not null, note text
    );
    alter table {TABLE} alter note set storage external;
    insert into {TABLE} select i, 'new', array['t' || i % {TAGS}], i % 4, 0, null
        from generate_series(1, {KEYS}) i
"""
STATUSES = ("new", "running", "done")

# The filter as a shape has it, and as SQL.
FILTERS = (
    (None, ()),
    ("id = 7", ()),
    ("id = $1", ("8",)),
    ("id IN (9, 10, 11)", ()),
    ("$1 = ANY(tags)", ("t1",)),
    ("tags @> $1", ('{"t2"}',)),
    ("tags @> ARRAY['t1', 't3']", ()),
    ("'t4' = ANY(tags) OR 't5' = ANY(tags)", ()),
    ("batch = 2", ()),
    ("status = 'running'", ()),
    ("status = 'done' AND batch IS NULL", ()),
    ("progress > 50", ()),
)


def subjects() -> list[Subject]:
    """Whole table, ids, tags, batches, statuses; some with few columns or full replica."""
    found = [Subject(TABLE, where, params) for where, params in FILTERS]
    found.append(Subject(TABLE, columns=("id", "status")))
    found.append(Subject(TABLE, "batch = 1", full=True))
    return found


async def select(connection: psycopg.AsyncConnection, subject: Subject) -> dict[str, Row]:
    """What a client of this subject must hold."""
    condition = subject.where or "true"
    for number, value in enumerate(subject.params, 1):
        condition = condition.replace(f"${number}", "'" + value.replace("'", "''") + "'")
    columns = subject.columns or ("id", "status", "tags", "batch", "progress", "note")
    query = f"select json_agg(array[{', '.join(f'{name}::text' for name in columns)}])"
    cursor = await connection.execute(f"{query} from {TABLE} where {condition}".encode())
    row = await cursor.fetchone()
    found: list[list[str | None]] = (row[0] if row else None) or []
    at = columns.index("id")
    return {
        f'"public"."{TABLE}"/"{values[at]}"': dict(zip(columns, values, strict=True))
        for values in found
    }


class Load:
    """Writers on one table until `stop`; a lost connection is made again."""

    def __init__(self, database: str, seed: str, *, writers: int = 4, pause: float = 0.01) -> None:
        self._database = database
        self._pause = pause
        self._randoms = [Random(f"{seed}/writer/{number}") for number in range(writers)]
        self._stopped = asyncio.Event()
        self.commits = 0
        self.lost = 0

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Load]:
        async with asyncio.TaskGroup() as group:
            for random in self._randoms:
                group.create_task(self._write(random))
            try:
                yield self
            finally:
                self.stop()

    def stop(self) -> None:
        self._stopped.set()

    async def _write(self, random: Random) -> None:
        while not self._stopped.is_set():
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._database, autocommit=True, connect_timeout=5
                ) as connection:
                    await connection.execute("set deadlock_timeout = '10ms'")
                    while not self._stopped.is_set():
                        await self._transaction(connection, random)
                        self.commits += 1
                        await asyncio.sleep(random.random() * 2 * self._pause)
            except psycopg.errors.DeadlockDetected:
                continue
            except psycopg.OperationalError:
                self.lost += 1
                await asyncio.sleep(0.05)

    async def _transaction(self, connection: psycopg.AsyncConnection, random: Random) -> None:
        async with connection.transaction(force_rollback=random.random() < 0.05):
            mode = random.choice(("on", "on", "off"))
            await connection.execute(f"set local synchronous_commit = {mode}".encode())
            for _ in range(random.choice((1, 1, 1, 2, 6))):
                try:
                    async with connection.transaction(force_rollback=random.random() < 0.05):
                        await connection.execute(change(random).encode(), prepare=False)
                except psycopg.errors.UniqueViolation:
                    continue


def change(random: Random) -> str:
    """One random statement on the table."""
    key = random.randint(1, KEYS)
    tags = sorted({f"t{random.randint(0, TAGS)}" for _ in range(random.randint(0, 3))})
    new = (
        f"{key}, '{random.choice(STATUSES)}', '{{{','.join(tags)}}}',"
        f" {random.choice(('null', '1', '2', '3'))}, {random.randint(0, 99)}, {_note(random)}"
    )
    return random.choice(
        (
            f"insert into {TABLE} values ({new}) on conflict (id) do update set note = null",
            f"update {TABLE} set progress = {random.randint(0, 99)} where id = {key}",
            f"update {TABLE} set progress = {random.randint(0, 99)} where id = {key}",
            f"update {TABLE} set status = '{random.choice(STATUSES)}' where id % 9 = {key % 9}",
            f"update {TABLE} set tags = '{{{','.join(tags)}}}' where id = {key}",
            f"update {TABLE} set note = {_note(random)} where id = {key}",
            f"update {TABLE} set id = {random.randint(1, KEYS)} where id = {key}",
            f"delete from {TABLE} where id = {key}",
        )
    )


def _note(random: Random) -> str:
    """Sometimes stored out of line."""
    return random.choice(("null", "'short'", f"repeat('long{random.randint(0, 9)}', 1500)"))


class Clients:
    """Clients of all subjects, half of them by SSE, some with a connection per request."""

    def __init__(self, url: str, *, subjects: Sequence[Subject]) -> None:
        self.clients = [
            ShapeClient(url, subject, sse=sse, wander=number % 3 == 0, name=f"{number}-{sse=}")
            for number, subject in enumerate(subjects)
            for sse in (False, True)
        ]

    @asynccontextmanager
    async def following(self) -> AsyncGenerator[Clients]:
        """Started, and up to date for the first time."""
        try:
            for client in self.clients:
                client.start()
            for client in self.clients:
                assert await client.until(lambda c=client: c.up_to_date), client.describe()
            yield self
        finally:
            await asyncio.gather(*(client.stop() for client in self.clients))

    def check(self) -> None:
        """Raise what any of them found wrong."""
        for client in self.clients:
            client.check()

    async def converge(
        self, database: str, data: Path, seed: str, *, conflicts: bool = False, seconds: float = 60
    ) -> None:
        """Compare with SELECT, live first, then once more after catching up. Refetches are wrong
        unless `conflicts`."""
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
            await reach(data, connection, seconds)
            for client in self.clients:
                rows = await select(connection, client.subject)
                await client.until(lambda c=client, r=rows: c.rows == r, seconds)
                await client.stop()
                client.check()
                await asyncio.wait_for(client.catch_up(), seconds)
                wrong = difference(client.rows, rows)
                assert not wrong, f"seed {seed}: {wrong}\n{client.describe()}"
                refetched = client.counts.conflicts or client.counts.restarts
                assert conflicts or not refetched, f"seed {seed}: a refetch\n{client.describe()}"
                client.start()

    def describe(self) -> str:
        """Sums over all of them, as JSON."""
        counts = [client.counts for client in self.clients]
        names = ("requests", "messages", "conflicts", "restarts", "reconnects")
        return json.dumps({name: sum(getattr(count, name) for count in counts) for name in names})
