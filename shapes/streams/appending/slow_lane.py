"""Appends to streams that somebody else has locked: each stream has own transactions, which wait.

Streams take turns, so a few connections are enough for any number of them.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from typing import Final

from engine.errors import PgtideError
from shapes.database import Database, DatabaseUnavailableError
from shapes.stream_meter import StreamMeter
from shapes.streams.appending.batch import Batch, Entry
from shapes.streams.appending.channel import AppendChannel, LockedError
from shapes.streams.appending.pipeline import StatementError
from shapes.streams.appending.statements import Key
from shapes.streams.stream import Appended

CONNECTIONS: Final = 2
TURN_SECONDS: Final = 0.8
"""Less than Postgres's deadlock_timeout: whoever waits for us and has what we wait for is never the one
who is ended."""
WAIT_SECONDS: Final = 10.0
"""A request waits so long in all."""
IDLE_SECONDS: Final = 5.0
TOGETHER: Final = 256
TOGETHER_BYTES: Final = 4 << 20


class SlowLane:
    """Streams are in it from when they are found locked until all their requests are answered."""

    def __init__(self, database: Database, meter: StreamMeter) -> None:
        self._database = database
        self._meter = meter
        self._waiting: dict[Key, deque[Entry]] = {}
        self._turns: asyncio.Queue[Key] = asyncio.Queue()

    def __contains__(self, key: Key) -> bool:
        return key in self._waiting

    def entries(self) -> list[Entry]:
        """All that wait."""
        return [entry for waiting in self._waiting.values() for entry in waiting]

    def enter(self, entries: Iterable[Entry]) -> None:
        """Behind those of the same stream that are there."""
        for entry in entries:
            waiting = self._waiting.get(entry.key)
            if waiting is None:
                waiting = self._waiting[entry.key] = deque()
                self._turns.put_nowait(entry.key)
            waiting.append(entry)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CONNECTIONS):
                tasks.create_task(self._work())

    async def _work(self) -> None:
        channel = AppendChannel(self._database, self._meter)
        try:
            while True:
                key = await self._next(channel)
                waiting = self._waiting[key]
                await self._take_turn(channel, waiting)
                if waiting:
                    self._turns.put_nowait(key)
                else:
                    del self._waiting[key]
        finally:
            channel.close()

    async def _next(self, channel: AppendChannel) -> Key:
        """Whose turn it is. A connection that was not used for a while is closed."""
        if self._turns.empty() and not channel.closed:
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    return await self._turns.get()
            except TimeoutError:
                channel.close()
        return await self._turns.get()

    async def _take_turn(self, channel: AppendChannel, waiting: deque[Entry]) -> None:
        """Answer the first requests of a stream, unless it is still locked."""
        entries = _first(waiting)
        if not entries:
            return
        try:
            try:
                answers = await _written(channel, entries)
            except (StatementError, ValueError):
                if len(entries) == 1:
                    raise
                # One of them cannot be taken; the others have nothing to do with it.
                entries = entries[:1]
                answers = await _written(channel, entries)
        except LockedError:
            _give_up(waiting)
            return
        except (PgtideError, StatementError, ValueError) as error:
            for entry in entries:
                entry.fail(error)
        else:
            for entry, answer in answers:
                entry.settle(answer)
        for _ in entries:
            waiting.popleft()


async def _written(channel: AppendChannel, entries: list[Entry]) -> list[tuple[Entry, Appended]]:
    batch = Batch(entries, create=True, wait=True, patience=TURN_SECONDS)
    return (await channel.write(batch)).answers


def _first(waiting: deque[Entry]) -> list[Entry]:
    """Those that go into one transaction. Who has gone away meanwhile is left out."""
    entries: list[Entry] = []
    size = 0
    while waiting and waiting[0].answer.done():
        waiting.popleft()
    for entry in waiting:
        size += entry.size
        if entry.answer.done() or (entries and (len(entries) == TOGETHER or size > TOGETHER_BYTES)):
            break
        entries.append(entry)
    return entries


def _give_up(waiting: deque[Entry]) -> None:
    """Refuse those who have waited long enough."""
    latest = time.monotonic() - WAIT_SECONDS
    while waiting and waiting[0].arrived < latest:
        waiting.popleft().fail(DatabaseUnavailableError("Database has a row locked"))
