"""Streams with the Python SDK: written, read, stopped, cut, by producers that are killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
import tracemalloc
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from runs_server import RunsServer
from tcp_proxy import TcpProxy

import pgtide
from pgtide import Record, RunHandle

KEY = RunsServer.root_key
PATIENCE = 60.0
STOP_SECONDS = 30.0
PRODUCER = Path(__file__).with_name("sdk_stream_producer.py")
READ_BYTES = 4 << 20
"""What reading may take, whatever there is to read."""


@pytest.fixture
async def client(runs_server: RunsServer) -> AsyncGenerator[pgtide.Client]:
    async with pgtide.Client(runs_server.url, secret_key=KEY) as made, asyncio.timeout(PATIENCE):
        yield made


@pytest.fixture
async def run(client: pgtide.Client) -> RunHandle:
    return await client.runs.trigger("writes")


async def numbers(count: int) -> AsyncGenerator[dict[str, int]]:
    for number in range(count):
        await asyncio.sleep(0)
        yield {"n": number}


async def all_of(records: pgtide.Subscription[Record[Any]]) -> list[Any]:
    return [record.value async for record in records]


# -- reading and writing ---------------------------------------------------------------------------


async def test_a_pipe_hands_its_source_on(client: pgtide.Client, run: RunHandle) -> None:
    began = datetime.now(UTC)
    reader = asyncio.create_task(all_of(client.streams.read(run, "tokens")))
    pipe = client.streams.pipe(run, "tokens", numbers(300), close=True)
    taken = [value async for value in pipe]
    await pipe.wait_until_complete()
    assert taken == [{"n": number} for number in range(300)]
    assert await reader == taken
    assert pipe.stopped is None
    (last,) = [record async for record in client.streams.read(run, "tokens", start="latest")]
    assert (last.value, last.position) == ({"n": 299}, 299)
    assert abs((last.timestamp - began).total_seconds()) < PATIENCE
    assert (await anext(client.streams.read(run, "tokens", after=last.position - 1))) == last
    assert (await anext(client.runs.subscribe(run))).realtime_streams == ("tokens",)


async def test_what_is_not_taken_is_taken_by_waiting(client: pgtide.Client, run: RunHandle) -> None:
    pipe = client.streams.pipe(run, "tokens", ["a", "b", "c"], close=True)
    async for value in pipe:
        assert value == "a"
        break
    await pipe.wait_until_complete()
    assert await all_of(client.streams.read(run, "tokens")) == ["a", "b", "c"]


async def test_waiting_leaves_the_values_to_who_iterates(
    client: pgtide.Client, run: RunHandle
) -> None:
    pipe = client.streams.pipe(run, "tokens", numbers(50), close=True)
    taken = [await anext(pipe)]
    waiting = asyncio.create_task(pipe.wait_until_complete())
    async for value in pipe:
        taken.append(value)
        await asyncio.sleep(0)
    await waiting
    assert [value["n"] for value in taken] == list(range(50))


async def test_a_failing_source_fails_after_what_came_before_it(
    client: pgtide.Client, run: RunHandle
) -> None:
    async def failing() -> AsyncGenerator[int]:
        yield 1
        yield 2
        raise ZeroDivisionError

    pipe = client.streams.pipe(run, "tokens", failing())
    with pytest.raises(ZeroDivisionError):
        await pipe.wait_until_complete()
    with pytest.raises(ZeroDivisionError):
        await pipe.wait_until_complete()
    await client.streams.close(run, "tokens")
    assert await all_of(client.streams.read(run, "tokens")) == [1, 2]


async def test_a_reader_ends_with_its_run(
    client: pgtide.Client, run: RunHandle, runs_db: psycopg.Connection
) -> None:
    read: list[Any] = []
    waiting = asyncio.Event()

    async def follow() -> None:
        async for record in client.streams.read(run, "logs"):
            read.append(record.value)
            waiting.set()

    reader = asyncio.create_task(follow())
    values: list[Any] = ["one", {"two": [2]}, None, [[]]]
    for value in values:
        await client.streams.append(run, "logs", value)
    await waiting.wait()
    runs_db.execute("update pgtide.runs set status = 'COMPLETED' where id = %s", (run.id,))
    await reader
    assert read == values


async def test_a_defined_stream_has_values_of_its_type(
    client: pgtide.Client, run: RunHandle
) -> None:
    @dataclass
    class Token:
        text: str
        score: float

    tokens = client.streams.define(
        "scored", Token, encode=asdict, decode=lambda value: Token(**value)
    )
    async with tokens.writer(run, close=True) as out:
        await out.write(Token("Hel", 0.5))
        await out.write(Token("lo", 0.25))
    found = [record.value async for record in tokens.read(run)]
    assert found == [Token("Hel", 0.5), Token("lo", 0.25)]


async def test_a_large_backlog_is_read_in_little_memory(
    client: pgtide.Client, run: RunHandle
) -> None:
    count, text = 2000, "x" * 5000
    async with client.streams.writer(run, "backlog", close=True) as out:
        for number in range(count):
            await out.write(f"{number} {text}")
    tracemalloc.start()
    try:
        position = -1
        async for record in client.streams.read(run, "backlog"):
            position += 1
            assert record.value.startswith(f"{position} ")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert position == count - 1
    assert peak < READ_BYTES


async def test_what_is_refused_says_so(
    client: pgtide.Client, run: RunHandle, runs_db: psycopg.Connection
) -> None:
    with pytest.raises(pgtide.NotFoundError):
        await anext(client.streams.read("run_none", "tokens"))
    with pytest.raises(pgtide.NotFoundError):
        await client.streams.append("run_none", "tokens", 1)
    await client.streams.append(run, "tokens", 1)
    await client.streams.close(run, "tokens")
    with pytest.raises(pgtide.StreamClosedError):
        async with client.streams.writer(run, "tokens") as out:
            await out.write(2)
    async with client.streams.writer(run, "others") as out:
        with pytest.raises(pgtide.InvalidRequestError):
            await out.write(object())
    runs_db.execute("update pgtide.runs set status = 'COMPLETED' where id = %s", (run.id,))
    pipe = client.streams.pipe(run, "late", numbers(5))
    assert [value async for value in pipe] == []
    assert pipe.stopped is not None
    assert pipe.stopped.run_is_over


# -- connections that are cut, processes that are killed -------------------------------------------


async def test_cuts_lose_and_repeat_nothing(runs_server: RunsServer, run: RunHandle) -> None:
    port = urlsplit(runs_server.url).port
    assert port is not None
    source = [f"wörd {number} " for number in range(3000)]
    proxy = TcpProxy(port)
    async with proxy.running(), asyncio.timeout(PATIENCE):
        url = f"http://127.0.0.1:{proxy.port}"
        async with pgtide.Client(url, secret_key=KEY) as client:
            cuts = 0

            async def words() -> AsyncGenerator[str]:
                nonlocal cuts
                for number, word in enumerate(source):
                    if number % 300 == 150:
                        await asyncio.sleep(0.02)
                        cuts += bool(proxy.cut())
                    elif number % 20 == 0:
                        await asyncio.sleep(0.002)
                    yield word

            reader = asyncio.create_task(all_of(client.streams.read(run, "tokens")))
            await client.streams.pipe(run, "tokens", words(), close=True).wait_until_complete()
            assert "".join(await reader) == "".join(source)
            assert cuts >= 5


async def test_a_producer_that_is_killed_goes_on_where_it_was(
    client: pgtide.Client, run: RunHandle, runs_server: RunsServer
) -> None:
    """With kill -9, several times; its reader is a new one each time, too."""
    count, rounds = 600, 4
    environ = {**os.environ, **runs_server.environ}
    command = (sys.executable, str(PRODUCER), run.id, "tokens", str(count))
    got: list[Record[str]] = []
    for attempt in range(rounds + 1):
        producer = await asyncio.create_subprocess_exec(*command, env=environ)
        enough = len(got) + 100
        after = got[-1] if got else None
        async with client.streams.read(run, "tokens", after=after) as records:
            async for record in records:
                got.append(record)
                if attempt < rounds and len(got) == enough:
                    producer.kill()
                    break
        assert await producer.wait() == (-signal.SIGKILL if attempt < rounds else 0)
    assert "".join(record.value for record in got) == "".join(
        f"line {number}, größer 🌊\n" for number in range(count)
    )
    assert [record.position for record in got] == list(range(count))


async def test_an_earlier_process_writes_nothing_more(
    client: pgtide.Client, run: RunHandle
) -> None:
    async def replaced() -> None:
        async with client.streams.writer(run, "tokens", producer="p") as earlier:
            await earlier.write("a")
            await earlier.flush()
            async with client.streams.writer(run, "tokens", producer="p") as later:
                assert later.position == 1
                await later.write("b")
            await earlier.write("zombie")

    with pytest.raises(pgtide.ProducerReplacedError):
        await replaced()
    pipe = client.streams.pipe(run, "tokens", ["a", "b", "c"], producer="p", close=True)
    assert [value async for value in pipe] == ["a", "b", "c"]
    assert await all_of(client.streams.read(run, "tokens")) == ["a", "b", "c"]


# -- stopping --------------------------------------------------------------------------------------


async def test_a_stop_reaches_a_source_that_waits(
    client: pgtide.Client, run: RunHandle, runs_server: RunsServer
) -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncGenerator[str]:
        try:
            yield "first"
            await asyncio.Event().wait()
        finally:
            closed.set()

    pipe = client.streams.pipe(run, "tokens", endless())
    complete = asyncio.create_task(pipe.wait_until_complete())
    reading = client.streams.read(run, "tokens")
    assert (await anext(reading)).value == "first"
    # From another client, with no more than the token that came with the run.
    async with pgtide.Client(runs_server.url, access_token=run.public_access_token) as reader:
        began = time.monotonic()
        await reader.streams.stop(run, "tokens", reason="enough", data={"by": 7})
        await complete
        assert time.monotonic() - began < STOP_SECONDS
    assert closed.is_set()
    assert pipe.stopped == pgtide.Stop("enough", {"by": 7, "reason": "enough"})
    await reading.aclose()
    # A producer that starts again is told at once.
    again = client.streams.pipe(run, "tokens", numbers(10**9), producer="p")
    await again.wait_until_complete()
    assert again.stopped is not None


async def test_cancelling_a_run_stops_its_writers(client: pgtide.Client, run: RunHandle) -> None:
    began = 0.0
    async with client.streams.writer(run, "tokens") as out:
        for number in range(10**9):
            await out.write(number)
            await asyncio.sleep(0.01)
            if number == 20:
                began = time.monotonic()
                await client.runs.cancel(run)
    assert time.monotonic() - began < STOP_SECONDS
    assert out.stopped is not None
    assert out.stopped.run_is_over
    read = await all_of(client.streams.read(run, "tokens"))
    assert read == list(range(len(read)))
    assert len(read) >= 20


async def test_a_stop_ends_all_who_write_in_a_block(client: pgtide.Client, run: RunHandle) -> None:
    async def endlessly(out: pgtide.Writer[Any]) -> None:
        while True:
            await out.write("x")
            await asyncio.sleep(0.01)

    stop = asyncio.get_running_loop().call_later(
        0.1, lambda: stopping.append(asyncio.ensure_future(client.streams.stop(run, "tokens")))
    )
    stopping: list[asyncio.Future[None]] = []
    async with client.streams.writer(run, "tokens") as out, asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(endlessly(out))
    assert stop.when() < asyncio.get_running_loop().time()
    await stopping[0]
    assert out.stopped == pgtide.Stop(None, {})


async def test_a_cancelled_pipe_leaves_at_once(client: pgtide.Client, run: RunHandle) -> None:
    async def endless() -> AsyncGenerator[int]:
        yield 1
        await asyncio.Event().wait()

    pipe = client.streams.pipe(run, "tokens", endless())
    complete = asyncio.create_task(pipe.wait_until_complete())
    async with client.streams.read(run, "tokens") as records:
        assert (await anext(records)).value == 1
    complete.cancel()
    with pytest.raises(asyncio.CancelledError):
        await complete
    await client.streams.close(run, "tokens")
    assert await all_of(client.streams.read(run, "tokens")) == [1]


async def test_input_reaches_the_worker(client: pgtide.Client, run: RunHandle) -> None:
    answers = client.streams.read_input(run, "answers")
    for value in ({"a": 1}, "text", 3):
        await client.streams.send_input(run, "answers", value)
    assert [(await anext(answers)).value for _ in range(3)] == [{"a": 1}, "text", 3]
    await answers.aclose()
