"""Replaces nodes that keep far more memory than they need by fresh ones, which lose nothing.

A node says itself when it would gain from that (`engine.processes.memory`), on the board. Its successor
is started beside it; once that serves, the old one accepts no more connections, answers whom it has,
and ends. They have different numbers, so that neither writes into what the other one counts.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from engine.errors import PgtideError
from engine.metrics.numbers import Numbers
from engine.processes.board import Board
from engine.processes.keeper import Keeper, end_together

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
READY_SECONDS = 30.0
"""A successor that does not serve by then is given up."""
LEAVING_SECONDS = 900.0
"""A node that has a successor and is there for so long is ended. It does that itself much sooner."""
END_SECONDS = 4.0


class Renewal:
    """Looks after the nodes of a supervisor, in a thread, until stopped. One node at a time."""

    def __init__(
        self,
        nodes: dict[int, Keeper],
        make: Callable[[int], Keeper],
        board: Board,
        numbers: Numbers,
        interval: float,
    ) -> None:
        """`nodes`, by their numbers, are those that run: changed here. A successor, by `make`, has the
        lowest number that is free. It is itself left in peace for `interval` seconds."""
        self._nodes = nodes
        self._make = make
        self._board = board
        self._numbers = numbers
        self._interval = interval
        self._tried: dict[int, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="renewal", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Afterwards nothing is started any more, and `nodes` are all that have to be ended."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            now = time.monotonic()
            for number in list(self._nodes):
                last = self._tried.get(number)
                due = last is None or now >= last + self._interval
                if due and (surplus := self._board.surplus(number)):
                    self._renew(number, surplus)

    def _renew(self, number: int, surplus: int) -> None:
        old = self._nodes[number]
        free = min(set(range(1, len(self._nodes) + 2)) - set(self._nodes))
        logger.info(
            "%s is renewed: it keeps %d MB of memory that it has no use for  successor=node-%d",
            *(old.service.name, surplus // 1_000_000, free),
        )
        self._board.wish(number, 0)
        self._tried[number] = time.monotonic()
        new = self._start(free)
        if new is None:
            return
        if not self._until(lambda: self._board.serves(free), READY_SECONDS):
            if not self._stopping.is_set():
                logger.warning("%s does not serve and is given up", new.service.name)
                self._remove(free)
            return
        self._tried[free] = time.monotonic()
        old.retire()
        if not self._until(lambda: old.ended(0.0), LEAVING_SECONDS) and self._stopping.is_set():
            return
        self._remove(number)
        logger.info("%s has ended, %s serves", old.service.name, new.service.name)

    def _start(self, number: int) -> Keeper | None:
        """A successor; None if it cannot be started."""
        self._board.serve(number, serving=False)
        keeper = self._make(number)
        try:
            keeper.start()
        except (OSError, PgtideError) as error:
            logger.error("%s does not start  cause=%s", keeper.service.name, error)
            return None
        self._nodes[number] = keeper
        return keeper

    def _remove(self, number: int) -> None:
        """End a node, if it has not ended yet, and what it said of itself."""
        end_together([self._nodes.pop(number)], END_SECONDS)
        self._tried.pop(number, None)
        self._board.serve(number, serving=False)
        self._numbers.forget(number)

    def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait for it; False if it takes longer, or everything ends."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline or self._stopping.wait(0.05):
                return False
        return True
