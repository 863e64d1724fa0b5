"""The publication that pgtide reads, and the conditions on which a table's changes arrive complete.

A table's changes are complete when the publication has the table (or a partition ancestor), when it
and all its partitions have REPLICA IDENTITY FULL, and when no transaction is left that wrote to it
before it was published: such writes are in no decoded transaction, and they are not yet visible to
a snapshot either.

That last condition is met by construction when pgtide publishes the table: the publication changes
under a lock that writers do not share, so every earlier writer has ended (its rows are visible) and
every later one finds the table published, whoever dies in between. ALTER PUBLICATION alone would
not do: its SHARE UPDATE EXCLUSIVE lock lets writers pass, and a writer may even get its transaction
id after the ALTER did and write before the ALTER commits. For tables that somebody else published,
the writers that are older than the publication's entry are waited for.

No function here may share its connection with another task while it runs.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import LiteralString, NoReturn

import psycopg
from psycopg import errors, sql
from psycopg.rows import class_row

from engine.postgres.publication_errors import (
    OperationsNotPublishedError,
    PublicationError,
    PublicationNotFoundError,
    PublishedAsRootError,
    ReadOnlyError,
    ReplicaIdentityNotFullError,
    TableFilteredError,
    TableGoneError,
    TableLockTimeoutError,
    TableNotPublishedError,
    TableNotReplicatedError,
    WritersInFlightError,
)
from engine.postgres.table import Table
from engine.replication.writers import find_writers, lock_holder

# Behind a waiting lock all other users of the table wait too, so the first attempts are short.
# Later ones outlast deadlock_timeout (1 s), after which an autovacuum that is in the way gives up.
_FIRST_ATTEMPT_S = 0.25
_PAUSE_S = 0.1

# Transactions that a foreign ALTER PUBLICATION may have let pass between its own transaction id and
# its commit, so that their ids are above its own.
_FOREIGN_MARGIN = 1000


@dataclass(frozen=True, slots=True)
class Publication:
    """A publication's own settings. `oid` tells a recreated publication from the one before."""

    oid: int
    name: str
    owned: bool
    all_tables: bool
    all_operations: bool
    generated_columns: bool
    via_partition_root: bool


async def read_publication(connection: psycopg.AsyncConnection, name: str) -> Publication | None:
    """The publication of that name in this database; None if there is none."""
    cursor = await connection.cursor(row_factory=class_row(Publication)).execute(
        """
        select
            p.oid, p.pubname as name, pg_has_role(p.pubowner, 'USAGE') as owned,
            p.puballtables as all_tables,
            p.pubinsert and p.pubupdate and p.pubdelete and p.pubtruncate as all_operations,
            -- the column is new in Postgres 18
            coalesce(to_jsonb(p) ->> 'pubgencols' = 's', false) as generated_columns,
            p.pubviaroot as via_partition_root
        from pg_publication p
        where p.pubname = %s
        """,
        (name,),
    )
    return await cursor.fetchone()


async def ensure_publication(
    connection: psycopg.AsyncConnection, name: str, *, manual: bool = False
) -> Publication:
    """Create the publication, without tables, unless it is there; check what operations it sends.

    Several callers at once are fine. In `manual` mode nothing is created. Raises
    PublicationNotFoundError (also without the right to create it) and OperationsNotPublishedError.
    """
    found = await read_publication(connection, name)
    if found is None and not manual:
        await _create(connection, name)
        found = await read_publication(connection, name)
    if found is None:
        raise PublicationNotFoundError(name)
    if not found.all_operations:
        raise OperationsNotPublishedError(name)
    return found


async def _create(connection: psycopg.AsyncConnection, name: str) -> None:
    options = "publish = 'insert, update, delete, truncate', publish_via_partition_root = false"
    if connection.info.server_version >= 180000:
        options += ", publish_generated_columns = stored"
    statement = sql.SQL("create publication {} with ({})").format(
        sql.Identifier(name), sql.SQL(options)
    )
    try:
        await connection.execute(statement)
    except (errors.DuplicateObject, errors.UniqueViolation):
        return  # another node was faster
    except errors.InsufficientPrivilege as error:
        raise PublicationNotFoundError(name) from error
    except errors.ReadOnlySqlTransaction as error:
        raise ReadOnlyError(connection.info.user, connection.info.dbname) from error


@dataclass(frozen=True, slots=True)
class _State:
    """How the publication has a table.

    `root` is the table as whose changes those of this one are sent instead of its own.
    `lacking` names the relations of the table's partition tree whose replica identity is not full.
    `since` is the transaction id (`xid`) that put the table, or an ancestor, into the publication;
    None: too long ago for any transaction to be older.
    """

    schema: str
    name: str
    permanent: bool
    publication_exists: bool
    all_operations: bool
    root: str | None
    alterable: bool
    published: bool
    filtered: bool
    since: str | None
    lacking: list[list[str]]
    tree: list[int]

    @property
    def complete(self) -> bool:
        return self.published and not self.lacking


# `line` is the table and what it is a partition of: being published through any of these is enough.
# `tree` is the table and its partitions: the relations that rows are written to.
# A frozen row keeps its xmin, and an age that has wrapped around is negative: long ago.
_STATE_QUERY: LiteralString = """
    with
    line as (
        select %(oid)s::oid as oid union select pg_partition_ancestors(%(oid)s::oid)::oid
    ),
    tree as (
        select %(oid)s::oid as oid union select relid::oid from pg_partition_tree(%(oid)s::oid)
    ),
    publication as (
        select oid, xmin as since, pubowner, puballtables, pubviaroot,
            pubinsert and pubupdate and pubdelete and pubtruncate as all_operations
        from pg_publication where pubname = %(publication)s
    ),
    entries as (
        select since, false as filtered from publication where puballtables
        union all
        select r.xmin,
            to_jsonb(r) ->> 'prqual' is not null or to_jsonb(r) ->> 'prattrs' is not null
        from publication p join pg_publication_rel r on r.prpubid = p.oid
        where r.prrelid in (select oid from line)
        {schemas}
    )
    select
        n.nspname as schema, c.relname as name, c.relpersistence = 'p' as permanent,
        p.oid is not null as publication_exists,
        coalesce(p.all_operations, false) as all_operations,
        case when p.pubviaroot then (
            select format('%%s.%%s', m.nspname, l.relname)
            from pg_partition_ancestors(c.oid) a
            join pg_class l on l.oid = a.relid join pg_namespace m on m.oid = l.relnamespace
            where a.relid <> c.oid and (
                p.puballtables
                or exists (
                    select from pg_publication_rel r
                    where r.prpubid = p.oid and r.prrelid = a.relid
                )
                {ancestor_schemas}
            )
            limit 1
        ) end as root,
        pg_has_role(c.relowner, 'USAGE') and coalesce(pg_has_role(p.pubowner, 'USAGE'), false)
            as alterable,
        exists (select from entries) as published,
        coalesce((select bool_and(filtered) from entries), false) as filtered,
        (select since::text from entries where age(since) >= 0 order by age(since) desc limit 1)
            as since,
        array(
            select array[m.nspname, l.relname]::text[]
            from tree join pg_class l using (oid) join pg_namespace m on m.oid = l.relnamespace
            where l.relkind in ('r', 'p') and l.relreplident <> 'f'
            order by l.oid <> c.oid, m.nspname, l.relname
        ) as lacking,
        array(select oid from tree) as tree
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    left join publication p on true
    where c.oid = %(oid)s
"""
# Postgres 15 brought publications of whole schemas.
_SCHEMA_ENTRIES: LiteralString = """
        union all
        select s.xmin, false
        from publication p join pg_publication_namespace s on s.pnpubid = p.oid
        where s.pnnspid in (select relnamespace from pg_class join line using (oid))
"""
_ANCESTOR_SCHEMAS: LiteralString = """
                or exists (
                    select from pg_publication_namespace s
                    where s.pnpubid = p.oid and s.pnnspid = l.relnamespace
                )
"""
_STATE_QUERY_14: LiteralString = _STATE_QUERY.replace("{schemas}", "").replace(
    "{ancestor_schemas}", ""
)
_STATE_QUERY_15: LiteralString = _STATE_QUERY.replace("{schemas}", _SCHEMA_ENTRIES).replace(
    "{ancestor_schemas}", _ANCESTOR_SCHEMAS
)


async def ensure_table_published(
    connection: psycopg.AsyncConnection,
    publication: str,
    table: Table,
    *,
    manual: bool,
    lock_timeout: float = 5.0,
    writers_timeout: float = 30.0,
) -> None:
    """Return once every change of the table from now on arrives complete, with its old row.

    When this returns, a snapshot taken afterwards together with the changes that the slot delivers
    misses nothing. Adds the table to the publication and sets REPLICA IDENTITY FULL (of a
    partitioned table: on all its partitions too) where that is missing, and makes a publication
    anew that somebody has dropped; in `manual` mode, or without the privileges, it only checks.
    `lock_timeout` and `writers_timeout` are seconds. Several callers at once, in any number of
    processes, are fine. Raises PublicationError.
    """
    try:
        state = await _read_state(connection, publication, table)
    except PublicationNotFoundError:
        await ensure_publication(connection, publication, manual=manual)
        state = await _read_state(connection, publication, table)
    if not state.all_operations:
        raise OperationsNotPublishedError(publication)
    if state.root is not None:
        raise PublishedAsRootError(publication, table, state.root)
    if state.complete and state.since is not None:
        margin = _FOREIGN_MARGIN if manual else 0
        await _outlast_writers(connection, table, state, state.since, margin, writers_timeout)
    elif not state.complete:
        if manual or not state.alterable:
            _refuse(state, publication, table, manual=manual)
        state = await _publish(connection, publication, table, lock_timeout)
    if state.filtered:
        raise TableFilteredError(publication, table)


async def _read_state(
    connection: psycopg.AsyncConnection, publication: str, table: Table
) -> _State:
    """Raises TableGoneError, PublicationNotFoundError and TableNotReplicatedError."""
    version = connection.info.server_version
    cursor = await connection.cursor(row_factory=class_row(_State)).execute(
        _STATE_QUERY_15 if version >= 150000 else _STATE_QUERY_14,
        {"oid": table.oid, "publication": publication},
    )
    state = await cursor.fetchone()
    if state is None or (state.schema, state.name) != (table.schema, table.name):
        raise TableGoneError(table)
    if not state.publication_exists:
        raise PublicationNotFoundError(publication)
    if not state.permanent:
        raise TableNotReplicatedError(table)
    return state


def _refuse(state: _State, publication: str, table: Table, *, manual: bool) -> NoReturn:
    if not state.published:
        raise TableNotPublishedError(publication, table, manual=manual)
    raise ReplicaIdentityNotFullError([(schema, name) for schema, name in state.lacking])


async def _publish(
    connection: psycopg.AsyncConnection, publication: str, table: Table, lock_timeout: float
) -> _State:
    """Try until it works or `lock_timeout` seconds have passed."""
    deadline = time.monotonic() + lock_timeout
    attempt = _FIRST_ATTEMPT_S
    while True:
        try:
            # Reading locks the partitions, lightly: two that then ask for more would deadlock.
            state = await _read_state(connection, publication, table)
            async with connection.transaction():
                return await _alter(connection, publication, table, state, attempt)
        except errors.InsufficientPrivilege as error:
            # e.g. a partition that belongs to somebody else
            return await _alter_by_others(connection, publication, table, error)
        except (errors.UndefinedTable, errors.InvalidSchemaName) as error:
            raise TableGoneError(table) from error
        except errors.ReadOnlySqlTransaction as error:
            raise ReadOnlyError(connection.info.user, connection.info.dbname) from error
        except (errors.LockNotAvailable, errors.DeadlockDetected) as error:
            if time.monotonic() >= deadline:
                # Another node may have done it meanwhile, and have waited for all writers.
                if (state := await _read_state(connection, publication, table)).complete:
                    return state
                holder = await lock_holder(connection, table.oid)
                raise TableLockTimeoutError(table, holder) from error
        except (errors.DuplicateObject, errors.UniqueViolation, errors.InternalError_):
            # Somebody else alters the same rows of the catalog ("tuple concurrently updated").
            if time.monotonic() >= deadline:
                raise
        # Nodes that got into each other's way must not do so again.
        await asyncio.sleep(_PAUSE_S * random.uniform(0.5, 2.0))
        attempt = min(2 * attempt, max(deadline - time.monotonic(), _PAUSE_S))


async def _alter_by_others(
    connection: psycopg.AsyncConnection, publication: str, table: Table, cause: psycopg.Error
) -> _State:
    """What is left without the privileges: the work of another node that has them, or a refusal."""
    state = await _read_state(connection, publication, table)
    if state.complete:
        return state
    try:
        _refuse(state, publication, table, manual=False)
    except PublicationError as refusal:
        raise refusal from cause


async def _alter(
    connection: psycopg.AsyncConnection,
    publication: str,
    table: Table,
    state: _State,
    attempt: float,
) -> _State:
    """One attempt, at the beginning of a transaction. `state` tells which lock it needs.

    The lock comes first and is the strongest that is needed: to ask for a stronger one later could
    deadlock with a reader that goes on to write. It covers the partitions, in the order in which
    queries lock them. Both modes wait for transactions that have written to the table.
    """
    mode = sql.SQL("access exclusive" if state.lacking else "share row exclusive")
    # Of a table with inheritance children only itself: they are tables of their own.
    only = sql.SQL("" if table.kind == "p" else "only ")
    name = sql.Identifier(table.schema, table.name)
    milliseconds = sql.Literal(max(1, round(attempt * 1000)))
    await connection.execute(sql.SQL("set local lock_timeout = {}").format(milliseconds))
    await connection.execute(sql.SQL("lock table {}{} in {} mode").format(only, name, mode))
    state = await _read_state(connection, publication, table)
    if not state.published:
        await connection.execute(
            sql.SQL("alter publication {} add table {}{}").format(
                sql.Identifier(publication), only, name
            )
        )
    for lacking in state.lacking:
        await connection.execute(
            sql.SQL("alter table only {} replica identity full").format(sql.Identifier(*lacking))
        )
    return await _read_state(connection, publication, table)


async def _outlast_writers(
    connection: psycopg.AsyncConnection,
    table: Table,
    state: _State,
    since: str,
    margin: int,
    seconds: float,
) -> None:
    """Wait for transactions that wrote to the table and began before transaction `since` did."""
    writers = await find_writers(connection, state.tree, since, margin)
    deadline = time.monotonic() + seconds
    while writers:
        if time.monotonic() >= deadline:
            raise WritersInFlightError(table, await lock_holder(connection, table.oid))
        await asyncio.sleep(_PAUSE_S)
        # Only those seen at first: within the margin, new ones could go on coming.
        writers &= await find_writers(connection, state.tree, since, margin)
