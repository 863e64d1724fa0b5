"""Shapes of any table with the Python SDK, against real servers."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta, timezone
from datetime import time as time_of_day
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
from sdk_items import Items, by_id
from serving import Serving

import pgtide
import pgtide.sync
from engine.postgres.migrate import migrate

MODES = pytest.mark.parametrize("sse", [False, True], ids=["long-poll", "sse"])
PATIENCE = 60.0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


class Log:
    """Takes a stream's messages; checks that none comes twice or out of order."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.restarts = 0
        self.changes = 0
        self._last = (-1, -1)

    async def read(self, stream: pgtide.ShapeStream) -> None:
        async for message in stream:
            if isinstance(message, pgtide.Control):
                if message.kind == "must-refetch":
                    self.rows.clear()
                    self.restarts += 1
                    self._last = (-1, -1)
                continue
            self._apply(message)

    def _apply(self, change: pgtide.Change) -> None:
        self.changes += 1
        if change.position is not None:
            assert change.position > self._last, "a change came twice"
            self._last = change.position
        if change.operation == "delete":
            del self.rows[change.key]
        elif change.operation == "insert":
            assert change.key not in self.rows, "a row came twice"
            self.rows[change.key] = change.value
        else:
            self.rows[change.key] = self.rows[change.key] | change.value


async def test_follows_exactly_while_the_server_is_killed(database: str, tmp_path: Path) -> None:
    serving = Serving(database, tmp_path / "pgtide", long_poll_timeout=1, sse_timeout=2)
    await migrate(database, stream_id=serving.stream_id)
    with psycopg.connect(database, autocommit=True) as db, serving:
        items, polling, streaming = Items(db), Log(), Log()
        items.work(30)
        async with pgtide.Client(serving.url) as client, client.shape(items.table) as shape:
            readers = [
                asyncio.create_task(log.read(client.stream(items.table, live_sse=sse)))
                for log, sse in ((polling, False), (streaming, True))
            ]
            assert by_id(await shape.ready()) == items.rows()
            for end in (serving.kill, serving.stop):
                await asyncio.to_thread(end)
                items.work(30)
                await asyncio.to_thread(serving.start)
                items.work(10)
                await until(lambda: by_id(shape.rows) == items.rows())
                await until(lambda: by_id(polling.rows) == items.rows() == by_id(streaming.rows))
            assert (polling.restarts, streaming.restarts) == (0, 0)
            for reader in readers:
                assert not reader.done()
                reader.cancel()


@MODES
async def test_begins_anew_when_the_shape_is_gone(
    server: Serving, db: psycopg.Connection, sse: bool
) -> None:
    items, log = Items(db), Log()
    items.work(30)
    async with pgtide.Client(server.url) as client:
        stream = client.stream(items.table, live_sse=sse)
        seen: list[list[dict[str, Any]]] = []
        shape = client.shape(items.table, live_sse=sse)
        shape.subscribe(lambda rows: seen.append(by_id(rows)))
        reader = asyncio.create_task(log.read(stream))
        assert by_id(await shape.ready()) == items.rows()
        await until(lambda: by_id(log.rows) == items.rows())
        del seen[:]
        items.run(f"truncate {items.table}; insert into {items.table} (id) values (1)")
        await until(lambda: by_id(log.rows) == items.rows() == by_id(shape.rows))
        assert log.restarts == 1
        # Nobody saw the rows in between: from the old set to the new one in one step.
        assert seen == [items.rows()]
        reader.cancel()
        await shape.aclose()


async def test_a_position_that_was_kept_goes_on_where_it_was(
    server: Serving, db: psycopg.Connection
) -> None:
    items, log = Items(db), Log()
    items.work(60)
    async with pgtide.Client(server.url) as client:
        first = client.stream(items.table, live=False)
        await log.read(first)
        kept = first.position
        items.work(60)
        before = log.changes
        reader = asyncio.create_task(log.read(client.stream(items.table, position=kept)))
        await until(lambda: by_id(log.rows) == items.rows())
        reader.cancel()
    assert 0 < log.changes - before < 200
    assert log.restarts == 0


@MODES
async def test_timeouts_lose_nothing(server: Serving, db: psycopg.Connection, sse: bool) -> None:
    items = Items(db)
    items.work(20)
    rows: dict[str, dict[str, Any]] = {}
    interrupted = 0
    async with pgtide.Client(server.url) as client:
        batches = client.stream(items.table, live_sse=sse, replica="full").batches()
        for _ in range(60):
            # Some come while an answer is read, others while one is waited for.
            try:
                async with asyncio.timeout(0.02):
                    _apply(rows, await anext(batches))
            except TimeoutError:
                interrupted += 1
            items.work(1)
        async with asyncio.timeout(PATIENCE):
            while by_id(rows) != items.rows():
                _apply(rows, await anext(batches))
        await batches.aclose()
    assert interrupted > 0


def _apply(rows: dict[str, dict[str, Any]], batch: pgtide.Batch) -> None:
    for change in batch.changes:
        if change.operation == "delete":
            del rows[change.key]
        else:
            assert (change.key in rows) == (change.operation == "update")
            rows[change.key] = change.value


async def test_a_position_of_another_log_begins_anew(
    server: Serving, db: psycopg.Connection
) -> None:
    items, log = Items(db), Log()
    items.work(10)
    async with pgtide.Client(server.url) as client:
        nowhere = pgtide.Position("123-456", "77_0")
        await log.read(client.stream(items.table, live=False, position=nowhere))
    assert by_id(log.rows) == items.rows()
    assert log.restarts == 1


VALUES: dict[str, tuple[str, Any, Any]] = {
    "int2": ("'-7'", -7, int),
    "int4": ("'2147483647'", 2147483647, int),
    "int8": ("'9223372036854775807'", 9223372036854775807, int),
    "float4": ("'0.1'", 0.1, float),
    "float8": ("'-1.5e300'", -1.5e300, float),
    "numeric": ("'12.500'", Decimal("12.500"), Decimal),
    "bool": ("'t'", True, bool),
    "text": ("E'a\\n\"b\" é \\U0001F600'", 'a\n"b" é \U0001f600', str),
    "varchar(9)": ("'x'", "x", str),
    "char(3)": ("'x'", "x  ", str),
    "bytea": ("'\\x00ff'", b"\x00\xff", bytes),
    "uuid": (
        "'6f9619ff-8b86-d011-b42d-00cf4fc964ff'",
        uuid.UUID("6f9619ff-8b86-d011-b42d-00cf4fc964ff"),
        uuid.UUID,
    ),
    "date": ("'2026-03-01'", date(2026, 3, 1), date),
    "time": ("'10:20:30.5'", time_of_day(10, 20, 30, 500000), time_of_day),
    "timetz": (
        "'10:20:30+05:30'",
        time_of_day(10, 20, 30, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        time_of_day,
    ),
    "timestamp": (
        "'2026-03-01 10:20:30.123456'",
        datetime(2026, 3, 1, 10, 20, 30, 123456),
        datetime,
    ),
    "timestamptz": (
        "'2026-03-01 10:20:30+02'",
        datetime(2026, 3, 1, 8, 20, 30, tzinfo=UTC),
        datetime,
    ),
    "interval": (
        "'1 year 2 mons 3 days -04:05:06.5'",
        timedelta(days=365 + 60 + 3) - timedelta(hours=4, minutes=5, seconds=6.5),
        timedelta,
    ),
    "json": ("'{\"a\": [1, 2.5, null]}'", {"a": [1, 2.5, None]}, dict),
    "jsonb": ("'\"text\"'", "text", str),
    "int4[]": ("'{{1,NULL},{3,4}}'", [[1, None], [3, 4]], list),
    "text[]": (
        "array['', 'a,b', 'c\"d', E'e\\\\f', 'NULL', null, '{g}']",
        ["", "a,b", 'c"d', "e\\f", "NULL", None, "{g}"],
        list,
    ),
    "numeric[]": ("'[0:1]={1.0,NaN}'", None, list),
    "timestamptz[]": (
        "array['2026-03-01 10:20:30+00'::timestamptz]",
        [datetime(2026, 3, 1, 10, 20, 30, tzinfo=UTC)],
        list,
    ),
    "box[]": ("array['(1,1),(0,0)'::box, '(2,2),(0,0)']", ["(1,1),(0,0)", "(2,2),(0,0)"], list),
    "inet": ("'10.0.0.1/8'", "10.0.0.1/8", str),
    "mood": ("'so, so'", "so, so", str),
    "mood[]": ("array['so, so', 'glad']::mood[]", ["so, so", "glad"], list),
    "int4range": ("'[1,5)'", "[1,5)", str),
}


async def test_values_of_every_type(server: Serving, db: psycopg.Connection) -> None:
    db.execute("create type mood as enum ('glad', 'so, so')")
    kinds = list(VALUES)
    columns = ", ".join(f"c{at} {kind}" for at, kind in enumerate(kinds))
    literals = ", ".join(VALUES[kind][0] for kind in kinds)
    db.execute(f"create table every_type (id int primary key, {columns})".encode())
    db.execute(f"insert into every_type values (1, {literals})".encode())
    async with pgtide.Client(server.url) as client, client.shape("every_type") as shape:
        (found,) = (await shape.ready()).values()
        _check_values(found)
        # The second comes through the log instead of the snapshot.
        db.execute(f"insert into every_type values (2, {literals})".encode())
        db.execute("insert into every_type values (3)")
        await until(lambda: len(shape.rows) == 3)
        rows = by_id(shape.rows)
        _check_values(rows[1])
        assert set(rows[2].values()) == {3, None}


def _check_values(row: dict[str, Any]) -> None:
    for at, (kind, (_, value, python)) in enumerate(VALUES.items()):
        found = row[f"c{at}"]
        if kind == "numeric[]":
            assert found[0] == Decimal("1.0")
            assert found[1].is_nan()
            continue
        assert (kind, found) == (kind, value)
        assert type(found) is python


async def test_what_python_cannot_express_stays_text(
    server: Serving, db: psycopg.Connection
) -> None:
    db.execute("create table far_away (id int primary key, d date, t timestamptz, m time)")
    db.execute("insert into far_away values (1, '0044-03-15 BC', 'infinity', '24:00')")
    parsers: dict[str, Callable[[str], str]] = {"date": "<{}>".format, "int4": str}
    async with pgtide.Client(server.url) as client:
        async with client.shape("far_away", live=False) as shape:
            (row,) = (await shape.ready()).values()
        assert row == {"id": 1, "d": "0044-03-15 BC", "t": "infinity", "m": "24:00:00"}
        async with client.shape("far_away", live=False, parsers=parsers) as shape:
            (row,) = (await shape.ready()).values()
        assert row == {"id": "1", "d": "<0044-03-15 BC>", "t": "infinity", "m": "24:00:00"}


async def test_conditions_columns_and_old_values(server: Serving, db: psycopg.Connection) -> None:
    items = Items(db)
    items.run(
        f"insert into {items.table} (id, label, tags) values (1, 'it''s', '{{a}}'), (2, 'x', '{{b}}')"
    )
    async with pgtide.Client(server.url) as client:
        stream = client.stream(
            items.table,
            where="label = $1 and tags && $2",
            params=["it's", ["a", 'c"d']],
            columns=["id", "label", "amount"],
            replica="full",
        )
        async with stream:
            changes = (message async for message in stream if isinstance(message, pgtide.Change))
            first = await anext(changes)
            assert first.value == {"id": 1, "label": "it's", "amount": None}
            items.run(f"update {items.table} set amount = 2")
            second = await anext(changes)
            assert second.value == {"id": 1, "label": "it's", "amount": Decimal("2.000")}
            assert second.old_value == {"amount": None}
            # A row that leaves the condition leaves the shape.
            items.run(f"update {items.table} set label = 'y'")
            assert (await anext(changes)).operation == "delete"


@MODES
async def test_cancelling_ends_the_request_at_the_server(
    server: Serving, db: psycopg.Connection, sse: bool
) -> None:
    items = Items(db)
    async with pgtide.Client(server.url) as client:
        stream = client.stream(items.table, live_sse=sse)
        task = asyncio.create_task(Log().read(stream))
        await until(lambda: len(_held(server)) == 1 and stream.position is not None)
        ours = _held(server)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await until(lambda: not (_seen_by(server) & ours))


def _held(server: Serving) -> set[int]:
    """Ports of this process's connections to the server."""
    port = urlsplit(server.url).port
    connections = psutil.Process().net_connections("tcp")
    return {
        one.laddr.port
        for one in connections
        if one.raddr and one.raddr.port == port and one.status == "ESTABLISHED"
    }


def _seen_by(server: Serving) -> set[int]:
    """Ports of the clients that the server's nodes hold connections of."""
    port = urlsplit(server.url).port
    return {
        one.raddr.port
        for pid in server.node_pids()
        for one in psutil.Process(pid).net_connections("tcp")
        if one.raddr and one.laddr.port == port and one.status == "ESTABLISHED"
    }


async def test_many_shapes_on_one_client(server: Serving, db: psycopg.Connection) -> None:
    items = Items(db)
    items.run(f"insert into {items.table} (id) select generate_series(0, 99)")
    async with pgtide.Client(server.url) as client:
        shapes = [client.shape(items.table, where=f"id = {at}") for at in range(100)]
        rows = await asyncio.gather(*(shape.ready() for shape in shapes))
        assert all(len(one) == 1 for one in rows)
        items.run(f"update {items.table} set label = id::text")
        for at, shape in enumerate(shapes):
            await until(lambda at=at, shape=shape: by_id(shape.rows)[0]["label"] == str(at))
        await asyncio.gather(*(shape.aclose() for shape in shapes))


async def test_memory_stays_flat_over_many_messages(
    server: Serving, db: psycopg.Connection
) -> None:
    items = Items(db)
    items.run(f"insert into {items.table} (id, ratio) select generate_series(1, 500), 0")
    async with pgtide.Client(server.url) as client:
        shape = client.shape(items.table, columns=["id", "ratio"])
        await shape.ready()
        sizes: list[int] = []
        for _ in range(4):
            for _ in range(20):
                items.run(f"update {items.table} set ratio = ratio + 1")
            wanted = items.rows()[0]["ratio"]
            await until(lambda wanted=wanted: by_id(shape.rows)[0]["ratio"] == wanted)
            gc.collect()
            sizes.append(psutil.Process().memory_info().rss)
        await shape.aclose()
    # 30,000 messages later: each has more than 500 bytes.
    assert sizes[-1] - sizes[0] < 8_000_000, sizes


def test_the_synchronous_face(server: Serving, db: psycopg.Connection) -> None:
    items = Items(db)
    items.work(20)
    with pgtide.sync.Client(server.url) as client, client.shape(items.table) as shape:
        assert by_id(shape.ready()) == items.rows()
        changes = shape.changes()
        assert by_id(next(changes)) == items.rows()
        items.run(f"insert into {items.table} (id) values (1000)")
        assert by_id(next(changes)) == items.rows()
        with client.stream(items.table, live_sse=True) as stream:
            batch = next(stream.batches())
        assert {change.key for change in batch.changes} <= set(shape.rows)


@contextmanager
def standing_still(server: Serving) -> Generator[None]:
    """While this lasts its nodes do nothing."""
    nodes = [psutil.Process(pid) for pid in server.node_pids()]
    for node in nodes:
        node.suspend()
    try:
        yield
    finally:
        for node in nodes:
            node.resume()


@MODES
def test_another_thread_ends_an_iteration(
    server: Serving, db: psycopg.Connection, sse: bool
) -> None:
    items = Items(db)
    with pgtide.sync.Client(server.url) as client:
        stream = client.stream(items.table, live_sse=sse)
        waiting = threading.Event()

        def read() -> None:
            for message in stream:
                if isinstance(message, pgtide.Control) and message.kind == "up-to-date":
                    waiting.set()

        thread = threading.Thread(target=read)
        thread.start()
        assert waiting.wait(PATIENCE)
        ours = _held(server)
        with standing_still(server):
            # The server's answer is not what ends it.
            stream.close()
            thread.join(PATIENCE)
            assert not thread.is_alive()
        deadline = time.monotonic() + PATIENCE
        while _seen_by(server) & ours:
            assert time.monotonic() < deadline
            time.sleep(0.01)


async def test_errors_say_what_is_wrong(server: Serving, db: psycopg.Connection) -> None:
    items = Items(db)
    async with pgtide.Client(server.url, access_token="my-secret-token") as client:
        with pytest.raises(pgtide.InvalidRequestError, match="nowhere") as refused:
            await client.shape("nowhere").ready()
        assert refused.value.status == 400
        with pytest.raises(pgtide.InvalidRequestError, match="where"):
            await client.shape(items.table, where="id = $$").ready()
    with pytest.raises(pgtide.InvalidRequestError):
        client.stream(items.table, extra={"offset": "0_0"})
    async with pgtide.Client("http://127.0.0.1:9", access_token="my-secret-token") as client:
        with pytest.raises(pgtide.ConnectionLostError) as lost:
            await client.shape(items.table, max_retries=1).ready()
        assert "my-secret-token" not in repr(lost.value) + repr(lost.value.__cause__)
        assert "a server at http://127.0.0.1:9?" in str(lost.value)


async def test_secrets_stay_out_of_logs(
    server: Serving, db: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    items = Items(db)
    async with pgtide.Client(server.url) as client:
        extra = {"token": "hush-token"}
        async with client.shape(items.table, live=False, secret="hush/&", extra=extra) as shape:
            await shape.ready()
    assert items.table in caplog.text
    assert "hush" not in caplog.text
