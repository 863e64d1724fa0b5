"""What has to be done for streams now and then: retention, and removing what nobody can see any more.

Every node tries, one of all does it at a time, in transactions so short that nobody has to wait for
them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncpg

from engine.configuration.settings import Settings
from shapes.database import Database, DatabaseUnavailableError
from shapes.stream_meter import StreamMeter
from shapes.streams.refusals import StreamTablesError
from shapes.streams.storage.retention import Part, Retention
from shapes.streams.storage.stream_rows import explained

log = logging.getLogger("streams")

ROUND_SECONDS: Final = 10.0
STEP_SECONDS: Final = 0.02
"""Between two transactions, so that others have the connection and the locks meanwhile."""

RARELY_SECONDS: Final = 3600.0
LONGEST_DELAY: Final = 600.0
"""After which a part that others were using is tried to be dropped again."""

DROP_SECONDS: Final = 3600.0
"""A last look through a large part takes a while, and is in nobody's way."""

MOST_SAID: Final = 20
"""Complaints, each of them once."""

LEAVE_TOGETHER: Final = 500
REMOVE_TOGETHER: Final = 100
DELETE_TOGETHER: Final = 500
BLOCKS_TOGETHER: Final = 1000

PRODUCER_SECONDS: Final = 7 * 86400.0
"""For so long at least it is remembered where a producer is that is not heard of."""

_LOCK_KEY = 0x7067_7374_7265  # "pgstre"
_TRY = "select to_regclass('pgtide.stream_parts') is not null and pg_try_advisory_xact_lock($1)"
_PARTS = """
    select part, extract(epoch from clock_timestamp() - used_from)::float8,
        pg_total_relation_size(name), pg_relation_size(name) = 0
    from pgtide.stream_parts
    cross join lateral to_regclass('pgtide.stream_chunks_' || part) as name
    where name is not null
    order by part
"""
_OPEN = "select pgtide.open_stream_part()"
_LEAVE = "select pgtide.leave_stream_part($1, $2, $3)"
_DROP = "select pgtide.drop_stream_part($1)"

# Others would have to wait behind whoever waits for this transaction's end.
_IN_USE = """
    select exists (
        select from pg_locks
        join pg_stat_activity as other using (pid)
        where locktype = 'relation' and relation = 'pgtide.stream_chunks'::regclass
            and pg_locks.database = (select oid from pg_database where datname = current_database())
            and pid <> pg_backend_pid() and xact_start < clock_timestamp() - interval '200 ms'
    )
"""
_EXPIRED = """
    select id from pgtide.streams
    where expires_at <= clock_timestamp() and (deleted_at is null or forks = 0)
    order by expires_at limit $1
"""
# Nobody closes the streams of a run.
_EMPTIED = """
    select id from pgtide.streams
    where head = tail and forks = 0 and (closed or path like 'runs/%')
        and (head > fork_position or created_at < clock_timestamp() - make_interval(secs => $2))
    limit $1
"""
_REMOVE_EXPIRED = """
    select pgtide.remove_stream(id) from (
        select id from pgtide.streams
        where id = $1 and expires_at <= clock_timestamp() and (deleted_at is null or forks = 0)
        for update skip locked
    ) as locked
"""
_REMOVE_EMPTIED = """
    select pgtide.remove_stream(id) from (
        select id from pgtide.streams where id = $1 and head = tail and forks = 0
        for update skip locked
    ) as locked
"""
_REMAINS = "select stream_id from pgtide.stream_remains order by stream_id limit 1"
_DELETE = """
    delete from pgtide.stream_chunks as chunk
    using (
        select part, position from pgtide.stream_chunks
        where stream_id = $1 order by position limit $2
    ) as old
    where chunk.stream_id = $1 and chunk.part = old.part and chunk.position = old.position
"""
_DELETED = "delete from pgtide.stream_remains where stream_id = $1"
_BLOCKS = "select pg_relation_size('pgtide.stream_producers') / current_setting('block_size')::int"

# Requests of Trigger.dev's `append` are producers of their own, which are repeated within seconds.
_FORGET = """
    delete from pgtide.stream_producers
    where ctid >= format('(%s,0)', $1::bigint)::tid and ctid < format('(%s,0)', $2::bigint)::tid
        and used_at < clock_timestamp() - make_interval(secs => case
            when producer like 'part:%' then 3600 else $3::float8 end)
"""

Chore = Callable[[asyncpg.Connection], Awaitable[bool]]


class StreamKeeper:
    """Does the chores of streams for the nodes of all machines."""

    def __init__(
        self, database: Database, settings: Settings, meter: StreamMeter | None = None
    ) -> None:
        self._database = database
        self._meter = meter or StreamMeter()
        self._retention = Retention(settings.stream_retention_age, settings.stream_retention_bytes)
        self._leaving: tuple[int, int] = (0, 0)
        """A part, and the last stream that has left it; -1 after all."""
        self._next_drop = 0.0
        self._delay = ROUND_SECONDS
        self._swept = time.monotonic()
        self._block = -1
        self._said: set[str] = set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(ROUND_SECONDS)
            if not self._database.resting:
                await self.round()

    async def round(self) -> None:
        """Whatever is to be done now."""
        chores = [self._open, self._drop, self._remove_expired, self._delete_remains]
        if time.monotonic() > self._swept + RARELY_SECONDS:
            self._swept = time.monotonic()
            self._block = 0
            chores += [self._remove_emptied, self._forget_producers]
        for chore in chores:
            try:
                await self._do(chore)
            except DatabaseUnavailableError as error:
                log.debug("the chores of streams have to wait: %s", error)
            except (StreamTablesError, asyncpg.PostgresError) as error:
                self._say(str(error))

    async def _do(self, chore: Chore) -> None:
        """A chore, step by step, each in a transaction of its own; others do theirs in between."""
        more = True
        while more and not self._database.resting:
            async with self._database.work() as work:
                with explained():
                    more = await work.fetchval(_TRY, _LOCK_KEY) and await chore(work)
            await asyncio.sleep(STEP_SECONDS)

    def _say(self, what: str) -> None:
        if what not in self._said and len(self._said) < MOST_SAID:
            self._said.add(what)
            log.warning("the retention of streams does not work, everything else does: %s", what)

    # -- parts -------------------------------------------------------------------------------------

    async def _open(self, work: asyncpg.Connection) -> bool:
        if self._retention.wants_another(await self._parts(work)):
            number = await work.fetchval(_OPEN)
            log.info("what is appended to streams goes to part %s from now on", number)
        return False

    async def _drop(self, work: asyncpg.Connection) -> bool:
        """One step towards dropping the first part, if it is to be dropped."""
        part = self._retention.dispensable(await self._parts(work))
        if part is None or time.monotonic() < self._next_drop:
            return False
        leaving, after = self._leaving
        if leaving != part:
            after = 0
        if after >= 0:
            left = await work.fetchval(_LEAVE, part, after, LEAVE_TOGETHER)
            self._leaving = part, -1 if left is None else left
            return True
        # Unless it succeeds, not before long, so that nobody is kept waiting all the time.
        self._next_drop = time.monotonic() + self._delay
        self._delay = min(2 * self._delay, LONGEST_DELAY)
        if await work.fetchval(_IN_USE):
            return False
        await work.execute(_DROP, part, timeout=DROP_SECONDS)
        self._meter.part_dropped()
        log.info("part %s of the streams' messages was dropped, as its time was over", part)
        self._next_drop, self._delay, self._leaving = 0.0, ROUND_SECONDS, (0, 0)
        self._swept = min(self._swept, time.monotonic() - RARELY_SECONDS)
        return True

    async def _parts(self, work: asyncpg.Connection) -> list[Part]:
        return [Part(*row) for row in await work.fetch(_PARTS)]

    # -- streams -----------------------------------------------------------------------------------

    async def _remove_expired(self, work: asyncpg.Connection) -> bool:
        return await self._remove(
            work, await work.fetch(_EXPIRED, REMOVE_TOGETHER), _REMOVE_EXPIRED
        )

    async def _remove_emptied(self, work: asyncpg.Connection) -> bool:
        """Streams of which nothing is left, and nothing is to come."""
        rows = await work.fetch(_EMPTIED, REMOVE_TOGETHER, self._retention.age)
        return await self._remove(work, rows, _REMOVE_EMPTIED)

    async def _remove(self, work: asyncpg.Connection, rows: list[Any], remove: str) -> bool:
        removed = 0
        # A fork before its source, as everybody who locks several.
        for row in sorted(rows, reverse=True):
            removed += len(await work.fetch(remove, row[0]))
        return removed > 0 and len(rows) == REMOVE_TOGETHER

    async def _delete_remains(self, work: asyncpg.Connection) -> bool:
        stream = await work.fetchval(_REMAINS)
        if stream is None:
            return False
        deleted = await work.execute(_DELETE, stream, DELETE_TOGETHER)
        if int(deleted.rpartition(" ")[2]) < DELETE_TOGETHER:
            await work.execute(_DELETED, stream)
        return True

    async def _forget_producers(self, work: asyncpg.Connection) -> bool:
        begin, self._block = self._block, self._block + BLOCKS_TOGETHER
        longest = max(self._retention.age, PRODUCER_SECONDS)
        await work.execute(_FORGET, begin, self._block, longest)
        return self._block < await work.fetchval(_BLOCKS)
