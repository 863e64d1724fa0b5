"""What the engine and the nodes read from each other's shared file, and what health makes of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from engine.processes import board as board_module
from engine.processes.board import VARIABLE, Board, Stage
from shapes.readiness import health, reason

CHILD = """
from engine.processes.board import Board, Stage
board = Board.inherited()
assert board.stage is Stage.SLOT
board.ask()
board.serve(2)
"""


@pytest.fixture
def board() -> Iterator[Board]:
    board = Board()
    yield board
    board.close()


def test_another_process_sees_it(board: Board) -> None:
    begin = time.monotonic()
    board.post(Stage.SLOT)
    subprocess.run(
        [sys.executable, "-c", CHILD],
        env=os.environ | {VARIABLE: str(board.fileno())},
        pass_fds=[board.fileno()],
        check=True,
    )
    assert begin < board.asked < time.monotonic()
    assert board.serving == 1


def test_an_engine_that_says_nothing_is_gone(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    assert board.stage is Stage.GONE
    board.post(Stage.STREAMING)
    board.post()
    assert board.stage is Stage.STREAMING
    monkeypatch.setattr(board_module, "SILENCE_SECONDS", -1.0)
    assert board.stage is Stage.GONE


def test_nobody_has_asked_yet(board: Board) -> None:
    assert board.asked == 0
    board.serve(0)
    board.serve(1)
    board.serve(1, serving=False)
    assert board.serving == 0


@pytest.mark.parametrize(
    ("stage", "has_log", "follows", "status"),
    [
        (Stage.STREAMING, True, True, "active"),
        (Stage.STREAMING, True, False, "starting"),
        (Stage.STREAMING, False, False, "starting"),
        # Idle on purpose: nothing comes in, and nothing has to.
        (Stage.RESTING, True, False, "active"),
        (Stage.RESTING, False, False, "starting"),
        # Another pgtide writes the log that this one reads.
        (Stage.WAITING, True, True, "waiting"),
        (Stage.WAITING, False, False, "waiting"),
        (Stage.CONNECTING, True, True, "starting"),
        (Stage.SLOT, False, False, "starting"),
        # Without a supervisor only the log tells.
        (Stage.GONE, True, True, "active"),
        (Stage.GONE, True, False, "starting"),
    ],
)
def test_health(stage: Stage, has_log: bool, follows: bool, status: str) -> None:
    code, body = health(stage, has_log=has_log, follows=follows)
    assert body == {"status": status}
    assert code == (200 if status == "active" else 202)


@pytest.mark.parametrize("stage", Stage)
def test_every_stage_has_a_reason(stage: Stage) -> None:
    assert reason(stage).startswith("Timeout waiting for ")
