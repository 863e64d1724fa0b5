"""The logical replication slot: what keeps the WAL that the log does not hold yet."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import errors

from engine.errors import DatabaseSetupError
from engine.lsn import Lsn, parse_lsn
from engine.postgres.sql_text import quote_ident, quote_literal
from engine.replication.writers import oldest_writer

PLUGIN = "pgoutput"
_NO_LSN = Lsn(0)


class SlotError(DatabaseSetupError):
    """The replication slot cannot be created or used."""

    code = "replication_slot"


class SlotTimeoutError(SlotError):
    """The slot's creation waits for transactions that do not end."""

    code = "slot_timeout"


class SlotActiveError(SlotError):
    """Another process reads from the slot."""

    code = "slot_active"


@dataclass(frozen=True, slots=True)
class Slot:
    """A replication slot as pg_replication_slots shows it.

    `confirmed_flush_lsn` is 0 while the slot is being made, `restart_lsn` also of a slot that lost
    its WAL. `wal_status` is `reserved`, `extended`, `unreserved` or `lost`; None for a slot that
    never reserved any. `safe_wal_size` is the bytes of WAL that may still be written before the
    slot can be lost, None without max_slot_wal_keep_size. `invalidation_reason` is known from
    Postgres 17 on.
    """

    name: str
    plugin: str = PLUGIN
    database: str = ""
    temporary: bool = False
    active: bool = False
    active_pid: int | None = None
    restart_lsn: Lsn = _NO_LSN
    confirmed_flush_lsn: Lsn = _NO_LSN
    wal_status: str | None = None
    safe_wal_size: int | None = None
    invalidation_reason: str | None = None

    @property
    def lost(self) -> bool:
        """Whether the slot can never be read again: drop it, and begin a new log."""
        return self.wal_status == "lost" or self.invalidation_reason is not None

    @property
    def unfinished(self) -> bool:
        """Whether a process of the server is still making it."""
        return self.active_pid is not None and not self.confirmed_flush_lsn


@dataclass(frozen=True, slots=True)
class Server:
    """Facts about the server, to recognise it after a restart, a restore or a fail-over.

    `version` is the number (160004 for 16.4). `wal_sender_timeout_ms` is 0 if there is none.
    """

    system_identifier: str
    timeline: int
    version: int
    wal_level: str
    in_recovery: bool
    database: str
    wal_sender_timeout_ms: int


async def read_slot(connection: psycopg.AsyncConnection, name: str) -> Slot | None:
    """The slot of that name; None if there is none.

    Works on an ordinary connection and on one with `replication=database`.
    """
    # Only simple queries, with values in their text, are allowed on a replication connection. The
    # reason for an invalidation is a column from Postgres 17 on.
    cursor = await connection.execute(
        f"""
        select slot_name, coalesce(plugin, 'none (physical)'), coalesce(database, ''), temporary,
            active, active_pid, coalesce(restart_lsn, '0/0')::text,
            coalesce(confirmed_flush_lsn, '0/0')::text, wal_status, safe_wal_size,
            to_jsonb(s) ->> 'invalidation_reason'
        from pg_replication_slots s
        where slot_name = {quote_literal(name)}
        """.encode(),
        prepare=False,
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    name, plugin, database, temporary, active, active_pid, restart, confirmed, *rest = row
    return Slot(
        name,
        plugin,
        database,
        temporary,
        active,
        active_pid,
        parse_lsn(restart),
        parse_lsn(confirmed),
        *rest,
    )


async def ensure_slot(
    connection: psycopg.AsyncConnection,
    name: str,
    *,
    temporary: bool = False,
    creation_timeout: float = 30.0,
) -> Slot:
    """The slot, made if it is missing.

    A new slot waits until every transaction of the whole server that runs now and has written
    something has ended: at most `creation_timeout` seconds. The connection is in autocommit mode. A
    temporary slot ends with the connection that made it, so make it on the replication connection
    that will read it.

    A slot that is lost is returned as it is (`Slot.lost`). Raises SlotTimeoutError, and SlotError
    if the name belongs to another kind of slot or database or if the server refuses.
    """
    slot = await read_slot(connection, name)
    if slot is None:
        await _create(connection, name, temporary, creation_timeout)
        slot = await read_slot(connection, name)
    if slot is None:
        raise SlotError(f'Replication slot "{name}" was dropped while being set up; start again')
    if slot.plugin != PLUGIN or slot.database != await _current_database(connection):
        raise SlotError(
            f'Replication slot "{name}" exists for plugin {slot.plugin} and database '
            f"{slot.database}. Set another PGTIDE_STREAM_ID, or drop it if nothing "
            f"uses it: {drop_statement(name)}"
        )
    return slot


async def _current_database(connection: psycopg.AsyncConnection) -> str:
    # Asked of the server, because a pooler may know the database by another name.
    row = await (await connection.execute(b"select current_database()", prepare=False)).fetchone()
    return "" if row is None else row[0]


async def drop_slot(connection: psycopg.AsyncConnection, name: str) -> bool:
    """Drop the slot; False if there was none. Raises SlotActiveError while a process reads it."""
    try:
        await connection.execute(drop_statement(name).encode(), prepare=False)
    except errors.UndefinedObject:
        return False
    except errors.ObjectInUse as error:
        slot = await read_slot(connection, name)
        raise active_error(name, slot.active_pid if slot else None) from error
    except errors.InsufficientPrivilege as error:
        raise _privilege_error(connection) from error
    return True


async def end_creator(connection: psycopg.AsyncConnection, slot: Slot) -> None:
    """End a process of ours that still makes this slot, for an engine that was killed meanwhile.

    Unfinished, the slot goes with it. Returns when it is gone, or after a few seconds.
    """
    await connection.execute(
        f"""
        select pg_terminate_backend(pid, 5000) from pg_stat_activity
        where pid = {slot.active_pid} and usename = current_user and pid <> pg_backend_pid()
            and application_name like 'pgtide%'
        """.encode(),
        prepare=False,
    )


async def identify(connection: psycopg.AsyncConnection) -> Server:
    """Facts about the server, by functions that any role may call on an ordinary connection.

    Where an administrator revoked them, IDENTIFY_SYSTEM on the replication connection tells the
    same system identifier and timeline.
    """
    # pg_control_checkpoint() has the timeline of the last checkpoint, which is behind for a moment
    # after a promotion; the name of the current WAL file begins with the present timeline.
    cursor = await connection.execute(
        b"""
        select (select system_identifier::text from pg_control_system()),
            case when pg_is_in_recovery()
                then (select timeline_id from pg_control_checkpoint())
                else ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int
            end,
            current_setting('server_version_num')::int, current_setting('wal_level'),
            pg_is_in_recovery(), current_database()::text,
            (select setting::int from pg_settings where name = 'wal_sender_timeout')
        """
    )
    row = await cursor.fetchone()
    assert row is not None
    return Server(*row)


def drop_statement(name: str) -> str:
    """SQL that drops the slot."""
    return f"select pg_drop_replication_slot({quote_literal(name)})"


def active_error(name: str, pid: int | None) -> SlotActiveError:
    """The error for a slot that another process reads, also for who fails to start replication."""
    process = "another process" if pid is None else f"process {pid} of the server"
    return SlotActiveError(
        f'Replication slot "{name}" is in use by {process}. If that is another pgtide with the '
        "same stream id, stop it or give one of them another PGTIDE_STREAM_ID; if it "
        f"is a dead connection, run: select pg_terminate_backend({pid or '<pid>'})"
    )


async def _create(
    connection: psycopg.AsyncConnection, name: str, temporary: bool, creation_timeout: float
) -> None:
    """By the SQL function: unlike CREATE_REPLICATION_SLOT it obeys a time limit of its own."""
    milliseconds = max(1, round(creation_timeout * 1000))
    create = (
        f"select pg_create_logical_replication_slot({quote_literal(name)}, '{PLUGIN}', "
        f"{'true' if temporary else 'false'})"
    )
    try:
        async with connection.transaction():
            await connection.execute(f"set local statement_timeout = {milliseconds}".encode())
            await connection.execute(create.encode(), prepare=False)
    except errors.DuplicateObject:
        return  # another process was faster
    except errors.QueryCanceled as error:
        raise await _timeout_error(connection, name, creation_timeout) from error
    except errors.InsufficientPrivilege as error:
        raise _privilege_error(connection) from error
    except errors.ConfigurationLimitExceeded as error:
        raise SlotError(
            "All replication slots of the server are in use. Drop one that nothing needs (select "
            "* from pg_replication_slots), or run: alter system set max_replication_slots = … and "
            "restart Postgres"
        ) from error
    except errors.ObjectNotInPrerequisiteState as error:
        raise SlotError(
            f"Postgres cannot make a logical slot ({error.diag.message_primary}). On the primary, "
            "run: alter system set wal_level = logical, and restart Postgres"
        ) from error
    except errors.InvalidName as error:
        raise SlotError(
            f'"{name}" cannot be the name of a replication slot: set a '
            "PGTIDE_STREAM_ID of lower-case letters, digits and underscores"
        ) from error


async def _timeout_error(
    connection: psycopg.AsyncConnection, name: str, creation_timeout: float
) -> SlotTimeoutError:
    oldest = await oldest_writer(connection)
    return SlotTimeoutError(
        f'Replication slot "{name}" was not ready within {creation_timeout:g} s, because '
        "transactions that began before it have not ended. Check that you don't have pending "
        f"transactions in the database. The oldest: {oldest or 'has ended by now; try again'}"
    )


def _privilege_error(connection: psycopg.AsyncConnection) -> SlotError:
    user = connection.info.user
    return SlotError(
        f'Role "{user}" may not use replication slots. Run as a superuser: '
        f"alter role {quote_ident(user)} replication (on Amazon RDS: grant rds_replication to "
        f"{quote_ident(user)})"
    )
