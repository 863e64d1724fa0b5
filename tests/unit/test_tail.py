"""A node's place at the end of the log: how far it is, and what makes it start over."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from log_builder import (
    OID,
    START,
    Elsewhere,
    Transaction,
    append_to,
    following,
    insert,
    make_log,
    relation,
    shape,
    table,
    transaction,
    trim_log,
    truncate,
)

from engine.log.doorbell import Doorbell, Pulse
from engine.lsn import Offset
from shapes.following import tail as tail_module
from shapes.following.encoder import Entry
from shapes.following.feed import Batch, Feed, RotatedError
from shapes.shape import Shape

SECONDS = 20.0
"""Long enough for anything that happens at all."""


def rows(lsn: int, count: int = 1, *, blocks: int = 1000, commit_time: int = 0) -> Transaction:
    changes = [insert(str(place), "a", None) for place in range(count)]
    return transaction(lsn, *changes, blocks=blocks, commit_time=commit_time)


class Listener:
    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.ends: list[RotatedError] = []

    def deliver(self, batch: Batch | None) -> bool:
        assert batch is not None
        self.batches.append(batch)
        return True

    def end(self, error: RotatedError) -> None:
        self.ends.append(error)


@pytest.fixture
def one_block_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_module, "STEP_SECONDS", -1.0)


# -- how far it is ---------------------------------------------------------------------------------


async def test_a_tail_begins_at_the_end(folder: Path) -> None:
    make_log(folder, [rows(200), rows(300)])
    async with following(folder) as one:
        tail = one.tail
        assert tail.cursor == tail.processed == Offset(308, 0)
        assert tail.horizon == Offset(START, 0)
        assert not tail.active
        assert not tail.step()


@pytest.mark.usefixtures("one_block_at_a_time")
async def test_readers_see_whole_transactions(folder: Path, elsewhere: Elsewhere) -> None:
    make_log(folder, [rows(200)])
    async with following(folder) as one:
        tail, listener = one.tail, Listener()
        feed = Feed(shape(), tail.processed)
        tail.routing.add(feed)
        feed.attach(listener, tail.processed)
        elsewhere.run(append_to, folder, [rows(300), rows(308, 6, blocks=2), rows(400)])
        seen: list[tuple[int, int]] = []
        while tail.step():
            seen.append((tail.processed.lsn, len(listener.batches)))
            assert tail.last_commit_end == tail.processed.lsn
        assert seen == [(308, 1), (308, 1), (308, 1), (316, 2), (408, 3)]
        assert [batch.lsn for batch in listener.batches] == [308, 316, 408]
        assert [batch.end for batch in listener.batches] == [
            *(Offset(300, 2), Offset(308, 12), Offset(400, 2))
        ]


async def test_what_is_complete_does_not_wait_for_what_follows(
    folder: Path, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the next transaction is; without time to spare for anything else."""
    monkeypatch.setattr(tail_module, "STEP_SECONDS", 1000.0)
    make_log(folder)
    async with following(folder) as one:
        tail, listener = one.tail, Listener()
        feed = Feed(shape(), tail.processed)
        tail.routing.add(feed)
        feed.attach(listener, tail.processed)
        elsewhere.run(append_to, folder, [rows(200), rows(208), rows(216, 6, blocks=2)])
        one.go_on()
        assert [(batch.lsn, len(batch.messages)) for batch in listener.batches] == [
            (216, 2),
            (224, 6),
        ]


async def test_several_transactions_in_one_batch(folder: Path, elsewhere: Elsewhere) -> None:
    make_log(folder)
    async with following(folder) as one:
        tail, listener = one.tail, Listener()
        feed, other = Feed(shape(), tail.processed), Feed(shape(where="v = 'z'"), tail.processed)
        for each in (feed, other):
            tail.routing.add(each)
            each.attach(listener, tail.processed)
        elsewhere.run(append_to, folder, [rows(200 + 8 * place) for place in range(4)])
        one.go_on()
        assert [(batch.lsn, len(batch.messages)) for batch in listener.batches] == [(232, 4)]


async def test_catching_up(folder: Path, elsewhere: Elsewhere) -> None:
    make_log(folder)
    async with following(folder) as one:
        await one.tail.catch_up()
        elsewhere.run(append_to, folder, [rows(200), rows(300, 9, blocks=2)])
        await one.tail.catch_up()
        assert one.tail.processed == Offset(308, 0)


async def test_waiting_for_a_position(folder: Path, elsewhere: Elsewhere) -> None:
    make_log(folder, [rows(200)])
    async with following(folder) as one:
        tail = one.tail
        assert await tail.reached(208, 0)
        assert not await tail.reached(209, 0.001)
        waiting = {lsn: asyncio.create_task(tail.reached(lsn, SECONDS)) for lsn in (401, 308, 209)}
        await asyncio.sleep(0)
        elsewhere.run(append_to, folder, [rows(300)])
        one.go_on()
        assert await waiting[209]
        assert await waiting[308]
        assert not waiting[401].done()
        elsewhere.run(append_to, folder, [rows(400)])
        one.go_on()
        assert await waiting[401]


@pytest.mark.usefixtures("one_block_at_a_time")
async def test_a_position_within_a_transaction_is_reached_at_its_end(
    folder: Path, elsewhere: Elsewhere
) -> None:
    make_log(folder)
    async with following(folder) as one:
        waiting = asyncio.create_task(one.tail.reached(301, SECONDS))
        await asyncio.sleep(0)
        elsewhere.run(append_to, folder, [rows(300, 3, blocks=1)])
        for _ in range(2):
            one.tail.step()
            await asyncio.sleep(0)
            assert not waiting.done()
        one.tail.step()
        assert await waiting


# -- pulses ----------------------------------------------------------------------------------------


async def test_following_the_bell(folder: Path, elsewhere: Elsewhere) -> None:
    make_log(folder)
    async with following(folder) as one:
        bell = Doorbell(folder)
        bell.refresh()
        running = asyncio.create_task(one.tail.run())
        elsewhere.run(append_to, folder, [rows(200)])
        bell.ring(Pulse(208, True))
        assert await one.tail.reached(208, SECONDS)
        assert one.tail.active
        # Nothing of ours, but the database went on.
        bell.ring(Pulse(5000, True))
        assert await one.tail.reached(5000, SECONDS)
        assert one.tail.last_commit_end == 208
        elsewhere.run(append_to, folder, [rows(5000)])
        bell.ring(Pulse(5008, False))
        assert await one.tail.reached(5008, SECONDS)
        assert not one.tail.active
        running.cancel()
        await asyncio.wait([running])
        bell.close()


async def test_an_older_pulse_takes_nothing_back(folder: Path) -> None:
    make_log(folder)
    async with following(folder) as one:
        bell = Doorbell(folder)
        bell.refresh()
        running = asyncio.create_task(one.tail.run())
        bell.ring(Pulse(5000, True))
        assert await one.tail.reached(5000, SECONDS)
        # A new engine does not know yet how far the old one was.
        bell.ring(Pulse(0, False))
        bell.ring(Pulse(6000, True))
        assert await one.tail.reached(6000, SECONDS)
        bell.ring(Pulse(0, False))
        while one.tail.streaming:
            await asyncio.sleep(0)
        assert one.tail.processed == Offset(6000, 0)
        running.cancel()
        await asyncio.wait([running])
        bell.close()


# -- ends ------------------------------------------------------------------------------------------


async def test_shapes_that_end_leave_the_routing(folder: Path, elsewhere: Elsewhere) -> None:
    make_log(folder)
    async with following(folder) as one:
        tail = one.tail
        feeds = [Feed(shape(), tail.processed), Feed(shape(table(OID + 1, "u")), tail.processed)]
        for feed in feeds:
            tail.routing.add(feed)
        elsewhere.run(append_to, folder, [transaction(200, truncate()), rows(300)])
        one.go_on()
        assert one.ended == [(feeds[0], 200)]
        assert list(tail.routing.subscribers()) == [feeds[1]]
        assert feeds[0].last is None


async def test_a_new_epoch_starts_over(folder: Path, elsewhere: Elsewhere) -> None:
    """It may begin at a lower position, and its relation versions mean something else."""
    make_log(folder, [rows(200)])
    async with following(folder) as one:
        tail, listener = one.tail, Listener()
        feed = Feed(shape(), tail.processed)
        tail.routing.add(feed)
        feed.attach(listener, tail.processed)
        assert tail.encoders.version(1).oid == OID
        elsewhere.run(make_log, folder, [rows(60)], [relation(oid=OID + 1)], start=50)
        one.go_on()
        assert [error.lsn for error in listener.ends] == [None]
        assert tail.starts == 1
        assert tail.processed == Offset(68, 0)
        assert tail.horizon == Offset(50, 0)
        assert len(tail.routing) == 0
        assert tail.encoders.version(1).oid == OID + 1


@pytest.mark.parametrize("heard", [False, True])
async def test_a_pulse_of_an_old_epoch_says_nothing_about_the_new_one(
    folder: Path, elsewhere: Elsewhere, heard: bool
) -> None:
    """Whether the tail had heard it before it came upon the new epoch or not."""
    make_log(folder, [rows(200)])
    async with following(folder) as one:
        bell = Doorbell(folder)
        bell.refresh()
        bell.ring(Pulse(9000, True))
        running = asyncio.create_task(one.tail.run())
        if heard:
            assert await one.tail.reached(9000, SECONDS)
        elsewhere.run(make_log, folder, [rows(60)], start=50)
        one.go_on()
        assert one.tail.processed == Offset(68, 0)
        bell.ring(Pulse(70, True))
        assert await one.tail.reached(70, SECONDS)
        assert one.tail.processed == Offset(70, 0)
        running.cancel()
        await asyncio.wait([running])
        bell.close()


async def test_a_tail_that_was_overtaken_starts_over(folder: Path, elsewhere: Elsewhere) -> None:
    make_log(folder, [rows(200, commit_time=1)])
    async with following(folder) as one:
        tail, listener = one.tail, Listener()
        feed = Feed(shape(), tail.processed)
        tail.routing.add(feed)
        feed.attach(listener, tail.processed)
        elsewhere.run(append_to, folder, [rows(300, commit_time=2), rows(400, commit_time=3)])
        elsewhere.run(trim_log, folder, 3)
        one.go_on()
        assert [error.lsn for error in listener.ends] == [None]
        assert tail.starts == 1
        assert tail.horizon == Offset(308, 0)
        assert tail.processed == Offset(408, 0)


async def test_being_where_the_log_begins_is_early_enough(
    folder: Path, elsewhere: Elsewhere
) -> None:
    make_log(folder, [rows(200, commit_time=1)])
    async with following(folder) as one:
        entries: list[Entry] = []
        one.tail.routing.add(_Recorder(shape(), entries))
        elsewhere.run(append_to, folder, [rows(300, commit_time=2)])
        elsewhere.run(trim_log, folder, 2)
        one.go_on()
        assert one.tail.starts == 0
        assert [entry.lsn for entry in entries] == [300]


async def test_relations_that_do_not_send_old_rows_are_reported(
    folder: Path, elsewhere: Elsewhere
) -> None:
    make_log(folder)
    async with following(folder) as one:
        one.tail.routing.add(Feed(shape(), one.tail.processed))
        version = relation(2, identity="d")
        changes = [insert("1", "a", None, version=2)]
        elsewhere.run(append_to, folder, [transaction(200, *changes)], [version])
        one.go_on()
        assert one.incomplete == [table()]
        assert one.versions == [version]


class _Recorder:
    def __init__(self, followed: Shape, entries: list[Entry]) -> None:
        self.shape = followed
        self._entries = entries

    def record(self, entry: Entry) -> None:
        self._entries.append(entry)
