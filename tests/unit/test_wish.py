"""When a node wants a successor: what it keeps without a use for it is told from what it needs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from engine.processes.memory import use

pytestmark = pytest.mark.skipif(use() is None, reason="this system does not tell")

# 64 MB of small objects, then of large ones. One in 4,000 small ones is left in the end.
PROGRAM = """
import json, sys
import shapes.wish
from engine.processes.board import Board
from engine.processes.memory import give_back
from shapes.wish import Wish

shapes.wish.LASTING_SECONDS = float(sys.argv[1])
board = Board()
board.serve(3)
wish = Wish(board, 3)
found = {}

def look(what, idle=True):
    wish.look(idle=idle)
    found[what] = board.surplus(3)

look("at first")
small = [bytes(64) for _ in range(640_000)]
look("small ones")
large = [b"x" * (1 << 20) for _ in range(64)]
look("large ones")
few = small[::4_000]
small.clear()
give_back()
look("busy", idle=False)
look("large ones and gaps")
large.clear()
give_back()
look("gaps")
small += [bytes(64) for _ in range(640_000)]
look("needed again")
print(json.dumps(found))
"""


def found(lasting: float) -> dict[str, int]:
    command = [sys.executable, "-c", PROGRAM, str(lasting)]
    done = subprocess.run(command, capture_output=True, check=True)
    return json.loads(done.stdout)


def test_only_what_is_of_no_use() -> None:
    surplus = found(0.0)
    gaps = {"large ones and gaps", "gaps"}
    assert {what for what, size in surplus.items() if size} == gaps, surplus
    assert all(40e6 < surplus[what] < 90e6 for what in gaps), surplus


def test_not_for_a_moment() -> None:
    assert not any(found(60.0).values())
