"""What was committed comes through the WAL a little before queries see it: whoever reads waits for it,
and is not told that it had been dropped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import psycopg
import pytest
from stream_scene import Scene, open_scene

from shapes.streams.refusals import BelowHorizonError

pytestmark = pytest.mark.migrated


@pytest.fixture
async def scene(database: str, connection: psycopg.AsyncConnection) -> AsyncIterator[Scene]:
    async with open_scene(database, connection) as one:
        yield one


@pytest.mark.parametrize("begin", [0, 2])
async def test_a_page_waits_until_its_messages_are_seen(scene: Scene, begin: int) -> None:
    data = b"[1,2]" if begin else b""
    state = await scene.put("a", content_type="application/json", data=data)
    known = replace(state, tail=begin + 1)
    reading = asyncio.gather(
        scene.store.page(known, begin, 1000), scene.store.chunks(known, begin, 1000)
    )
    # It has looked, in vain.
    await asyncio.sleep(0.05)
    assert not reading.done()
    await scene.run("select pgtide.append('a', '3'::jsonb)")
    page, chunks = await asyncio.wait_for(reading, 30)
    assert [(page.position, page.data)] == [(begin, b"3")]
    assert [(one.position, one.data) for one in chunks] == [(begin, b"3")]


async def test_what_was_dropped_or_deleted_is_not_waited_for(scene: Scene) -> None:
    state = replace(await scene.put("a", content_type="text/plain", data=b"x"), tail=3)
    await scene.run("delete from pgtide.stream_chunks")
    await scene.run("update pgtide.streams set head = 2, tail = 3")
    with pytest.raises(BelowHorizonError) as error:
        await scene.store.page(state, 0, 1000)
    assert error.value.head == 2
    await scene.run("select pgtide.delete_stream('a')")
    with pytest.raises(BelowHorizonError):
        await scene.store.chunks(state, 0, 1000)
