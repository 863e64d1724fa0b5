"""Streams in the table: making, finding, reading, forking and deleting them."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from itertools import pairwise

import psycopg
import pytest

from engine.lsn import Offset
from engine.postgres.migrate import migrate
from shapes.database import Database
from shapes.readiness import NotReadyError
from shapes.streams import stream_lookup
from shapes.streams.creation import NewStream
from shapes.streams.notice import CLOSED, GONE, PREFIX, unpack_notices
from shapes.streams.refusals import (
    BelowHorizonError,
    Refusal,
    StreamRefusedError,
    StreamTablesError,
)
from shapes.streams.store import StreamStore
from shapes.streams.stream import Outcome, StreamState

EVERYWHERE = 2**63


class Place:
    """A place in the log that is moved by hand."""

    def __init__(self) -> None:
        self.processed = Offset(EVERYWHERE, 0)
        self._moved = asyncio.Condition()

    async def connected(self) -> None:
        pass

    async def reached(self, lsn: int, timeout: float) -> bool:
        async def wait() -> None:
            async with self._moved:
                await self._moved.wait_for(lambda: self.processed.lsn >= lsn)

        try:
            await asyncio.wait_for(wait(), timeout)
        except TimeoutError:
            return False
        return True

    async def move(self, lsn: int) -> None:
        async with self._moved:
            self.processed = Offset(lsn, 0)
            self._moved.notify_all()


class Counted(Database):
    """Counts the uses of connections for look-ups."""

    def __init__(self, url: str) -> None:
        super().__init__(url, 6, 10.0)
        self.uses = 0

    def lookups(
        self, line: str = "catalog"
    ) -> AbstractAsyncContextManager[psycopg.AsyncConnection]:
        self.uses += 1
        return super().lookups(line)


@dataclass
class Scene:
    """A store, and a connection of somebody else's."""

    store: StreamStore
    database: Counted
    place: Place
    connection: psycopg.AsyncConnection

    async def put(self, path: str, **fields: object) -> StreamState:
        state, created = await self.store.create(
            NewStream(environment="default", path=path, **fields)  # pyright: ignore[reportArgumentType]
        )
        assert created
        return state

    async def refused(self, path: str, **fields: object) -> Refusal:
        with pytest.raises(StreamRefusedError) as refused:
            await self.store.create(
                NewStream(environment="default", path=path, **fields)  # pyright: ignore[reportArgumentType]
            )
        return refused.value.reason

    async def find(self, path: str) -> StreamState | None:
        return await self.store.find("default", path)

    async def found(self, path: str) -> StreamState:
        state = await self.find(path)
        assert state is not None
        return state

    async def all(self, path: str, most: int = 1 << 20) -> bytes:
        """Everything from the head on, page by page."""
        state = await self.found(path)
        parts: list[bytes] = []
        position = state.head
        while position < state.tail:
            page = await self.store.page(state, position, most)
            assert page.position == position
            assert page.messages
            parts.append(page.data)
            position = page.end
        assert (await self.store.page(state, position, most)).messages == 0
        return (b"," if state.is_json else b"").join(parts)

    async def run(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        cursor = await self.connection.execute(statement.encode(), values)
        return await cursor.fetchall() if cursor.description else []

    async def append(self, path: str, data: bytes, messages: int = 1) -> None:
        await self.run(
            "select pgtide.append_chunk(path, %s, content_type, %s) from pgtide.streams "
            "where path = %s",
            *(data, messages, path),
        )


Told = Callable[[], Awaitable[list[tuple[object, ...]]]]


@pytest.fixture
async def told(scene: Scene) -> AsyncIterator[Told]:
    """Tells what followers have been told since it was asked last, without times."""
    name = f"told_{secrets.token_hex(6)}"
    await scene.run("select pg_create_logical_replication_slot(%s, 'pgoutput')", name)

    async def ask() -> list[tuple[object, ...]]:
        rows = await scene.run(
            """
            select data from pg_logical_slot_get_binary_changes(%s, null, null,
                'proto_version', '1', 'publication_names', 'none', 'messages', 'true')
            where get_byte(data, 0) = ascii('M')
            """,
            name,
        )
        # Kind, flags, position, prefix, length.
        begin = 1 + 1 + 8 + len(PREFIX) + 1 + 4
        contents = [bytes(data)[begin:] for [data] in rows if isinstance(data, bytes)]
        return [(*one[:4], one.data) for content in contents for one in unpack_notices(content)]

    yield ask
    await scene.run("select pg_drop_replication_slot(%s)", name)


@pytest.fixture
async def scene(database: str, connection: psycopg.AsyncConnection) -> AsyncIterator[Scene]:
    await migrate(database, publish=False)
    own, place = Counted(database), Place()
    try:
        yield Scene(StreamStore(own, place), own, place, connection)
    finally:
        await own.close()


# -- finding ---------------------------------------------------------------------------------------


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


# -- making ----------------------------------------------------------------------------------------


async def test_making_and_repeating(scene: Scene) -> None:
    state = await scene.put("a", content_type="Text/Plain; x=1", data=b"hello", ttl=60)
    assert (state.content_type, state.tail, state.size, state.ttl) == ("Text/Plain; x=1", 1, 5, 60)
    assert await scene.all("a") == b"hello"
    assert await scene.found("a") == state
    again, created = await scene.store.create(
        NewStream(environment="default", path="a", content_type="text/plain", ttl=60, data=b"other")
    )
    assert not created
    assert replace(again, expires_at=None) == replace(state, expires_at=None)
    for other in (
        {"content_type": "text/html", "ttl": 60},
        {"ttl": 60},
        {"content_type": "text/plain"},
        {"content_type": "text/plain", "ttl": 61},
        {"content_type": "text/plain", "ttl": 60, "closed": True},
        {"content_type": "text/plain", "expires_at": 2e9, "expires_text": "x"},
        {"content_type": "text/plain", "ttl": 60, "source": "b"},
    ):
        assert await scene.refused("a", **other) is Refusal.DIFFERS
    assert await scene.all("a") == b"hello"


async def test_an_expiry_is_the_moment_and_not_its_spelling(scene: Scene) -> None:
    text = "2100-01-01T00:00:00.123456789Z"
    moment = 4102444800.123456789
    state = await scene.put("a", expires_at=moment, expires_text=text)
    assert (state.expires_text, state.content_type) == (text, "application/octet-stream")
    for same in (moment, moment + 1e-7):
        again, created = await scene.store.create(
            NewStream(environment="default", path="a", expires_at=same, expires_text="other")
        )
        assert (again.expires_text, created) == (text, False)
    assert await scene.refused("a", expires_at=moment + 1, expires_text=text) is Refusal.DIFFERS


async def test_json_is_taken_apart(scene: Scene) -> None:
    json = {"content_type": "application/json"}
    assert (await scene.put("none", **json, data=b" [ ] ")).tail == 0
    state = await scene.put("two", **json, data=b' [ {"a": [1,2]} , "x,y" ]', closed=True)
    assert (state.tail, state.closed) == (2, True)
    assert await scene.all("two") == b'{"a": [1,2]} , "x,y"'
    assert await scene.refused("bad", **json, data=b"[1,]") is Refusal.NOT_JSON
    assert await scene.find("bad") is None
    assert await scene.refused("big", data=bytes((16 << 20) + 1)) is Refusal.TOO_LARGE


async def test_only_one_of_many_makes_it(scene: Scene) -> None:
    new = NewStream(environment="default", path="s", content_type="text/plain", data=b"x")
    made = await asyncio.gather(*(scene.store.create(new) for _ in range(12)))
    assert sum(created for _, created in made) == 1
    assert len({state.id for state, _ in made}) == 1
    assert await scene.all("s") == b"x"


async def test_what_followers_are_told(scene: Scene, told: Told) -> None:
    json = {"content_type": "application/json"}
    await scene.put("quiet")
    both = await scene.put("both", **json, data=b"[1, 2]", closed=True)
    assert await told() == [(both.id, 0, 2, CLOSED, b"1, 2")]
    empty = await scene.put("empty", closed=True)
    assert await told() == [(empty.id, 0, 0, CLOSED, b"")]
    piece = await scene.put("piece", source="both", fork_position=0, sub_offset=1, data=b"[3]")
    assert await told() == [(piece.id, 0, 1, 0, b"1"), (piece.id, 1, 1, 0, b"3")]
    large = await scene.put("large", data=bytes(9000))
    assert await told() == [(large.id, 0, 1, 0, None)]
    assert await scene.store.delete("default", "both") is Outcome.APPENDED
    assert await told() == [(both.id, 2, 0, GONE, b"")]
    # With its last fork it goes, too.
    assert await scene.store.delete("default", "piece") is Outcome.APPENDED
    assert await told() == [(piece.id, 2, 0, GONE, b""), (both.id, 2, 0, GONE, b"")]
    assert await scene.find("both") is None


# -- expiring and deleting -------------------------------------------------------------------------


async def test_what_has_expired_is_not_there(scene: Scene, told: Told) -> None:
    first = await scene.put("a", ttl=60, data=b"old")
    await scene.put("parent", ttl=60, data=b"old")
    await scene.put("child", source="parent", ttl=3600)
    await told()
    await scene.run("update pgtide.streams set expires_at = now() where ttl_seconds = 60")
    assert await scene.find("a") is None
    assert (await scene.found("parent")).gone
    assert await scene.all("child") == b"old"
    assert await scene.refused("b", source="a") is Refusal.SOURCE_MISSING
    assert await scene.refused("b", source="parent") is Refusal.SOURCE_MISSING
    assert await scene.refused("parent") is Refusal.GONE
    assert await scene.store.delete("default", "parent") is Outcome.GONE
    assert await scene.store.delete("default", "a") is Outcome.MISSING
    assert await told() == [(first.id, 1, 0, GONE, b"")]
    second = await scene.put("a", data=b"new", ttl=0)
    third = await scene.put("a", data=b"newer")
    assert await told() == [
        (second.id, 0, 1, 0, b"new"),
        (second.id, 1, 0, GONE, b""),
        (third.id, 0, 1, 0, b"newer"),
    ]
    assert await scene.all("a") == b"newer"


async def test_a_deleted_path_is_free_at_once(scene: Scene) -> None:
    assert await scene.store.delete("default", "a") is Outcome.MISSING
    old = await scene.put("a", data=b"old", closed=True)
    assert await scene.store.delete("default", "a") is Outcome.APPENDED
    assert await scene.find("a") is None
    new = await scene.put("a", data=b"new")
    assert new.id > old.id
    assert await scene.all("a") == b"new"
    assert await scene.run("select stream_id from pgtide.stream_remains") == [(old.id,)]


async def test_deleting_in_the_middle_of_a_chain(scene: Scene) -> None:
    await scene.put("a", data=b"a")
    await scene.put("b", source="a", data=b"b")
    await scene.put("c", source="b", data=b"c")
    assert await scene.store.delete("default", "b") is Outcome.APPENDED
    assert await scene.store.delete("default", "b") is Outcome.GONE
    assert (await scene.found("b")).gone
    assert await scene.refused("b") is Refusal.GONE
    assert await scene.refused("d", source="b") is Refusal.SOURCE_GONE
    assert await scene.store.delete("default", "a") is Outcome.APPENDED
    assert await scene.all("c") == b"abc"
    assert await scene.store.delete("default", "c") is Outcome.APPENDED
    assert [await scene.find(one) for one in "abc"] == [None] * 3
    assert (await scene.run("select count(*) from pgtide.stream_remains"))[0] == (3,)


async def test_uses_are_written_down_now_and_then(scene: Scene) -> None:
    state = await scene.put("a", ttl=100)
    fixed = await scene.put("b", expires_at=4e9, expires_text="later")
    when = "select extract(epoch from expires_at - clock_timestamp()) from pgtide.streams where id = %s"
    await scene.run(
        "update pgtide.streams set expires_at = now() + interval '50 s' where ttl_seconds = 100"
    )
    before = await scene.run("select expires_at from pgtide.streams where path = 'b'")
    await asyncio.gather(*(scene.store.touch(state, fixed) for _ in range(5)))
    assert float(str((await scene.run(when, state.id))[0][0])) > 99
    assert await scene.run("select expires_at from pgtide.streams where path = 'b'") == before
    # Not again, until a twentieth of the time has gone by.
    await scene.run(
        "update pgtide.streams set expires_at = now() + interval '50 s' where ttl_seconds = 100"
    )
    await scene.store.touch(state)
    assert float(str((await scene.run(when, state.id))[0][0])) < 51
    other = StreamStore(scene.database, scene.place)
    await scene.run("update pgtide.streams set expires_at = now() where ttl_seconds = 100")
    await other.touch(state)
    assert await scene.find("a") is None


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
        for position in range(state.tail):
            chunks = await scene.store.chunks(state, position, chance.choice((1, 9, 1 << 20)))
            assert chunks[0].position == position
            for one, following in pairwise(chunks):
                assert one.end == following.position
            read = joint.join(chunk.data for chunk in chunks)
            assert read == joint.join(messages[position : chunks[-1].end])
    for path in list(model):
        await scene.store.delete("default", path)
    assert (await scene.run("select count(*) from pgtide.streams"))[0] == (0,)


# -- pages -----------------------------------------------------------------------------------------


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
