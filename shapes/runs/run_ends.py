"""Which of the runs that somebody waits for are over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Final

import psycopg

from engine.errors import PgtideError
from shapes.runs.run_lookup import RunLookup
from shapes.streams.storage.store import StreamStore

log = logging.getLogger("streams")

LOOK_SECONDS: Final = 1.0
"""From one look at the runs to the next."""

RUNS_PER_SECOND: Final = 1000
"""If more runs are waited for, they are looked at less often."""

Place = tuple[str, str]
"""Environment and id of a run."""


class RunEnds:
    """Looks at runs from time to time, those of all who wait together, until they are over.

    Postgres is asked, and not the log: the runs' table may be one that nobody follows.
    """

    def __init__(self, lookup: RunLookup, store: StreamStore) -> None:
        self._lookup = lookup
        self._store = store
        self._waiting: dict[Place, dict[asyncio.Future[None], None]] = {}
        self._rung = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    @contextmanager
    def expected(self, environment: str, run_id: str) -> Generator[asyncio.Future[None]]:
        """A future that is done once the run is over (or gone), and this node has heard of
        everything that was committed before."""
        place = (environment, run_id)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(place, {})
        waiting[future] = None
        self._rung.set()
        try:
            yield future
        finally:
            waiting.pop(future, None)
            if not waiting and self._waiting.get(place) is waiting:
                del self._waiting[place]
            future.cancel()

    async def run(self) -> None:
        """Look at runs until cancelled."""
        while True:
            await self._rung.wait()
            while self._waiting:
                await asyncio.sleep(max(LOOK_SECONDS, len(self._waiting) / RUNS_PER_SECOND))
                try:
                    await self._look()
                except (PgtideError, psycopg.Error) as error:
                    # Streams go on meanwhile.
                    log.debug("the ends of runs are not noticed: %s", error)
            self._rung.clear()

    async def _look(self) -> None:
        asked: dict[str, list[str]] = {}
        for environment, run_id in self._waiting:
            asked.setdefault(environment, []).append(run_id)
        over: list[Place] = []
        for environment, ids in asked.items():
            found = await self._lookup.several(ids, environment)
            over += [
                (environment, run_id) for run_id in ids if run_id not in found or found[run_id].over
            ]
        if over:
            await self._store.reach()
            self._tell(over)

    def _tell(self, places: Iterable[Place]) -> None:
        for place in places:
            for future in self._waiting.get(place, ()):
                if not future.done():
                    future.set_result(None)
