"""Children end when the supervisor does, kill -9 included.

Only the supervisor holds the writing end of a pipe; every child holds a reading end and watches it.
The kernel closes the writing end at any death.
"""

from __future__ import annotations

import os
import sys
import threading

VARIABLE = "PGTIDE_GUARD_FD"


class Lifeline:
    """The supervisor's side. It holds for as long as this object is open."""

    def __init__(self) -> None:
        self.reading, self._writing = os.pipe()

    def close(self) -> None:
        os.close(self.reading)
        os.close(self._writing)


def hold_lifeline() -> None:
    """Called by a child at its start: from now on this process ends with its supervisor.

    It ends at once, without clean-up; nothing may depend on an orderly end anyway. Does nothing in
    a process that was started by hand.
    """
    descriptor = os.environ.get(VARIABLE)
    if not descriptor:
        return
    reading = int(descriptor)
    os.set_inheritable(reading, False)
    threading.Thread(target=_watch, args=(reading,), name="lifeline", daemon=True).start()


def _watch(reading: int) -> None:
    while os.read(reading, 1):
        pass
    print("the supervisor is gone, ending", file=sys.stderr, flush=True)
    os._exit(1)
