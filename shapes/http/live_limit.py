"""How many live requests each environment may have waiting at a time, over all nodes.

They hold a connection and a position, so there may be many more of them than of requests that are being
worked on (shapes/http/admission.py), and they must not keep these out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

ROWS = 4
ROW_SLOTS = 48
SLOTS = ROWS * ROW_SLOTS


class LiveLimit:
    """Counts an environment in one slot of each row: environments may share slots, and are as many as
    their least crowded slot says. So numbers of a fixed size do for any environments (a count-min
    sketch): never too few are counted, and too many only if all slots of one are shared."""

    def __init__(
        self,
        limit: int,
        own: memoryview[float] | None = None,
        others: Sequence[memoryview[float]] = (),
    ) -> None:
        """`own` and `others` (of the other nodes) have SLOTS numbers each."""
        self.limit = limit
        self._own = memoryview(bytearray(8 * SLOTS)).cast("d") if own is None else own
        self._all = [self._own, *others]

    def take(self, environment: str) -> bool:
        """From now on there is one more; False if that would be one too many."""
        slots = _slots(environment)
        for slot in slots:
            if sum([numbers[slot] for numbers in self._all]) < self.limit:
                break
        else:
            return False
        for slot in slots:
            self._own[slot] += 1.0
        return True

    def give(self, environment: str) -> None:
        """There is one less."""
        for slot in _slots(environment):
            self._own[slot] -= 1.0


@lru_cache(maxsize=1024)
def _slots(environment: str) -> tuple[int, ...]:
    digest = blake2b(environment.encode(), digest_size=2 * ROWS).digest()
    hashes = [int.from_bytes(digest[2 * row : 2 * row + 2], "big") for row in range(ROWS)]
    return tuple(row * ROW_SLOTS + number % ROW_SLOTS for row, number in enumerate(hashes))
