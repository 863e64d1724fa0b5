"""What a producer has written and the server does not have yet, in order and within bounds."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

MOST_BYTES = 1 << 20
"""Beyond this whoever writes has to wait."""
BATCH_BYTES = 256 << 10
BATCH_COUNT = 1000
COST = 100
"""What a value takes beside its bytes, roughly."""


class Outgoing(NamedTuple):
    """Values that go together. `position` is the first one's: how many the producer wrote before."""

    position: int
    values: tuple[bytes, ...]


class Outbox:
    """Values on their way.

    Whatever was taken is taken again, as it was, until it is settled: it may be sent again after a
    lost answer, and the server knows what it has.
    """

    def __init__(self, most_together: int = BATCH_COUNT) -> None:
        self.position = 0
        """How many values the producer has written, with those of earlier processes."""
        self._most_together = most_together
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._taken: Outgoing | None = None

    @property
    def is_full(self) -> bool:
        return self._size >= MOST_BYTES

    @property
    def is_empty(self) -> bool:
        """All is stored."""
        return self._taken is None and not self._waiting

    def add(self, value: bytes) -> None:
        self._waiting.append(value)
        self._size += len(value) + COST
        self.position += 1

    def take(self) -> Outgoing | None:
        """What is to be sent next; None if there is nothing."""
        if self._taken is None and self._waiting:
            first = self.position - len(self._waiting)
            values = [self._waiting.popleft()]
            size = len(values[0])
            while (
                self._waiting
                and len(values) < self._most_together
                and size + len(self._waiting[0]) <= BATCH_BYTES
            ):
                values.append(self._waiting.popleft())
                size += len(values[-1])
            self._taken = Outgoing(first, tuple(values))
        return self._taken

    def settled(self) -> None:
        """What was taken is stored."""
        assert self._taken is not None
        self._size -= sum(len(value) + COST for value in self._taken.values)
        self._taken = None
