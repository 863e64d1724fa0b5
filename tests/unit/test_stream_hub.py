"""What a node knows of the streams that somebody follows."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import replace

import pytest
from stream_box import ENVIRONMENT, Listener, StreamBox, settled

from engine.errors import PgtideError
from shapes.streams.live import hub as hub_module
from shapes.streams.notice import CLOSED, Notice
from shapes.streams.stream import Chunk


@pytest.fixture
async def box() -> StreamBox:
    return StreamBox()


@pytest.fixture
def quick_look_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "LOOKUP_PAUSE", 0.001)


def texts(chunks: list[Chunk] | None) -> list[bytes] | None:
    return None if chunks is None else [chunk.data for chunk in chunks]


async def test_followers_hear_of_what_is_appended(box: StreamBox) -> None:
    box.make("a")
    box.append("a", b"before")
    box.pass_on()
    live = await box.follow("a")
    assert (live.tail, live.closed) == (1, False)
    listener = Listener(live)
    box.append("a", b"one", b"two")
    assert live.tail == 1
    box.pass_on()
    assert listener.heard == [(3, False, False)]
    assert texts(live.since(1)) == [b"one", b"two"]
    assert texts(live.since(2)) == [b"two"]
    assert live.since(3) == []
    assert live.since(0) is None
    box.append("a", b"three", close=True)
    box.pass_on()
    assert listener.heard[1:] == [(4, True, False)]
    assert (live.state.tail, live.state.closed) == (4, True)
    assert box.finds == 1


async def test_there_is_one_for_all(box: StreamBox) -> None:
    box.make("a")
    assert await box.hub.follow(ENVIRONMENT, "b") is None
    first, second = await asyncio.gather(box.follow("a"), box.follow("a"))
    assert first is second is await box.follow("a")


async def test_nothing_of_an_incomplete_transaction_is_seen(box: StreamBox) -> None:
    box.make("a")
    live = await box.follow("a")
    listener = Listener(live)
    box.append("a", b"one")
    box.note()
    assert (live.tail, live.since(0), listener.heard) == (0, [], [])
    box.append("a", b"two")
    box.pass_on()
    assert (live.tail, listener.heard) == (2, [(2, False, False)])


async def test_what_passes_while_a_stream_is_looked_up_is_not_missed(box: StreamBox) -> None:
    box.make("a")
    box.held = asyncio.Event()
    following = asyncio.create_task(box.follow("a"))
    await asyncio.sleep(0)
    box.append("a", b"one")
    box.pass_on()
    box.append("a", b"two")
    # Of this transaction only a part has come so far.
    box.note()
    box.held.set()
    live = await following
    assert live.tail == 1
    listener = Listener(live)
    box.pass_on()
    assert listener.heard == [(2, False, False)]
    box.append("a", b"three")
    box.pass_on()
    assert live.tail == 3
    assert texts(live.since(2)) == [b"three"]
    assert live.since(0) is None


async def test_what_passed_before_queries_see_it_is_not_missed(box: StreamBox) -> None:
    """A commit comes through the WAL while the transaction still waits for a standby."""
    number = box.make("a")
    box.notice(number, 0, 1, CLOSED, b"early")
    box.pass_on()
    live = await box.follow("a")
    assert (live.tail, live.closed) == (1, True)


async def test_followers_of_a_random_history_miss_nothing(box: StreamBox) -> None:
    chance = random.Random(7)
    for path in "abc":
        box.make(path)
    followed: list[tuple[str, asyncio.Task[object]]] = []
    for step in range(600):
        what = chance.randrange(6)
        if what == 0:
            followed.append((path := chance.choice("abc"), asyncio.create_task(box.follow(path))))
        elif what == 1:
            if box.held is None:
                box.held = asyncio.Event()
            else:
                box.held.set()
                box.held = None
        elif what == 2:
            box.note()
        elif what == 3:
            box.pass_on()
        else:
            box.append(chance.choice("abc"), b"%d" % step, inline=chance.random() < 0.8)
        await asyncio.sleep(0)
    if box.held is not None:
        box.held.set()
    box.pass_on()
    for path, task in followed:
        live = await task
        assert live is await box.follow(path)
    for path in "abc":
        live = await box.follow(path)
        rows = box.streams[path]
        assert live.tail == rows.state.tail
        remembered = [at for at in range(live.tail) if live.since(at) is not None]
        for at in remembered:
            assert texts(live.since(at)) == [chunk.data for chunk in rows.chunks[at:]]
    assert not box.hub.doubtful


async def test_a_chunk_that_is_not_inline_is_in_the_table(box: StreamBox) -> None:
    box.make("a")
    live = await box.follow("a")
    box.append("a", b"one")
    box.append("a", b"large", inline=False)
    box.append("a", b"two")
    box.pass_on()
    assert live.tail == 3
    assert live.since(0) is live.since(1) is None
    assert texts(live.since(2)) == [b"two"]


async def test_a_position_inside_of_a_chunk_is_in_the_table(box: StreamBox) -> None:
    number = box.make("a")
    live = await box.follow("a")
    box.notice(number, 0, 3, 0, b"1,2,3")
    box.pass_on()
    assert texts(live.since(0)) == [b"1,2,3"]
    assert live.since(1) is None


async def test_a_deleted_stream_ends_and_another_may_follow(box: StreamBox) -> None:
    box.make("a")
    old = await box.follow("a")
    listener = Listener(old)
    box.delete("a")
    box.make("a")
    box.pass_on()
    assert listener.heard == [(0, False, True)]
    new = await box.follow("a")
    assert new is not old
    box.append("a", b"new")
    box.pass_on()
    assert (old.tail, old.gone, new.tail, new.gone) == (0, True, 1, False)


async def test_a_late_answer_does_not_end_what_is_known_since(box: StreamBox) -> None:
    box.held = late = asyncio.Event()
    before = asyncio.create_task(box.hub.follow(ENVIRONMENT, "a"))
    await asyncio.sleep(0)
    box.held = None
    box.make("a")
    live = await box.follow("a")
    late.set()
    assert await before is live
    assert not live.gone
    assert await box.follow("a") is live


async def test_a_late_answer_does_not_set_a_stream_back(box: StreamBox) -> None:
    box.make("a")
    rows = box.streams["a"]
    rows.state = replace(rows.state, expires_at=time.time() - 1)
    live = await box.follow("a")
    box.held = late = asyncio.Event()
    asking = asyncio.create_task(box.follow("a"))
    await asyncio.sleep(0)
    box.append("a", b"one", close=True)
    box.pass_on()
    late.set()
    assert await asking is live
    assert (live.tail, live.closed, texts(live.since(0))) == (1, True, [b"one"])


async def test_a_stream_that_was_replaced_unheard_ends(
    box: StreamBox, quick_look_ups: None
) -> None:
    for path in ("a", "b"):
        box.make(path)
    old, lost = await box.follow("a"), await box.follow("b")
    box.delete("a")
    box.delete("b")
    box.make("a")
    box.lose()
    await settled(box)
    assert old.gone
    assert lost.gone
    assert not (await box.follow("a")).gone


async def test_a_lost_log_loses_nothing(box: StreamBox, quick_look_ups: None) -> None:
    for path in ("a", "b"):
        box.make(path)
    live, quiet = await box.follow("a"), await box.follow("b")
    listener, other = Listener(live), Listener(quiet)
    box.append("a", b"one")
    box.pass_on()
    box.append("a", b"never heard of", close=True)
    box.down = PgtideError("Postgres is away")
    box.lose()
    await asyncio.sleep(0.01)
    assert live.tail == 1
    box.down = None
    await settled(box)
    assert listener.heard == [(1, False, False), (2, True, False)]
    assert live.since(0) is live.since(1) is None
    assert other.heard == []
    box.append("b", b"more")
    box.pass_on()
    assert other.heard == [(1, False, False)]


async def test_a_look_up_during_which_the_log_was_lost_is_repeated(box: StreamBox) -> None:
    box.make("a")
    box.held = asyncio.Event()
    following = asyncio.create_task(box.follow("a"))
    await asyncio.sleep(0)
    box.append("a", b"one")
    box.lose()
    box.held.set()
    assert (await following).tail == 1
    assert box.finds == 2


async def test_a_notice_that_does_not_fit_is_not_believed(
    box: StreamBox, quick_look_ups: None
) -> None:
    """Anybody may write messages."""
    number = box.make("a")
    box.append("a", b"one")
    live = await box.follow("a")
    box.pass_on()
    listener = Listener(live)
    for position, messages in ((10**15, 1), (0, 1), (1, -5)):
        box.notice(number, position, messages, 0, b"forged")
        box.pass_on()
        await settled(box)
        assert live.tail == 1
    box.append("a", b"two")
    box.pass_on()
    await settled(box)
    assert (live.tail, listener.heard[-1][0]) == (2, 2)


async def test_time_to_live_is_prolonged_while_somebody_reads(
    box: StreamBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "SWEEP_SECONDS", 0.005)
    for path in ("read", "unread", "without"):
        box.make(path)
        rows = box.streams[path]
        if path != "without":
            rows.state = replace(rows.state, ttl=0, expires_at=time.time() + 60)
    Listener(await box.follow("read"))
    Listener(await box.follow("without"))
    await box.follow("unread")
    async with asyncio.timeout(60):
        while len(box.touched) < 3:
            await asyncio.sleep(0.005)
    assert set(box.touched) == {"read"}


async def test_a_stream_whose_time_is_over_is_looked_up(box: StreamBox) -> None:
    box.make("a")
    rows = box.streams["a"]
    rows.state = replace(rows.state, expires_at=time.time() - 1)
    live = await box.follow("a")
    del box.streams["a"]
    assert await box.hub.follow(ENVIRONMENT, "a") is None
    assert live.gone


async def test_watchers_hear_of_every_stream(box: StreamBox) -> None:
    heard: list[Notice] = []
    lost: list[bool] = []
    box.hub.watch(heard.append, lambda: lost.append(True))
    number = box.make("a")
    other = box.make("b")
    box.append("a", b"one", b"two", close=True)
    box.append("b", b"three")
    box.notice(-1, 5, 0)
    box.note()
    assert heard == []
    box.pass_on()
    assert heard == [
        Notice(number, 0, 2, CLOSED, 0, None),
        Notice(other, 0, 1, 0, 0, None),
        Notice(-1, 5, 0, 0, 0, None),
    ]
    assert not lost
    box.lose()
    assert lost == [True]


async def test_watchers_of_too_many_streams_are_told_so(
    box: StreamBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "MOST_PASSED", 10)
    lost: list[bool] = []
    box.hub.watch(lambda _: None, lambda: lost.append(True))
    box.make("a")
    live = await box.follow("a")
    box.append("a", b"one")
    for number in range(100, 130):
        box.notice(number, 0, 1)
    box.pass_on()
    assert lost == [True]
    assert live.tail == 1


async def test_shared_things_are_made_once(box: StreamBox) -> None:
    box.make("a")
    live = await box.follow("a")
    made: list[int] = []

    def make() -> bytes:
        made.append(live.tail)
        return b"%d" % live.tail

    box.append("a", b"one")
    box.pass_on()
    first = live.shared("text", 0, make)
    assert first is live.shared("text", 0, make)
    live.shared("text", 1, make)
    live.shared("json", 0, make)
    assert made == [1, 1, 1]
    box.append("a", b"two")
    box.pass_on()
    assert live.shared("text", 0, make) == b"2"


async def test_a_reader_that_fails_harms_nobody(box: StreamBox) -> None:
    box.make("a")
    live = await box.follow("a")

    class Failing:
        position = 0

        def news(self) -> None:
            raise RuntimeError("broken")

    live.attach(Failing())
    listener = Listener(live)
    for _ in range(2):
        box.append("a", b"one")
        box.pass_on()
    assert [tail for tail, _, _ in listener.heard] == [1, 2]
