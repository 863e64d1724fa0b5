"""Subscriptions in Postgres: which streams they have, how far they are, and who may say so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import psycopg
import pytest
from exploring import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.configuration.settings import Settings
from shapes.access.authority import Authority
from shapes.database import Database
from shapes.streams.stream import offset_of
from shapes.streams.subscriptions.configuration import PULL_WAKE, Configuration
from shapes.streams.subscriptions.glob import Glob
from shapes.streams.subscriptions.interests import Interests
from shapes.streams.subscriptions.refusals import Code, SubscriptionError
from shapes.streams.subscriptions.subscription import Ends, Key
from shapes.streams.subscriptions.subscriptions import Claimed, Subscriptions
from shapes.streams.subscriptions.tokens import Fence
from shapes.streams.subscriptions.wakes import Wakes

pytestmark = pytest.mark.migrated

KEY = Key("default", "sub")
BASE = "https://tide.example.com"


class Place:
    """A migrated database, and subscriptions in it."""

    def __init__(self, url: str, connection: psycopg.AsyncConnection) -> None:
        self.database = Database(url, 4, 20.0)
        self.subscriptions = Subscriptions(
            self.database, Authority(Settings(secret_keys=("tr_prod_0123456789abcdef",)))
        )
        self.wakes = Wakes(self.database)
        self._connection = connection

    async def run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        cursor = await self._connection.execute(statement.encode(), values)
        return await cursor.fetchall() if cursor.description else []

    async def append(self, *paths: str) -> None:
        for path in paths:
            await self.run("select pgtide.append(%s, 'x'::text)", path)

    async def create(self, key: Key = KEY, **more: Any) -> None:
        body = {"type": PULL_WAKE, "wake_stream": "wake", **more}
        await self.subscriptions.create(key, Configuration.parse(body), BASE)

    async def load(self) -> None:
        await self.wakes.load(Interests(), everything=True)

    async def acked(self, key: Key = KEY) -> dict[str, str]:
        _, links = await self.subscriptions.find(key)
        return {link.path: link.shown()["acked_offset"] for link in links}

    async def claim(self, worker: str = "w") -> Claimed:
        return await self.subscriptions.claim(KEY, worker)

    async def ack(self, claimed: Claimed, done: Any = False, **acks: int | str) -> bool:
        return await self.subscriptions.acknowledge(
            Fence(*KEY, claimed.generation), _body(claimed, acks, done), PULL_WAKE
        )

    async def refused(self, claimed: Claimed, **acks: int | str) -> Code:
        with pytest.raises(SubscriptionError) as caught:
            await self.ack(claimed, **acks)
        return caught.value.why


def _body(claimed: Claimed, acks: Mapping[str, int | str], done: bool) -> dict[str, Any]:
    return {
        "wake_id": claimed.wake_id,
        "generation": claimed.generation,
        "acks": [
            {"stream": path, "offset": at if isinstance(at, str) else offset_of(at)}
            for path, at in acks.items()
        ],
        "done": done,
    }


@pytest.fixture
async def place(database: str, connection: psycopg.AsyncConnection) -> AsyncIterator[Place]:
    made = Place(database, connection)
    try:
        yield made
    finally:
        await made.database.close()


async def test_streams_that_are_there_count_from_their_ends_and_later_ones_from_the_start(
    place: Place,
) -> None:
    await place.append("a", "e/1", "e/1", "e/2/x", "wake")
    await place.create(pattern="e/*", streams=["a", "later"])
    assert await place.acked() == {"a": offset_of(1), "e/1": offset_of(2), "later": "-1"}
    await place.append("later", "e/3", "e/4/x")
    await place.load()
    assert await place.acked() == {
        "a": offset_of(1),
        "e/1": offset_of(2),
        "e/3": "-1",
        "later": "-1",
    }
    claimed = await place.claim()
    assert [link.path for link in claimed.links if link.pending] == ["e/3", "later"]


async def test_a_subscription_does_not_wake_itself(place: Place) -> None:
    await place.append("wake")
    await place.create(pattern="**")
    await place.append("wake", "other")
    await place.load()
    assert await place.acked() == {"other": "-1"}


async def test_the_other_environment_has_streams_of_its_own(place: Place) -> None:
    await place.run("select pgtide.append('e/1', 'x'::text, environment => 'staging')")
    await place.create(pattern="e/*", streams=["e/2"])
    await place.create(Key("staging", "sub"), pattern="e/*")
    await place.run("select pgtide.append('e/2', 'x'::text, environment => 'staging')")
    await place.load()
    assert await place.acked() == {"e/2": "-1"}
    assert await place.acked(Key("staging", "sub")) == {"e/1": offset_of(1), "e/2": "-1"}


async def test_links_are_explicit_or_matched_or_both(place: Place) -> None:
    await place.append("e/1", "e/2")
    await place.create(pattern="e/*", streams=["e/1"])
    _, links = await place.subscriptions.find(KEY)
    assert [(link.path, link.explicit) for link in links] == [("e/1", True), ("e/2", False)]
    for path in ("e/1", "e/2", "never"):
        await place.subscriptions.remove(KEY, path)
    _, links = await place.subscriptions.find(KEY)
    assert [(link.path, link.explicit) for link in links] == [("e/1", False), ("e/2", False)]
    await place.append("x")
    await place.subscriptions.add(KEY, ["e/2", "x"])
    await place.subscriptions.add(KEY, ["e/2", "x"])
    await place.subscriptions.remove(KEY, "x")
    _, links = await place.subscriptions.find(KEY)
    assert [(link.path, link.explicit) for link in links] == [("e/1", False), ("e/2", True)]


async def test_a_stream_that_was_deleted_and_made_anew_is_another_one(place: Place) -> None:
    await place.append("e/1", "e/1", "named")
    await place.create(pattern="e/*", streams=["named"])
    await place.run("delete from pgtide.streams")
    assert await place.acked() == {"named": "-1"}
    await place.append("e/1", "named")
    assert await place.acked() == {"e/1": "-1", "named": "-1"}
    claimed = await place.claim()
    assert not await place.ack(claimed, done=True, **{"e/1": 1, "named": 1})
    assert await place.acked() == {"e/1": offset_of(1), "named": offset_of(1)}


async def test_late_news_of_a_stream_that_was_there_before(place: Place) -> None:
    await place.append("a")
    await place.create(streams=["a"])
    ((old,),) = await place.run("select id from pgtide.streams where path = 'a'")
    await place.run("delete from pgtide.streams where path = 'a'")
    await place.append("a")
    ((new,),) = await place.run("select id from pgtide.streams where path = 'a'")
    assert not await place.ack(await place.claim(), a=1, done=True)
    for news in ([Ends("a", old, 9, False)], [Ends("a", new, 1, False), Ends("a", old, 9, False)]):
        assert await place.wakes.open({KEY: news}) == set()
        assert await place.acked() == {"a": offset_of(1)}
        assert await place.wakes.due() == ([], [], None)


async def test_acknowledgements_are_all_taken_or_none(place: Place) -> None:
    await place.append("a", "b")
    await place.create(streams=["a", "b", "missing"])
    await place.append("a", "a", "b")
    claimed = await place.claim()
    assert not await place.ack(claimed, a=2)
    for wrong in (
        *({"a": 1}, {"a": 4}, {"a": "-1"}, {"a": "now"}, {"a": ""}, {"c": 1}, {"missing": 0}),
        {"missing": 1},
    ):
        assert await place.refused(claimed, b=2, **wrong) is Code.INVALID_OFFSET
        assert await place.acked() == {"a": offset_of(2), "b": offset_of(1), "missing": "-1"}
    assert await place.ack(claimed, a=3, done=True), "b is not done"
    assert not await place.ack(await place.claim(), b=2, done=True)
    with pytest.raises(SubscriptionError) as caught:
        await place.claim()
    assert caught.value.why is Code.NO_PENDING_WORK


async def test_only_the_present_wake_may_speak(place: Place) -> None:
    await place.create(streams=["a"])
    await place.append("a")
    first = await place.claim("one")
    with pytest.raises(SubscriptionError) as caught:
        await place.claim("two")
    assert caught.value.why is Code.ALREADY_CLAIMED
    assert caught.value.more == {"current_holder": "one", "generation": 1}
    await place.run("update pgtide.subscriptions set lease_until = now() - interval '1 ms'")
    assert await place.refused(first, a=1) is Code.FENCED
    # Nobody need have noted that the lease has ended.
    second = await place.claim("two")
    assert second.generation == first.generation + 1
    assert await place.refused(first, a=1) is Code.FENCED
    mixed = second._replace(wake_id=first.wake_id)
    assert await place.refused(mixed, a=1) is Code.FENCED
    assert not await place.ack(second, a=1, done=True)
    assert await place.refused(second, a=1) is Code.FENCED


async def test_what_the_log_told_counts_before_the_table_shows_it(place: Place) -> None:
    await place.append("a")
    await place.create(streams=["a"], pattern="e/*")
    ((number,),) = await place.run("select id from pgtide.streams where path = 'a'")
    assert await place.wakes.open({KEY: [Ends("a", number, 3, False)]}) == set()
    claimed = await place.claim()
    (link,) = claimed.links
    assert (link.acked, link.tail) == (1, 3)
    assert await place.wakes.open({KEY: [Ends("a", number, 4, False)]}) == {KEY}
    assert await place.ack(claimed, a=3, done=True)
    assert not await place.ack(await place.claim(), a=4, done=True)


async def test_the_same_again_is_the_same_and_another_is_refused(place: Place) -> None:
    asked = Configuration.parse({"type": PULL_WAKE, "wake_stream": "w", "streams": ["a"]})
    other = Configuration.parse({"type": PULL_WAKE, "wake_stream": "w", "streams": ["b"]})
    one, _, made = await place.subscriptions.create(KEY, asked, BASE)
    again, _, made_again = await place.subscriptions.create(KEY, asked, BASE)
    assert (made, made_again, again) == (True, False, one)
    with pytest.raises(SubscriptionError) as caught:
        await place.subscriptions.create(KEY, other, BASE)
    assert caught.value.why is Code.ALREADY_EXISTS
    for _ in range(2):
        await place.subscriptions.delete(KEY)
    assert (await place.subscriptions.create(KEY, other, BASE))[2]
    assert await place.run("select path from pgtide.subscription_streams") == [("b",)]


async def test_all_nodes_sign_with_one_key(place: Place) -> None:
    other = Subscriptions(
        place.database, Authority(Settings(secret_keys=("tr_prod_0123456789abcdef",)))
    )
    ours, theirs = await place.subscriptions.signatures(), await other.signatures()
    assert ours.key_id("default") == theirs.key_id("default")


PART = st.sampled_from(
    ["a", "b", "*", "**", "%2A", "a.b", "a\\b", "a+", "(a", "ä", "é_", "[a]", "a|b"]
)


@settings(
    max_examples=examples(60),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(PART, min_size=1, max_size=5),
    st.lists(
        st.lists(
            st.sampled_from(
                ["a", "b", "*", "a.b", "axb", "a\\b", "a+", "aa", "(a", "ä", "é_", "[a]"]
            ),
            min_size=1,
            max_size=5,
        ),
        min_size=1,
        max_size=20,
    ),
)
async def test_postgres_takes_patterns_for_the_same(
    place: Place, pattern: list[str], paths: list[list[str]]
) -> None:
    glob = Glob("/".join(pattern))
    texts = ["/".join(path) for path in paths]
    found = await place.run(
        "select path from unnest(%s::text[]) as path where path || '/' ~ %s", texts, glob.expression
    )
    assert [path for (path,) in found] == [path for path in texts if glob.matches(path)]
