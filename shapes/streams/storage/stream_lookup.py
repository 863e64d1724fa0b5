"""Asking Postgres for streams: questions that come together are asked together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from typing import Protocol

from psycopg import sql

from engine.lsn import Offset
from shapes.database import Database, DatabaseUnavailableError
from shapes.readiness import NotReadyError
from shapes.streams.storage.stream_rows import COLUMNS, COUNT, explained, state_of
from shapes.streams.stream import StreamState

MOST_TOGETHER = 256
"""Streams that one query looks up."""

REACH_SECONDS = 10.0
SETTLE_SECONDS = 1.0
NUDGE_SECONDS = 0.02
"""What was not yet on the server's disk when it was seen, and is not by then, is brought there."""

_LINE = "streams"

# The position in the WAL is read after the rows: it is behind all that they show.
_FIND = sql.SQL(
    f"""
    select stream.*,
        (select pg_current_wal_insert_lsn() - '0/0')::bigint,
        (select pg_current_wal_flush_lsn() - '0/0')::bigint
    from unnest(%s::text[], %s::text[]) with ordinality as asked (environment, name, number)
    left join lateral (
        select {COLUMNS} from pgtide.streams
        where environment_id = asked.environment and path = asked.name limit 1
    ) as stream on true
    order by asked.number
    """
)
_MAKE_DURABLE = """
    select set_config('synchronous_commit', 'local', true),
        pg_logical_emit_message(true, 'pgtide', '')
"""


class Clock(Protocol):
    """The node's place in the log: its tail."""

    @property
    def processed(self) -> Offset: ...

    async def connected(self) -> None:
        """Wait a little until changes come in. Raises NotReadyError."""
        ...

    async def reached(self, lsn: int, timeout: float) -> bool:
        """Wait until whatever commits before `lsn` has been seen; False after `timeout` seconds."""
        ...


class _Moment:
    """What one query saw was all there before this position in the WAL."""

    __slots__ = ("durable", "lsn")

    def __init__(self, lsn: int, durable: bool) -> None:
        self.lsn = lsn
        self.durable = durable


class _Question:
    __slots__ = ("answer", "environment", "error", "moment", "path")

    def __init__(self, environment: str, path: str) -> None:
        self.environment = environment
        self.path = path
        self.moment: _Moment | None = None
        self.answer: StreamState | None = None
        self.error: DatabaseUnavailableError | None = None


class StreamLookup:
    """Finds streams. Questions that come while some are being asked wait, and are then asked
    together."""

    def __init__(self, database: Database, tail: Clock) -> None:
        self._database = database
        self._tail = tail
        self._turn = asyncio.Lock()
        self._waiting: dict[_Question, None] = {}

    async def find(self, environment: str, path: str) -> StreamState | None:
        """As StreamStore.find."""
        if "\0" in path or "\0" in environment:
            return None
        await self._tail.connected()
        question = await self._asked(environment, path)
        if question.answer is not None and question.moment is not None:
            await self._seen(question.moment, REACH_SECONDS)
        return question.answer

    async def settle(self) -> None:
        """Wait until the node's tail has come to what was committed before, but not for long."""
        with suppress(NotReadyError):
            await self.reach(SETTLE_SECONDS)

    async def reach(self, seconds: float = REACH_SECONDS) -> None:
        """Wait until the node's tail has come to what was committed before. Raises NotReadyError."""
        question = await self._asked("", "")
        if question.moment is not None:
            await self._seen(question.moment, seconds)

    async def _asked(self, environment: str, path: str) -> _Question:
        question = _Question(environment, path)
        self._waiting[question] = None
        try:
            async with self._turn:
                if question.moment is None and question.error is None:
                    await self._ask(question)
        finally:
            self._waiting.pop(question, None)
        if question.error is not None:
            raise DatabaseUnavailableError(str(question.error)) from question.error
        return question

    async def _ask(self, question: _Question) -> None:
        """Ask together with others that wait now. Whoever comes meanwhile is not among them: what was
        committed before his question must be in his answer."""
        others = (one for one in self._waiting if one is not question)
        together = [question, *islice(others, MOST_TOGETHER - 1)]
        for one in together:
            self._waiting.pop(one, None)
        try:
            await self._find(together)
        except DatabaseUnavailableError as error:
            for one in together:
                one.error = error
        except BaseException:
            # Whoever asks may go away. The others' questions are still open.
            self._waiting.update(dict.fromkeys(together[1:]))
            raise

    async def _find(self, questions: Sequence[_Question]) -> None:
        asked = [one.environment for one in questions], [one.path for one in questions]
        async with self._database.lookups(_LINE) as connection:
            with explained():
                cursor = await connection.cursor(binary=True).execute(_FIND, asked)
                rows = await cursor.fetchall()
        lsn, flushed = rows[0][COUNT:]
        moment = _Moment(lsn, flushed >= lsn)
        for question, row in zip(questions, rows, strict=True):
            if row[0] is not None and (not row[13] or row[14] > 0):
                question.answer = state_of(row)
            question.moment = moment

    async def _seen(self, moment: _Moment, seconds: float) -> None:
        """Wait until the node's tail is where Postgres was. Raises NotReadyError."""
        tail = self._tail
        if tail.processed.lsn >= moment.lsn or await tail.reached(moment.lsn, NUDGE_SECONDS):
            return
        if not moment.durable:
            moment.durable = True
            async with self._database.lookups(_LINE) as connection:
                await connection.execute(_MAKE_DURABLE)
        if not await tail.reached(moment.lsn, seconds):
            raise NotReadyError(
                "Timeout waiting for changes to come in: is the engine connected to Postgres?"
            )
