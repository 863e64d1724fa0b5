"""Checks the tables of streams."""

from __future__ import annotations

import psycopg

from engine.configuration.settings import Settings
from engine.doctor.finding import Findings, advice, met

_GRANT = "Grant pgtide's role what sql/roles.sql grants"

_USABLE = """
    select has_schema_privilege(relnamespace, 'usage')
    from pg_class join pg_namespace as namespace on namespace.oid = relnamespace
    where relname = 'stream_parts' and nspname = 'pgtide'
"""
_RIGHTS = """
    select
        has_table_privilege('pgtide.streams', 'select')
            and has_table_privilege('pgtide.stream_chunks', 'select')
            and has_table_privilege('pgtide.stream_parts', 'select'),
        (
            select bool_and(has_table_privilege('pgtide.' || name, right_to))
            from unnest(array['streams', 'stream_chunks', 'stream_producers']) as name,
                unnest(array['insert', 'update', 'delete']) as right_to
        ),
        (
            select bool_and(has_function_privilege('pgtide.' || name, 'execute'))
            from unnest(array[
                'open_stream_part()', 'leave_stream_part(integer, bigint, integer)',
                'drop_stream_part(integer)'
            ]) as name
        )
"""
_PARTS = """
    select count(*), coalesce(sum(pg_total_relation_size(name)), 0)::bigint,
        extract(epoch from clock_timestamp() - (
            select used_from from pgtide.stream_parts order by part offset 1 limit 1
        ))::float8
    from pgtide.stream_parts
    cross join lateral to_regclass('pgtide.stream_chunks_' || part) as name
"""
_LATE = 1.5
"""Retention that is so much longer than it should be has something in its way."""


async def check_streams(connection: psycopg.AsyncConnection, settings: Settings) -> Findings:
    """Whether streams can be read and written, and old messages be dropped."""
    usable = await (await connection.execute(_USABLE)).fetchone()
    if usable is None:
        if settings.secret_keys or settings.config_file is not None:
            yield advice(
                "streams cannot be served: their tables do not exist", "Run: pgtide migrate"
            )
        return
    readable = writable = droppable = False
    if usable[0]:
        cursor = await connection.execute(_RIGHTS)
        readable, writable, droppable = await cursor.fetchone() or (False, False, False)
    if not readable:
        yield advice("streams cannot be served: pgtide's role may not read them", _GRANT)
        return
    if not writable:
        yield advice(
            "streams can be read and not written: pgtide's role may not write their tables",
            f"If it should: {_GRANT[0].lower()}{_GRANT[1:]}",
        )
    if not droppable:
        yield advice(
            "old messages of streams are never dropped: pgtide's role may not open and drop parts",
            f"{_GRANT}, or see to it yourself with pgtide.open_stream_part() and "
            "pgtide.drop_stream_part()",
        )
    cursor = await connection.execute(_PARTS)
    parts, size, age = await cursor.fetchone() or (0, 0, None)
    mebibytes = f"{size / 2**20:.0f} MiB in {parts} part{'s' if parts != 1 else ''}"
    if age is not None and age > _LATE * settings.stream_retention_age:
        yield advice(
            f"messages of streams are {age / 86400:.0f} days old and older: {mebibytes}",
            "If pgtide has been running, something is in its way: its log says what; transactions "
            "that are never ended keep old parts from being dropped",
        )
    elif parts > 1 and size > _LATE * settings.stream_retention_bytes:
        yield advice(
            f"messages of streams take more than they should: {mebibytes}",
            "If pgtide has been running, something is in its way: its log says what; transactions "
            "that are never ended keep old parts from being dropped",
        )
    else:
        yield met(f"streams have their tables: {mebibytes}")
