"""Making, confirming, forking and deleting streams."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import psycopg
import pytest
from stream_scene import Scene, open_scene

from shapes.database import Database
from shapes.streams.notice import CLOSED, GONE, PREFIX, unpack_notices
from shapes.streams.refusals import (
    Refusal,
    StreamRefusedError,
)
from shapes.streams.storage.creation import NewStream
from shapes.streams.storage.store import StreamStore
from shapes.streams.stream import Outcome

pytestmark = pytest.mark.migrated


@pytest.fixture
async def scene(database: str, connection: psycopg.AsyncConnection) -> AsyncIterator[Scene]:
    async with open_scene(database, connection) as one:
        yield one


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


async def test_an_open_transaction_keeps_nobody_from_confirming(scene: Scene) -> None:
    state = await scene.put("s", content_type="text/plain")
    new = NewStream(environment="default", path="s", content_type="text/plain")
    async with scene.connection.transaction():
        await scene.append("s", b"x")
        assert await asyncio.wait_for(scene.store.create(new), 30) == (state, False)


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


# -- at the same time ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
async def test_many_make_fork_and_delete_the_same_streams(
    scene: Scene, database: str, seed: int
) -> None:
    """Nobody is in a deadlock with others, and afterwards everything belongs together."""
    wide = Database(database, 24, 10.0)
    store = StreamStore(wide, scene.place)
    paths = ["a", "b", "c", "d", "e"]
    outcomes: set[object] = set()

    async def one(chance: random.Random) -> None:
        for _ in range(40):
            path, source = chance.sample(paths, 2)
            action = chance.random()
            try:
                if action < 0.3:
                    outcomes.add(await store.delete("default", path))
                elif action < 0.7:
                    await store.create(
                        NewStream(environment="default", path=path, source=source, data=b"x")
                    )
                else:
                    ttl = chance.choice((None, 0, 100))
                    await store.create(
                        NewStream(environment="default", path=path, ttl=ttl, data=b"y")
                    )
            except StreamRefusedError as refused:
                outcomes.add(refused.reason)

    try:
        await asyncio.gather(*(one(random.Random(10 * seed + n)) for n in range(8)))
    finally:
        await wide.close()
    assert outcomes >= {Outcome.APPENDED, Refusal.DIFFERS}
    # Which requests find a stream that is kept only for its forks is up to chance.
    assert outcomes & {Outcome.GONE, Refusal.GONE, Refusal.SOURCE_GONE}
    wrong = await scene.run(
        """
        select stream.path, stream.forks, count(fork.id) from pgtide.streams as stream
        left join pgtide.streams as fork on fork.parent_id = stream.id
        group by stream.id having stream.forks <> count(fork.id)
        """
    )
    assert wrong == []
    lost = await scene.run(
        """
        select distinct stream_id from pgtide.stream_chunks
        where stream_id not in (select id from pgtide.streams)
            and stream_id not in (select stream_id from pgtide.stream_remains)
        """
    )
    assert lost == []
    for path in paths:
        state = await scene.find(path)
        if state is not None:
            assert len(await scene.all(path)) == state.tail
        await scene.store.delete("default", path)
    left = await scene.run("select path, forks, deleted_at from pgtide.streams")
    assert left == []
