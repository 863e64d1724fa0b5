"""A look at many tables at once: what the catalog says of them that matters to their followers."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import md5
from typing import LiteralString, NamedTuple

import psycopg

Name = tuple[str, str]
"""Schema and name of a table."""


class Look(NamedTuple):
    """What was seen of one table: `facts` for `TableState.parse`, None if there is no such table.

    `age` grows with every transaction that ends: of two looks the one with the greater age has seen
    all that the other has.
    """

    age: int
    facts: str | None


async def look(
    connection: psycopg.AsyncConnection, publication: str, known: Iterable[tuple[Name, str | None]]
) -> dict[Name, Look]:
    """The tables that differ from the facts known of them (None: there was no table), in one query.

    Digests are compared on the server, so that what stayed as it was costs little.
    """
    wanted = list(known)
    parameters = {
        "publication": publication,
        "schemas": [name[0] for name, _ in wanted],
        "names": [name[1] for name, _ in wanted],
        "digests": [facts and md5(facts.encode()).hexdigest() for _, facts in wanted],
    }
    version = connection.info.server_version
    query = _QUERY_15 if version >= 150000 else _QUERY_14
    rows = await (await connection.execute(query, parameters)).fetchall()
    return {(schema, name): Look(_age(snapshot), facts) for snapshot, schema, name, facts in rows}


def _age(snapshot: str) -> int:
    """How many transactions a snapshot (`xmin:xmax:xip,…`) sees as ended."""
    _, xmax, running = snapshot.split(":")
    return int(xmax) - len([xid for xid in running.split(",") if xid])


# - An attribute number of -1 is a system column: its entry is made with the table and never altered,
#   while the table's other columns change when it is attached to a parent.
# - A frozen row keeps its xmin.
# - Tables below the first normal oid belong to the system.
# - Domains over enums over one level only: deeper ones are noticed late, by who asks anew.
_QUERY: LiteralString = """
    with
    wanted as (
        select * from unnest(%(schemas)s::text[], %(names)s::text[], %(digests)s::text[])
            as w(schema, name, digest)
    ),
    publication as materialized (
        select p.oid, puballtables, pubviaroot,
            pubinsert and pubupdate and pubdelete and pubtruncate as complete,
            coalesce(to_jsonb(p) ->> 'pubgencols' = 's', false) as generated
        from pg_publication p where pubname = %(publication)s
    ),
    found as (
        select w.schema, w.name, w.digest, case when c.oid is not null then jsonb_build_object(
            'oid', c.oid::bigint,
            'kind', c.relkind,
            'key', (
                select to_jsonb(k.conkey) from pg_constraint k
                where k.conrelid = c.oid and k.contype = 'p'
            ),
            'columns', (
                select jsonb_agg(jsonb_build_array(
                    a.attnum, a.attname, a.atttypid::bigint, a.atttypmod, a.attnotnull,
                    a.attcollation::bigint, a.xmin::text::bigint, t.typname,
                    case when t.typtype in ('e', 'd') or t.typelem <> 0 then (
                        select jsonb_agg(e.enumlabel order by e.enumsortorder) from pg_enum e
                        where e.enumtypid = case t.typtype
                            when 'e' then t.oid when 'd' then t.typbasetype else t.typelem end
                    ) end
                ) order by a.attnum)
                from pg_attribute a join pg_type t on t.oid = a.atttypid
                where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
            ),
            'tree', case when c.relkind = 'r' then jsonb_build_array(
                jsonb_build_array(c.oid::bigint, 0, 0, 0, c.relreplident, c.relfilenode::bigint)
            ) else (
                select jsonb_agg(jsonb_build_array(
                    m.oid::bigint,
                    case when m.oid = c.oid then 0 else tree.parentrelid::oid::bigint end,
                    coalesce(made.xmin::text::bigint, 0),
                    coalesce(linked.xmin::text::bigint, 0),
                    m.relreplident, m.relfilenode::bigint
                ) order by m.oid)
                from pg_partition_tree(c.oid) tree
                join pg_class m on m.oid = tree.relid and m.relkind in ('r', 'p')
                left join pg_attribute made on made.attrelid = m.oid and made.attnum = -1
                    and m.oid <> c.oid
                left join pg_inherits linked on linked.inhrelid = m.oid and m.oid <> c.oid
            ) end,
            'entries', (
                select jsonb_agg(of.oid::bigint order by of.oid) from (
                    select r.oid from pg_publication_rel r
                    where r.prrelid = c.oid and r.prpubid = (select oid from publication)
                        and to_jsonb(r) ->> 'prqual' is null and to_jsonb(r) ->> 'prattrs' is null
                    union all
                    select r.oid from pg_partition_ancestors(c.oid) a
                    join pg_publication_rel r on r.prrelid = a.relid
                    where c.relispartition and a.relid <> c.oid
                        and r.prpubid = (select oid from publication)
                        and to_jsonb(r) ->> 'prqual' is null and to_jsonb(r) ->> 'prattrs' is null
                    union all
                    select p.oid from publication p where p.puballtables
                    {schemas}
                ) of
            ),
            'complete', coalesce((select complete from publication), false),
            'via_root', coalesce((select pubviaroot from publication), false),
            'generated', coalesce((select generated from publication), false)
        )::text end as facts
        from wanted w
        left join pg_namespace n on n.nspname = w.schema::name
        left join pg_class c on c.relnamespace = n.oid and c.relname = w.name::name
            and c.relkind in ('r', 'p') and c.oid >= 16384
    )
    select pg_current_snapshot()::text, schema, name, facts
    from found where md5(facts) is distinct from digest
"""
# Postgres 15 brought publications of whole schemas.
_SCHEMAS: LiteralString = """
                    union all
                    select s.oid from publication p
                    join pg_publication_namespace s on s.pnpubid = p.oid
                    where s.pnnspid = c.relnamespace or c.relispartition and s.pnnspid in (
                        select up.relnamespace from pg_partition_ancestors(c.oid) a
                        join pg_class up on up.oid = a.relid
                    )
"""
_QUERY_14: LiteralString = _QUERY.replace("{schemas}", "")
_QUERY_15: LiteralString = _QUERY.replace("{schemas}", _SCHEMAS)
