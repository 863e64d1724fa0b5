"""What must be in place before the stream begins: publication, slot, and a log that continues there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import psycopg
from psycopg import errors

from engine.configuration.settings import Settings
from engine.errors import DatabaseSetupError
from engine.log.writer import LogWriter
from engine.lsn import Lsn, format_lsn, parse_lsn
from engine.postgres.database_url import named
from engine.postgres.publication import Publication, ensure_publication
from engine.replication.slot import Slot, drop_slot, end_creator, ensure_slot, read_slot
from engine.replication.walsender import Walsender
from engine.replication.writers import oldest_writer

log = logging.getLogger("engine")

CREATION_SECONDS = 600.0
"""After so long the creation of a slot is begun anew."""

PATIENCE_SECONDS = 2.0
REMIND_SECONDS = 30.0


async def prepare(
    settings: Settings,
    url: str,
    walsender: Walsender,
    writer: LogWriter,
    slot_name: str,
    on_slot: Callable[[], None],
) -> None:
    """Make the publication and the slot unless they are there, and the log begin where the slot does.

    `on_slot` is called when the slot has to be made, which can take as long as the longest open
    transaction. Raises DatabaseSetupError.
    """
    async with await _connect(url) as connection:
        await _require_primary(connection)
        # Asked only now: the end of a recovery begins another timeline.
        system, timeline = (await walsender.ask("IDENTIFY_SYSTEM"))[0][:2]
        publication = await ensure_publication(
            connection, settings.publication, manual=settings.manual_table_publishing
        )
        identity = f"{system}/{timeline}/{slot_name}/{publication.oid}"
        slot = await read_slot(connection, slot_name)
        if slot is not None and slot.unfinished:
            await end_creator(connection, slot)
            slot = await read_slot(connection, slot_name)
        useless = slot and _why_useless(slot, writer.identity, publication, settings)
        if slot is not None and useless:
            log.warning("making slot %s anew: %s", slot_name, useless)
            await drop_slot(connection, slot_name)
            slot = None
        created = slot is None
        if created:
            on_slot()
        async with _explaining(url, slot_name) if created else contextlib.nullcontext():
            if settings.temporary_slot:
                slot = await _temporary_slot(walsender, slot_name)
            else:
                # Checks one that exists, too: it may belong to another database or plugin.
                slot = await ensure_slot(connection, slot_name, creation_timeout=CREATION_SECONDS)
    empty = writer.state is None
    reason = why_new_epoch(writer, slot, created=created, identity=identity)
    if reason:
        state = writer.begin_epoch(slot.confirmed_flush_lsn, identity)
        if empty:
            log.info("the log begins at %s", format_lsn(state.progress))
        else:
            log.warning("the log begins anew at %s: %s", format_lsn(state.progress), reason)


async def _connect(url: str) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(named(url), autocommit=True)


async def _require_primary(connection: psycopg.AsyncConnection) -> None:
    """Raises DatabaseSetupError while the server only replays WAL: what it streams then would go on
    over its promotion, unnoticed, and it cannot be told what to publish."""
    row = await (await connection.execute(b"select pg_is_in_recovery()")).fetchone()
    if row is not None and row[0]:
        raise DatabaseSetupError(
            "the server is in recovery; waiting until it is the primary. If it is to stay a standby, "
            "set DATABASE_URL to its primary"
        )


def _why_useless(
    slot: Slot, identity: str, publication: Publication, settings: Settings
) -> str | None:
    """Why a slot cannot be read any more, or None if it can."""
    if slot.lost:
        return "it has lost its WAL (max_slot_wal_keep_size)"
    if identity and not identity.endswith(f"/{publication.oid}"):
        return "the publication was made anew, and WAL from before cannot be read with it"
    if settings.temporary_slot:
        return "a temporary one is asked for"
    return None


async def _temporary_slot(walsender: Walsender, name: str) -> Slot:
    """A slot that ends with the connection that reads it."""
    command = f'CREATE_REPLICATION_SLOT "{name}" TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT'
    lsn = parse_lsn((await walsender.ask(command))[0][1] or "")
    return Slot(name, temporary=True, confirmed_flush_lsn=Lsn(lsn))


def why_new_epoch(writer: LogWriter, slot: Slot, *, created: bool, identity: str) -> str | None:
    """Why the log cannot simply go on from where it ends, or None if it can."""
    state = writer.state
    if state is None:
        return "it is new"
    if created:
        return "the replication slot was gone, so changes since then are unknown"
    if writer.identity != identity:
        return f"this is another server or timeline ({identity}, the log is of {writer.identity})"
    if slot.confirmed_flush_lsn > state.progress:
        return (
            f"the slot stands at {format_lsn(slot.confirmed_flush_lsn)}, past the log's end "
            f"{format_lsn(state.progress)}: somebody else has read from it, or the log is an old copy"
        )
    return None


@asynccontextmanager
async def _explaining(url: str, slot_name: str) -> AsyncGenerator[None]:
    """While the slot is made inside: say what it waits for, and help it along."""
    task = asyncio.create_task(_explain(url, slot_name))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("cannot tell what slot %s waits for", slot_name, exc_info=error)


async def _explain(url: str, slot_name: str) -> None:
    await asyncio.sleep(PATIENCE_SECONDS)
    said: tuple[int | None, str | None] | None = None
    when = 0.0
    with contextlib.suppress(psycopg.Error, OSError):
        async with await _connect(url) as connection:
            while True:
                oldest = await oldest_writer(connection)
                who = oldest and (oldest.pid, oldest.prepared)
                if oldest and (who != said or time.monotonic() > when + REMIND_SECONDS):
                    log.warning(
                        "slot %s is being made and waits for transactions that began before. The "
                        "oldest: %s. It goes on by itself; to end that one: %s",
                        *(slot_name, oldest, oldest.end_statement),
                    )
                    said, when = who, time.monotonic()
                await _log_running_transactions(connection)
                await asyncio.sleep(PATIENCE_SECONDS)


async def _log_running_transactions(connection: psycopg.AsyncConnection) -> None:
    """The slot is ready once the WAL says that the transactions have ended. On a quiet server
    nobody else may write that for a long time."""
    if connection.info.server_version < 160000:
        return
    with contextlib.suppress(errors.InsufficientPrivilege):
        await connection.execute(b"select pg_log_standby_snapshot()")
