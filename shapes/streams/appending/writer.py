"""Appends to streams by group commit: those that come while a transaction is under way go together into
the next one.

Streams that somebody else has locked, e.g. an application in a transaction that goes on, leave this
lane for a slow one, and come back when their requests are answered.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from typing import Final

from psycopg import errors

from engine.errors import DatabaseSetupError, PgtideError
from shapes.database import Database, DatabaseUnavailableError
from shapes.stream_meter import StreamMeter
from shapes.streams.appending.batch import Batch, Entry
from shapes.streams.appending.channel import AppendChannel, LockedError
from shapes.streams.appending.judgement import MOST_BYTES
from shapes.streams.appending.pipeline import StatementError
from shapes.streams.appending.slow_lane import SlowLane
from shapes.streams.stream import Append, Appended, Outcome, Stamp

TOGETHER: Final = 256
TOGETHER_BYTES: Final = 4 << 20
"""A transaction has at most so much, unless a single request has more."""

MOST_WAITING: Final = 20_000
MOST_WAITING_BYTES: Final = 128 << 20

GATHER_SECONDS: Final = 0.001
"""A transaction costs pgtide and Postgres as much as some thirty appends: it is worth a moment."""
JUST_NOW_SECONDS: Final = 0.01

CREATION_SECONDS: Final = 0.025
"""Whoever makes a stream in a transaction that goes on longer is waited for in the slow lane."""

IDLE_SECONDS: Final = 60.0
"""The connection is closed when it was not used for so long, or when the node rests."""
REST_SECONDS: Final = 1.0

_POSITION = """
    select had.epoch, had.sequence
    from pgtide.streams as stream join pgtide.stream_producers as had on had.stream_id = stream.id
    where stream.environment_id = %s and stream.path = %s and had.producer = %s
        and stream.deleted_at is null
        and (stream.expires_at is null or stream.expires_at > clock_timestamp())
"""


class StreamWriter:
    """Appends for the requests of one node. They are served while `run` runs."""

    def __init__(self, database: Database, meter: StreamMeter | None = None) -> None:
        self._database = database
        self._meter = meter or StreamMeter()
        self._channel = AppendChannel(database, self._meter)
        self._slow = SlowLane(database, self._meter)
        self._waiting: deque[Entry] = deque()
        self._news = asyncio.Event()
        self._enough = 1
        """Who makes it so many that wait rings."""
        self._count = 0
        self._bytes = 0
        self._stopped = False

    def __len__(self) -> int:
        """How many requests wait for their answers."""
        return self._count

    async def append(self, request: Append) -> Appended:
        """What became of a request; what the protocol refuses is an outcome, too.

        Raises DatabaseUnavailableError, also if it is not known whether it was committed, and
        DatabaseSetupError. Whoever is cancelled does not know, either. A path, type or producer that
        Postgres cannot take is a StatementError or a ValueError.
        """
        try:
            done = await self._append(request)
        except asyncio.CancelledError:
            self._meter.abandoned()
            raise
        except Exception:
            self._meter.failed()
            raise
        self._meter.answered(done.outcome)
        return done

    async def _append(self, request: Append) -> Appended:
        entry = Entry(request, asyncio.get_running_loop().create_future(), time.monotonic())
        size = entry.size
        if size > MOST_BYTES:
            return Appended(Outcome.TOO_LARGE)
        if self._stopped:
            raise DatabaseUnavailableError("The node stops")
        if self._count >= MOST_WAITING or self._bytes + size > MOST_WAITING_BYTES:
            raise DatabaseUnavailableError("Too many appends are waiting for the database")
        self._count += 1
        self._bytes += size
        try:
            if entry.key in self._slow:
                self._slow.enter((entry,))
            else:
                self._waiting.append(entry)
                if len(self._waiting) >= self._enough:
                    self._news.set()
            return await entry.answer
        finally:
            self._count -= 1
            self._bytes -= size

    async def position(self, environment: str, path: str, producer: str) -> Stamp | None:
        """Where a producer is; None if it has appended nothing. Raises DatabaseUnavailableError and
        DatabaseSetupError."""
        try:
            async with self._database.lookups("streams") as connection:
                cursor = await connection.execute(_POSITION, (environment, path, producer))
                row = await cursor.fetchone()
        except (errors.UndefinedTable, errors.InvalidSchemaName) as error:
            raise DatabaseSetupError(
                f"{error.diag.message_primary}: run `pgtide migrate`"
            ) from error
        except errors.InsufficientPrivilege as error:
            raise DatabaseSetupError(
                f"{error.diag.message_primary}: grant pgtide's role what sql/roles.sql grants"
            ) from error
        except errors.DataError:
            # A text that Postgres has none of is nobody's name.
            return None
        return None if row is None else Stamp(producer, row[0], row[1])

    async def last(self, environment: str, path: str, producer: str) -> int:
        """The last sequence of a producer, -1 if it has appended nothing. Raises as `position`."""
        stamp = await self.position(environment, path, producer)
        return -1 if stamp is None else stamp.sequence

    async def run(self) -> None:
        """Serve until cancelled. Whoever waits then is told that the node stops."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._work())
                tasks.create_task(self._slow.run())
        finally:
            self._stopped = True
            self._channel.close()
            for entry in (*self._waiting, *self._slow.entries()):
                entry.fail(DatabaseUnavailableError("The node stops"))

    async def _work(self) -> None:
        count, ended = 0, 0.0
        while True:
            await self._wait()
            if len(self._waiting) < count and time.monotonic() < ended + JUST_NOW_SECONDS:
                await self._gather(count)
            entries = self._next()
            count = len(entries)
            if entries:
                await self._write(entries, create=False)
                ended = time.monotonic()

    async def _wait(self) -> None:
        """Until somebody wants something."""
        used = time.monotonic()
        while not self._waiting:
            self._news.clear()
            if self._channel.closed:
                await self._news.wait()
                continue
            try:
                async with asyncio.timeout(REST_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                if self._database.resting or time.monotonic() - used > IDLE_SECONDS:
                    self._channel.close()

    async def _gather(self, count: int) -> None:
        """Wait a moment for as many as came together before: they have got their answers just now, and
        are about to ask again."""
        self._enough = count
        self._news.clear()
        try:
            async with asyncio.timeout(GATHER_SECONDS):
                await self._news.wait()
        except TimeoutError:
            pass
        finally:
            self._enough = 1

    def _next(self) -> list[Entry]:
        """What goes into the next transaction. Who has gone away meanwhile is left out."""
        entries: list[Entry] = []
        size = 0
        while self._waiting and len(entries) < TOGETHER:
            entry = self._waiting[0]
            if not entry.answer.done():
                size += entry.size + len(entry.request.parts) * 64
                if entries and size > TOGETHER_BYTES:
                    break
                entries.append(entry)
            self._waiting.popleft()
        return entries

    async def _write(self, entries: list[Entry], *, create: bool) -> None:
        """One transaction; with `create` for streams that are missing, which are made."""
        batch = Batch(entries, create=create, patience=CREATION_SECONDS if create else 0.0)
        began = time.monotonic()
        try:
            verdicts = await self._channel.write(batch)
        except (LockedError, StatementError, ValueError):
            # One of them is in the way of the others, who cannot tell which.
            self._slow_down(entries)
        except PgtideError as error:
            for entry in entries:
                entry.fail(error)
        except BaseException:
            for entry in entries:
                entry.fail(DatabaseUnavailableError("The node stops"))
            raise
        else:
            self._meter.batch(len(verdicts.answers), time.monotonic() - began)
            for entry, answer in verdicts.answers:
                entry.settle(answer)
            if verdicts.locked:
                self._slow_down([entry for entry in entries if entry.key in verdicts.locked])
            if verdicts.missing:
                missing = [entry for entry in entries if entry.key in verdicts.missing]
                await self._write(missing, create=True)

    def _slow_down(self, entries: Iterable[Entry]) -> None:
        """Bring streams to the slow lane, with all their requests, so that these keep their order."""
        self._slow.enter(entries)
        stay: deque[Entry] = deque()
        for entry in self._waiting:
            if entry.key in self._slow:
                self._slow.enter((entry,))
            else:
                stay.append(entry)
        self._waiting = stay
