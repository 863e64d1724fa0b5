"""When a node wants a successor: if it keeps memory that it has no use for, and little to do."""

from __future__ import annotations

import time

from engine.processes.board import Board
from engine.processes.memory import Footprint

SURPLUS_SHARE = 0.3
"""Of what it had at its start, a node may keep so much without a use for it."""

LASTING_SECONDS = 60.0
"""For so long it must have been so: what ends and what begins at once needs memory again."""


class Wish:
    """What a node tells its supervisor, through the board. Made before there are any requests."""

    def __init__(self, board: Board, number: int) -> None:
        """`number` is the node's place on the board."""
        self._board = board
        self._number = number
        self._footprint = Footprint()
        self._needed = time.monotonic()

    def look(self, *, idle: bool) -> None:
        """Call it every few seconds. `idle`: a successor would have little to do, and what could be
        given back has been."""
        now = time.monotonic()
        surplus = self._footprint.surplus() if idle else 0
        if surplus <= SURPLUS_SHARE * self._footprint.first:
            self._needed = now
        wants = now > self._needed + LASTING_SECONDS
        self._board.wish(self._number, surplus if wants else 0)
