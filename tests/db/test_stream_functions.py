"""Streams in plain SQL, as an application and its transactions use them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from postgres_side import Connect, until
from psycopg import errors, sql
from psycopg.types.json import Json, Jsonb

from engine.postgres.migrate import migrate
from shapes.streams.notice import CLOSED, GONE, PREFIX, unpack_notices

pytestmark = pytest.mark.migrated


@pytest.fixture
async def app(database: str, connect: Connect) -> psycopg.AsyncConnection:
    await migrate(database)
    return await connect()


@pytest.fixture
async def other(app: psycopg.AsyncConnection, connect: Connect) -> psycopg.AsyncConnection:
    return await connect()


async def value(connection: psycopg.AsyncConnection, query: str, *values: object) -> Any:
    cursor = await connection.execute(query.encode(), values)
    row = await cursor.fetchone()
    assert row is not None
    assert len(row) == 1
    return row[0]


async def content(connection: psycopg.AsyncConnection, path: str) -> list[tuple[int, int, bytes]]:
    """Its chunks: position, messages, data."""
    cursor = await connection.execute(
        """
        select chunk.position, chunk.messages, chunk.data
        from pgtide.streams as stream join pgtide.stream_chunks as chunk on stream_id = stream.id
        where path = %s order by chunk.position
        """,
        (path,),
    )
    return await cursor.fetchall()


async def stream(connection: psycopg.AsyncConnection, path: str, columns: str) -> tuple[Any, ...]:
    cursor = await connection.execute(
        f"select {columns} from pgtide.streams where path = %s".encode(), (path,)
    )
    row = await cursor.fetchone()
    assert row is not None
    return row


async def test_the_type_of_what_is_appended_first_is_the_streams(
    app: psycopg.AsyncConnection,
) -> None:
    assert await value(app, "select pgtide.append('logs/a', 'literal')") == 7 - 6
    assert await value(app, "select pgtide.append('logs/a', E'\\u00fcber\\n')") == 2
    assert await value(app, "select pgtide.append('logs/a', %s)", "from a driver") == 3
    assert await value(app, "select pgtide.append('bytes', '\\x00ff'::bytea)") == 1
    assert await value(app, "select pgtide.append('json', %s)", Jsonb({"a": [1]})) == 1
    assert await value(app, "select pgtide.append('json', %s)", Json([1, 2])) == 2
    assert await value(app, "select pgtide.append('json', '{\"b\":  1.0}'::json)") == 3
    assert await value(app, "select pgtide.append('json', ' 7 ')") == 4
    assert await content(app, "logs/a") == [
        (0, 1, b"literal"),
        (1, 1, "über\n".encode()),
        (2, 1, b"from a driver"),
    ]
    assert await content(app, "bytes") == [(0, 1, b"\x00\xff")]
    assert [data for _, _, data in await content(app, "json")] == [
        b'{"a": [1]}',
        b"[1, 2]",
        b'{"b":  1.0}',
        b" 7 ",
    ]
    types = [
        await stream(app, path, "content_type, tail, bytes") for path in ("logs/a", "bytes", "json")
    ]
    assert types == [
        ("text/plain", 3, 7 + 6 + 13),
        ("application/octet-stream", 1, 2),
        ("application/json", 4, 10 + 6 + 11 + 3),
    ]


REFUSALS = [
    ("append('json', '{')", errors.InvalidTextRepresentation),
    ("append('json', '\\x7b'::bytea)", errors.InvalidTextRepresentation),
    ("append('json', '\\xff'::bytea)", errors.CharacterNotInRepertoire),
    ("append('text', '1'::jsonb)", errors.DatatypeMismatch),
    ("append('text', '')", errors.InvalidParameterValue),
    ("append('text', null::text)", errors.InvalidParameterValue),
    ("append('text', 'x', 'producer')", errors.InvalidParameterValue),
    ("append('text', 'x', 'producer', 0, 1)", errors.ObjectNotInPrerequisiteState),
    ("append('a//b', 'x')", errors.InvalidParameterValue),
    ("append('a/../b', 'x')", errors.InvalidParameterValue),
    ("append('/a', 'x')", errors.InvalidParameterValue),
    ("append(E'a\\nb', 'x')", errors.InvalidParameterValue),
    ("append('', 'x')", errors.InvalidParameterValue),
    ("append(null, 'x')", errors.InvalidParameterValue),
    ("create_stream('a', ttl => '-1 day')", errors.InvalidParameterValue),
    ("append(repeat('x', 1025), 'x')", errors.InvalidParameterValue),
    ("create_stream('new', E'text/plain\\r\\nX: y')", errors.InvalidParameterValue),
    ("close('nothing')", errors.NoDataFound),
    ("append_to_run('nobody', 'key', '1')", errors.NoDataFound),
]


async def test_refusals_change_nothing(app: psycopg.AsyncConnection) -> None:
    await app.execute("select pgtide.append('json', '1'::jsonb), pgtide.append('text', 'x')")
    for call, error in REFUSALS:
        with pytest.raises(error):
            await app.execute(f"select pgtide.{call}".encode())
    assert await value(app, "select count(*) from pgtide.streams") == 2
    assert await value(app, "select sum(tail) from pgtide.streams") == 2
    assert await value(app, "select count(*) from pgtide.stream_producers") == 0


async def test_a_producers_chunks_are_appended_once(app: psycopg.AsyncConnection) -> None:
    append = "select pgtide.append('s', %s::text, 'p', %s, %s)"
    assert await value(app, append, "a", 0, 0) == 1
    assert await value(app, append, "again", 0, 0) == 1
    assert await value(app, append, "b", 0, 1) == 2
    assert await value(app, append, "a", 0, 0) == 2
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="is missing before 3"):
        await value(app, append, "d", 0, 3)
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="is missing before 1"):
        await value(app, append, "d", 1, 1)
    assert await value(app, append, "c", 1, 0) == 3
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="with epoch 1"):
        await value(app, append, "old", 0, 2)
    assert await value(app, "select pgtide.append('s', 'd', 'q', 7, 0)") == 4
    assert b"".join(data for *_, data in await content(app, "s")) == b"abcd"


async def test_closing(app: psycopg.AsyncConnection) -> None:
    await app.execute("select pgtide.append('s', 'a', 'p', 0, 0)")
    assert await value(app, "select pgtide.close('s')") is True
    assert await value(app, "select pgtide.close('s')") is False
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="is closed"):
        await app.execute("select pgtide.append('s', 'b')")
    # What was appended before is no error.
    assert await value(app, "select pgtide.append('s', 'a', 'p', 0, 0)") == 1


async def test_rolled_back_appends_leave_nothing(app: psycopg.AsyncConnection) -> None:
    async with app.transaction(force_rollback=True):
        await app.execute("select pgtide.append('s', 'a', 'p', 0, 0), pgtide.close('s')")
    assert await value(app, "select count(*) from pgtide.streams") == 0
    assert await value(app, "select count(*) from pgtide.stream_chunks") == 0
    assert await value(app, "select pgtide.append('s', 'b', 'p', 0, 0)") == 1


async def test_transactions_wait_for_each_other(
    app: psycopg.AsyncConnection, other: psycopg.AsyncConnection, connect: Connect
) -> None:
    """Also those that both find no stream and make it."""
    observer = await connect()

    async def waits() -> bool:
        return await value(
            observer,
            "select exists (select from pg_stat_activity where wait_event_type = 'Lock'"
            f" and pid = {other.info.backend_pid})",
        )

    for first, second in ((0, 1), (2, 3)):
        async with app.transaction():
            assert await value(app, "select pgtide.append('s', %s::text)", str(first)) == first + 1
            later = asyncio.create_task(
                value(other, "select pgtide.append('s', %s::text)", str(second))
            )
            await until(waits)
        assert await later == second + 1
    assert [data for *_, data in await content(app, "s")] == [b"0", b"1", b"2", b"3"]


async def test_a_stream_whose_maker_rolled_back(
    app: psycopg.AsyncConnection, other: psycopg.AsyncConnection
) -> None:
    async with app.transaction(force_rollback=True):
        await app.execute("select pgtide.append('s', 'a')")
        later = asyncio.create_task(value(other, "select pgtide.append('s', '1'::jsonb)"))
        await asyncio.sleep(0)
    assert await later == 1
    assert await stream(app, "s", "content_type") == ("application/json",)


async def test_expired_streams_are_made_anew(app: psycopg.AsyncConnection) -> None:
    assert await value(app, "select pgtide.create_stream('s', 'text/plain', '1 hour')") is True
    assert await value(app, "select pgtide.create_stream('s')") is False
    await app.execute("select pgtide.append('s', 'old')")
    assert await stream(app, "s", "content_type, ttl_seconds") == ("text/plain", 3600)
    await app.execute("update pgtide.streams set expires_at = now()")
    with pytest.raises(errors.NoDataFound):
        await app.execute("select pgtide.close('s')")
    assert await value(app, "select pgtide.append('s', '1'::jsonb)") == 1
    assert await stream(app, "s", "content_type, ttl_seconds") == ("application/json", None)
    assert [data for *_, data in await content(app, "s")] == [b"1"]
    await app.execute("update pgtide.streams set expires_at = now()")
    assert await value(app, "select pgtide.create_stream('s', 'text/css')") is True
    assert await value(app, "select count(*) from pgtide.stream_remains") == 2


async def test_use_puts_off_the_expiry(app: psycopg.AsyncConnection) -> None:
    await app.execute("select pgtide.create_stream('s', 'text/plain', '100 s')")
    await app.execute("select pgtide.create_stream('fixed', 'text/plain')")
    await app.execute(
        "update pgtide.streams set expires_at = now() + interval '1 h' where path='fixed'"
    )
    left = (
        "select extract(epoch from expires_at - clock_timestamp()) > %s"
        " from pgtide.streams where path = %s"
    )
    for call in ("append('s', 'x')", "append('fixed', 'x')", "close('s')"):
        await app.execute(
            "update pgtide.streams set expires_at = now() + interval '50 s' where path='s'"
        )
        await app.execute(f"select pgtide.{call}".encode())
        assert await value(app, left, 95, "s") is (call != "append('fixed', 'x')")
    assert await value(app, left, 3500, "fixed")
    assert not await value(app, left, 3601, "fixed")


async def test_use_soon_after_use_changes_no_index(app: psycopg.AsyncConnection) -> None:
    await app.execute("select pgtide.create_stream('s', 'text/plain', '100 s')")
    [before] = await stream(app, "s", "expires_at")
    await app.execute("select pgtide.append('s', 'x')")
    assert await stream(app, "s", "expires_at") == (before,)


async def test_deleting(app: psycopg.AsyncConnection) -> None:
    assert await value(app, "select pgtide.delete_stream('s')") is False
    await app.execute("select pgtide.append('s', 'a', 'p', 0, 0)")
    assert await value(app, "select pgtide.delete_stream('s')") is True
    assert await value(app, "select count(*) from pgtide.stream_producers") == 0
    assert await value(app, "select count(*) from pgtide.stream_remains") == 1
    assert await value(app, "select pgtide.append('s', 'b')") == 1


async def test_what_forks_read_from_stays(app: psycopg.AsyncConnection) -> None:
    """A chain: `b` is a fork of `a`, `c` one of `b`."""
    await app.execute("select pgtide.append('a', 'x')")
    for child, parent in (("b", "a"), ("c", "b")):
        await app.execute(
            """
            with parent as (
                update pgtide.streams set forks = forks + 1 where path = %s returning id, tail
            )
            insert into pgtide.streams (path, parent_id, fork_position, head, tail)
            select %s, id, tail, tail, tail from parent
            """,
            (parent, child),
        )
    assert await value(app, "select pgtide.delete_stream('a')") is True
    assert await value(app, "select pgtide.delete_stream('a')") is False
    assert await value(app, "select pgtide.delete_stream('b')") is True
    for call in ("append('a', 'x')", "close('a')"):
        with pytest.raises(errors.ObjectNotInPrerequisiteState, match="is gone"):
            await app.execute(f"select pgtide.{call}".encode())
    assert await value(app, "select count(*) from pgtide.stream_remains") == 0
    assert await value(app, "select pgtide.delete_stream('c')") is True
    assert await value(app, "select count(*) from pgtide.streams") == 0
    assert await value(app, "select count(*) from pgtide.stream_remains") == 3


async def test_streams_of_a_run(app: psycopg.AsyncConnection) -> None:
    await app.execute(
        "insert into pgtide.runs (id, task, environment_id) values ('r', 't', 'prod')"
    )
    append = "select pgtide.append_to_run('r', %s, %s)"
    assert await value(app, append, "tokens", Jsonb("Hel")) == 1
    row = "select xmin::text, realtime_streams from pgtide.runs"
    before = await (await app.execute(row)).fetchone()
    assert await value(app, append, "tokens", Jsonb("lo")) == 2
    assert await (await app.execute(row)).fetchone() == before
    assert before is not None
    assert before[1] == ["tokens"]
    assert await value(app, append, "other", Jsonb({"a": 1})) == 1
    assert await value(app, "select realtime_streams from pgtide.runs") == ["tokens", "other"]
    assert await stream(app, "runs/r/tokens", "environment_id, content_type") == (
        "prod",
        "application/json",
    )


async def test_parts(app: psycopg.AsyncConnection, other: psycopg.AsyncConnection) -> None:
    await app.execute("select pgtide.append('s', 'a'), pgtide.append('quiet', 'x')")
    async with app.transaction():
        await app.execute("select pgtide.append('s', 'b'), pgtide.append('s', 'c')")
        # Nobody's open transaction keeps a part from being opened.
        assert await value(other, "select pgtide.open_stream_part()") == 2
        await app.execute("select pgtide.append('s', 'd')")
    with pytest.raises(errors.ObjectNotInPrerequisiteState):
        await other.execute("select pgtide.drop_stream_part(1)")
    await app.execute("update pgtide.stream_parts set used_from = now()")
    await app.execute("select pgtide.append('s', 'e')")
    with pytest.raises(errors.ObjectNotInPrerequisiteState):
        await other.execute("select pgtide.drop_stream_part(2)")
    async with app.transaction():
        await app.execute("select pgtide.append('s', 'f')")
        with pytest.raises(errors.LockNotAvailable):
            await other.execute("select pgtide.drop_stream_part(1)")
    await other.execute("select pgtide.drop_stream_part(1)")
    with pytest.raises(errors.ObjectNotInPrerequisiteState):
        await other.execute("select pgtide.drop_stream_part(1)")
    assert await content(app, "s") == [(4, 1, b"e"), (5, 1, b"f")]
    assert await stream(app, "s", "head, tail") == (4, 6)
    assert await stream(app, "quiet", "head, tail") == (1, 1)
    storage = (
        "select attstorage from pg_attribute where attname = 'data' and attrelid = %s::regclass"
    )
    assert await value(app, storage, "pgtide.stream_chunks_2") == "e"


async def test_columns_and_functions_of_a_search_path_are_not_used(
    app: psycopg.AsyncConnection,
) -> None:
    """Who may call the functions that have their owner's rights cannot put own ones in their way."""
    await app.execute(
        "create schema evil; create function evil.format(text, integer) returns text "
        "language sql as $$ select 'select 1/0' $$; set search_path = evil, pg_temp, pg_catalog;"
        "create temp table stream_parts (part int)"
    )
    assert await value(app, "select pgtide.open_stream_part()") == 2


@pytest.fixture
async def messages(app: psycopg.AsyncConnection, database: str) -> AsyncIterator[str]:
    """The name of a slot that decodes what is told of streams."""
    name = f"notices_{app.info.dbname}"
    await app.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", (name,))
    await app.execute("create publication nothing")
    yield name
    await app.execute(sql.SQL("select pg_drop_replication_slot({})").format(sql.Literal(name)))


async def test_what_is_told(app: psycopg.AsyncConnection, messages: str) -> None:
    large = "x" * 8193
    await app.execute("select pgtide.append('s', 'a'), pgtide.append('s', %s)", (large,))
    async with app.transaction(force_rollback=True):
        await app.execute("select pgtide.append('s', 'never')")
    await app.execute("select pgtide.close('s'), pgtide.delete_stream('s')")
    cursor = await app.execute(
        """
        select data
        from pg_logical_slot_peek_binary_changes(%s, null, null,
            'proto_version', '1', 'publication_names', 'nothing', 'messages', 'true')
        where get_byte(data, 0) = ascii('M')
        """,
        (messages,),
    )
    # Behind a tag, flags, an LSN, the prefix with its end, and a length.
    begin = 1 + 1 + 8 + len(PREFIX) + 1 + 4
    rows = await cursor.fetchall()
    notices = [notice for [data] in rows for notice in unpack_notices(data[begin:])]
    told = [(*notice[1:4], notice.data) for notice in notices]
    assert told == [
        (0, 1, 0, b"a"),
        (1, 1, 0, None),
        (2, 0, CLOSED, b""),
        (2, 0, GONE, b""),
    ]
    cursor = await app.execute(
        "select (extract(epoch from created_at) * 1000000)::bigint from pgtide.stream_chunks"
        " order by position"
    )
    assert [row[0] for row in await cursor.fetchall()] == [one.created_us for one in notices[:2]]
