"""Reading what was appended, in the table."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from psycopg import sql

from shapes.database import Database, DatabaseUnavailableError
from shapes.streams.json_messages import split_messages
from shapes.streams.refusals import BelowHorizonError
from shapes.streams.storage.stream_rows import explained
from shapes.streams.stream import Chunk, StreamState

MOST_JOINED: Final = 1 << 15
"""Messages of a page: Postgres joins so many chunks within 20 ms. The first byte waits for them."""
MOST_SINGLE: Final = 1 << 14
"""Chunks that are read one by one: a node takes so many within some 20 ms."""

LINES: Final = 2
"""Pages that a node asks for at a time."""

_PAUSES: Final = (*(0.001 * 2**doubled for doubled in range(8)), *(0.25,) * 40)
"""In seconds: a commit comes through the WAL before queries see it; mostly just before, but with
synchronous replication not before the standby has confirmed it."""

# A double has microseconds of our days exactly, and is read faster than a timestamp.
_CREATED = "(date_part('epoch', created_at) * 1000000)::bigint"

# For a connection of one's own. What is looked up is always found through the key, in its order.
# Planning would cost more than most pages do, and a plan that sorts reads all up to the stream's end.
_SETTINGS = """
    select set_config(name, 'off', false)
    from unnest(array['enable_seqscan', 'enable_bitmapscan', 'enable_sort', 'jit']) as name
    union all select set_config('max_parallel_workers_per_gather', '0', false)
    union all select set_config('plan_cache_mode', 'force_generic_plan', false)
"""

# The last chunk of a page is the one that the bytes end in. It begins from `low` on and before `high`;
# so many bytes are before these. Where it should be if all chunks were of a size is tried first, and in
# turns with the middle, so that it takes few steps in any stream; endlessly many only if somebody had
# deleted chunks from among others. `until`: where it ends.
_BORDERS = """
    with recursive first as (
        select position, bytes_upto - octet_length(data) as before, created_at
        from pgtide.stream_chunks
        where part >= %(part)s and stream_id = %(stream)s
            and position >= %(begin)s and position < %(end)s
        order by position limit 1
    ),
    search (step, low, low_bytes, high, high_bytes, wanted, until) as (
        (
            select 0, first.position, first.before,
                last.position + last.messages, last.bytes_upto, first.before + %(bytes)s,
                case
                    when last.bytes_upto - octet_length(last.data) < first.before + %(bytes)s
                    then last.position + last.messages
                end
            from first, pgtide.stream_chunks as last
            where last.part >= %(part)s and last.stream_id = %(stream)s and last.position < %(end)s
            order by last.position desc limit 1
        )
        union all
        select step + 1,
            case when chunk.upto < wanted then chunk.reached else low end,
            case when chunk.upto < wanted then chunk.upto else low_bytes end,
            case when chunk.before < wanted then high else chunk.position end,
            case when chunk.before < wanted then high_bytes else chunk.before end,
            wanted,
            case
                when (chunk.before < wanted and chunk.upto >= wanted) or step = 99
                then chunk.reached
            end
        from search
        cross join lateral (
            select position, position + messages as reached,
                bytes_upto - octet_length(data) as before, bytes_upto as upto
            from pgtide.stream_chunks
            where part >= %(part)s and stream_id = %(stream)s and position <= case
                when step %% 2 = 0
                then low + (wanted - low_bytes - 1) * (high - low) / (high_bytes - low_bytes)
                else (low + high) / 2
            end
            order by position desc limit 1
        ) as chunk
        where until is null
    )
"""
_BETWEEN = """
    from pgtide.stream_chunks
    where part >= %(part)s and stream_id = %(stream)s
        and position >= (select position from first)
        and position < (select until from search where until is not null)
    order by position
"""
_PAGE = sql.SQL(
    f"""
    {_BORDERS}
    select (select position from first),
        (select (until - first.position)::integer from first, search where until is not null),
        (select {_CREATED} from first),
        string_agg(chunk.data, %(separator)s::bytea)
    from (select data {_BETWEEN}) as chunk
    having exists (select from first)
    """
)
_CHUNKS = sql.SQL(f"{_BORDERS} select position, messages, {_CREATED}, data {_BETWEEN}")
_COVERING = sql.SQL(
    f"""
    select position, messages, {_CREATED}, data from pgtide.stream_chunks
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
        self._settled: list[object] = [None] * LINES
        """The connections that have the settings."""

    async def page(self, state: StreamState, position: int, most_bytes: int) -> Chunk:
        """As StreamStore.page."""
        rows = await self._read(_PAGE, state, position, most_bytes, MOST_JOINED)
        if len(rows) < 2:
            return rows[0] if rows else Chunk(position, 0, 0, b"")
        messages = sum(row.messages for row in rows)
        data = _separator(state).join(row.data for row in rows)
        return Chunk(position, messages, rows[0].created_us, data)

    async def chunks(self, state: StreamState, position: int, most_bytes: int) -> list[Chunk]:
        """As StreamStore.chunks."""
        return await self._read(_CHUNKS, state, position, most_bytes, MOST_SINGLE)

    async def _read(
        self, query: sql.SQL, state: StreamState, position: int, most_bytes: int, most: int
    ) -> list[Chunk]:
        """Consecutive messages, of each row a chunk; none at the tail."""
        if position >= state.tail:
            return []
        if position < state.head:
            raise BelowHorizonError(state.head)
        for pause in _PAUSES:
            found = await self._found(query, state, position, most_bytes, most)
            first = found[0].position if found else None
            if first == position:
                return found
            if (rest := await self._rest_of_row(state, position, first)) is not None:
                return [rest]
            await asyncio.sleep(pause)
        raise DatabaseUnavailableError("Postgres does not show yet what was committed")

    async def _found(
        self, query: sql.SQL, state: StreamState, position: int, most_bytes: int, most: int
    ) -> list[Chunk]:
        """Chunks without a gap between them. The first one may be behind the position."""
        found: list[Chunk] = []
        left, stop = max(most_bytes, 1), position + most
        for segment in segments(state, position):
            if found and (found[-1].end != segment.begin or left <= 0 or stop <= segment.begin):
                break
            values = {
                "part": state.first_part,
                "stream": segment.id,
                "begin": segment.begin,
                "end": min(segment.end, stop),
                "bytes": left,
                "separator": _separator(state),
            }
            chunks = [*map(Chunk._make, await self._ask(query, values))]
            if not chunks or (found and chunks[0].position != segment.begin):
                break
            found += chunks
            left -= sum(len(chunk.data) for chunk in chunks)
        return found

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
        begin, messages, created_us, data = rows[0]
        rest = split_messages(data, messages)[position - begin :]
        return Chunk(position, len(rest), created_us, b",".join(rest))

    async def _ask(self, query: sql.SQL, values: dict[str, Any] | Sequence[Any]) -> list[Any]:
        line = min(range(LINES), key=self._users.__getitem__)
        self._users[line] += 1
        try:
            async with self._database.lookups(f"pages {line}") as connection:
                if self._settled[line] is not connection and not self._database.pooled:
                    await connection.execute(_SETTINGS)
                    self._settled[line] = connection
                with explained():
                    cursor = await connection.cursor(binary=True).execute(query, values)
                    return await cursor.fetchall()
        finally:
            self._users[line] -= 1


def _separator(state: StreamState) -> bytes:
    return b"," if state.is_json else b""
