"""Any history, cut into any blocks and pages, read from anywhere at any speed: the same messages."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from brute_force import FOLLOWED
from exploring import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from log_builder import (
    Elsewhere,
    Transaction,
    append_to,
    change,
    make_log,
    transaction,
)
from reading_client import Client, node

from engine.log.layout import Change, Row
from engine.lsn import Offset
from shapes.following import activation, feed, feeds, tail

BEGINNING = Offset(100, 0)

rows = st.tuples(
    st.sampled_from(["1", "2", "5"]),
    st.sampled_from(["a", "b", "c", "ab", None]),
    st.sampled_from(["x", "y", None]),
)


@st.composite
def changes(draw: st.DrawFn) -> Change:
    old, new = (list(draw(rows)) for _ in range(2))
    kept: Row = [*old]
    operation = draw(st.sampled_from("IUUUD"))
    match operation:
        case "I":
            return change("I", [*new], None)
        case "D":
            return change("D", None, kept)
        case _:
            return change("U", [*new], kept)


@st.composite
def histories(draw: st.DrawFn) -> list[Transaction]:
    found: list[Transaction] = []
    lsn = 100
    for _ in range(draw(st.integers(1, 8))):
        lsn += draw(st.sampled_from([0, 0, 10]))
        blocks = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
        many = draw(st.lists(changes(), min_size=1, max_size=12))
        found.append(transaction(lsn, *many, blocks=blocks, end_lsn=lsn + 8))
        lsn += 8
    return found


def places(history: list[Transaction]) -> list[Offset]:
    found = {BEGINNING}
    for one in history:
        found |= {Offset(one.commit_lsn, 0), Offset(one.end_lsn, 0)}
        found |= {Offset(lsn, index + extra) for lsn, index in one.offsets() for extra in (0, 1)}
    return sorted(found)


slow = settings(
    max_examples=examples(35),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory)


class Folders:
    """A folder for the log of each example."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self._factory = factory

    def new(self) -> Path:
        return self._factory.mktemp("history") / "log"


@slow
@given(
    history=histories(),
    most=st.sampled_from([1, 200, 600, 1_000_000]),
    kept=st.sampled_from([2, 6, 1000]),
    page=st.sampled_from([1, 200, 1 << 20]),
    step=st.sampled_from([1, 1 << 18]),
    seed=st.integers(0, 2**32),
)
def test_reading_a_history(
    folders: Folders,
    monkeypatch: pytest.MonkeyPatch,
    history: list[Transaction],
    most: int,
    kept: int,
    page: int,
    step: int,
    seed: int,
) -> None:
    """Readers who come one after the other, to feeds that have forgotten part of their positions."""
    _set_sizes(monkeypatch, kept=kept, page=page, step=step)
    folder = folders.new()
    make_log(folder, history)
    choose = random.Random(seed)

    async def read() -> None:
        async with node(folder) as one:
            for _ in range(6):
                client = Client(one, choose.choice(FOLLOWED), choose.choice(places(history)), most)
                await client.read()
                client.check(history)

    asyncio.run(read())


@slow
@given(
    history=histories(),
    first=st.integers(0, 8),
    most=st.sampled_from([1, 300, 1_000_000]),
    kept=st.sampled_from([2, 6, 1000]),
    pending=st.sampled_from([0, 3, 1000]),
    warm=st.sampled_from([-1.0, 1000.0]),
    step=st.sampled_from([1, 1 << 18]),
    seed=st.integers(0, 2**32),
)
def test_following_a_history(
    folders: Folders,
    monkeypatch: pytest.MonkeyPatch,
    elsewhere: Elsewhere,
    history: list[Transaction],
    first: int,
    most: int,
    kept: int,
    pending: int,
    warm: float,
    step: int,
    seed: int,
) -> None:
    """The tail goes on, a block at a time, while readers come, read, wait, get batches or are stuck."""
    _set_sizes(monkeypatch, kept=kept, page=200, step=step)
    monkeypatch.setattr(feed, "MAX_PENDING", pending)
    for module in (feed, feeds):
        monkeypatch.setattr(module, "WARM_SECONDS", warm)
    folder = folders.new()
    make_log(folder, history[:first])
    choose = random.Random(seed)

    async def follow() -> None:
        async with node(folder) as one:
            elsewhere.run(append_to, folder, history[first:])
            clients: list[Client] = []
            reading: set[asyncio.Task[None]] = set()
            more = True
            while more or reading or len(clients) < 6:
                if len(clients) < 6 and choose.random() < 0.3:
                    reached = [at for at in places(history) if at <= one.tail.processed]
                    start, slow = choose.choice(reached), choose.choice((0.0, 0.5))
                    client = Client(
                        one,
                        choose.choice(FOLLOWED[:4]),
                        start,
                        most,
                        lambda slow=slow: choose.random() < slow,
                    )
                    clients.append(client)
                    reading.add(asyncio.create_task(client.read()))
                match choose.randrange(8):
                    case 0 | 1 | 2 | 3:
                        more = one.tail.step()
                    case 4:
                        one.feeds.forget_idle(1000)
                    case 5 if clients and not reading:
                        reading.add(asyncio.create_task(choose.choice(clients).catch_up()))
                    case _:
                        pass
                await asyncio.sleep(0)
                for done in [task for task in reading if task.done()]:
                    reading.remove(done)
                    await done
            for client in clients:
                await client.catch_up()
                client.check(history)

    asyncio.run(follow())


def _set_sizes(monkeypatch: pytest.MonkeyPatch, *, kept: int, page: int, step: int) -> None:
    """Small sizes make the ends of things meet often."""
    for module in (tail, feeds):
        monkeypatch.setattr(module, "STEP_SECONDS", -1.0)
    monkeypatch.setattr(activation, "STEP_SECONDS", -1.0 if step == 1 else 1000.0)
    for module in (activation, tail):
        monkeypatch.setattr(module, "STEP_BYTES", step)
    monkeypatch.setattr(feed, "MAX_ENTRIES", kept)
    monkeypatch.setattr(feeds, "PAGE_BYTES", page)
    monkeypatch.setattr(feeds, "PAGE_ENTRIES", max(kept // 2, 1))
