"""The chores of streams: retention, and removing what nobody can see any more."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from postgres_side import Connect
from psycopg import sql

from engine.configuration.settings import Settings
from engine.doctor.streams import check_streams
from engine.metrics.numbers import Numbers
from shapes.database import Database
from shapes.stream_meter import DROPPED, METRICS, StreamMeter
from shapes.streams.storage import keeper as keeper_module
from shapes.streams.storage.keeper import StreamKeeper

pytestmark = pytest.mark.migrated

DAY = 86400


@dataclass
class Scene:
    database: Database
    connection: psycopg.AsyncConnection

    def keeper(self, meter: StreamMeter | None = None, **settings: Any) -> StreamKeeper:
        return StreamKeeper(self.database, Settings(**settings), meter)

    async def run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        cursor = await self.connection.execute(statement.encode(), values)
        return await cursor.fetchall() if cursor.description else []

    async def parts(self) -> list[int]:
        return [row[0] for row in await self.run("select part from pgtide.stream_parts order by 1")]

    async def grow_older(self, days: float) -> None:
        await self.run(
            "update pgtide.stream_parts set used_from = used_from - %s * interval '1 day'", days
        )
        await self.run(
            "update pgtide.streams set created_at = created_at - %s * interval '1 day'", days
        )

    async def paths(self) -> list[str]:
        return [row[0] for row in await self.run("select path from pgtide.streams order by path")]


@pytest.fixture
async def scene(database: str, connection: psycopg.AsyncConnection) -> AsyncIterator[Scene]:
    own = Database(database, 6, 10.0)
    try:
        yield Scene(own, connection)
    finally:
        await own.close()


@pytest.fixture
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every round does everything."""
    monkeypatch.setattr(keeper_module, "RARELY_SECONDS", -1.0)


async def test_parts_come_and_go(scene: Scene) -> None:
    region = Numbers().region(1, METRICS)
    keeper = scene.keeper(StreamMeter(region))
    await keeper.round()
    assert await scene.parts() == [1]
    for path in ("a", "b", "c"):
        await scene.run("select pgtide.append(%s, 'x'::text)", path)
    await keeper.round()
    assert await scene.parts() == [1]
    for expected in ([1, 2], [1, 2, 3]):
        await scene.grow_older(2.1)
        await keeper.round()
        await keeper.round()
        assert await scene.parts() == expected
        # A part comes into use a little after it was opened.
        await scene.grow_older(0.001)
        await scene.run("select pgtide.append('a', 'y'::text)")
    await scene.grow_older(25)
    await keeper.round()
    assert await scene.parts() == [1, 2, 3, 4]
    await scene.grow_older(2)
    # The second came into use more than 28 days ago: whatever is in the first is older.
    await keeper.round()
    assert await scene.parts() == [2, 3, 4]
    assert await scene.run("select path, head, tail from pgtide.streams order by path") == [
        ("a", 1, 3),
        ("b", 1, 1),
        ("c", 1, 1),
    ]
    await scene.grow_older(100)
    await keeper.round()
    assert await scene.parts() == [4]
    assert await scene.run("select count(*) from pgtide.stream_chunks") == [(0,)]
    assert region.number(DROPPED).value == 3


async def test_parts_are_dropped_when_all_is_too_much(scene: Scene) -> None:
    keeper = scene.keeper(stream_retention_bytes=16 << 20)
    data = "select pgtide.append('a', convert_to(repeat('x', 1200000), 'UTF8'))"
    for _ in range(20):
        await scene.run(data)
        await keeper.round()
        await scene.grow_older(0.001)
    [(head, tail)] = await scene.run("select head, tail from pgtide.streams")
    assert tail == 20
    assert 5 <= head <= 11
    size = (
        "select sum(pg_total_relation_size('pgtide.stream_chunks_' || part)) "
        "from pgtide.stream_parts"
    )
    assert (await scene.run(size))[0][0] <= 18 << 20


async def test_a_part_in_use_is_left_alone_for_now(
    scene: Scene, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "ROUND_SECONDS", 0.0)
    await scene.run("select pgtide.append('a', 'x'::text)")
    await scene.run("select pgtide.open_stream_part()")
    await scene.grow_older(100)
    keeper, other = scene.keeper(), await connect()
    async with other.transaction():
        # Anybody who reads or appends, in whatever part.
        await other.execute("select pgtide.append('b', 'x'::text)")
        await keeper.round()
        assert await scene.parts() == [1, 2, 3]
        await asyncio.wait_for(scene.run("select pgtide.append('a', 'y'::text)"), 30)
    await keeper.round()
    assert await scene.parts() == [2, 3]


async def test_only_one_of_all_nodes_does_it(scene: Scene, connect: Connect) -> None:
    await scene.run("select pgtide.append('a', 'x'::text)")
    await scene.grow_older(100)
    other = await connect()
    async with other.transaction():
        await other.execute("select pg_advisory_xact_lock(%s)", (keeper_module._LOCK_KEY,))  # pyright: ignore[reportPrivateUsage]
        await scene.keeper().round()
        assert await scene.parts() == [1]
    await asyncio.gather(*(scene.keeper().round() for _ in range(4)))
    assert await scene.parts() == [1, 2]


async def test_what_has_expired_is_removed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_module, "REMOVE_TOGETHER", 3)
    monkeypatch.setattr(keeper_module, "DELETE_TOGETHER", 2)
    hour = "interval '1 h'"
    for number in range(7):
        await scene.run(f"select pgtide.create_stream('old/{number}', 'text/plain', {hour})")
        for _ in range(number):
            await scene.run(f"select pgtide.append('old/{number}', 'x'::text)")
    await scene.run(f"select pgtide.create_stream('young', 'text/plain', {hour})")
    await scene.run(
        "select pgtide.append('young', 'x'::text), pgtide.append('for ever', 'x'::text)"
    )
    await scene.run("update pgtide.streams set expires_at = now() where path like 'old/%%'")
    await scene.keeper().round()
    assert await scene.paths() == ["for ever", "young"]
    assert await scene.run("select count(*) from pgtide.stream_remains") == [(0,)]
    assert await scene.run("select count(*) from pgtide.stream_chunks") == [(2,)]


async def test_an_expired_source_stays_for_its_forks(scene: Scene) -> None:
    await scene.run("select pgtide.create_stream('source', 'text/plain', interval '1 h')")
    [(source,)] = await scene.run("select id from pgtide.streams")
    await scene.run("update pgtide.streams set expires_at = now(), forks = 1")
    fork = (
        "insert into pgtide.streams (path, parent_id, expires_at) "
        "values ('fork', %s, now() + interval '1 h')"
    )
    await scene.run(fork, source)
    keeper = scene.keeper()
    await keeper.round()
    assert await scene.paths() == ["fork", "source"]
    await scene.run("update pgtide.streams set expires_at = now() where path = 'fork'")
    await keeper.round()
    assert await scene.paths() == []


@pytest.mark.usefixtures("prompt")
async def test_streams_of_which_nothing_is_left_are_removed(scene: Scene) -> None:
    for path in ("open", "closed", "runs/r/s", "going on"):
        await scene.run("select pgtide.append(%s, 'x'::text)", path)
    await scene.run("select pgtide.create_stream('empty'), pgtide.close('closed')")
    await scene.run("select pgtide.close('empty')")
    await scene.run("select pgtide.open_stream_part()")
    keeper = scene.keeper()
    await keeper.round()
    assert len(await scene.paths()) == 5
    await scene.grow_older(29)
    await scene.run("select pgtide.append('going on', 'y'::text), pgtide.close('going on')")
    await scene.run("select pgtide.create_stream('young'), pgtide.close('young')")
    await keeper.round()
    assert await scene.parts() == [2, 3]
    # Whoever has an open stream may go on to write it; nobody closes those of runs.
    assert await scene.paths() == ["going on", "open", "young"]


@pytest.mark.usefixtures("prompt")
async def test_producers_that_are_not_heard_of_are_forgotten(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "BLOCKS_TOGETHER", 1)
    await scene.run("select pgtide.append('a', 'x'::text)")
    add = (
        "insert into pgtide.stream_producers (stream_id, producer, epoch, sequence, used_at) "
        "select (select id from pgtide.streams), %s || n, 0, 0, now() - %s * interval '1 h' "
        "from generate_series(1, 300) as n"
    )
    for name, hours in (("part:new", 0.5), ("part:old", 1.5), ("new", 24 * 27), ("old", 24 * 29)):
        await scene.run(add, name, hours)
    await scene.keeper().round()
    left = await scene.run(
        "select rtrim(producer, '0123456789'), count(*) from pgtide.stream_producers "
        "group by 1 order by 1"
    )
    assert left == [("new", 300), ("part:new", 300)]


async def test_without_the_right_to_it(
    scene: Scene, database: str, role: str, caplog: pytest.LogCaptureFixture
) -> None:
    password = secrets.token_hex(8)
    await scene.connection.execute(
        sql.SQL("alter role {} password {}").format(sql.Identifier(role), sql.Literal(password))
    )
    parts = urlsplit(database)
    place = parts.netloc.rpartition("@")[2]
    url = urlunsplit(parts._replace(netloc=f"{role}:{password}@{place}"))
    await scene.run("select pgtide.append('a', 'x'::text)")
    await scene.connection.execute(
        sql.SQL(
            "grant usage on schema pgtide to {0}; grant select on all tables in schema pgtide to {0}"
        ).format(sql.Identifier(role))
    )
    await scene.grow_older(100)
    async with AsyncExitStack() as stack:
        own = Database(url, 6, 10.0)
        stack.push_async_callback(own.close)
        keeper = StreamKeeper(own, Settings())
        with caplog.at_level(logging.WARNING, "streams"):
            await keeper.round()
            await keeper.round()
        assert ["sql/roles.sql" in record.message for record in caplog.records] == [True]
    assert await scene.parts() == [1]


async def test_without_tables(database: str, caplog: pytest.LogCaptureFixture) -> None:
    own = Database(database, 6, 10.0)
    try:
        with caplog.at_level(logging.WARNING, "streams"):
            await StreamKeeper(own, Settings()).round()
        assert not caplog.records
    finally:
        await own.close()


async def test_the_doctor_says_what_is_wrong(scene: Scene, role: str, database: str) -> None:
    async def findings(**settings: Any) -> list[str]:
        return [str(one) async for one in check_streams(scene.connection, Settings(**settings))]

    assert await findings() == ["✓ streams have their tables: 0 MiB in 1 part"]
    await scene.run("select pgtide.open_stream_part()")
    await scene.grow_older(43)
    assert "43 days old" in (await findings())[0]
    assert await findings(stream_retention_age=43 * DAY) == [
        "✓ streams have their tables: 0 MiB in 2 parts"
    ]
    await scene.run("select pgtide.append('a', repeat('x', 2000000))")
    [late] = await findings(stream_retention_age=43 * DAY, stream_retention_bytes=1 << 20)
    assert "take more than they should: 2 MiB" in late
    # What roles.sql grants makes up for what is missing, step by step.
    admin = await psycopg.AsyncConnection.connect(database, autocommit=True)
    async with admin:
        name = sql.Identifier(role)
        await scene.connection.execute(sql.SQL("set role {}").format(name))
        assert "may not read" in (await findings())[0]
        await admin.execute(sql.SQL("grant usage on schema pgtide to {}").format(name))
        assert "may not read" in (await findings())[0]
        await admin.execute(
            sql.SQL("grant select on all tables in schema pgtide to {}").format(name)
        )
        no_writes, no_drops, late = await findings()
        assert no_writes.startswith("! streams can be read and not written")
        assert "never dropped" in no_drops
        assert "43 days old" in late
        await scene.connection.execute("reset role")
    await scene.run("drop schema pgtide cascade")
    assert await findings() == []
    assert await findings(secret_keys=("tr_dev_x",)) == [
        "! streams cannot be served: their tables do not exist\n    → Run: pgtide migrate"
    ]
