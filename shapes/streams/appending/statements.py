"""The statements of group commit, and their rows.

Each writes many rows at once, from arrays. They run with plans that look every row up by its key: what
Postgres would make of arrays of unknown length are joins that read whole tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Final

from psycopg.pq.abc import PGresult

from shapes.streams.appending.arrays import (
    BOOL,
    BYTEA,
    INT4,
    INT8,
    TEXT,
    bools,
    byteas,
    int4s,
    int8s,
    some_int8s,
    texts,
)
from shapes.streams.appending.judgement import Target
from shapes.streams.appending.pipeline import Statement, Step
from shapes.streams.notice import PREFIX, pack_notices
from shapes.streams.stream import Stamp

Key = tuple[str, str]
"""Environment and path."""

MESSAGE_BYTES: Final = 1 << 20
"""A logical message tells of so much, or of a single chunk."""

_TIMESTAMP: Final = 1184
_ARRAY_OF: Final = {BOOL: 1000, BYTEA: 1001, INT4: 1007, INT8: 1016, TEXT: 1009}
_EPOCH: Final = 946_684_800_000_000
"""Postgres counts microseconds from 2000 on."""

_INT8 = Struct(">q")
_int8 = _INT8.unpack


def _statement(name: str, text: str, *types: int) -> Statement:
    return Statement(f"pgtide_{name}".encode(), text.encode(), types)


def _arrays(*elements: int) -> tuple[int, ...]:
    return tuple(_ARRAY_OF[element] for element in elements)


SETTINGS: Final = Step(
    _statement(
        "settings",
        """
        select set_config(name, 'off', false)
        from unnest(array['enable_hashjoin', 'enable_mergejoin', 'enable_seqscan', 'jit']) as name
        union all select set_config('plan_cache_mode', 'force_generic_plan', false)
        """,
    )
)
"""For a connection of one's own. Planning would cost more than what is planned."""

BEGIN: Final = Step(_statement("begin", "begin isolation level read committed"))
COMMIT: Final = Step(_statement("commit", "commit"))
ROLLBACK: Final = Step(_statement("rollback", "rollback"))

_PATIENCE = _statement("patience", "select set_config('lock_timeout', $1, true)", TEXT)

_CREATE = _statement(
    "create",
    """
    select pgtide.create_stream(path, content_type, null, environment)
    from (
        select * from unnest($1, $2, $3) as asked (environment, path, content_type)
        order by environment, path
    ) as asked
    """,
    *_arrays(TEXT, TEXT, TEXT),
)

_ROWS = """
    select asked.number, clock_timestamp(), found.*
    from unnest($1, $2) with ordinality as asked (environment, path, number)
    cross join lateral (
        select id, content_type, tail, bytes,
            not closed and last_sequence is null and expires_at is null and ttl_seconds is null
                and forks = 0 and deleted_at is null,
            closed, closed_producer, closed_epoch, closed_sequence, last_sequence, ttl_seconds,
            expires_at, forks, deleted_at is not null
        from pgtide.streams as stream
        where stream.environment_id = asked.environment and stream.path = asked.path
        {lock}
    ) as found
"""
_LOCK_FREE = _statement(
    "lock_free", _ROWS.format(lock="for update skip locked"), *_arrays(TEXT, TEXT)
)
_LOCK = _statement("lock", _ROWS.format(lock="for update"), *_arrays(TEXT, TEXT))

_LOOK = _statement(
    "look",
    """
    select asked.number
    from unnest($1, $2) with ordinality as asked (environment, path, number)
    cross join lateral (
        select from pgtide.streams as stream
        where stream.environment_id = asked.environment and stream.path = asked.path
    ) as found
    """,
    *_arrays(TEXT, TEXT),
)

_PRODUCERS = _statement(
    "producers",
    """
    select asked.number, found.epoch, found.sequence
    from unnest($1, $2, $3) with ordinality as asked (environment, path, producer, number)
    cross join lateral (
        select had.epoch, had.sequence
        from pgtide.streams as stream join pgtide.stream_producers as had on had.stream_id = stream.id
        where stream.environment_id = asked.environment and stream.path = asked.path
            and had.producer = asked.producer
    ) as found
    """,
    *_arrays(TEXT, TEXT, TEXT),
)

_APPEND = _statement(
    "append",
    """
    insert into pgtide.stream_chunks (
        part, messages, stream_id, position, bytes_upto, created_at, data
    )
    select current.part, new.messages, new.stream_id, new.position, new.bytes_upto, $5, new.data
    from unnest($1, $2, $3, $4, $6) as new (messages, stream_id, position, bytes_upto, data)
    cross join (
        select coalesce(max(part) filter (where used_from <= now()), min(part)) as part
        from pgtide.stream_parts
    ) as current
    """,
    *_arrays(INT4, INT8, INT8, INT8),
    _TIMESTAMP,
    *_arrays(BYTEA),
)

_MOVE = _statement(
    "move",
    """
    update pgtide.streams as stream set tail = new.tail, bytes = new.bytes
    from unnest($1, $2, $3) as new (id, tail, bytes)
    where stream.id = new.id
    """,
    *_arrays(INT8, INT8, INT8),
)

_CHANGE = _statement(
    "change",
    """
    update pgtide.streams as stream
    set tail = new.tail, bytes = new.bytes, closed = new.closed,
        closed_producer = new.closed_producer, closed_epoch = new.closed_epoch,
        closed_sequence = new.closed_sequence, last_sequence = new.last_sequence,
        expires_at = case
            when stream.ttl_seconds is null then stream.expires_at
            else to_timestamp(new.expires_at / 1000000.0)
        end
    from unnest($1, $2, $3, $4, $5, $6, $7, $8, $9) as new (
        id, tail, bytes, closed, closed_producer, closed_epoch, closed_sequence, last_sequence,
        expires_at
    )
    where stream.id = new.id
    """,
    *_arrays(INT8, INT8, INT8, BOOL, TEXT, INT8, INT8, BYTEA, INT8),
)

_PRODUCE = _statement(
    "produce",
    """
    insert into pgtide.stream_producers (stream_id, producer, epoch, sequence)
    select * from unnest($1, $2, $3, $4)
    on conflict (stream_id, producer) do update
    set epoch = excluded.epoch, sequence = excluded.sequence, used_at = now()
    """,
    *_arrays(INT8, TEXT, INT8, INT8),
)

_TELL = _statement(
    "tell",
    f"select pg_logical_emit_message(true, '{PREFIX}', message) from unnest($1) as message",
    *_arrays(BYTEA),
)


def patience(seconds: float) -> Step:
    """How long the transaction waits for somebody's lock."""
    return Step(_PATIENCE, (f"{seconds * 1000:.0f}ms".encode(),))


def create(wanted: Sequence[tuple[str, str, str]]) -> Step:
    """Make streams that are not there: environment, path, content type."""
    return Step(_CREATE, [texts(column) for column in zip(*wanted, strict=True)])


def lock(keys: Sequence[Key], *, wait: bool) -> Step:
    """Lock streams until the end of the transaction; those that others have locked only with `wait`."""
    return Step(_LOCK if wait else _LOCK_FREE, _key_arrays(keys))


def targets(result: PGresult) -> dict[int, Target]:
    """The streams of `lock`, by their places in its keys."""
    found: dict[int, Target] = {}
    for row in range(result.ntuples):
        number, now, id_, content_type, tail, size, plain = _values(result, row, 0, 7)
        assert number and now and id_ and content_type is not None and tail and size  # noqa: PT018
        target = Target(
            _int8(id_)[0],
            content_type.decode(),
            _int8(tail)[0],
            _int8(size)[0],
            _int8(now)[0] + _EPOCH,
        )
        if plain != b"\1":
            _complete(target, _values(result, row, 7, result.nfields))
        found[_int8(number)[0] - 1] = target
    # One moment for all.
    moment = max((target.now for target in found.values()), default=0)
    for target in found.values():
        target.now = moment
    return found


def _complete(target: Target, values: Sequence[bytes | None]) -> None:
    """What most streams do not have."""
    closed, producer, epoch, sequence, last, ttl, expires_at, forks, deleted = values
    target.closed = closed == b"\1"
    if producer is not None and epoch is not None and sequence is not None:
        target.closed_by = Stamp(producer.decode(), _int8(epoch)[0], _int8(sequence)[0])
    target.last_sequence = last
    if ttl is not None:
        target.ttl = _int8(ttl)[0]
    if expires_at is not None:
        target.expires_at = _int8(expires_at)[0] + _EPOCH
    target.forks = int.from_bytes(forks or b"", "big")
    target.deleted = deleted == b"\1"


def _values(result: PGresult, row: int, begin: int, end: int) -> list[bytes | None]:
    get = result.get_value
    return [get(row, column) for column in range(begin, end)]


def look(keys: Sequence[Key]) -> Step:
    """Which streams are there, whoever has them locked."""
    return Step(_LOOK, _key_arrays(keys))


def places(result: PGresult) -> set[int]:
    """What `look` found, as places in its keys."""
    return {_number(result, row) for row in range(result.ntuples)}


def producers(asked: Sequence[tuple[Key, str]]) -> Step:
    """Where producers of streams are."""
    return Step(
        _PRODUCERS, (*_key_arrays([key for key, _ in asked]), texts(name for _, name in asked))
    )


def positions(result: PGresult) -> dict[int, tuple[int, int]]:
    """Epoch and last sequence of the producers that there are, by their places in what was asked."""
    found: dict[int, tuple[int, int]] = {}
    for row in range(result.ntuples):
        epoch, sequence = result.get_value(row, 1), result.get_value(row, 2)
        assert epoch is not None
        assert sequence is not None
        found[_number(result, row)] = (_int8(epoch)[0], _int8(sequence)[0])
    return found


def changes(streams: Sequence[Target]) -> list[Step]:
    """Write down what requests made of streams, and tell of it."""
    steps: list[Step] = []
    chunks = [chunk for stream in streams for chunk in stream.chunks]
    if chunks:
        steps.append(
            Step(
                _APPEND,
                (
                    int4s([chunk.messages for chunk in chunks]),
                    int8s([chunk.stream_id for chunk in chunks]),
                    int8s([chunk.position for chunk in chunks]),
                    int8s([end for stream in streams for end in stream.ends]),
                    _INT8.pack(streams[0].now - _EPOCH),
                    byteas([chunk.data for chunk in chunks]),
                ),
            )
        )
    moved = [stream for stream in streams if stream.chunks and not stream.changed]
    if moved:
        steps.append(Step(_MOVE, _moves(moved)))
    changed = [stream for stream in streams if stream.changed]
    if changed:
        steps.append(_change(changed))
    produced = [(stream, name) for stream in streams for name in stream.moved]
    if produced:
        steps.append(_produce(produced))
    messages = list(_messages(streams))
    if messages:
        steps.append(Step(_TELL, (byteas(messages),)))
    return steps


def _moves(streams: Sequence[Target]) -> tuple[bytes, ...]:
    return (
        int8s([stream.id for stream in streams]),
        int8s([stream.tail for stream in streams]),
        int8s([stream.bytes for stream in streams]),
    )


def _change(streams: Sequence[Target]) -> Step:
    closed_by = [stream.closed_by for stream in streams]
    return Step(
        _CHANGE,
        (
            *_moves(streams),
            bools([stream.closed for stream in streams]),
            texts(stamp and stamp.producer for stamp in closed_by),
            some_int8s(stamp and stamp.epoch for stamp in closed_by),
            some_int8s(stamp and stamp.sequence for stamp in closed_by),
            byteas([stream.last_sequence for stream in streams]),
            some_int8s(None if stream.ttl is None else stream.expires_at for stream in streams),
        ),
    )


def _produce(produced: Sequence[tuple[Target, str]]) -> Step:
    where = [stream.producers[name] for stream, name in produced]
    return Step(
        _PRODUCE,
        (
            int8s([stream.id for stream, _ in produced]),
            texts(name for _, name in produced),
            int8s([epoch for epoch, _ in where]),
            int8s([sequence for _, sequence in where]),
        ),
    )


def _messages(streams: Sequence[Target]) -> Iterable[bytes]:
    notices = [notice for stream in streams for notice in stream.notices]
    content = pack_notices(notices)
    if len(content) <= MESSAGE_BYTES:
        return [content] if content else []
    messages: list[bytes] = []
    size = 0
    for notice in notices:
        entry = pack_notices((notice,))
        if not messages or size + len(entry) > MESSAGE_BYTES:
            messages.append(b"")
            size = 0
        messages[-1] += entry
        size += len(entry)
    return messages


def _key_arrays(keys: Sequence[Key]) -> tuple[bytes, bytes]:
    return texts(environment for environment, _ in keys), texts(path for _, path in keys)


def _number(result: PGresult, row: int) -> int:
    value = result.get_value(row, 0)
    assert value is not None
    return _int8(value)[0] - 1
