"""Server-sent events to clients of every speed: after each up-to-date, exactly what came before it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from brute_force import FOLLOWED, Followed, expected
from exploring import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from log_builder import Elsewhere, Transaction, append_to, insert, make_log, transaction, truncate
from reading_client import ReadingNode, node

from engine.configuration.settings import Settings
from engine.lsn import Offset
from shapes.catalog.table_ledger import TableLedger
from shapes.database import Database
from shapes.definitions import Definitions
from shapes.following import feed, feeds, tail
from shapes.http import sse
from shapes.http.sse import EventStream
from shapes.library import Library, Place
from shapes.snapshots.snapshot import Snapshots
from shapes.snapshots.snapshot_store import SnapshotStore
from shapes.windows.clock import WindowClock
from shapes.windows.ledger import WindowLedger

START = Offset(100, 0)
EVERYTHING = FOLLOWED[0]
PATIENT = Settings(sse_timeout=1000.0, sse_keepalive=1000.0)
TURNS = 30
"""Turns of the event loop after which everything that can happen has happened."""


class Connection:
    """A client's end: takes what is sent, unless it is blocked.

    As a server does, it still takes the first thing that is sent after that, and is behind then.
    """

    def __init__(self) -> None:
        self.data = b""
        self.behind = False
        self.task: asyncio.Task[None] | None = None
        self._held = b""
        self._blocked = False
        self._open = asyncio.Event()

    def stream(self, data: bytes) -> bool:
        assert not self.behind
        if self._blocked:
            self._held += data
            self.behind = True
        else:
            self.data += data
        return self.behind

    async def drained(self) -> None:
        while self.behind:
            self._open.clear()
            await self._open.wait()

    def serve(self, stream: EventStream) -> asyncio.Task[None]:
        self.forbid = stream.forbid
        self.task = asyncio.create_task(stream.run())
        return self.task

    @property
    def closed(self) -> bool:
        return self.task is not None and self.task.done()

    def block(self) -> None:
        self._blocked = True

    def unblock(self) -> None:
        self._blocked = self.behind = False
        self.data += self._held
        self._held = b""
        self._open.set()

    def leave(self) -> None:
        assert self.task is not None
        self.behind = True
        self.task.cancel()

    @property
    def blocked(self) -> bool:
        return self._blocked

    @property
    def events(self) -> list[dict[str, Any]]:
        blocks = self.data.decode().split("\n\n")
        assert blocks.pop() == "", "an event is cut off"
        return [orjson.loads(one.removeprefix("data: ")) for one in blocks if one[0] != ":"]

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [event for event in self.events if "key" in event]

    @property
    def marks(self) -> list[int]:
        """The positions of the up-to-dates."""
        heads = [event["headers"] for event in self.events if "key" not in event]
        assert {head["control"] for head in heads} <= {"up-to-date"}
        return [int(head["global_last_seen_lsn"]) for head in heads]

    def check(self, followed: Followed, history: list[Transaction], start: Offset = START) -> None:
        """Whoever reconnects at `<mark>_0` neither misses nor repeats anything."""
        wanted = expected(followed, history, start)
        assert self.messages == wanted
        told = 0
        for event in self.events:
            if "key" in event:
                told += 1
            else:
                mark = int(event["headers"]["global_last_seen_lsn"])
                before = [one for one in wanted if int(one["headers"]["lsn"]) < mark]
                assert wanted[:told] == before, mark
        assert self.marks == sorted(self.marks)
        assert not self.events or "key" not in self.events[-1], "the last event is an up-to-date"


class Streams:
    """Streams of a node to connections."""

    def __init__(self, of: ReadingNode, library: Library) -> None:
        self.node = of
        self.tail = of.tail
        self.library = library
        self.tasks: list[asyncio.Task[None]] = []
        self._of: dict[Settings, sse.Streams] = {}

    def open(self, place: Place, connection: Connection, options: Settings = PATIENT) -> None:
        """Serve a connection; streams with the same options are those of one node."""
        if options not in self._of:
            # Without a grant nothing is asked of leases.
            self._of[options] = sse.Streams(options, self.tail, self.library, cast(Any, None))
        self.tasks.append(connection.serve(self._of[options].open(place, connection)))

    async def begin(
        self, followed: Followed, start: Offset = START, options: Settings = PATIENT
    ) -> Connection:
        """A stream of a shape from an offset; it has come to its end when this returns."""
        connection = Connection()
        place = Place(await self.node.feeds.open(followed.shape, start), start, [])
        self.open(place, connection, options)
        await turns()
        return connection


async def turns(count: int = TURNS) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@asynccontextmanager
async def streams(folder: Path) -> AsyncGenerator[Streams]:
    async with node(folder) as one:
        # No request gets as far as to the database.
        database = Database("postgresql://127.0.0.1:1/none", 2, 1.0)
        store = SnapshotStore(folder.parent / "snapshots")
        snapshots = Snapshots(store, database, one.tail, PATIENT, lambda oid: None)
        definitions = Definitions(
            *(database, TableLedger(folder.parent / "tables"), "none"),
            manual=True,
            on_ended=lambda oid, columns: None,
            interval=60.0,
            added_column_grace=600.0,
            epoch=lambda: 0,
        )
        ledger = WindowLedger(folder.parent / "windows")
        clock = WindowClock(one.tail, database, ledger, prefix="none", longest_step=900.0)
        library = Library(
            *(one.tail, one.feeds, store, snapshots, definitions, clock),
            retention_bytes=1 << 40,
            retention_age=86400,
            long_poll_timeout=1.0,
        )
        streaming = Streams(one, library)
        try:
            yield streaming
        finally:
            for task in streaming.tasks:
                task.cancel()
            if streaming.tasks:
                await asyncio.wait(streaming.tasks)
            store.close()
            ledger.close()


def rows(lsn: int, count: int = 1, *, blocks: int = 1000) -> Transaction:
    return transaction(lsn, *(insert(str(row), "a", "x") for row in range(count)), blocks=blocks)


HISTORY = [rows(200, 3), rows(208), rows(300, 5, blocks=2)]
MORE = [rows(400), rows(408, 4, blocks=3), rows(500)]


async def test_a_client_that_keeps_up(folder: Path, elsewhere: Elsewhere) -> None:
    make_log(folder, HISTORY)
    async with streams(folder) as one:
        client = await one.begin(EVERYTHING)
        client.check(EVERYTHING, HISTORY)
        for count, more in enumerate(MORE, 1):
            elsewhere.run(append_to, folder, [more])
            one.node.follower.go_on()
            # Written by whoever published it: no task had to wake up.
            client.check(EVERYTHING, [*HISTORY, *MORE[:count]])
            assert client.marks[-1] == more.end_lsn - 1


@pytest.mark.parametrize("pending", [0, 2, 1000])
@pytest.mark.parametrize("warm", [-1.0, 1000.0])
async def test_a_client_that_is_slow(
    folder: Path,
    elsewhere: Elsewhere,
    monkeypatch: pytest.MonkeyPatch,
    pending: int,
    warm: float,
) -> None:
    """What it missed is at hand, or it is read from the log."""
    monkeypatch.setattr(feed, "MAX_PENDING", pending)
    monkeypatch.setattr(feed, "WARM_SECONDS", warm)
    make_log(folder, HISTORY)
    async with streams(folder) as one:
        client = await one.begin(EVERYTHING)
        client.block()
        for more in MORE:
            elsewhere.run(append_to, folder, [more])
            one.node.follower.go_on()
            await turns()
        assert len(client.messages) == 9
        client.unblock()
        await turns()
        client.check(EVERYTHING, [*HISTORY, *MORE])
        last = rows(600)
        elsewhere.run(append_to, folder, [last])
        one.node.follower.go_on()
        await turns()
        client.check(EVERYTHING, [*HISTORY, *MORE, last])


async def test_a_client_that_is_slow_from_the_beginning(folder: Path, elsewhere: Elsewhere) -> None:
    make_log(folder, HISTORY)
    async with streams(folder) as one:
        client = Connection()
        client.block()
        place = Place(await one.node.feeds.open(EVERYTHING.shape, START), START, [])
        one.open(place, client)
        await turns()
        elsewhere.run(append_to, folder, MORE)
        one.node.follower.go_on()
        assert client.events == []
        client.unblock()
        await turns()
        client.check(EVERYTHING, [*HISTORY, *MORE])


async def test_a_batch_while_a_comment_waits_to_be_sent(folder: Path, elsewhere: Elsewhere) -> None:
    make_log(folder, HISTORY)
    async with streams(folder) as one:
        client = await one.begin(EVERYTHING, options=Settings(sse_timeout=1000, sse_keepalive=0.0))
        client.block()
        await turns()
        elsewhere.run(append_to, folder, MORE)
        one.node.follower.go_on()
        await turns()
        client.unblock()
        await turns()
        assert b": keep-alive\n\n" in client.data
        client.check(EVERYTHING, [*HISTORY, *MORE])


@pytest.mark.parametrize("slow", [False, True])
async def test_a_stream_ends_with_its_shape(folder: Path, elsewhere: Elsewhere, slow: bool) -> None:
    """What was before the end is told, nothing of what is after it."""
    make_log(folder, HISTORY)
    async with streams(folder) as one:
        client = await one.begin(EVERYTHING)
        if slow:
            client.block()
            elsewhere.run(append_to, folder, [rows(400)])
            one.node.follower.go_on()
        elsewhere.run(append_to, folder, [transaction(500, truncate()), rows(600)])
        one.node.follower.go_on()
        client.unblock()
        await turns()
        assert client.closed
        assert one.tasks[0].done()
        client.check(EVERYTHING, [*HISTORY, rows(400)] if slow else HISTORY)


@pytest.mark.parametrize("slow", [False, True])
async def test_a_client_that_may_read_no_more(
    folder: Path, elsewhere: Elsewhere, slow: bool
) -> None:
    """Not even what it has yet to catch up with."""
    make_log(folder, HISTORY)
    async with streams(folder) as one:
        client = await one.begin(EVERYTHING)
        if slow:
            client.block()
            for late in (rows(400), rows(500)):
                elsewhere.run(append_to, folder, [late])
                one.node.follower.go_on()
            await turns()
        client.forbid()
        elsewhere.run(append_to, folder, [rows(600)])
        one.node.follower.go_on()
        client.unblock()
        await turns()
        assert client.closed
        client.check(EVERYTHING, [*HISTORY, rows(400)] if slow else HISTORY)


@pytest.mark.parametrize("slow", [False, True])
async def test_a_client_that_leaves(folder: Path, elsewhere: Elsewhere, slow: bool) -> None:
    make_log(folder, HISTORY)
    async with streams(folder) as one:
        client = await one.begin(EVERYTHING)
        if slow:
            client.block()
            elsewhere.run(append_to, folder, [rows(400)])
            one.node.follower.go_on()
        client.leave()
        await turns()
        assert one.tasks[0].done()
        told = len(client.events)
        elsewhere.run(append_to, folder, [rows(500)])
        one.node.follower.go_on()
        await turns()
        assert len(client.events) == told


async def test_a_stream_ends_in_time(folder: Path) -> None:
    make_log(folder, HISTORY)
    async with streams(folder) as one:
        client = await one.begin(EVERYTHING, options=Settings(sse_timeout=0.0, sse_keepalive=1000))
        assert client.closed
        client.check(EVERYTHING, HISTORY)


@settings(
    max_examples=examples(35),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    sizes=st.lists(st.integers(1, 7), min_size=3, max_size=10),
    pending=st.sampled_from([0, 3, 1000]),
    warm=st.sampled_from([-1.0, 1000.0]),
    chunk=st.sampled_from([300, 10_000_000]),
    seed=st.integers(0, 2**32),
)
def test_streams_of_every_speed(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    elsewhere: Elsewhere,
    sizes: list[int],
    pending: int,
    warm: float,
    chunk: int,
    seed: int,
) -> None:
    for module in (tail, feeds):
        monkeypatch.setattr(module, "STEP_SECONDS", -1.0)
    monkeypatch.setattr(feed, "MAX_PENDING", pending)
    monkeypatch.setattr(feed, "WARM_SECONDS", warm)
    folder = tmp_path_factory.mktemp("streams") / "log"
    history = [rows(200 + 8 * place, size, blocks=2) for place, size in enumerate(sizes)]
    options = Settings(sse_timeout=1000, sse_keepalive=1000, chunk_bytes=chunk)
    choose = random.Random(seed)
    make_log(folder, history[:2])

    async def stream() -> None:
        async with streams(folder) as one:
            elsewhere.run(append_to, folder, history[2:])
            begun: list[tuple[Connection, Followed, Offset]] = []
            more = True
            while more or len(begun) < 4:
                match choose.randrange(6):
                    case 0 if len(begun) < 4:
                        start = choose.choice((START, Offset(200, 2), one.tail.processed))
                        followed = choose.choice(FOLLOWED[:2])
                        begun.append((await one.begin(followed, start, options), followed, start))
                    case 1 if begun:
                        client = choose.choice(begun)[0]
                        client.unblock() if client.blocked else client.block()
                    case 2 | 3:
                        more = one.tail.step()
                    case _:
                        await turns(choose.randrange(5))
            for client, followed, start in begun:
                client.unblock()
                await turns(100)
                client.check(followed, history, start)

    asyncio.run(stream())
