"""Who holds locks on a table: transactions that have written to it, or that keep it locked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg.rows import class_row

from engine.postgres.sql_text import quote_literal


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """A transaction that has not ended, as far as this role may see it.

    `pid` is None for a prepared one, which has its name in `prepared`. `state` is that of
    pg_stat_activity, `seconds` the age. Never the query: it may hold secrets.
    """

    pid: int | None
    state: str | None
    seconds: int | None
    prepared: str | None

    def __str__(self) -> str:
        who = f"Process {self.pid}" if self.prepared is None else f"Prepared {self.prepared!r}"
        details = [self.state] if self.state else []
        if self.seconds is not None:
            details.append(f"in its transaction for {self.seconds} s")
        return f"{who} ({', '.join(details)})" if details else who

    @property
    def end_statement(self) -> str:
        """SQL that ends it, losing its work."""
        if self.prepared is not None:
            return f"rollback prepared {quote_literal(self.prepared)}"
        return f"select pg_terminate_backend({self.pid})"


async def find_writers(
    connection: psycopg.AsyncConnection, relations: Sequence[int], since: str, margin: int
) -> frozenset[str]:
    """The virtual ids of transactions that wrote to one of the relations and have not ended.

    Only those in this database, prepared ones included, whose id is below that of the transaction
    `since` (an `xid`) plus `margin`. A writer keeps its ROW EXCLUSIVE lock (a truncating one: its
    ACCESS EXCLUSIVE) until after its commit is visible, and the lock on its transaction id shows
    its age; without a transaction id it has not written anything. pg_locks needs no privilege,
    unlike most of pg_stat_activity.
    """
    cursor = await connection.execute(
        """
        select distinct w.virtualtransaction || coalesce('/' || w.pid, '')
        from pg_locks w
        join pg_locks x on x.virtualtransaction = w.virtualtransaction
            and x.pid is not distinct from w.pid
            and x.locktype = 'transactionid' and x.mode = 'ExclusiveLock' and x.granted
        where w.locktype = 'relation' and w.granted
            and w.mode in ('RowExclusiveLock', 'AccessExclusiveLock')
            and w.database = (select oid from pg_database where datname = current_database())
            and w.relation = any(%(relations)s::oid[])
            and w.pid is distinct from pg_backend_pid()
            and age(x.transactionid) > age(%(since)s::text::xid) - %(margin)s
        """,
        {"relations": list(relations), "since": since, "margin": margin},
    )
    return frozenset([row[0] async for row in cursor])


async def lock_holder(connection: psycopg.AsyncConnection, relation: int) -> OpenTransaction | None:
    """The longest-standing other transaction that holds a lock on the table; None without any."""
    cursor = await connection.cursor(row_factory=class_row(OpenTransaction)).execute(
        """
        select l.pid, a.state,
            extract(epoch from now() - coalesce(a.xact_start, t.prepared))::int as seconds,
            t.gid as prepared
        from pg_locks l
        left join pg_stat_activity a using (pid)
        -- a prepared transaction has no process; its lock on its own id tells which one it is
        left join pg_locks x on l.pid is null and x.pid is null
            and x.virtualtransaction = l.virtualtransaction and x.locktype = 'transactionid'
        left join pg_prepared_xacts t on t.transaction = x.transactionid
        where l.locktype = 'relation' and l.granted and l.pid is distinct from pg_backend_pid()
            and l.database = (select oid from pg_database where datname = current_database())
            and (l.relation = %(relation)s
                or l.relation in (select relid from pg_partition_tree(%(relation)s::oid)))
        order by seconds desc nulls last, l.pid
        limit 1
        """,
        {"relation": relation},
    )
    return await cursor.fetchone()


async def oldest_writer(connection: psycopg.AsyncConnection) -> OpenTransaction | None:
    """The oldest other transaction of the whole server that has written something.

    It is what the creation of a replication slot waits for, whatever its database.
    """
    cursor = await connection.cursor(row_factory=class_row(OpenTransaction)).execute(
        b"""
        select pid, state, seconds, prepared
        from (
            select pid, state, extract(epoch from now() - xact_start)::int as seconds,
                null::text as prepared, backend_xid as xid
            from pg_stat_activity where backend_xid is not null and pid <> pg_backend_pid()
            union all
            select null, null, extract(epoch from now() - prepared)::int, gid, transaction
            from pg_prepared_xacts
        ) t
        order by age(xid) desc
        limit 1
        """,
        prepare=False,
    )
    return await cursor.fetchone()
