"""Bringing feeds to the tail, and reading them: always as if the whole history was filtered."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest
from brute_force import FOLLOWED, expected, followed
from log_builder import (
    Elsewhere,
    Transaction,
    append_to,
    delete,
    insert,
    make_log,
    transaction,
    trim_log,
    truncate,
    update,
)
from reading_client import Client, ReadingNode, node

from engine.lsn import Offset
from shapes.following import activation, feed, feeds, tail
from shapes.following.activation import OutOfLogError, collect
from shapes.following.feed import RotatedError

PAGE = 10_000_000

HISTORY = [
    transaction(200, insert("1", "a", None), insert("2", "b", "x"), insert("4", "c", None)),
    # For few.
    transaction(208, insert("3", "rare", "z")),
    transaction(
        300,
        update(["1", "a", None], ["1", "b", None]),
        update(["2", "b", "x"], ["2", "a", "x"]),
        update(["4", "c", None], ["5", "c", None]),
        delete("3", "rare", "z"),
        insert("6", "a", "x"),
        insert("7", "a", "x"),
        blocks=2,
        end_lsn=400,
    ),
    # Begins where the last one ended.
    transaction(400, *(insert(str(place), "a", "x") for place in range(10, 17)), blocks=3),
    transaction(500, update(["6", "a", "x"], ["6", "a", None]), delete("7", "a", "x")),
    transaction(600, *(delete(str(place), "a", "x") for place in range(10, 17)), blocks=(1, 5)),
]


@pytest.fixture(autouse=True)
def _one_block_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop gets its turn after every block: whatever can happen in between, may."""
    for module in (activation, tail, feeds):
        monkeypatch.setattr(module, "STEP_SECONDS", -1.0)


def starts(history: list[Transaction]) -> list[Offset]:
    """Every place at which a client can be."""
    found = {Offset(100, 0)}
    for one in history:
        found |= {Offset(one.commit_lsn, 0), Offset(one.end_lsn, 0)}
        found |= {Offset(lsn, index + extra) for lsn, index in one.offsets() for extra in (0, 1)}
    return sorted(found)


async def opened(of: ReadingNode, history: list[Transaction], most: int = PAGE) -> list[Client]:
    """Clients of all shapes at all starts (not each at each), all opened at once and in no order."""
    places = starts(history)
    clients = [
        Client(of, FOLLOWED[(2 * place + more) % len(FOLLOWED)], places[place], most)
        for place in (*range(1, len(places), 2), *range(0, len(places), 2))
        for more in range(3)
    ]
    await asyncio.gather(*(client.open() for client in clients))
    return clients


def check(clients: list[Client], history: list[Transaction]) -> None:
    for client in clients:
        client.check(history)


@pytest.mark.parametrize("most", [1, 300, 1000, PAGE])
async def test_many_shapes_at_many_starts(folder: Path, most: int) -> None:
    make_log(folder, HISTORY)
    async with node(folder) as one:
        clients = await opened(one, HISTORY, most)
        for client in clients:
            await client.read()
        check(clients, HISTORY)


@pytest.mark.parametrize("most", [1, 500])
async def test_pages_may_be_resumed_from_anywhere(folder: Path, most: int) -> None:
    """By another client, on a node that has never seen the shape."""
    make_log(folder, HISTORY)
    ends: set[Offset] = set()
    async with node(folder) as one:
        first = Client(one, FOLLOWED[0], Offset(100, 0), most)
        await first.read()
        ends.update(first.pages)
    assert len(ends) > 5
    async with node(folder) as one:
        for end in ends:
            client = Client(one, FOLLOWED[0], end, most)
            await client.read()
            assert client.messages == expected(FOLLOWED[0], HISTORY, end)


@pytest.mark.parametrize("seconds", [-1.0, 1000.0])
@pytest.mark.parametrize("routed", range(1, 7))
async def test_joining_a_tail_in_the_middle_of_a_transaction(
    folder: Path,
    elsewhere: Elsewhere,
    monkeypatch: pytest.MonkeyPatch,
    routed: int,
    seconds: float,
) -> None:
    """The tail has routed some blocks of a transaction of six; nobody may miss or repeat one."""
    monkeypatch.setattr(activation, "STEP_SECONDS", seconds)
    # Only the first block is of interest to some.
    changes = [insert("0", "rare", "x")]
    changes += [insert(str(place), "ab"[place % 2], "x") for place in range(1, 17)]
    long = transaction(700, *changes, blocks=3)
    later = transaction(708, insert("1", "a", None), insert("4", "c", None))
    make_log(folder, HISTORY)
    async with node(folder) as one:
        # Of every other shape, the feed is there already.
        before = [Client(one, shape, Offset(608, 0), PAGE) for shape in FOLLOWED[1::2]]
        for client in before:
            await client.read()
        elsewhere.run(append_to, folder, [long])
        for _ in range(routed):
            one.tail.step()
        assert one.tail.between_transactions == (routed == 6)
        after = await opened(one, HISTORY)
        for client in after:
            await client.read()
        if routed < 6:
            check(after, HISTORY)
        elsewhere.run(append_to, folder, [later])
        one.follower.go_on()
        for client in [*before, *after]:
            await client.catch_up()
        check(after, [*HISTORY, long, later])
        check(before, [*HISTORY, long, later])
        # What was read in the middle is not what there is now.
        again = await opened(one, HISTORY)
        for client in again:
            await client.read()
        check(again, [*HISTORY, long, later])


async def test_joining_while_the_tail_goes_on(folder: Path, elsewhere: Elsewhere) -> None:
    """While the pass reads, the tail moves away from it, a block at a time."""
    more = [
        transaction(1000 + 8 * place, *(insert(str(row), "a", "x") for row in range(7)), blocks=2)
        for place in range(5)
    ]
    make_log(folder, HISTORY)
    async with node(folder) as one:
        elsewhere.run(append_to, folder, more)
        clients = [Client(one, shape, Offset(100, 0), PAGE) for shape in FOLLOWED]
        opening = asyncio.gather(*(client.open() for client in clients))
        while one.tail.step():
            await asyncio.sleep(0)
        await opening
        for client, shape in zip(clients, FOLLOWED, strict=True):
            await client.read()
            assert client.messages == expected(shape, [*HISTORY, *more], Offset(100, 0))


async def test_reading_while_the_feed_forgets(
    folder: Path, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a reader of what is old reads the log, so much comes that the feed forgets even more."""
    monkeypatch.setattr(feed, "MAX_ENTRIES", 8)
    monkeypatch.setattr(feeds, "PAGE_BYTES", 300)
    more = [
        transaction(1000 + 8 * place, *(insert(str(row), "a", "x") for row in range(5)), blocks=2)
        for place in range(12)
    ]
    history = [*HISTORY, *more]
    make_log(folder, HISTORY)
    async with node(folder) as one:
        client = Client(one, FOLLOWED[1], Offset(100, 0), 2000)
        await client.open()
        elsewhere.run(append_to, folder, more)
        reading = asyncio.create_task(client.read())
        while not reading.done():
            one.tail.step()
            await asyncio.sleep(0)
        await reading
        one.follower.go_on()
        await client.catch_up()
        assert client.messages == expected(FOLLOWED[1], history, Offset(100, 0))


async def test_two_readers_of_one_feed_from_different_offsets(folder: Path) -> None:
    """The feed begins where its first reader was; the second one reads what is before that."""
    make_log(folder, HISTORY)
    async with node(folder) as one:
        for start in (Offset(500, 0), Offset(100, 0), Offset(300, 5)):
            client = Client(one, FOLLOWED[1], start, 400)
            await client.read()
            assert client.messages == expected(FOLLOWED[1], HISTORY, start)


# -- what ends a shape -----------------------------------------------------------------------------

TRUNCATED = [*HISTORY, transaction(700, truncate()), transaction(800, insert("9", "a", "x"))]


async def test_a_truncate_ends_those_who_were_before_it(folder: Path) -> None:
    make_log(folder, TRUNCATED)
    async with node(folder) as one:
        before = [Client(one, shape, Offset(400, 0), PAGE) for shape in FOLLOWED[:5]]
        after = [Client(one, shape, Offset(708, 0), PAGE) for shape in FOLLOWED[5:]]
        results = await asyncio.gather(
            *(client.open() for client in (*before, *after)), return_exceptions=True
        )
        for result in results[:5]:
            assert isinstance(result, RotatedError)
            assert result.lsn == 700
        assert results[5:] == [None] * 5
        for client, shape in zip(after, FOLLOWED[5:], strict=True):
            await client.read()
            assert client.messages == expected(shape, TRUNCATED[-1:], Offset(708, 0))


async def test_nobody_waits_for_a_shape_that_turns_out_to_have_ended(folder: Path) -> None:
    """Whoever asked has gone: this is an error of nobody's."""
    make_log(folder, TRUNCATED)
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: complaints.append(context["message"])
    )
    async with node(folder) as one:
        asking = asyncio.create_task(Client(one, FOLLOWED[1], Offset(400, 0), PAGE).open())
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        del asking
        await Client(one, FOLLOWED[0], Offset(708, 0), PAGE).read()
        await asyncio.sleep(0)
    gc.collect()
    assert not complaints


@pytest.mark.parametrize("stale_first", [True, False])
async def test_a_stale_reader_does_not_take_others_with_it(folder: Path, stale_first: bool) -> None:
    """Of the same shape, at the same moment: each is answered by its own offset."""
    make_log(folder, TRUNCATED)
    async with node(folder) as one:
        stale = Client(one, FOLLOWED[1], Offset(400, 0), PAGE)
        good = Client(one, FOLLOWED[1], Offset(708, 0), PAGE)
        clients = [stale, good] if stale_first else [good, stale]
        results = await asyncio.gather(
            *(client.read() for client in clients), return_exceptions=True
        )
        outcome = dict(zip(clients, results, strict=True))
        assert outcome[good] is None
        assert isinstance(outcome[stale], RotatedError)
        assert good.messages == expected(FOLLOWED[1], TRUNCATED[-1:], Offset(708, 0))


async def test_a_truncate_right_at_the_offset_is_still_to_come(folder: Path) -> None:
    """Its commit record begins where the last transaction that the client has seen ended."""
    make_log(folder, [*HISTORY, transaction(608, truncate())])
    async with node(folder) as one:
        with pytest.raises(RotatedError):
            await Client(one, FOLLOWED[0], Offset(608, 0), PAGE).open()
        await Client(one, FOLLOWED[1], Offset(616, 0), PAGE).open()


async def test_readers_learn_of_an_end_that_comes(folder: Path, elsewhere: Elsewhere) -> None:
    make_log(folder, HISTORY)
    async with node(folder) as one:
        client = Client(one, FOLLOWED[1], Offset(100, 0), PAGE)
        await client.read()
        elsewhere.run(append_to, folder, TRUNCATED[-2:])
        one.follower.go_on()
        assert client.ended is not None
        assert client.ended.lsn == 700
        assert [lsn for _, lsn in one.follower.ended] == [700]


async def test_collecting_up_to_a_truncate_and_across_it(folder: Path) -> None:
    make_log(folder, TRUNCATED)
    async with node(folder) as one:
        shape = FOLLOWED[0].shape
        entries, end = await collect(one.tail, shape, Offset(500, 0), Offset(700, 0), PAGE)
        assert len(entries) == 9
        assert end == Offset(700, 0)
        with pytest.raises(RotatedError) as ended:
            await collect(one.tail, shape, Offset(500, 0), Offset(708, 0), PAGE)
        assert ended.value.lsn == 700


# -- what the log does not reach -------------------------------------------------------------------


async def test_offsets_before_the_horizon(folder: Path) -> None:
    dated = [one._replace(commit_time=place) for place, one in enumerate(HISTORY)]
    make_log(folder, dated)
    trim_log(folder, 3)
    async with node(folder) as one:
        clients = [Client(one, shape, Offset(300, 2), PAGE) for shape in FOLLOWED[:5]]
        clients += [Client(one, shape, Offset(400, 0), PAGE) for shape in FOLLOWED[5:]]
        results = await asyncio.gather(
            *(client.open() for client in clients), return_exceptions=True
        )
        assert all(isinstance(result, OutOfLogError) for result in results[:5])
        assert results[5:] == [None] * 5
        for client, shape in zip(clients[5:], FOLLOWED[5:], strict=True):
            await client.read()
            assert client.messages == expected(shape, HISTORY, Offset(400, 0))


async def test_the_horizon_overtakes_a_reader(folder: Path, elsewhere: Elsewhere) -> None:
    """Whoever is overtaken is told so; nobody is given a history with a hole in it."""
    dated = [one._replace(commit_time=place) for place, one in enumerate(HISTORY)]
    make_log(folder, dated)
    async with node(folder) as one:
        behind = Client(one, FOLLOWED[0], Offset(100, 0), 1)
        await behind.open()
        elsewhere.run(trim_log, folder, 4)
        with pytest.raises(OutOfLogError):
            await behind.read()
        with pytest.raises(OutOfLogError):
            await Client(one, FOLLOWED[1], Offset(100, 0), PAGE).open()
        with pytest.raises(OutOfLogError):
            await collect(one.tail, FOLLOWED[2].shape, Offset(100, 0), Offset(508, 0), PAGE)


async def test_a_new_epoch_while_feeds_are_opened(folder: Path, elsewhere: Elsewhere) -> None:
    make_log(folder, HISTORY)
    async with node(folder) as one:
        client = Client(one, FOLLOWED[0], Offset(100, 0), PAGE)
        opening = asyncio.create_task(client.open())
        for _ in range(4):
            await asyncio.sleep(0)
        elsewhere.run(make_log, folder, [transaction(5000, insert("1", "a", None))], start=4000)
        one.follower.go_on()
        with pytest.raises(RotatedError):
            await opening
        late = Client(one, FOLLOWED[0], Offset(4000, 0), PAGE)
        await late.read()
        assert [message["headers"]["lsn"] for message in late.messages] == ["5000"]


# -- offsets that no client should have ------------------------------------------------------------


@pytest.mark.parametrize("index", [2**32 - 2, 2**32 - 1, 2**32, 10**18 - 1, 2**63])
async def test_indexes_beyond_every_change(folder: Path, index: int) -> None:
    """`<lsn>_inf` and the like are offsets too. They do not disturb others in the same pass."""
    make_log(folder, HISTORY)
    async with node(folder) as one:
        odd = Client(one, FOLLOWED[0], Offset(300, index), PAGE)
        plain = Client(one, FOLLOWED[1], Offset(100, 0), PAGE)
        await asyncio.gather(odd.open(), plain.open())
        for client, shape, start in ((odd, 0, Offset(400, 0)), (plain, 1, Offset(100, 0))):
            await client.read()
            assert client.messages == expected(FOLLOWED[shape], HISTORY, start)


async def test_an_offset_ahead_of_the_log(folder: Path, elsewhere: Elsewhere) -> None:
    make_log(folder, HISTORY)
    async with node(folder) as one:
        client = Client(one, followed(), Offset(708, 0), PAGE)
        await client.read()
        elsewhere.run(
            append_to, folder, [transaction(lsn, insert("1", "a", None)) for lsn in (708,)]
        )
        one.follower.go_on()
        assert [message["headers"]["lsn"] for message in client.messages] == ["708"]
