"""Streams reach their readers through the WAL: only what was committed, never before the rows of its
transaction, and without gap or repetition when the engine, a node or the log is lost.
"""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, closing, suppress
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from psycopg import sql
from serving import Serving, fresh_database
from stream_follower import StreamFollower

from engine.postgres.migrate import migrate

ROUNDS = 40
APPEND = "select pgtide.append(%s, %s::jsonb)"


class Served(NamedTuple):
    serving: Serving
    database_url: str


@pytest.fixture(scope="module")
def served(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Served]:
    """One node, so that two connections may be compared."""
    with fresh_database(server_url) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            # Larger transactions are sent while they are in progress.
            name = sql.Identifier(connection.info.dbname)
            connection.execute(
                sql.SQL("alter database {} set logical_decoding_work_mem to '64kB'").format(name)
            )
        serving = Serving(
            url,
            tmp_path_factory.mktemp("streams"),
            nodes=1,
            prometheus_port=0,
            sse_timeout=600,
            long_poll_timeout=3,
        )
        asyncio.run(migrate(url, stream_id=serving.stream_id))
        with serving:
            yield Served(serving, url)


@pytest.fixture
async def connection(served: Served) -> AsyncGenerator[psycopg.AsyncConnection]:
    async with await psycopg.AsyncConnection.connect(served.database_url, autocommit=True) as made:
        yield made


async def append(
    connection: psycopg.AsyncConnection, path: str, number: int, padding: int = 0
) -> None:
    """A number; with `padding` spaces, of which more than a few thousand keep it out of the notice."""
    await connection.execute(
        "select pgtide.append_chunk(%s, %s, 'application/json')",
        (path, b" " * padding + b"%d" % number),
    )


async def followers(stack: AsyncExitStack, served: Served, path: str) -> list[StreamFollower]:
    """Event streams and long polls."""
    return [
        await stack.enter_async_context(
            StreamFollower(served.serving.url, path, sse=number % 3 > 0)
        )
        for number in range(9)
    ]


async def arrived(all_of: list[StreamFollower], count: int) -> None:
    for one in all_of:
        await one.until(lambda one=one: one.count >= count)
        assert one.count == count


async def test_only_what_was_committed_is_seen(
    served: Served, connection: psycopg.AsyncConnection
) -> None:
    path = "live/commits"
    await append(connection, path, 0)
    async with AsyncExitStack() as stack:
        readers = await followers(stack, served, path)
        await arrived(readers, 1)
        number = 1
        for turn in range(20):
            async with connection.transaction(force_rollback=True):
                await append(connection, path, 1000)
                await append(connection, path, 1001, padding=20_000)
            async with connection.transaction():
                await append(connection, path, number)
                async with connection.transaction(force_rollback=True):
                    await append(connection, path, 1002)
                await append(connection, path, number + 1, padding=20_000 if turn % 4 else 0)
            number += 2
        # One that Postgres sends before it is rolled back, and one before it is committed.
        for rolled_back in (True, False):
            async with connection.transaction(force_rollback=rolled_back):
                for place in range(30):
                    await append(connection, path, number + place, padding=8000)
                    async with connection.transaction(force_rollback=True):
                        await append(connection, path, 1003, padding=8000)
        number += 30
        await arrived(readers, number)
        await connection.execute("select pgtide.close(%s)", (path,))
        for one in readers:
            await one.until(lambda one=one: one.closed)


class Events:
    """An answer as the bytes that have come over its connection."""

    def __init__(self, url: str, target: str, *, answered: bool = True) -> None:
        """Returns when the answer has begun, unless it is not to be `answered` yet."""
        place = urlsplit(url)
        assert place.hostname is not None
        self._socket = socket.create_connection((place.hostname, place.port or 80), timeout=30)
        self._socket.sendall(f"GET {target} HTTP/1.1\r\nhost: pgtide\r\n\r\n".encode())
        self._come = b""
        if answered:
            self.until(b" 200 OK\r\n")

    def until(self, text: bytes) -> None:
        """Wait for it, and forget all up to there."""
        while (at := self._come.find(text)) < 0:
            self._receive()
        self._come = self._come[at:]

    def has(self, text: bytes) -> bool:
        """Whether it is here already."""
        self._socket.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self._receive()
        self._socket.setblocking(True)
        self._socket.settimeout(30)
        return text in self._come

    def _receive(self) -> None:
        data = self._socket.recv(1 << 20)
        assert data, f"it has ended: {self._come[-500:]}"
        self._come += data

    def close(self) -> None:
        self._socket.close()


def test_a_message_never_comes_before_an_answer_with_its_row(served: Served) -> None:
    """That of a long poll."""
    path, table = "live/polled-rows", "polled_rows"
    url = served.serving.url
    with psycopg.connect(served.database_url, autocommit=True) as connection:
        connection.execute(f"create table {table} (id int primary key)".encode())
        connection.execute(APPEND, (path, "0"))
        shape = f"/v1/shape?table={table}"
        last = httpx.get(f"{url}{shape}&offset=-1", timeout=30)
        with closing(Events(url, f"/v1/stream/{path}?offset=-1&live=sse")) as messages:
            messages.until(b"data:[0]")
            for number in range(1, 11):
                shape = f"/v1/shape?table={table}&handle={last.headers['electric-handle']}"
                shape += f"&offset={last.headers['electric-offset']}"
                with closing(Events(url, f"{shape}&live=true", answered=False)) as poll:
                    # Who comes later has to wait until the poll has been taken up.
                    for _ in range(3):
                        last = httpx.get(f"{url}{shape}", timeout=30)
                        assert len(last.json()) == 1
                    with connection.transaction():
                        connection.execute(APPEND, (path, str(number)))
                        connection.execute(f"insert into {table} values ({number})".encode())
                    messages.until(b"data:[%d]" % number)
                    assert poll.has(b'"id":"%d"' % number)
                last = httpx.get(f"{url}{shape}", timeout=30)


@pytest.mark.parametrize("weight", [0, 20], ids=["small", "large"])
def test_a_message_never_comes_before_the_rows_of_its_transaction(
    served: Served, weight: int
) -> None:
    """`weight` is how many megabytes of other rows the transaction has."""
    path, table = f"live/rows-{weight}", f"rows_{weight}"
    rounds = 3 if weight else ROUNDS
    url = served.serving.url
    with psycopg.connect(served.database_url, autocommit=True) as connection:
        connection.execute(f"create table {table} (id int primary key, weight text)".encode())
        connection.execute(f"alter table {table} alter weight set storage external".encode())
        connection.execute(APPEND, (path, "0"))
        target = f"table={table}&columns=id&where=id%3E0"
        first = httpx.get(f"{url}/v1/shape?{target}&offset=-1", timeout=30)
        assert first.status_code == 200, first.text
        target += f"&handle={first.headers['electric-handle']}"
        target += f"&offset={first.headers['electric-offset']}&live=true&live_sse=true"
        with (
            closing(Events(url, f"/v1/shape?{target}")) as rows,
            closing(Events(url, f"/v1/stream/{path}?offset=-1&live=sse")) as messages,
        ):
            messages.until(b"data:[0]")
            for number in range(1, rounds + 1):
                with connection.transaction():
                    # First the message, then the row.
                    connection.execute(APPEND, (path, str(number)))
                    if weight:
                        connection.execute(
                            f"insert into {table} select -{number}00 - n, repeat('x', 1 << 20) "
                            f"from generate_series(1, {weight}) n".encode()
                        )
                    connection.execute(f"insert into {table} values ({number})".encode())
                messages.until(b"data:[%d]" % number)
                assert rows.has(b'"id":"%d"' % number)


def counted(served: Served, *lines: str) -> None:
    """Wait until the metrics have these lines."""
    found = re.search(r"metrics are served  port=(\d+)", served.serving.log)
    assert found is not None
    deadline = time.monotonic() + 20
    while True:
        page = httpx.get(f"http://127.0.0.1:{found[1]}/metrics").text
        if all(line in page.splitlines() for line in lines):
            return
        assert time.monotonic() < deadline, page
        time.sleep(0.1)


def test_readers_are_counted(served: Served) -> None:
    path = "live/counted"
    target = f"/v1/stream/{path}?offset=-1&live="
    readers = [f'pgtide_readers{{mode="stream_{mode}"}}' for mode in ("sse", "long_poll")]
    with psycopg.connect(served.database_url, autocommit=True) as connection:
        connection.execute(APPEND, (path, "0"))
        counted(served, *(f"{one} 0" for one in readers))
        poll = target.replace("-1", f"{0:016}_{1:016}") + "long-poll"
        with (
            closing(Events(served.serving.url, f"{target}sse")) as events,
            closing(Events(served.serving.url, poll, answered=False)) as answer,
        ):
            counted(served, *(f"{one} 1" for one in readers))
            connection.execute(APPEND, (path, "1"))
            events.until(b"data:[1]")
            answer.until(b"[1]")
        counted(served, *(f"{one} 0" for one in readers))


class Appender:
    """Appends numbers to a stream until it is told to stop, each in a transaction of its own."""

    def __init__(self, database_url: str, path: str) -> None:
        self._url = database_url
        self._path = path
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.count = 0

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        self._stop.set()
        assert self._task is not None
        await self._task

    async def until(self, count: int) -> None:
        while self.count < count:
            assert self._task is not None
            assert not self._task.done(), self._task
            await asyncio.sleep(0.005)

    async def _run(self) -> None:
        async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as connection:
            while not self._stop.is_set():
                padding = 10_000 if self.count % 7 == 3 else 0
                await append(connection, self._path, self.count, padding)
                self.count += 1
                await asyncio.sleep(0.004)


async def test_no_gap_and_no_repetition_whatever_is_lost(
    served: Served, connection: psycopg.AsyncConnection
) -> None:
    path = "live/losses"
    await append(connection, path, 0)
    serving = served.serving
    appender = Appender(served.database_url, path)
    appender.count = 1
    async with AsyncExitStack() as stack:
        readers = await followers(stack, served, path)
        await arrived(readers, 1)
        appender.start()
        for lose in (lose_engine, lose_slot, lose_node):
            cuts = sum(one.cuts for one in readers)
            await appender.until(appender.count + 50)
            await lose(serving, connection)
            before = appender.count
            await appender.until(before + 20)
            for one in readers:
                await one.until(lambda one=one, before=before: one.count > before, 60)
            if lose is not lose_node:
                # Event streams and polls go on where they are.
                assert sum(one.cuts for one in readers) == cuts
        await appender.stop()
        await arrived(readers, appender.count)


async def lose_engine(serving: Serving, _: psycopg.AsyncConnection) -> None:
    await asyncio.to_thread(serving.kill_engine)


async def lose_node(serving: Serving, _: psycopg.AsyncConnection) -> None:
    await asyncio.to_thread(serving.kill_node)


async def lose_slot(serving: Serving, connection: psycopg.AsyncConnection) -> None:
    """The log begins anew."""
    while True:
        for pid in await asyncio.to_thread(serving.engine_pids):
            await asyncio.to_thread(serving.kill_engine)
            del pid
        try:
            await connection.execute(
                "select pg_drop_replication_slot(%s)", (f"pgtide_{serving.stream_id}",)
            )
            return
        except (psycopg.errors.ObjectInUse, psycopg.errors.UndefinedObject):
            await asyncio.sleep(0.01)
