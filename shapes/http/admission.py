"""How many requests are served at a time, over all nodes: first snapshots and everything else.

Those who wait for news are not being served: see shapes/http/live_limit.py.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from enum import IntEnum

from engine.configuration.kinds import ConcurrentRequests
from engine.errors import PgtideError
from engine.metrics.numbers import Number


class Pool(IntEnum):
    """INITIAL: the request has no handle, or one that nobody knows. EXISTING: all others."""

    INITIAL = 0
    EXISTING = 1

    @property
    def label(self) -> str:
        return self.name.lower()


class ConcurrencyError(PgtideError):
    """There are as many requests of a `kind` as there may be; this one should come again."""

    code = "concurrent_request_limit_exceeded"

    def __init__(self, kind: str, limit: int) -> None:
        super().__init__(f"Concurrent {kind} request limit exceeded (limit: {limit}), please retry")
        self.retry_after = 5 + random.randint(1, 5)
        """Seconds; different ones, so that not all come again at once."""


class Permit:
    """That one request may be served. Release it whatever happens; twice does no harm."""

    __slots__ = ("_admission", "_pool", "_rests")

    def __init__(self, admission: Admission, pool: Pool) -> None:
        self._admission = admission
        self._pool: Pool | None = pool
        self._rests = False
        admission.own[pool].add()

    def swap(self) -> None:
        """A first request's snapshot has begun: from now on it counts like any other."""
        if self._pool is Pool.INITIAL:
            self._admission.own[Pool.INITIAL].add(-1)
            self._admission.own[Pool.EXISTING].add()
            self._pool = Pool.EXISTING

    def rest(self) -> None:
        """The request waits for news: it does not count until it goes on, however long that takes."""
        if self._pool is not None and not self._rests:
            self._admission.own[self._pool].add(-1)
            # Its handle is known by now.
            self._pool = Pool.EXISTING
            self._rests = True

    def go_on(self) -> None:
        """There is something to do again. One that was admitted before is not refused now."""
        if self._pool is not None and self._rests:
            self._admission.own[self._pool].add()
            self._rests = False

    def __enter__(self) -> Permit:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        if self._pool is not None:
            if not self._rests:
                self._admission.own[self._pool].add(-1)
            self._pool = None


class Admission:
    """Gives permits while there are some.

    Each node counts its own requests where the others see it, so the limits hold for all together;
    two nodes that decide in the same microseconds may admit one too many.
    """

    def __init__(
        self,
        limits: ConcurrentRequests,
        own: Sequence[Number],
        others: Sequence[Sequence[Number]] = (),
        rejected: Sequence[Number] = (),
    ) -> None:
        """`own`, each of `others` (the other nodes) and `rejected` have a number per Pool."""
        self.own = own
        self._limits = limits
        self._all = [[own[pool], *(other[pool] for other in others)] for pool in Pool]
        self._rejected = rejected

    def admit(self, pool: Pool) -> Permit:
        """Raises ConcurrencyError."""
        if sum(number.value for number in self._all[pool]) >= self._limits[pool]:
            if self._rejected:
                self._rejected[pool].add()
            raise ConcurrencyError(pool.label, self._limits[pool])
        return Permit(self, pool)
