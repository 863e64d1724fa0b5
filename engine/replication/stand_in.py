"""Answers Postgres while the engine's thread waits for its disk.

A walsender that hears nothing for `wal_sender_timeout` ends the connection. The engine normally
answers at once, but a disk that takes its time (or a log that another process holds) would keep it
from doing so for as long.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator
from contextlib import contextmanager

from engine.errors import PgtideError
from engine.replication.walsender import Walsender

LONGEST_SECONDS = 10.0


class StandIn:
    """A thread that repeats the last acknowledgement while the engine is inside `waiting`.

    The engine's thread holds the connection all the time but there; nothing new is acknowledged.
    """

    def __init__(self, walsender: Walsender, timeout_ms: int) -> None:
        """`timeout_ms` is Postgres's `wal_sender_timeout`, 0 for none."""
        self._walsender = walsender
        self._period = min(timeout_ms / 3000 or LONGEST_SECONDS, LONGEST_SECONDS)
        self._connection = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stand-in", daemon=True)

    def __enter__(self) -> StandIn:
        self._connection.acquire()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._connection.release()
        self._thread.join()

    @contextmanager
    def waiting(self) -> Generator[None]:
        """What goes on inside may block, and does not use the connection."""
        self._connection.release()
        try:
            yield
        finally:
            self._connection.acquire()

    def _run(self) -> None:
        while not self._ended.wait(self._period):
            if self._connection.acquire(blocking=False):
                # A lost connection is the engine's to find.
                with contextlib.suppress(PgtideError):
                    self._walsender.acknowledge_again()
                self._connection.release()
