"""Streams in Postgres: what is there, what was appended, and which come and go."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Any, Final

import asyncpg

from shapes.database import Database, DatabaseUnavailableError
from shapes.streams.refusals import StreamTablesError
from shapes.streams.storage.creation import NewStream, create
from shapes.streams.storage.pages import Pages
from shapes.streams.storage.stream_lookup import Clock, StreamLookup
from shapes.streams.storage.stream_rows import explained
from shapes.streams.stream import Chunk, Outcome, StreamState

log = logging.getLogger("streams")

TOUCH_SHARE: Final = 0.05
"""A use is written down once this share of the TTL has gone by."""

MOST_TOUCHED: Final = 100_000

_LOCK = """
    select id, forks,
        deleted_at is not null or coalesce(expires_at <= clock_timestamp(), false) as gone
    from pgtide.streams where environment_id = $1 and path = $2 for update
"""
_REMOVE = "select pgtide.remove_stream($1)"

# Whoever has a stream locked appends to it or removes it: nothing is left to do.
_TOUCH = """
    update pgtide.streams
    set expires_at = pgtide.later_expiry(expires_at, ttl_seconds, clock_timestamp())
    where id in (
        select id from pgtide.streams
        where id = any($1::bigint[]) and ttl_seconds is not null and deleted_at is null
            and expires_at > clock_timestamp()
            and expires_at < pgtide.later_expiry(expires_at, ttl_seconds, clock_timestamp())
        order by id desc for no key update skip locked
    )
"""


class StreamStore:
    """Reads and makes streams.

    Every method raises DatabaseUnavailableError if Postgres cannot be reached, and StreamTablesError
    if its tables are not as they should be.
    """

    def __init__(self, database: Database, tail: Clock) -> None:
        self._database = database
        self._lookup = StreamLookup(database, tail)
        self._pages = Pages(database)
        self._touched: dict[int, float] = {}
        self._to_touch: set[int] = set()
        self._touching = asyncio.Lock()

    async def find(self, environment: str, path: str) -> StreamState | None:
        """The stream as it is now, as far as this node's tail has come: its messages may be read.

        None if there is none, or it has expired or was deleted; `gone` if forks still read from it.
        Raises NotReadyError if changes do not come in.
        """
        return await self._lookup.find(environment, path)

    async def reach(self) -> None:
        """Wait until this node has heard of everything that is committed now. Raises NotReadyError."""
        await self._lookup.reach()

    async def touch(self, state: StreamState, *others: StreamState) -> None:
        """The streams are being read: their times to live begin anew. Mostly this does nothing, since
        little of the time has gone by; that it cannot be written down is no reason not to read."""
        now = time.monotonic()
        due = set(self._due((state, *others), now))
        if not due:
            return
        self._to_touch |= due
        async with self._touching:
            if not due & self._to_touch:
                return
            together = [*self._to_touch]
            self._to_touch.clear()
            try:
                async with self._database.work() as work:
                    with explained():
                        await work.execute(_TOUCH, together)
            except (DatabaseUnavailableError, StreamTablesError, asyncpg.PostgresError) as error:
                log.warning("it could not be written down that streams are read: %s", error)

    def _due(self, states: Iterable[StreamState], now: float) -> Iterable[int]:
        for state in states:
            if state.ttl is not None and self._touched.get(state.id, 0.0) <= now:
                if len(self._touched) >= MOST_TOUCHED:
                    self._touched.clear()
                self._touched[state.id] = now + TOUCH_SHARE * state.ttl
                yield state.id

    async def create(self, new: NewStream) -> tuple[StreamState, bool]:
        """Make a stream; False if it is there already as it is wanted. Raises StreamRefusedError."""
        created = await create(self._database, new)
        if created.replaces:
            await self._lookup.settle()
        return created.state, created.is_new

    async def delete(self, environment: str, path: str) -> Outcome:
        """APPENDED: it is deleted. MISSING. GONE: it was deleted before and its forks live on."""
        if "\0" in path:
            return Outcome.MISSING
        outcome = await self._delete(environment, path)
        if outcome is Outcome.APPENDED:
            # Readers on this node go on with what they follow until they hear that it is gone.
            await self._lookup.settle()
        return outcome

    async def _delete(self, environment: str, path: str) -> Outcome:
        async with self._database.work() as work:
            with explained():
                row: Any = await work.fetchrow(_LOCK, environment, path)
                if row is None:
                    return Outcome.MISSING
                if row["gone"] and row["forks"]:
                    return Outcome.GONE
                await work.execute(_REMOVE, row["id"])
                return Outcome.MISSING if row["gone"] else Outcome.APPENDED

    async def page(self, state: StreamState, position: int, most_bytes: int) -> Chunk:
        """The messages from `position` on, up to about so many bytes (at least those that were
        appended together), as one chunk. Without messages at the stream's tail.

        It may end early: whoever has not reached the tail asks again. Raises BelowHorizonError.
        """
        return await self._pages.page(state, position, most_bytes)

    async def chunks(self, state: StreamState, position: int, most_bytes: int) -> list[Chunk]:
        """Like `page`, as they were appended: with the times of each."""
        return await self._pages.chunks(state, position, most_bytes)
