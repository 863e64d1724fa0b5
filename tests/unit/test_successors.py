"""Nodes that ask for a successor get one, with small programs in their places."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine.metrics.numbers import Metric, Numbers
from engine.processes import renewal as renewal_module
from engine.processes.board import NODE_VARIABLE, VARIABLE, Board
from engine.processes.keeper import Keeper, end_together
from engine.processes.program import Program
from engine.processes.renewal import Renewal

NODE = """
import os, signal, sys, time
from engine.processes.board import NODE_VARIABLE, Board
number = os.environ[NODE_VARIABLE]
board = Board.inherited()
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(0))
if number not in os.environ["BROKEN"].split():
    board.serve(int(number))
while True:
    time.sleep(60)
"""
INSIDE = Metric("inside", "gauge", "How many.")
COUNT = Metric("count_total", "counter", "Things.")


class Nodes:
    """Those of a supervisor."""

    def __init__(self, folder: Path, count: int, interval: float, broken: str) -> None:
        (folder / "standing_in.py").write_text(NODE)
        self.board = Board()
        self.numbers = Numbers()
        self._environ = {
            "PYTHONPATH": str(folder),
            VARIABLE: str(self.board.fileno()),
            "BROKEN": broken,
        }
        self.running = {number: self._make(number) for number in range(1, count + 1)}
        for keeper in self.running.values():
            keeper.start()
        until(lambda: self.board.serving == count)
        self.renewal = Renewal(self.running, self._make, self.board, self.numbers, interval)
        self.renewal.start()

    def _make(self, number: int) -> Keeper:
        environ = self._environ | {NODE_VARIABLE: str(number)}
        name = f"node-{number}"
        return Keeper(Program(name, "standing_in", environ, [self.board.fileno()]))

    def close(self) -> None:
        self.renewal.stop()
        end_together(list(self.running.values()), 10)
        self.board.close()


@pytest.fixture
def open_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Nodes]]:
    monkeypatch.setattr(renewal_module, "LOOK_SECONDS", 0.01)
    opened: list[Nodes] = []

    def open_them(count: int, interval: float = 3600.0, broken: str = "") -> Nodes:
        opened.append(Nodes(tmp_path, count, interval, broken))
        return opened[-1]

    yield open_them
    for nodes in opened:
        with closing(nodes):
            pass


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_successor_has_another_number(open_nodes: Callable[..., Nodes]) -> None:
    nodes = open_nodes(2)
    for number in (1, 2):
        region = nodes.numbers.region(number, [INSIDE, COUNT])
        region.number("inside").set(7)
        region.number("count_total").set(5)
        nodes.numbers.unshown(number)[3] = 1.0
    first, second = nodes.running.values()
    nodes.board.wish(1, 50_000_000)
    until(lambda: set(nodes.running) == {2, 3} and first.ended(0))
    assert nodes.running[2] is second
    assert [nodes.board.serves(number) for number in (1, 2, 3)] == [False, True, True]
    inside, count = nodes.numbers.read(1)
    assert (inside.doubles, count.doubles) == ((0.0,), (5.0,))
    assert not any(nodes.numbers.unshown(1))
    # Of the other one nothing was taken.
    assert [one.doubles for one in nodes.numbers.read(2)] == [(7.0,), (5.0,)]
    assert nodes.numbers.unshown(2)[3] == 1.0


def test_it_is_left_in_peace_for_a_while(open_nodes: Callable[..., Nodes]) -> None:
    nodes = open_nodes(2)
    nodes.board.wish(1, 50_000_000)
    until(lambda: set(nodes.running) == {2, 3})
    young = nodes.running[3]
    nodes.board.wish(3, 50_000_000)
    nodes.board.wish(2, 50_000_000)
    until(lambda: set(nodes.running) == {1, 3})
    # It was looked at before and after the other one.
    assert nodes.running[3] is young


def test_it_may_be_renewed_again(open_nodes: Callable[..., Nodes]) -> None:
    nodes = open_nodes(1, interval=0.01)
    for number in (1, 2, 1, 2):
        nodes.board.wish(number, 50_000_000)
        until(lambda n=number: set(nodes.running) == {3 - n})


def test_a_successor_that_does_not_serve_is_given_up(
    open_nodes: Callable[..., Nodes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal_module, "READY_SECONDS", 0.3)
    nodes = open_nodes(1, broken="2")
    old = nodes.running[1]
    nodes.board.wish(1, 50_000_000)
    until(lambda: 2 in nodes.running)
    broken = nodes.running[2]
    until(lambda: set(nodes.running) == {1})
    assert broken.ended(10)
    assert nodes.running[1] is old
    assert nodes.board.serves(1)


def test_an_end_in_the_middle(open_nodes: Callable[..., Nodes]) -> None:
    nodes = open_nodes(1, broken="2")
    nodes.board.wish(1, 50_000_000)
    until(lambda: 2 in nodes.running)
    begin = time.monotonic()
    nodes.renewal.stop()
    assert time.monotonic() - begin < 5
    # Both are there to be ended.
    assert set(nodes.running) == {1, 2}
