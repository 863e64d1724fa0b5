"""Waking readers: no reader can hold the writer up, and none is left deaf."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.log.doorbell import Doorbell, Ear, Pulse
from engine.lsn import MAX_LSN


@pytest.fixture
def bell(folder: Path) -> Iterator[Doorbell]:
    doorbell = Doorbell(folder)
    yield doorbell
    doorbell.close()


@pytest.fixture
def ear(folder: Path) -> Iterator[Ear]:
    ear = Ear(folder)
    yield ear
    ear.close()


def rung(ear: Ear) -> bool:
    return bool(select.select([ear.fileno()], [], [], 0)[0])


def fifos(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_fifo()]


@pytest.mark.parametrize("pulse", [Pulse(0, False), Pulse(1, True), Pulse(MAX_LSN, True)])
def test_a_pulse_arrives(bell: Doorbell, ear: Ear, pulse: Pulse) -> None:
    bell.refresh()
    assert not rung(ear)
    assert ear.listen() is None
    bell.ring(pulse)
    assert rung(ear)
    assert ear.listen() == pulse
    assert not rung(ear)
    assert ear.listen() is None


def test_only_the_latest_pulse_counts(bell: Doorbell, ear: Ear) -> None:
    bell.refresh()
    for progress in range(5):
        bell.ring(Pulse(progress, True))
    assert ear.listen() == Pulse(4, True)


@pytest.mark.parametrize("count", [4095, 4096, 4097, 5000])
def test_many_pulses_at_once(bell: Doorbell, ear: Ear, count: int) -> None:
    """More than one read takes, and just as many."""
    bell.refresh()
    for progress in range(count):
        bell.ring(Pulse(progress, True))
    assert ear.listen() == Pulse(count - 1, True)


def test_a_full_pipe_neither_blocks_nor_deafens(bell: Doorbell, ear: Ear) -> None:
    bell.refresh()
    for progress in range(20_000):
        bell.ring(Pulse(progress, True))
    heard = ear.listen()
    assert heard is not None
    assert heard.progress < 19_999
    bell.ring(Pulse(30_000, False))
    assert ear.listen() == Pulse(30_000, False)


def test_a_reader_that_has_gone_is_forgotten(folder: Path, bell: Doorbell) -> None:
    ear = Ear(folder)
    bell.refresh()
    open_files = len(os.listdir("/dev/fd"))
    ear.close()
    bell.ring(Pulse(1, True))
    assert len(os.listdir("/dev/fd")) == open_files - 2
    assert fifos(folder) == []
    bell.ring(Pulse(2, True))


def test_what_a_killed_reader_left_is_removed(folder: Path, bell: Doorbell) -> None:
    os.mkfifo(folder / "readers" / "99999")
    bell.refresh()
    assert fifos(folder) == []


def test_a_reader_with_the_id_of_one_that_has_gone_is_heard_of(
    folder: Path, bell: Doorbell
) -> None:
    """Process ids repeat; in containers they even start over."""
    first = Ear(folder)
    bell.refresh()
    first.close()
    second = Ear(folder)
    bell.ring(Pulse(1, True))
    bell.refresh()
    bell.ring(Pulse(2, True))
    heard = second.listen()
    second.close()
    assert heard == Pulse(2, True)


def test_the_same_when_the_bell_noticed_before(folder: Path, bell: Doorbell) -> None:
    first = Ear(folder)
    bell.refresh()
    first.close()
    bell.ring(Pulse(1, True))
    second = Ear(folder)
    bell.refresh()
    bell.ring(Pulse(2, True))
    heard = second.listen()
    second.close()
    assert heard == Pulse(2, True)


def test_a_new_engine_finds_the_readers_of_the_old_one(folder: Path, ear: Ear) -> None:
    for progress in (1, 2):
        engine = Doorbell(folder)
        engine.refresh()
        engine.ring(Pulse(progress, True))
        assert ear.listen() == Pulse(progress, True)
        engine.close()
        # Its end is no end of file: the reader would spin on that.
        assert not rung(ear)


def test_readers_that_come_later_are_found(folder: Path, bell: Doorbell) -> None:
    bell.refresh()
    ear = Ear(folder)
    bell.ring(Pulse(1, True))
    assert ear.listen() is None
    bell.refresh()
    bell.refresh()
    bell.ring(Pulse(2, True))
    assert ear.listen() == Pulse(2, True)
    ear.close()


def test_an_ear_before_there_is_any_bell(tmp_path: Path) -> None:
    ear = Ear(tmp_path / "data" / "log")
    bell = Doorbell(tmp_path / "data" / "log")
    bell.refresh()
    bell.ring(Pulse(1, True))
    assert ear.listen() == Pulse(1, True)
    ear.close()
    bell.close()
