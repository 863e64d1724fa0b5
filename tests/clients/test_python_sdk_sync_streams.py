"""Streams with the Python SDK, without asyncio."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from runs_server import RunsServer

import pgtide
import pgtide.sync

KEY = RunsServer.root_key
PATIENCE = 60.0
STOP_SECONDS = 30.0


@pytest.fixture
def blocking(runs_server: RunsServer) -> Iterator[pgtide.sync.Client]:
    with pgtide.sync.Client(runs_server.url, secret_key=KEY) as made:
        yield made


def test_all_of_it_without_asyncio(blocking: pgtide.sync.Client) -> None:
    run = blocking.runs.trigger("writes")
    read: list[Any] = []

    def follow() -> None:
        read.extend(record.value for record in blocking.streams.read(run, "tokens"))

    reader = threading.Thread(target=follow)
    reader.start()
    pipe = blocking.streams.pipe(run, "tokens", (f"{n} " for n in range(500)), producer="p")
    taken = [value for value, _ in zip(pipe, range(100), strict=False)]
    pipe.wait_until_complete()
    with blocking.streams.writer(run, "tokens", producer="p", close=True) as out:
        assert out.position == 500
        out.write("end")
    reader.join(PATIENCE)
    assert not reader.is_alive()
    assert taken == [f"{n} " for n in range(100)]
    assert read == [*(f"{n} " for n in range(500)), "end"]


def test_a_stop_without_asyncio(blocking: pgtide.sync.Client) -> None:
    run = blocking.runs.trigger("writes")
    began: list[float] = []

    def stop() -> None:
        with blocking.streams.read(run, "tokens") as records:
            next(records)
        began.append(time.monotonic())
        blocking.streams.stop(run, "tokens", reason="enough")

    stopper = threading.Thread(target=stop)
    stopper.start()
    with blocking.streams.writer(run, "tokens") as out:
        for number in range(10**9):
            out.write(number)
            time.sleep(0.01)
    ended = time.monotonic()
    stopper.join()
    assert ended - began[0] < STOP_SECONDS
    assert out.stopped == pgtide.Stop("enough", {"reason": "enough"})
    read: list[Any] = []
    blocking.streams.close(run, "tokens")
    read.extend(record.value for record in blocking.streams.read(run, "tokens"))
    assert read == list(range(out.position))
