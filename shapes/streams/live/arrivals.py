"""Waiting for streams that nobody has written to yet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import psycopg

from engine.errors import PgtideError
from shapes.database import Database
from shapes.streams.live.hub import StreamHub
from shapes.streams.notice import MADE, Notice

log = logging.getLogger("streams")

MOST_FRESH: Final = 10_000
"""New streams whose paths are to be looked up. If there are more, everybody looks for himself."""

FIRST_PAUSE: Final = 0.01
LONGEST_PAUSE: Final = 2.0
TRIES: Final = 12
"""The log may tell of a commit a moment before Postgres shows it to others. Pauses double."""

_PATHS = "select id, environment_id, path from pgtide.streams where id = any(%s::bigint[])"

Place = tuple[str, str]
"""Environment and path."""


class Arrivals:
    """Tells those who wait for a path that a stream has been made there, by its first message, or as a
    fork with messages of another.

    A stream is made by whoever writes to it first, never by its readers, or everybody with a token
    could fill the table. The log names new streams by their ids only: while somebody waits, their
    paths are looked up, those of many with one question.
    """

    def __init__(self, hub: StreamHub, database: Database) -> None:
        self._database = database
        self._waiting: dict[Place, dict[asyncio.Future[None], None]] = {}
        self._fresh: dict[int, int] = {}
        """New streams, and how often they have been looked for in vain."""
        self._rung = asyncio.Event()
        self._stopped = False
        hub.watch(self._note, self._lost)

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    @contextmanager
    def expected(self, environment: str, path: str) -> Generator[asyncio.Future[None]]:
        """A future that is done once there may be such a stream, or cancelled if the node stops. Look
        for the stream after this has begun, and wait only if there is none."""
        place = (environment, path)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(place, {})
        waiting[future] = None
        if self._stopped:
            future.cancel()
        try:
            yield future
        finally:
            waiting.pop(future, None)
            if not waiting and self._waiting.get(place) is waiting:
                del self._waiting[place]
            future.cancel()

    def stop(self) -> None:
        """Nobody should wait any longer, nor those who still come."""
        self._stopped = True
        for waiting in self._waiting.values():
            for future in waiting:
                future.cancel()

    async def run(self) -> None:
        """Look up new streams, until cancelled."""
        while True:
            await self._rung.wait()
            self._rung.clear()
            pause = FIRST_PAUSE
            while self._fresh and self._waiting:
                try:
                    await self._look_up()
                except (PgtideError, psycopg.Error) as error:
                    log.warning("new streams are not noticed: %s", error)
                    self._fresh.clear()
                    # Who waited finds out for himself, or says why he cannot.
                    self._lost()
                if self._fresh:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
            self._fresh.clear()

    def _note(self, notice: Notice) -> None:
        begins = notice.position == 0 or notice.flags & MADE
        if begins and notice.stream_id > 0 and self._waiting:
            if len(self._fresh) >= MOST_FRESH:
                self._fresh.clear()
                self._lost()
                return
            self._fresh[notice.stream_id] = 0
            self._rung.set()

    def _lost(self) -> None:
        """Anything may have been missed."""
        for place in list(self._waiting):
            self._tell(place)

    async def _look_up(self) -> None:
        asked = list(self._fresh)
        async with self._database.lookups() as connection:
            cursor = await connection.execute(_PATHS, (asked,))
            rows = await cursor.fetchall()
        found = {row[0] for row in rows}
        for stream_id in asked:
            tried = self._fresh.pop(stream_id, TRIES) + 1
            if stream_id not in found and tried < TRIES:
                self._fresh[stream_id] = tried
        for row in rows:
            self._tell((row[1], row[2]))

    def _tell(self, place: Place) -> None:
        for future in self._waiting.get(place, ()):
            if not future.done():
                future.set_result(None)
