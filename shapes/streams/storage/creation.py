"""Making streams, from nothing or as forks of others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import asyncpg
import orjson

from shapes.database import Database
from shapes.streams.json_messages import MOST_MESSAGES, parse_messages, split_messages
from shapes.streams.notice import CLOSED, MADE
from shapes.streams.refusals import Refusal, StreamRefusedError
from shapes.streams.storage.pages import segments
from shapes.streams.storage.stream_rows import COLUMNS, explained, state_of
from shapes.streams.stream import JSON_TYPE, StreamState, media_type

DEFAULT_TYPE: Final = "application/octet-stream"

LARGEST_CHUNK: Final = 16 << 20
"""Bytes that may be appended at once."""

MOST_ATTEMPTS: Final = 5

_LOOK = f"""
    select {COLUMNS}, request::text from pgtide.streams where environment_id = $1 and path = $2
"""

# Whoever locks several streams begins with the highest id; `pgtide.remove_stream` goes from a fork to
# its source, which is older.
_LOCK = f"""
    select {COLUMNS}, deleted_at is not null as deleted
    from pgtide.streams
    where id in (
        select id from pgtide.streams where environment_id = $1 and path = any($2::text[])
        union
        select (step->>0)::bigint from pgtide.streams, jsonb_array_elements(lineage) as step
        where environment_id = $1 and path = $3
    )
    order by id desc
    for update
"""
_REMOVE = "select pgtide.remove_stream($1)"
_COUNT_FORK = "update pgtide.streams set forks = forks + 1 where id = $1"
_UNIT = """
    select messages, octet_length(data) as size, bytes_upto - octet_length(data) as before,
        case when $4 then data else substring(data for $5) end as data
    from pgtide.stream_chunks where part >= $1 and stream_id = $2 and position = $3
"""
_BEGINS = """
    select bytes_upto - octet_length(data) as before
    from pgtide.stream_chunks where part >= $1 and stream_id = $2 and position = $3
"""
_INSERT = f"""
    insert into pgtide.streams (
        environment_id, path, content_type, head, tail, bytes, closed, ttl_seconds, expires_at,
        expires_text, parent_id, fork_position, lineage, request, first_part
    )
    select $1, $2, $3, $4, $5, $6, $7, $8,
        case
            when $8::bigint is null then to_timestamp($9::float8)
            else clock_timestamp() + make_interval(secs => $8::bigint)
        end,
        $10, $11, $12, $13::jsonb, $14::jsonb, coalesce($15, pgtide.current_stream_part())
    -- A conflict alone would wait for whoever has the row locked.
    where not exists (select from pgtide.streams where environment_id = $1 and path = $2)
    on conflict on constraint streams_path_key do nothing
    returning {COLUMNS}
"""
_APPEND = """
    insert into pgtide.stream_chunks (part, messages, stream_id, position, bytes_upto, data)
    values (pgtide.current_stream_part(), $3, $1, $2, $4, $5)
    returning created_at
"""
_NOTICE = "select pgtide.stream_notice($1, $2, $3, $4, coalesce($5, clock_timestamp()), $6)"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewStream:
    """What somebody wants a stream to be, as he said it: None or 0 where he said nothing."""

    environment: str
    path: str
    content_type: str | None = None
    """Otherwise the source's, or application/octet-stream."""
    ttl: int | None = None
    """In seconds; not together with `expires_at`. A fork has its source's if neither is given."""
    expires_at: float | None = None
    """In seconds since 1970."""
    expires_text: str | None = None
    closed: bool = False
    data: bytes = b""
    """The first messages: the request's body as it came. Of JSON an array's elements."""
    source: str | None = None
    """Path of the stream to fork."""
    fork_position: int | None = None
    """Otherwise the source's tail."""
    sub_offset: int = 0
    """How much of the chunk at the fork's position to take along: bytes, or messages of JSON."""


@dataclass(frozen=True, slots=True)
class _Origin:
    """What a fork takes over."""

    source: StreamState
    position: int
    lineage: tuple[tuple[int, int], ...]
    before: int
    """Bytes of the source up to the position."""
    piece: bytes
    pieces: int


class _OvertakenError(Exception):
    """Somebody else has just made a stream under the path."""


class Created(NamedTuple):
    """A stream, whether it is new, and whether it is in the place of one that had expired."""

    state: StreamState
    is_new: bool
    replaces: bool = False


async def create(database: Database, new: NewStream) -> Created:
    """Raises StreamRefusedError."""
    attempt = 0
    while True:
        attempt += 1
        try:
            async with database.work() as work:
                with explained():
                    return await _create(work, new)
        except _OvertakenError:
            if attempt == MOST_ATTEMPTS:
                raise StreamRefusedError(
                    Refusal.DIFFERS, "the stream is being made and removed by others all the time"
                ) from None


async def _create(work: asyncpg.Connection, new: NewStream) -> Created:
    if new.source is None and (state := await _insert(work, new, None)) is not None:
        return Created(state, is_new=True)
    # Without a lock: whoever appends to it in a long transaction is in nobody's way.
    there: Any = await work.fetchrow(_LOOK, new.environment, new.path)
    if there is not None and not there["gone"]:
        _compare(there, new)
        return Created(state_of(there), is_new=False)
    return await _lock_and_create(work, new)


async def _lock_and_create(work: asyncpg.Connection, new: NewStream) -> Created:
    paths = [new.path] if new.source is None else [new.path, new.source]
    rows: dict[str, Any] = {}
    for row in await work.fetch(_LOCK, new.environment, paths, new.path):
        if row["path"] in paths:
            rows[row["path"]] = row
    there = rows.pop(new.path, None)
    if there is not None:
        if not there["gone"]:
            raise _OvertakenError
        if there["forks"]:
            raise StreamRefusedError(Refusal.GONE, "the stream was deleted, but forks read from it")
        await work.execute(_REMOVE, there["id"])
    origin = None
    if new.source is not None:
        origin = await _origin(work, rows.get(new.source), new)
    state = await _insert(work, new, origin)
    if state is None:
        raise _OvertakenError
    return Created(state, is_new=True, replaces=there is not None)


def _compare(there: Any, new: NewStream) -> None:
    """Raises StreamRefusedError unless the stream is what is wanted. What was asked for is compared
    with what was asked for then; whoever leaves a fork's offset or type out, wants what there is."""
    asked: dict[str, Any] = orjson.loads(there["request"])
    is_fork = new.source is not None
    wanted_type = new.content_type or (None if is_fork else DEFAULT_TYPE)
    same = (
        (wanted_type is None or media_type(wanted_type) == media_type(there["content_type"])),
        new.closed == there["closed"],
        new.source == asked.get("source"),
        new.fork_position in (None, asked.get("fork_position")),
        new.sub_offset == asked.get("sub_offset", 0),
        _same_expiry(there, new)
        or (is_fork and new.ttl is None and new.expires_at is None and asked.get("inherits")),
    )
    if not all(same):
        raise StreamRefusedError(
            Refusal.DIFFERS, "there is such a stream already, with another configuration"
        )


def _same_expiry(there: Any, new: NewStream) -> bool:
    moment: float | None = there["expires"] if there["expires_text"] is not None else None
    if new.expires_at is None or moment is None:
        return new.ttl == there["ttl_seconds"] and new.expires_at == moment
    # Postgres counts microseconds.
    return new.ttl == there["ttl_seconds"] and abs(new.expires_at - moment) < 1e-5


async def _origin(work: asyncpg.Connection, row: Any, new: NewStream) -> _Origin:
    if row is None or (row["gone"] and not row["deleted"]):
        raise StreamRefusedError(Refusal.SOURCE_MISSING, "there is no such stream to fork")
    if row["gone"]:
        raise StreamRefusedError(Refusal.SOURCE_GONE, "the stream to fork was deleted")
    source = state_of(row)
    if new.content_type is not None and (
        media_type(new.content_type) != media_type(source.content_type)
    ):
        raise StreamRefusedError(
            Refusal.OTHER_TYPE, f"the stream to fork is {source.content_type}: forks are the same"
        )
    position = source.tail if new.fork_position is None else new.fork_position
    if not source.head <= position <= source.tail:
        raise StreamRefusedError(
            Refusal.BAD_FORK_OFFSET, "the stream to fork does not have this offset (any more)"
        )
    before, piece, pieces = await _piece(work, source, position, new.sub_offset)
    lineage: list[tuple[int, int]] = []
    begin = 0
    for stream, upto in (*source.lineage, (source.id, source.tail)):
        end = min(upto, position)
        if begin < end:
            lineage.append((stream, end))
            begin = end
    return _Origin(source, position, tuple(lineage), before, piece, pieces)


async def _piece(
    work: asyncpg.Connection, source: StreamState, position: int, sub_offset: int
) -> tuple[int, bytes, int]:
    """How many bytes are before the fork's position, the beginning of the chunk that is there, and how
    many messages that is."""
    if position == source.tail:
        if sub_offset:
            raise _bad_sub_offset()
        return source.size, b"", 0
    owner = segments(source, position)[0].id
    where = source.first_part, owner, position
    if not sub_offset:
        before = await work.fetchval(_BEGINS, *where)
        if before is None:
            raise _within()
        return before, b"", 0
    unit: Any = await work.fetchrow(_UNIT, *where, source.is_json, min(sub_offset, LARGEST_CHUNK))
    if unit is None:
        raise _within()
    if sub_offset > (unit["messages"] if source.is_json else unit["size"]):
        raise _bad_sub_offset()
    if not source.is_json:
        return unit["before"], unit["data"], 1
    messages = split_messages(unit["data"], unit["messages"])[:sub_offset]
    return unit["before"], b",".join(messages), sub_offset


def _within() -> StreamRefusedError:
    return StreamRefusedError(
        Refusal.BAD_FORK_OFFSET, "the offset is in the middle of what was appended at once"
    )


def _bad_sub_offset() -> StreamRefusedError:
    return StreamRefusedError(
        Refusal.BAD_SUB_OFFSET, "there is not so much behind the offset of the fork"
    )


def _body(new: NewStream, content_type: str) -> tuple[bytes, int]:
    """The first messages, and how many they are."""
    if len(new.data) > LARGEST_CHUNK:
        raise StreamRefusedError(
            Refusal.TOO_LARGE, f"more than {LARGEST_CHUNK} bytes: append it in several requests"
        )
    if not new.data:
        return b"", 0
    if media_type(content_type) != JSON_TYPE:
        return new.data, 1
    try:
        data, count = parse_messages(new.data)
    except ValueError as error:
        raise StreamRefusedError(Refusal.NOT_JSON, f"the body is no JSON: {error}") from error
    if count > MOST_MESSAGES:
        raise StreamRefusedError(
            Refusal.TOO_LARGE,
            f"more than {MOST_MESSAGES} messages: append them in several requests",
        )
    return data, count


async def _insert(
    work: asyncpg.Connection, new: NewStream, origin: _Origin | None
) -> StreamState | None:
    content_type = new.content_type or DEFAULT_TYPE
    ttl, expires_at, expires_text = new.ttl, new.expires_at, new.expires_text
    inherits = ttl is None and expires_at is None
    begin, before, chunks = 0, 0, list[tuple[bytes, int]]()
    if origin is not None:
        begin, before = origin.position, origin.before
        content_type = new.content_type or origin.source.content_type
        if inherits:
            ttl = origin.source.ttl
            if ttl is None:
                expires_at, expires_text = origin.source.expires_at, origin.source.expires_text
        if origin.pieces:
            chunks.append((origin.piece, origin.pieces))
    data, messages = _body(new, content_type)
    if messages:
        chunks.append((data, messages))
    request: dict[str, Any] = {}
    if origin is not None:
        request = {
            "source": new.source,
            "fork_position": begin,
            "sub_offset": new.sub_offset,
            "inherits": inherits,
        }
    row: Any = await work.fetchrow(
        _INSERT,
        *(new.environment, new.path, content_type),
        0 if origin is None else origin.source.head,
        begin + sum(count for _, count in chunks),
        before + sum(len(one) for one, _ in chunks),
        *(new.closed, ttl, expires_at, expires_text),
        None if origin is None else origin.source.id,
        begin,
        orjson.dumps([] if origin is None else origin.lineage).decode(),
        orjson.dumps(request).decode(),
        None if origin is None else origin.source.first_part,
    )
    if row is None:
        return None
    state = state_of(row)
    if origin is not None:
        await work.execute(_COUNT_FORK, origin.source.id)
    await _append(work, state, begin, before, chunks)
    return state


async def _append(
    work: asyncpg.Connection,
    state: StreamState,
    position: int,
    upto: int,
    chunks: list[tuple[bytes, int]],
) -> None:
    """The first chunks, behind so many messages and bytes, and what is to be told of them. Who waits
    for a fork's path hears of what it has inherited, too."""
    flags = MADE if position else 0
    for number, (data, messages) in enumerate(chunks):
        upto += len(data)
        created_at = await work.fetchval(_APPEND, state.id, position, messages, upto, data)
        if state.closed and number == len(chunks) - 1:
            flags |= CLOSED
        await work.execute(_NOTICE, state.id, position, messages, flags, created_at, data)
        position, flags = position + messages, 0
    if not chunks:
        flags |= CLOSED if state.closed else 0
        if flags:
            await work.execute(_NOTICE, state.id, position, 0, flags, None, b"")
