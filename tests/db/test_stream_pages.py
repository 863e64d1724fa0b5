"""Reading streams: forks, pages at every border, and many parts."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from itertools import pairwise

import psycopg
import pytest
from stream_scene import Scene, open_scene

from shapes.streams.refusals import (
    BelowHorizonError,
    Refusal,
)
from shapes.streams.storage.creation import NewStream
from shapes.streams.stream import Chunk

pytestmark = pytest.mark.migrated


@pytest.fixture
async def scene(database: str, connection: psycopg.AsyncConnection) -> AsyncIterator[Scene]:
    async with open_scene(database, connection) as one:
        yield one


# -- forks -----------------------------------------------------------------------------------------


async def test_what_a_fork_may_be(scene: Scene) -> None:
    json = {"content_type": "application/json"}
    await scene.put("a", content_type="text/plain", data=b"hello", expires_at=4e9, expires_text="x")
    await scene.put("j", **json, data=b"[1,2,3]", ttl=100, closed=True)
    await scene.put("e", **json)
    assert await scene.refused("f", source="nothing") is Refusal.SOURCE_MISSING
    assert await scene.refused("f", source="a", content_type="text/html") is Refusal.OTHER_TYPE
    assert await scene.refused("f", source="a", fork_position=2) is Refusal.BAD_FORK_OFFSET
    assert await scene.refused("f", source="j", fork_position=1) is Refusal.BAD_FORK_OFFSET
    assert await scene.refused("f", source="a", sub_offset=1) is Refusal.BAD_SUB_OFFSET
    assert await scene.refused("f", source="e", fork_position=0, sub_offset=1) is (
        Refusal.BAD_SUB_OFFSET
    )
    for source, most in (("a", 5), ("j", 3)):
        assert await scene.refused("f", source=source, fork_position=0, sub_offset=most + 1) is (
            Refusal.BAD_SUB_OFFSET
        )
        await scene.put(f"f/{source}", source=source, fork_position=0, sub_offset=most)
        assert await scene.all(f"f/{source}") == await scene.all(source)
    assert await scene.refused("g", source="j", data=b"{") is Refusal.NOT_JSON
    forks = await scene.run("select forks from pgtide.streams where path in ('a', 'j')")
    assert forks == [(1,), (1,)]
    text, numbers = await scene.found("f/a"), await scene.found("f/j")
    assert (text.content_type, text.ttl, text.expires_text) == ("text/plain", None, "x")
    assert (numbers.ttl, numbers.closed, numbers.expires_text) == (100, False, None)
    assert await scene.refused("f/a", source="a", fork_position=0) is Refusal.DIFFERS
    for same in ({"fork_position": 0}, {}, {"content_type": "text/plain"}):
        again, created = await scene.store.create(
            NewStream(environment="default", path="f/a", source="a", sub_offset=5, **same)  # pyright: ignore[reportArgumentType]
        )
        assert (again, created) == (text, False)
    assert await scene.refused("f/a", source="j", sub_offset=5) is Refusal.DIFFERS
    assert await scene.refused("f/a", source="a", sub_offset=5, ttl=5) is Refusal.DIFFERS
    assert await scene.refused("f/a", content_type="text/plain") is Refusal.DIFFERS


@pytest.mark.parametrize("seed", range(4))
async def test_forks_of_forks_read_like_copies(scene: Scene, seed: int) -> None:
    """Random histories, compared with lists of units."""
    chance = random.Random(seed)
    content = "application/json" if seed % 2 else "text/plain"
    model: dict[str, list[list[bytes]]] = {"0": []}
    await scene.put("0", content_type=content)
    for step in range(1, 60):
        path = chance.choice(list(model))
        units = model[path]
        action = chance.random()
        if action < 0.55 or len(model) > 12:
            unit = [b"%d" % (step * 10 + n) for n in range(chance.randint(1, 4))]
            if content == "text/plain":
                unit = [b"".join(unit)]
            await scene.append(path, b",".join(unit), len(unit))
            units.append(unit)
        elif action < 0.9:
            name = str(step)
            place = chance.randint(0, len(units))
            own = [list(unit) for unit in units[:place]]
            sub = 0
            if place < len(units) and chance.random() < 0.6:
                unit = units[place]
                if content == "text/plain":
                    sub = chance.randint(0, len(unit[0]))
                    own += [[unit[0][:sub]]] if sub else []
                else:
                    sub = chance.randint(0, len(unit))
                    own += [unit[:sub]] if sub else []
            body = b"[7,8]" if chance.random() < 0.5 else b""
            position = sum(len(unit) for unit in units[:place])
            await scene.put(name, source=path, fork_position=position, sub_offset=sub, data=body)
            if body:
                own.append([b"7", b"8"] if content != "text/plain" else [body])
            model[name] = own
        elif len(model) > 3:
            await scene.store.delete("default", path)
            del model[path]
    for path, units in model.items():
        messages = [message for unit in units for message in unit]
        joint = b"," if content != "text/plain" else b""
        state = await scene.found(path)
        assert state.tail == len(messages)
        for most in (1, 7, 1 << 20):
            assert await scene.all(path, most) == joint.join(messages)
        rows = await scene.store.chunks(state, 0, 1 << 20)
        assert state.size == sum(len(row.data) for row in rows)
        begins = {row.position for row in rows}
        for position in range(state.tail):
            most = chance.choice((1, 9, 40, 1 << 20))
            chunks = await scene.store.chunks(state, position, most)
            assert chunks[0].position == position
            if position in begins:
                assert chunks == expected(rows, position, most)
            for one, following in pairwise(chunks):
                assert one.end == following.position
            read = joint.join(chunk.data for chunk in chunks)
            assert read == joint.join(messages[position : chunks[-1].end])
    for path in list(model):
        await scene.store.delete("default", path)
    assert (await scene.run("select count(*) from pgtide.streams"))[0] == (0,)


# -- pages -----------------------------------------------------------------------------------------


def expected(rows: list[Chunk], position: int, most: int) -> list[Chunk]:
    """Those that begin within so many bytes from a position on."""
    found: list[Chunk] = []
    for row in rows:
        if row.position >= position and sum(len(one.data) for one in found) < most:
            found.append(row)
    return found


async def test_a_page_ends_where_its_bytes_end(scene: Scene) -> None:
    """However unevenly the bytes are spread."""
    chance = random.Random(3)
    await scene.put("a", content_type="text/plain")
    # Never in one piece by accident: large ones before, among and behind tiny ones.
    sizes = [*(1 for _ in range(400)), 300_000, *(chance.choice((1, 2, 9000)) for _ in range(90))]
    sizes += [5, *(2 for _ in range(300)), 70_000, 1]
    await scene.run(
        "select pgtide.append('a', repeat('x', size)) from unnest(%s::int[]) as size", sizes
    )
    state = await scene.found("a")
    assert state.size == sum(sizes)
    rows = await scene.store.chunks(state, 0, 1 << 24)
    assert [len(row.data) for row in rows] == sizes
    for most in (1, 2, 399, 400, 401, 9000, 65536, 300_400, 300_401, 10**6):
        for position in (0, 1, 399, 400, 401, *chance.sample(range(state.tail), 12)):
            wanted = expected(rows, position, most)
            assert await scene.store.chunks(state, position, most) == wanted
            page = await scene.store.page(state, position, most)
            assert (page.position, page.end) == (position, wanted[-1].end)
            assert page.data == b"".join(row.data for row in wanted)


async def test_pages_begin_anywhere_and_end_at_rows(scene: Scene) -> None:
    await scene.put("a", content_type="application/json")
    await scene.append("a", b'"x,]", {"y": [1, 2]} ,3', 3)
    await scene.append("a", b"4")
    await scene.append("a", b"5,6", 2)
    state = await scene.found("a")
    page, chunks = scene.store.page, scene.store.chunks
    whole = await page(state, 0, 1 << 20)
    assert whole[:2] == (0, 6)
    assert abs(whole.created_us / 1e6 - time.time()) < 60
    assert whole.data == b'"x,]", {"y": [1, 2]} ,3,4,5,6'
    assert (await page(state, 0, 1))[:2] == (0, 3)
    assert (await page(state, 0, 24))[:2] == (0, 4)
    assert (await page(state, 3, 1))[:2] == (3, 1)
    middle = await page(state, 1, 1 << 20)
    assert (middle[:2], middle.data) == ((1, 2), b'{"y": [1, 2]},3')
    assert [one.data for one in await chunks(state, 5, 100)] == [b"6"]
    assert [one[:2] for one in await chunks(state, 3, 100)] == [(3, 1), (4, 2)]
    assert await chunks(state, 6, 100) == []
    assert (await page(state, 100, 100))[:2] == (100, 0)
    # Bounded by what may be shown already.
    await scene.append("a", b"7")
    assert (await page(state, 3, 100)).end == 6


async def test_parts(scene: Scene) -> None:
    """Thirty parts, of which more and more are dropped."""
    await scene.put("old", content_type="text/plain")
    await scene.append("old", b"0")
    for number in range(2, 31):
        await scene.run("select pgtide.open_stream_part()")
        await scene.run("update pgtide.stream_parts set used_from = now() - interval '1 min'")
        if number % 3 == 0:
            await scene.append("old", b"%d," % number)
        if number == 7:
            await scene.put("fork", source="old", data=b"fork")
    new = await scene.put("new", data=b"new")
    assert new.first_part == 30
    everything = b"0" + b"".join(b"%d," % number for number in range(3, 31, 3))
    assert await scene.all("old") == everything
    assert await scene.all("fork") == b"03,6,fork"
    before = await scene.found("old")
    for part in range(1, 6):
        [(last,)] = await scene.run("select pgtide.leave_stream_part(%s, 0, 1)", part)
        while last is not None:
            [(last,)] = await scene.run("select pgtide.leave_stream_part(%s, %s, 1)", part, last)
        await scene.run("select pgtide.drop_stream_part(%s)", part)
    state = await scene.found("old")
    assert (state.head, state.tail) == (2, 11)
    assert await scene.all("old") == everything[3:]
    for stale in (state, before):
        for read in (scene.store.page, scene.store.chunks):
            with pytest.raises(BelowHorizonError) as below:
                await read(stale, 1, 100)
            assert below.value.head == 2
    fork = await scene.found("fork")
    assert fork.head == 2
    assert await scene.all("fork") == b"6,fork"
    late = await scene.put("late", source="old", fork_position=5)
    assert (late.head, late.first_part) == (2, 1)
    assert await scene.refused("x", source="old", fork_position=1) is Refusal.BAD_FORK_OFFSET
    for part in range(6, 30):
        await scene.run("select pgtide.drop_stream_part(%s)", part)
    with pytest.raises(BelowHorizonError) as below:
        await scene.store.page(fork, 2, 100)
    assert below.value.head == fork.tail
    assert (await scene.found("late")).head == 5
    assert await scene.all("old") == b"30,"
