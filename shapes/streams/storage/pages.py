"""Reading what was appended, in the table."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from psycopg import sql

from shapes.database import Database, DatabaseUnavailableError
from shapes.streams.json_messages import split_messages
from shapes.streams.refusals import BelowHorizonError
from shapes.streams.storage.stream_rows import explained
from shapes.streams.stream import Chunk, StreamState

MOST_ROWS: Final = 16384
"""So many are counted within some 20 ms."""
LEAST_ROWS: Final = 64

LINES: Final = 2
"""Pages that a node asks for at a time."""

_PAUSES: Final = (*(0.001 * 2**doubled for doubled in range(8)), *(0.25,) * 40)
"""In seconds: a commit comes through the WAL before queries see it; mostly just before, but with
synchronous replication not before the standby has confirmed it."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# The rows come in the order of their positions, segment by segment: nothing sorts them. Whether a row
# is still wanted depends on the bytes before it, which the server counts without fetching them.
_ROWS = """
    from (
        select chunk.*,
            sum(octet_length(data)) over (rows unbounded preceding) - octet_length(data) as before
        from (
            select chunk.*
            from unnest(%(ids)s::bigint[], %(begins)s::bigint[], %(ends)s::bigint[])
                as segment (id, first, upto)
            cross join lateral (
                select position, messages, created_at, data from pgtide.stream_chunks
                where part >= %(part)s and stream_id = segment.id
                    and position >= segment.first and position < segment.upto
                order by position limit %(rows)s
            ) as chunk
            limit %(rows)s
        ) as chunk
    ) as chunk
    where before < %(bytes)s
"""
_PAGE = sql.SQL(
    f"""
    select min(position), sum(messages)::bigint, min(created_at),
        string_agg(data, %(separator)s::bytea)
    {_ROWS}
    """
)
_CHUNKS = sql.SQL(f"select position, messages, created_at, data {_ROWS}")
_COVERING = sql.SQL(
    """
    select position, messages, created_at, data from pgtide.stream_chunks
    where part >= %s and stream_id = %s and position < %s order by position desc limit 1
    """
)
_HEAD = sql.SQL("select head from pgtide.streams where id = %s")


class Segment(NamedTuple):
    """Where consecutive messages of a stream are: of this stream, from and up to these positions."""

    id: int
    begin: int
    end: int


def segments(state: StreamState, position: int) -> list[Segment]:
    """Where the messages from `position` to the tail are: what forks inherit, with their ancestors."""
    found: list[Segment] = []
    begin = position
    for stream, upto in (*state.lineage, (state.id, state.tail)):
        if begin < upto:
            found.append(Segment(stream, begin, upto))
            begin = upto
    return found


class Pages:
    """Reads chunks. Every method raises BelowHorizonError and DatabaseUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._users = [0] * LINES

    async def page(self, state: StreamState, position: int, most_bytes: int) -> Chunk:
        """As StreamStore.page."""
        for pause in _PAUSES:
            rows = await self._rows(_PAGE, state, position, most_bytes)
            if rows is None:
                return Chunk(position, 0, 0, b"")
            first, messages, created_at, data = rows[0]
            if first == position:
                return Chunk(position, messages, _microseconds(created_at), data)
            if (rest := await self._rest_of_row(state, position, first)) is not None:
                return rest
            await asyncio.sleep(pause)
        raise _hidden()

    async def chunks(self, state: StreamState, position: int, most_bytes: int) -> list[Chunk]:
        """As StreamStore.chunks."""
        for pause in _PAUSES:
            rows = await self._rows(_CHUNKS, state, position, most_bytes)
            if rows is None:
                return []
            first = rows[0][0] if rows else None
            if first == position:
                return [Chunk(row[0], row[1], _microseconds(row[2]), row[3]) for row in rows]
            if (rest := await self._rest_of_row(state, position, first)) is not None:
                return [rest]
            await asyncio.sleep(pause)
        raise _hidden()

    async def _rows(
        self, query: sql.SQL, state: StreamState, position: int, most_bytes: int
    ) -> list[Any] | None:
        """None at the tail."""
        if position >= state.tail:
            return None
        if position < state.head:
            raise BelowHorizonError(state.head)
        where = segments(state, position)
        values = {
            "ids": [one.id for one in where],
            "begins": [one.begin for one in where],
            "ends": [one.end for one in where],
            "part": state.first_part,
            "rows": _rows_of(state, most_bytes),
            "bytes": max(most_bytes, 1),
            "separator": b"," if state.is_json else b"",
        }
        return await self._ask(query, values)

    async def _rest_of_row(
        self, state: StreamState, position: int, first: int | None
    ) -> Chunk | None:
        """The messages from `position` on of the row that it is in; None if queries do not see it yet.
        `first`: where the next row is."""
        where = segments(state, position)[0]
        rows = await self._ask(_COVERING, (state.first_part, where.id, position))
        if not rows or rows[0][0] + rows[0][1] <= position:
            if first is not None:
                raise BelowHorizonError(first)
            heads = await self._ask(_HEAD, (state.id,))
            if not heads or heads[0][0] > position:
                raise BelowHorizonError(heads[0][0] if heads else state.tail)
            return None
        begin, messages, created_at, data = rows[0]
        rest = split_messages(data, messages)[position - begin :]
        return Chunk(position, len(rest), _microseconds(created_at), b",".join(rest))

    async def _ask(self, query: sql.SQL, values: dict[str, Any] | Sequence[Any]) -> list[Any]:
        line = min(range(LINES), key=self._users.__getitem__)
        self._users[line] += 1
        try:
            async with self._database.lookups(f"pages {line}") as connection:
                with explained():
                    cursor = await connection.cursor(binary=True).execute(query, values)
                    return await cursor.fetchall()
        finally:
            self._users[line] -= 1


def _hidden() -> DatabaseUnavailableError:
    return DatabaseUnavailableError("Postgres does not show yet what was committed")


def _rows_of(state: StreamState, most_bytes: int) -> int:
    """How many rows may be looked at for so many bytes: twice as many as there are on average."""
    own = state.tail - (state.lineage[-1][1] if state.lineage else 0)
    average = max(state.size // max(own, 1), 1)
    return max(LEAST_ROWS, min(MOST_ROWS, 2 * most_bytes // average))


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND
