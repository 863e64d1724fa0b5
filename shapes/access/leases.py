"""Reads that last end when what allows them does."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from shapes.access.authority import Authority
from shapes.access.grant import Grant

SWEEP_SECONDS = 0.25
_FAR = 1e12
"""Seconds since 1970 that nobody will see."""


class Leases:
    """All reads under way that hang on a credential; one timer serves them all."""

    def __init__(self, authority: Authority, now: Callable[[], float] = time.time) -> None:
        """`now` gives seconds since 1970."""
        self._authority = authority
        self._now = now
        self._held: dict[Lease, None] = {}
        self._due: dict[int, dict[Lease, None]] = {}
        """Those that will expire, by the number of the period at whose beginning they have."""

    def __len__(self) -> int:
        return len(self._held)

    @contextmanager
    def held(self, grant: Grant | None, end: Callable[[], None]) -> Generator[None]:
        """While this lasts `end` is called, once, when the grant no longer stands.

        It must not be one that raises, or that takes long. Without a grant it never is.
        """
        lease = self.begin(grant, end)
        try:
            yield
        finally:
            self.release(lease)

    def begin(self, grant: Grant | None, end: Callable[[], None]) -> Lease | None:
        """As `held`, until the lease is released; None for a grant that does not end."""
        if grant is None or (grant.key is None and grant.expires_at is None):
            return None
        lease = Lease(grant, end)
        self._held[lease] = None
        if lease.due is not None:
            self._due.setdefault(lease.due, {})[lease] = None
        return lease

    def release(self, lease: Lease | None) -> None:
        """The read is over; twice does no harm."""
        if lease is None:
            return
        self._held.pop(lease, None)
        if lease.due is not None and (others := self._due.get(lease.due)) is not None:
            others.pop(lease, None)
            if not others:
                del self._due[lease.due]

    def sweep(self) -> None:
        """End what has expired, and if the keys are others now, what hung on one that is gone."""
        if self._authority.refresh():
            over = [lease for lease in self._held if not self._authority.counts(lease.grant)]
        else:
            now = self._now() / SWEEP_SECONDS
            over = [lease for due in self._due if due <= now for lease in self._due[due]]
        for lease in over:
            self.release(lease)
            lease.end()

    async def run(self) -> None:
        """Sweep from time to time, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.sweep()


class Lease:
    """One read that is under way."""

    __slots__ = ("due", "end", "grant")

    def __init__(self, grant: Grant, end: Callable[[], None]) -> None:
        self.grant = grant
        self.end = end
        expires_at = grant.expires_at
        self.due: int | None = None
        if expires_at is not None and expires_at < _FAR:
            self.due = math.ceil(expires_at / SWEEP_SECONDS)
