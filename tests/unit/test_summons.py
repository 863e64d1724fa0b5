"""The supervisor hears of signals, at whatever moment they come."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Generator

import pytest

from engine.processes.summons import Summons

NUMBER = signal.SIGUSR2


@pytest.fixture
def again() -> list[int]:
    return []


@pytest.fixture
def summons(again: list[int]) -> Generator[Summons]:
    former = signal.getsignal(NUMBER)
    made = Summons()
    made.listen([NUMBER], again.append)
    try:
        yield made
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(NUMBER, former)


def test_a_wait_ends_with_the_first_signal(summons: Summons, again: list[int]) -> None:
    assert not summons.wait(0.01)
    threading.Timer(0.05, os.kill, (os.getpid(), NUMBER)).start()
    began = time.monotonic()
    assert summons.wait(60)
    assert time.monotonic() - began < 30
    assert summons
    assert summons.wait()
    assert not again


def test_those_that_follow_are_told_apart(summons: Summons, again: list[int]) -> None:
    for _ in range(3):
        signal.raise_signal(NUMBER)
    assert summons.wait()
    assert again == [NUMBER, NUMBER]


def test_signals_among_many_short_waits(summons: Summons) -> None:
    """As while the supervisor starts."""
    threading.Timer(0.05, os.kill, (os.getpid(), NUMBER)).start()
    waits = 0
    while not summons.wait(0.0):
        waits += 1
    assert waits
