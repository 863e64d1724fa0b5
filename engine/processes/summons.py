"""Being told by a signal to end, as the main thread waits for it."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from types import FrameType


class Summons:
    """Set by signals, and waited for in the main thread, where Python runs what handles them.

    Not a threading.Event: a handler that sets one while `wait` holds the event's lock, in the very
    same thread, waits for that lock for ever. And a signal that comes just before a wait begins is
    heard of only after it: here Python writes to a pipe as soon as it comes.
    """

    def __init__(self) -> None:
        self._told = False
        self._again: Callable[[int], None] = lambda number: None
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)

    def listen(self, numbers: Iterable[signal.Signals], again: Callable[[int], None]) -> None:
        """From now on these signals are heard here; `again` is called with every one but the first."""
        self._again = again
        signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, self._hear)

    def __bool__(self) -> bool:
        """Whether a signal has come."""
        return self._told

    def wait(self, seconds: float | None = None) -> bool:
        """Until a signal comes, or for so long. Whether one has."""
        ends = None if seconds is None else time.monotonic() + seconds
        while not self._told:
            left = None if ends is None else ends - time.monotonic()
            if left is not None and left <= 0:
                return False
            if select.select([self._reading], [], [], left)[0]:
                # The number of a signal, which says nothing more; its handler runs right now.
                os.read(self._reading, 4096)
        return True

    def _hear(self, number: int, _: FrameType | None) -> None:
        if self._told:
            self._again(number)
        self._told = True
