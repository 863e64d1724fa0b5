"""Writes changes at a given rate and remembers when."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import LiteralString

import psycopg

FIRST_SEQUENCE = 10**9
"""Above what the rows have from the beginning."""

_ONE = "update items set seq = %s, progress = progress + 1, updated_at = now() where id = %s"
_MANY = """
    update items set seq = new.seq, progress = progress + 1, updated_at = now()
    from unnest(%s::text[], %s::bigint[]) as new (id, seq)
    where items.id = new.id
"""


class Writer:
    """Each change carries a sequence number; `sent` and `committed` say when it was under way.

    Both are monotonic nanoseconds: just before the statement is sent, just after its commit is
    confirmed.
    """

    def __init__(self, connection: psycopg.Connection, one: LiteralString = _ONE) -> None:
        """`one` updates a single run, its parameters are the sequence number and the run's id."""
        self._connection = connection
        self._one: LiteralString = one
        self._next = FIRST_SEQUENCE
        self.sent: dict[int, int] = {}
        self.committed: dict[int, int] = {}
        for name in ("enable_hashjoin", "enable_mergejoin"):
            connection.execute(f"set {name} = off".encode())

    def write(self, runs: Sequence[int]) -> None:
        """Update these runs in one transaction."""
        sequences = list(range(self._next, self._next + len(runs)))
        self._next += len(runs)
        began = time.monotonic_ns()
        if len(runs) == 1:
            self._connection.execute(self._one, (sequences[0], f"run_{runs[0]}"))
        else:
            self._connection.execute(_MANY, ([f"run_{run}" for run in runs], sequences))
        ended = time.monotonic_ns()
        for sequence in sequences:
            self.sent[sequence] = began
            self.committed[sequence] = ended

    def write_paced(
        self, rate: float, seconds: float, choose: Callable[[], Sequence[int]], per: int = 1
    ) -> int:
        """Write `rate` changes a second while the writer keeps up.

        `choose` gives the runs of the next transaction, `per` of them, all different. Returns how
        many were written; fewer than rate x seconds means that Postgres was too slow.
        """
        interval = per / rate
        began = time.monotonic()
        written = 0
        for tick in range(int(rate * seconds / per)):
            now = time.monotonic()
            if now > began + seconds * 1.5:
                break
            if (pause := began + tick * interval - now) > 0:
                time.sleep(pause)
            self.write(choose())
            written += per
        return written

    def forget(self) -> None:
        """Begin a new measurement."""
        self.sent.clear()
        self.committed.clear()
