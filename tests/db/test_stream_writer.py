"""Group commit of appends, against a Postgres whose streams others write to as well."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from postgres_side import Connect, as_role, until, waits_for_lock
from tcp_proxy import TcpProxy

from engine.errors import DatabaseSetupError
from engine.postgres.migrate import migrate
from shapes.database import Database, DatabaseUnavailableError
from shapes.streams.appending import slow_lane
from shapes.streams.appending.judgement import MOST_BYTES
from shapes.streams.appending.pipeline import StatementError
from shapes.streams.appending.writer import StreamWriter
from shapes.streams.notice import CLOSED, PREFIX, Notice, unpack_notices
from shapes.streams.stream import Append, Appended, Outcome, Stamp

pytestmark = pytest.mark.migrated


@asynccontextmanager
async def running(url: str, *, pooled: bool = False) -> AsyncGenerator[StreamWriter]:
    database = Database(url, 6, 10.0, pooled=pooled)
    writer = StreamWriter(database)
    serving = asyncio.create_task(writer.run())
    try:
        yield writer
    finally:
        serving.cancel()
        await asyncio.wait([serving])
        await database.close()


@pytest.fixture
async def app(database: str, connect: Connect) -> psycopg.AsyncConnection:
    """An application's connection."""
    await migrate(database)
    return await connect()


@pytest.fixture
async def writer(app: psycopg.AsyncConnection, database: str) -> AsyncIterator[StreamWriter]:
    del app
    async with running(database) as writer:
        yield writer


def text(path: str, *parts: bytes, **more: Any) -> Append:
    """An append to a stream, which is made if there is none."""
    return Append("default", path, parts, (1,) * len(parts), create="text/plain", **more)


async def content(connection: psycopg.AsyncConnection, path: str) -> list[bytes]:
    """What was appended to a stream, whose positions have no gaps."""
    cursor = await connection.execute(
        """
        select chunk.position, chunk.messages, chunk.data, stream.tail
        from pgtide.streams as stream join pgtide.stream_chunks as chunk on stream_id = stream.id
        where path = %s order by chunk.position
        """,
        (path,),
    )
    end = 0
    data: list[bytes] = []
    rows = await cursor.fetchall()
    for position, messages, chunk, _ in rows:
        assert position == end
        end += messages
        data.append(chunk)
    assert not rows or rows[-1][3] == end
    return data


async def value(connection: psycopg.AsyncConnection, query: str, *values: object) -> Any:
    row = await (await connection.execute(query.encode(), values)).fetchone()
    assert row is not None
    return row[0]


async def test_streams_are_made_when_asked(
    app: psycopg.AsyncConnection, writer: StreamWriter
) -> None:
    bare = Append("default", "s", (b"x",), (1,))
    assert await writer.append(bare) == Appended(Outcome.MISSING)
    assert await writer.append(text("s", b"a", b"b")) == Appended(Outcome.APPENDED, 2)
    assert await writer.append(bare) == Appended(Outcome.APPENDED, 3)
    other = Append("prod", "s", (b"1,2",), (2,), create="application/json; charset=utf-8")
    assert await writer.append(other) == Appended(Outcome.APPENDED, 2)
    cursor = await app.execute(
        "select environment_id, content_type, tail, bytes from pgtide.streams order by id"
    )
    assert await cursor.fetchall() == [
        ("default", "text/plain", 3, 3),
        ("prod", "application/json; charset=utf-8", 2, 3),
    ]


async def test_together_in_their_order(app: psycopg.AsyncConnection, writer: StreamWriter) -> None:
    """Of what comes at once, only the first goes alone."""
    requests = [text(f"s{number % 7}", b"%d" % number) for number in range(700)]
    answers = await asyncio.gather(*map(writer.append, requests))
    assert [answer.tail for answer in answers] == [number // 7 + 1 for number in range(700)]
    for stream in range(7):
        expected = [b"%d" % number for number in range(stream, 700, 7)]
        assert await content(app, f"s{stream}") == expected
    transactions = await value(
        app, "select count(distinct xmin::text::bigint) from pgtide.stream_chunks"
    )
    assert transactions < 10


async def test_what_a_request_makes_of_a_stream_is_kept(
    app: psycopg.AsyncConnection, writer: StreamWriter
) -> None:
    await app.execute("select pgtide.create_stream('s', 'text/plain', '100 s')")
    await app.execute("update pgtide.streams set expires_at = now() + interval '10 s'")
    await writer.append(text("s", b"a", sequence=b"\x00\xff"))
    old = text("s", b"a", sequence=b"\x00\xfe")
    assert (await writer.append(old)).outcome is Outcome.OLD_SEQUENCE
    assert await value(app, "select expires_at > now() + interval '95 s' from pgtide.streams")
    closing = text("s", b"b", close=True, stamp=Stamp("p", 3, 0))
    expected = Appended(Outcome.APPENDED, 2, True, 3, 0)
    assert await writer.append(closing) == expected
    assert (await writer.append(closing)).outcome is Outcome.DUPLICATE
    assert (await writer.append(text("s", b"c"))).outcome is Outcome.CLOSED
    assert await writer.position("default", "s", "p") == Stamp("p", 3, 0)
    assert await writer.last("default", "s", "p") == 0
    assert await writer.last("default", "s", "q") == -1
    assert await writer.last("default", "s\0", "p") == -1


async def test_streams_that_are_gone(app: psycopg.AsyncConnection, writer: StreamWriter) -> None:
    for path in ("expired", "source", "deleted"):
        await writer.append(text(path, b"old", stamp=Stamp("p", 0, 0)))
    await app.execute(
        "update pgtide.streams set expires_at = now() where path = 'expired';"
        "update pgtide.streams set expires_at = now(), forks = 1 where path = 'source';"
        "update pgtide.streams set forks = 1 where path = 'deleted';"
        "select pgtide.delete_stream('deleted')"
    )
    assert await writer.last("default", "expired", "p") == -1
    bare = Append("default", "expired", (b"x",), (1,))
    assert (await writer.append(bare)).outcome is Outcome.MISSING
    for path in ("source", "deleted"):
        assert (await writer.append(text(path, b"x"))).outcome is Outcome.GONE
    answers = await asyncio.gather(
        *(writer.append(text("expired", b"%d" % one, stamp=Stamp("p", 0, one))) for one in (0, 1))
    )
    assert [answer.tail for answer in answers] == [1, 2]
    assert await content(app, "expired") == [b"0", b"1"]


async def test_large_appends(app: psycopg.AsyncConnection, writer: StreamWriter) -> None:
    large = b"x" * (MOST_BYTES - 1)
    requests = [text(f"s{number}", large, b"y") for number in range(2)]
    answers = await asyncio.gather(*map(writer.append, requests))
    assert [answer.tail for answer in answers] == [2, 2]
    too_large = text("s0", large, b"zz")
    assert await writer.append(too_large) == Appended(Outcome.TOO_LARGE)
    assert await value(app, "select sum(octet_length(data)) from pgtide.stream_chunks") == (
        2 * MOST_BYTES
    )


async def test_readers_are_told(
    app: psycopg.AsyncConnection, database: str, writer: StreamWriter
) -> None:
    """Of everything, in pieces that are no larger than a message should be."""
    slot = f"notices_{app.info.dbname}"
    await app.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,))
    await app.execute("create publication nothing")
    parts = tuple(b"%d" % number + b"x" * 8000 for number in range(300))
    await writer.append(text("s", *parts, b"y" * 8193))
    await writer.append(text("s", close=True))
    cursor = await app.execute(
        """
        select data from pg_logical_slot_peek_binary_changes(%s, null, null,
            'proto_version', '1', 'publication_names', 'nothing', 'messages', 'true')
        where get_byte(data, 0) = ascii('M')
        """,
        (slot,),
    )
    # Behind a tag, flags, an LSN, the prefix with its end, and a length.
    begin = 1 + 1 + 8 + len(PREFIX) + 1 + 4
    messages = [row[0][begin:] for row in await cursor.fetchall()]
    await app.execute("select pg_drop_replication_slot(%s)", (slot,))
    assert max(map(len, messages)) <= 1 << 20
    notices = [notice for message in messages for notice in unpack_notices(message)]
    cursor = await app.execute(
        """
        select stream_id, position, messages, 0, (extract(epoch from created_at) * 1e6)::bigint, data
        from pgtide.stream_chunks order by position
        """
    )
    chunks = [Notice(*row) for row in await cursor.fetchall()]
    chunks[-1] = chunks[-1]._replace(data=None)
    assert notices[:-1] == chunks
    assert notices[-1][1:4] == (301, 0, CLOSED)


async def test_a_locked_stream_holds_up_no_other(
    app: psycopg.AsyncConnection, writer: StreamWriter
) -> None:
    async with app.transaction():
        await app.execute("select pgtide.append('s', 'first')")
        later = [asyncio.create_task(writer.append(text("s", b"%d" % one))) for one in range(3)]
        for number in range(20):
            assert (await writer.append(text("other", b"x"))).tail == number + 1
            later.append(asyncio.create_task(writer.append(text("s", b"%d" % len(later)))))
        assert not any(task.done() for task in later)
    answers = await asyncio.gather(*later)
    assert [answer.tail for answer in answers] == list(range(2, 25))
    assert await content(app, "s") == [b"first", *(b"%d" % one for one in range(23))]
    # And back.
    assert (await writer.append(text("s", b"x"))).tail == 25


async def test_more_locked_streams_than_connections(
    app: psycopg.AsyncConnection, connect: Connect, writer: StreamWriter
) -> None:
    """Whoever is free again is served while others are still locked."""
    other = await connect()
    for path in "abcdef":
        await writer.append(text(path, b"x"))
    async with app.transaction():
        await app.execute("select * from pgtide.streams where path <> 'f' for update")
        async with other.transaction():
            await other.execute("select * from pgtide.streams where path = 'f' for update")
            later = {
                path: asyncio.create_task(writer.append(text(path, b"y"))) for path in "abcdef"
            }
            await writer.append(text("free", b"x"))
        assert (await later["f"]).tail == 2
        assert not any(later[path].done() for path in "abcde")
    assert [answer.tail for answer in await asyncio.gather(*later.values())] == [2] * 6


async def test_a_stream_that_somebody_else_is_making(
    app: psycopg.AsyncConnection, writer: StreamWriter
) -> None:
    async with app.transaction():
        await app.execute("select pgtide.append('s', 'first')")
        later = asyncio.create_task(writer.append(text("s", b"second")))
        for number in range(3):
            await writer.append(text(f"other{number}", b"x"))
        assert not later.done()
    assert (await later).tail == 2
    assert await content(app, "s") == [b"first", b"second"]


async def test_waiting_has_an_end(
    app: psycopg.AsyncConnection, writer: StreamWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_lane, "WAIT_SECONDS", 0.0)
    async with app.transaction():
        await app.execute("select pgtide.append('s', 'x')")
        with pytest.raises(DatabaseUnavailableError, match="locked"):
            await writer.append(text("s", b"never"))
    assert (await writer.append(text("s", b"y"))).tail == 2
    assert await content(app, "s") == [b"x", b"y"]


async def test_a_request_that_postgres_cannot_take_fails_alone(
    app: psycopg.AsyncConnection, writer: StreamWriter
) -> None:
    requests = [text("good", b"a"), text("a//b", b"x"), text("good", b"b"), text("good\0", b"x")]
    answers = await asyncio.gather(*map(writer.append, requests), return_exceptions=True)
    assert isinstance(answers[1], StatementError)
    assert isinstance(answers[3], ValueError)
    assert await content(app, "good") == [b"a", b"b"]


async def test_who_goes_away_before_his_turn_appends_nothing(
    app: psycopg.AsyncConnection, writer: StreamWriter
) -> None:
    async with app.transaction():
        await app.execute("select pgtide.append('s', 'x')")
        await asyncio.gather(writer.append(text("other", b"x")))
        waiting = [asyncio.create_task(writer.append(text("s", b"%d" % one))) for one in range(3)]
        await asyncio.sleep(0)
        waiting[1].cancel()
        await writer.append(text("other", b"y"))
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(answers[1], asyncio.CancelledError)
    assert await content(app, "s") == [b"x", b"0", b"2"]


async def produce(
    writers: list[StreamWriter], paths: list[str], name: str, count: int, chance: random.Random
) -> None:
    """Append 0, 1, 2, … to one stream after the other, each again and again until it is confirmed, over
    any of the writers, giving up waiting every now and then."""
    for number in range(count):
        for path in paths:
            request = text(path, b"%s:%d" % (name.encode(), number), stamp=Stamp(name, 0, number))
            while True:
                attempt = asyncio.create_task(chance.choice(writers).append(request))
                patience = chance.choice([0.0, 0.001, 0.003, 1.0])
                await asyncio.wait([attempt], timeout=patience)
                if not attempt.done():
                    attempt.cancel()
                    continue
                if attempt.exception() is None:
                    break
                assert isinstance(attempt.exception(), DatabaseUnavailableError)


async def assert_once(
    connection: psycopg.AsyncConnection, path: str, producers: list[str], count: int
) -> None:
    found = await content(connection, path)
    for name in producers:
        expected = [b"%s:%d" % (name.encode(), number) for number in range(count)]
        assert [data for data in found if data.startswith(name.encode() + b":")] == expected


async def test_exactly_once(
    app: psycopg.AsyncConnection, database: str, writer: StreamWriter
) -> None:
    """Two nodes, producers that give up and come again, an application that appends and rolls back, and
    connections that break."""
    chance = random.Random(7)
    paths = [f"s{number}" for number in range(4)]
    names = [f"p{number}" for number in range(8)]
    count = 15
    over = asyncio.Event()

    async def application() -> int:
        number = 0
        while not over.is_set():
            async with app.transaction(force_rollback=chance.random() < 0.3) as transaction:
                for path in sorted(chance.sample(paths, 2)):
                    data = "never" if transaction.force_rollback else f"app:{number}"
                    await app.execute("select pgtide.append(%s, %s::text)", (path, data))
            number += 1
            await asyncio.sleep(chance.random() / 200)
        return number

    async def cut() -> int:
        """How many connections."""
        number = 0
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as killer:
            while not over.is_set():
                await asyncio.sleep(chance.random() / 10)
                cursor = await killer.execute(
                    """
                    select pg_terminate_backend(pid) from pg_stat_activity
                    where application_name = 'pgtide' and datname = current_database()
                    """
                )
                number += cursor.rowcount
        return number

    async with running(database) as second, asyncio.TaskGroup() as tasks:
        working = tasks.create_task(application())
        cutting = tasks.create_task(cut())
        async with asyncio.timeout(60), asyncio.TaskGroup() as producers:
            for name in names:
                shuffled = chance.sample(paths, len(paths))
                producers.create_task(produce([writer, second], shuffled, name, count, chance))
        over.set()
    for path in paths:
        await assert_once(app, path, names, count)
        assert b"never" not in await content(app, path)
    assert cutting.result() > 0
    appended = [data for path in paths for data in await content(app, path)]
    assert 0 < sum(data.startswith(b"app:") for data in appended) <= 2 * working.result()
    assert len(appended) == len(paths) * len(names) * count + sum(
        data.startswith(b"app:") for data in appended
    )


async def test_an_unconfirmed_commit_is_no_success(
    app: psycopg.AsyncConnection, database: str, connect: Connect
) -> None:
    observer = await connect()
    address = urlsplit(database)
    async with TcpProxy(address.port or 5432).running() as proxy:
        through = urlunsplit(address._replace(netloc=f"postgres@127.0.0.1:{proxy.port}"))
        async with running(through) as writer:
            request = text("s", b"a", stamp=Stamp("p", 0, 0))
            await writer.append(text("s", b"x"))
            async with app.transaction():
                await app.execute("lock table pgtide.stream_chunks")
                unknown = asyncio.create_task(writer.append(request))
                await until(lambda: waits_for_lock(observer, "pgtide.stream_chunks"))
                # Postgres has been told to commit, and what it answers is lost.
                proxy.stall()

            async def committed() -> bool:
                return len(await content(observer, "s")) == 2

            await until(committed)
            assert not unknown.done()
            proxy.cut()
            with pytest.raises(DatabaseUnavailableError):
                await unknown
            assert (await writer.append(request)).outcome is Outcome.DUPLICATE
    assert await content(app, "s") == [b"x", b"a"]


async def test_behind_a_pooler_nothing_stays_prepared(
    app: psycopg.AsyncConnection, database: str
) -> None:
    async with running(database, pooled=True) as writer:
        for number in range(3):
            await writer.append(text("s", b"%d" % number, stamp=Stamp("p", 0, number)))
        # Whatever the server's connection had is gone with every transaction.
        await app.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where application_name = 'pgtide' and datname = current_database()"
        )
        await writer.append(text("s", b"3", stamp=Stamp("p", 0, 3)))
    assert await content(app, "s") == [b"0", b"1", b"2", b"3"]


async def test_a_server_that_is_away(database: str) -> None:
    nowhere = urlunsplit(urlsplit(database)._replace(netloc="postgres@127.0.0.1:1", query=""))
    async with running(nowhere) as writer:
        with pytest.raises(DatabaseUnavailableError):
            await writer.append(text("s", b"x"))
        with pytest.raises(DatabaseUnavailableError):
            await writer.last("default", "s", "p")


@pytest.mark.migrated(False)
async def test_what_is_lacking_is_said(
    database: str, connection: psycopg.AsyncConnection, role: str
) -> None:
    async with running(database) as writer:
        for ask in (writer.append(text("s", b"x")), writer.last("default", "s", "p")):
            with pytest.raises(DatabaseSetupError, match="run `pgtide migrate`"):
                await ask
        await migrate(database)
        assert (await writer.append(text("s", b"x"))).tail == 1
    await connection.execute(f"grant usage on schema pgtide to {role}".encode())
    async with running(as_role(database, role)) as writer:
        for ask in (writer.append(text("s", b"x")), writer.last("default", "s", "p")):
            with pytest.raises(DatabaseSetupError, match=r"sql/roles\.sql"):
                await ask


async def test_the_end_of_a_node(
    app: psycopg.AsyncConnection, database: str, connect: Connect
) -> None:
    observer = await connect()
    async with app.transaction():
        await app.execute("select pgtide.append('s', 'x')")
        async with running(database) as writer:
            waiting = asyncio.create_task(writer.append(text("s", b"never")))
            await writer.append(text("other", b"x"))
        with pytest.raises(DatabaseUnavailableError, match="stops"):
            await waiting
        with pytest.raises(DatabaseUnavailableError, match="stops"):
            await writer.append(text("other", b"x"))

        async def alone() -> bool:
            return (
                await value(
                    observer,
                    "select count(*) from pg_stat_activity where application_name = 'pgtide'"
                    " and datname = current_database()",
                )
                == 0
            )

        await until(alone)
    assert await content(app, "s") == [b"x"]
