"""How many requests are served at a time, over all nodes: first snapshots and everything else."""

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
    """As many requests are being served as may be; this one should come again."""

    code = "concurrent_request_limit_exceeded"

    def __init__(self, pool: Pool, limit: int) -> None:
        super().__init__(
            f"Concurrent {pool.label} request limit exceeded (limit: {limit}), please retry"
        )
        self.retry_after = 5 + random.randint(1, 5)
        """Seconds; different ones, so that not all come again at once."""


class Permit:
    """That one request may be served. Release it whatever happens; twice does no harm."""

    __slots__ = ("_admission", "_pool")

    def __init__(self, admission: Admission, pool: Pool) -> None:
        self._admission = admission
        self._pool: Pool | None = pool
        admission.own[pool].add()

    def swap(self) -> None:
        """A first request's snapshot has begun: from now on it counts like any other."""
        if self._pool is Pool.INITIAL:
            self._admission.own[Pool.INITIAL].add(-1)
            self._admission.own[Pool.EXISTING].add()
            self._pool = Pool.EXISTING

    def __enter__(self) -> Permit:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        if self._pool is not None:
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
        permit = self.try_admit(pool)
        if permit is None:
            if self._rejected:
                self._rejected[pool].add()
            raise ConcurrencyError(pool, self._limits[pool])
        return permit

    def try_admit(self, pool: Pool) -> Permit | None:
        """None if there is no permit now; that is not counted as a rejection."""
        if sum(number.value for number in self._all[pool]) >= self._limits[pool]:
            return None
        return Permit(self, pool)
