"""Finding streams: together, and no sooner than the log has come there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import psycopg
import pytest
from stream_scene import EVERYWHERE, Counted, Place, Scene, open_scene

from shapes.readiness import NotReadyError
from shapes.streams.refusals import (
    StreamTablesError,
)
from shapes.streams.storage import stream_lookup
from shapes.streams.storage.creation import NewStream
from shapes.streams.storage.store import StreamStore

pytestmark = pytest.mark.migrated


@pytest.fixture
async def scene(database: str, connection: psycopg.AsyncConnection) -> AsyncIterator[Scene]:
    async with open_scene(database, connection) as one:
        yield one


async def test_many_are_found_with_few_queries(scene: Scene) -> None:
    await scene.run(
        "insert into pgtide.streams (path, content_type, tail, bytes) "
        "select 's/' || n, 'text/plain', n, 10 * n from generate_series(1, 300) as n"
    )
    asked = [*(f"s/{number}" for number in range(1, 301)), "S/1", "s/1", "\0", ""]
    found = await asyncio.gather(*(scene.find(one) for one in asked))
    assert [state and state.tail for state in found] == [*range(1, 301), None, 1, None, None]
    assert scene.database.uses == 3
    assert await scene.store.find("another", "s/1") is None


async def test_whoever_goes_leaves_the_others_their_answer(scene: Scene) -> None:
    await scene.put("a")
    asking = [asyncio.create_task(scene.find(one)) for one in "aaba"]
    await asyncio.sleep(0)
    asking[0].cancel()
    await asyncio.sleep(0.001)
    asking[1].cancel()
    others = await asyncio.gather(*asking[2:])
    assert [state and state.path for state in others] == [None, "a"]


async def test_what_is_found_has_been_seen_by_the_tail(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.place.move(0)
    await scene.run("select pgtide.append('s', 'x'::text)")
    asking = asyncio.create_task(scene.find("s"))
    missing = await scene.find("nothing")
    assert missing is None
    await asyncio.sleep(0.05)
    assert not asking.done()
    [(here,)] = await scene.run("select (pg_current_wal_insert_lsn() - '0/0')::bigint")
    assert isinstance(here, int)
    await scene.place.move(here)
    state = await asking
    assert state is not None
    assert state.tail == 1
    await scene.place.move(0)
    monkeypatch.setattr(stream_lookup, "REACH_SECONDS", 0.02)
    with pytest.raises(NotReadyError):
        await scene.find("s")


async def test_what_is_not_on_disk_is_brought_there(scene: Scene) -> None:
    await scene.place.move(0)
    await scene.run("select pgtide.append('s', 'x'::text)")
    async with scene.connection.transaction():
        # Written and not flushed, since it has not ended.
        await scene.run("select pgtide.append('t', 'y'::text)")
        [(here,)] = await scene.run("select (pg_current_wal_insert_lsn() - '0/0')::bigint")
        asking = asyncio.create_task(scene.find("s"))
        query = "select (pg_current_wal_flush_lsn() - '0/0')::bigint >= %s"
        deadline = time.monotonic() + 10
        while not (await scene.run(query, here))[0][0]:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)
        await scene.place.move(EVERYWHERE)
        assert (await asking) is not None


@pytest.mark.migrated(False)
async def test_without_tables(database: str) -> None:
    own = Counted(database)
    store = StreamStore(own, Place())
    try:
        with pytest.raises(StreamTablesError, match="pgtide migrate"):
            await store.find("default", "s")
        with pytest.raises(StreamTablesError, match="pgtide migrate"):
            await store.create(NewStream(environment="default", path="s"))
    finally:
        await own.close()


async def test_uses_are_written_down_now_and_then(scene: Scene) -> None:
    state = await scene.put("a", ttl=100)
    fixed = await scene.put("b", expires_at=4e9, expires_text="later")
    when = "select extract(epoch from expires_at - clock_timestamp()) from pgtide.streams where id = %s"
    await scene.run(
        "update pgtide.streams set expires_at = now() + interval '50 s' where ttl_seconds = 100"
    )
    before = await scene.run("select expires_at from pgtide.streams where path = 'b'")
    await asyncio.gather(*(scene.store.touch(state, fixed) for _ in range(5)))
    assert float(str((await scene.run(when, state.id))[0][0])) > 80
    assert await scene.run("select expires_at from pgtide.streams where path = 'b'") == before
    # Not again, until a twentieth of the time has gone by.
    await scene.run(
        "update pgtide.streams set expires_at = now() + interval '50 s' where ttl_seconds = 100"
    )
    await scene.store.touch(state)
    assert float(str((await scene.run(when, state.id))[0][0])) < 60
    other = StreamStore(scene.database, scene.place)
    await scene.run("update pgtide.streams set expires_at = now() where ttl_seconds = 100")
    await other.touch(state)
    assert await scene.find("a") is None
