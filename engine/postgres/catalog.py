"""Tables and columns as Postgres's catalog describes them."""

from __future__ import annotations

import time
from typing import Any, LiteralString

import psycopg

from engine.errors import DatabaseSetupError
from engine.postgres.table import Column, Table

# One row per column, in table order; a table without columns gives one row without a column name.
# - An array type is recognised by being its element's array type: int2vector and oidvector look
#   like arrays in the catalog too, but their text is not an array literal.
# - The constraint's key, not the index's: the index also holds the columns of INCLUDE.
# - Tables below the first normal oid belong to the system, which publishes none of them.
# - The database's collation columns differ between versions, hence the detour over JSON.
# - Byte order is claimed for C, POSIX and the builtin provider only: what a C library does for its
#   C.UTF-8 differs between libraries.
_TABLE_QUERY: LiteralString = """
    with recursive domains as (
        select oid as domain, typbasetype as target from pg_type where typtype = 'd'
        union all
        select d.domain, t.typbasetype from domains d join pg_type t on t.oid = d.target
        where t.typtype = 'd'
    )
    select
        c.oid, n.nspname, c.relname, c.relkind::text,
        a.attname,
        coalesce(element.typname, t.typname) as type,
        a.atttypid as type_oid,
        case when element.oid is null then 0 else greatest(a.attndims, 1) end as dims,
        coalesce(element.typtype, t.typtype)::text as kind,
        coalesce(base.typname, element.typname, t.typname) as base,
        a.atttypmod as modifier,
        a.attnotnull as not_null,
        array_position(k.conkey, a.attnum) - 1 as key_index,
        a.attgenerated <> '' as generated,
        l.collname as collation,
        a.attgenerated = 'v' as virtual,
        coalesce(l.collisdeterministic, true) as deterministic,
        case
            when l.oid is null then true
            when l.collprovider = 'd' then
                coalesce(to_jsonb(db) ->> 'datlocprovider', 'c') = 'b'
                or coalesce(to_jsonb(db) ->> 'datlocprovider', 'c') = 'c'
                and db.datcollate in ('C', 'POSIX')
            else
                l.collprovider = 'b'
                or l.collprovider = 'c' and l.collcollate in ('C', 'POSIX')
        end as bytewise,
        enum.name as enum,
        enum.labels as labels
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_database db on db.datname = current_database()
    left join pg_constraint k on k.conrelid = c.oid and k.contype = 'p'
    left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    left join pg_type t on t.oid = a.atttypid
    left join pg_type element on element.oid = t.typelem and element.typarray = t.oid
    left join domains d on d.domain = coalesce(element.oid, t.oid)
        and not exists (select from pg_type b where b.oid = d.target and b.typtype = 'd')
    left join pg_type base on base.oid = d.target
    left join pg_collation l on l.oid = a.attcollation
    left join lateral (
        select format('%%I.%%I', s.nspname, e.typname) as name, array(
            select v.enumlabel::text from pg_enum v where v.enumtypid = e.oid order by v.enumsortorder
        ) as labels
        from pg_type e join pg_namespace s on s.oid = e.typnamespace
        where e.oid = coalesce(base.oid, element.oid, t.oid) and e.typtype = 'e'
    ) enum on true
    where c.relkind in ('r', 'p') and c.oid >= 16384 and {condition}
    order by a.attnum
"""
_BY_NAME: LiteralString = _TABLE_QUERY.replace("{condition}", "n.nspname = %s and c.relname = %s")
_BY_OID: LiteralString = _TABLE_QUERY.replace("{condition}", "c.oid = %s")


async def load_table(connection: psycopg.AsyncConnection, schema: str, name: str) -> Table | None:
    """The table, partitioned table or partition of that exact name; None if there is none."""
    return await _load(connection, _BY_NAME, (schema, name))


async def load_table_by_oid(connection: psycopg.AsyncConnection, oid: int) -> Table | None:
    """The table, partitioned table or partition with that oid; None if there is none."""
    return await _load(connection, _BY_OID, (oid,))


VISIBLE_SECONDS = 10.0


def read_ancestors(
    connection: psycopg.Connection, oid: int, xid: int | None = None
) -> tuple[tuple[int, str, str], ...]:
    """The partitioned tables above a partition as (oid, schema, name), root last; blocks.

    Empty for a table that is not a partition. A transaction's commit is decoded before others see it,
    and it may have made or attached the partition: with `xid` (32 bits) this waits until it is seen.
    Raises DatabaseSetupError if that takes longer than VISIBLE_SECONDS.
    """
    deadline = time.monotonic() + VISIBLE_SECONDS
    while True:
        rows = connection.execute(_ANCESTORS, {"oid": oid}).fetchall()
        if xid is None or _sees(rows[0][0], xid):
            return tuple((row[1], row[2], row[3]) for row in rows if row[1] is not None)
        if time.monotonic() > deadline:
            raise DatabaseSetupError(
                f"transaction {xid} has committed but is not visible yet, so its partitions are "
                "unknown: does a synchronous standby not answer?"
            )
        time.sleep(0.002)


# One row at least, with the snapshot that the others were read with.
_ANCESTORS: LiteralString = """
    select pg_current_snapshot()::text, c.oid, n.nspname, c.relname
    from (select) as one
    left join pg_partition_ancestors(%(oid)s) with ordinality as a (relid, level)
        on a.relid <> %(oid)s
    left join pg_class c on c.oid = a.relid
    left join pg_namespace n on n.oid = c.relnamespace
    order by a.level
"""


def _sees(snapshot: str, xid: int) -> bool:
    """Whether a snapshot (`xmin:xmax:xip,…`) sees the transaction with this 32-bit id as ended."""
    xmin, xmax, xip = snapshot.split(":")
    ahead = (xid - int(xmax)) & 0xFFFFFFFF
    wide = int(xmax) + (ahead if ahead < 2**31 else ahead - 2**32)
    return wide < int(xmin) or (wide < int(xmax) and str(wide) not in xip.split(","))


async def _load(
    connection: psycopg.AsyncConnection, query: LiteralString, parameters: tuple[str | int, ...]
) -> Table | None:
    rows = await (await connection.execute(query, parameters)).fetchall()
    if not rows:
        return None
    oid, schema, name, kind = rows[0][:4]
    columns = tuple(_column(*row[4:]) for row in rows if row[4] is not None)
    return Table(oid=oid, schema=schema, name=name, columns=columns, kind=kind)


def _column(*fields: Any) -> Column:
    *others, labels = fields
    return Column(*others, labels=None if labels is None else tuple(labels))
