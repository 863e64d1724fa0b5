"""The engine: reads Postgres's WAL and writes the log. One process, one per log.

It connects, takes the slot's lock, makes sure that the log continues where the slot stands, and
streams. When anything breaks it says why, forgets what is not durable and starts over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time

import psycopg

from engine.catalog import read_ancestors
from engine.errors import PgtideError
from engine.lifeline import hold_lifeline
from engine.log.doorbell import Doorbell, Pulse
from engine.log.writer import LogFullError, LogWriter
from engine.logs import configure
from engine.lsn import Lsn, format_lsn, parse_lsn
from engine.memory import collect_rarely
from engine.publication import Publication, ensure_publication
from engine.settings import Settings
from engine.slot import Slot, drop_slot, ensure_slot, read_slot
from engine.stream import Stream
from engine.transactions import Transactions
from engine.walsender import SlotInUseError, Walsender

log = logging.getLogger("engine")

BACKOFF_SECONDS = (0.2, 10.0)


class Replicator:
    """Keeps a `Stream` running for ever: sets up, reconnects with back-off, trims the log."""

    def __init__(self, settings: Settings) -> None:
        if settings.database_url is None:
            raise PgtideError("no database to follow: set DATABASE_URL or --database-url")
        self._settings = settings
        self._url = settings.database_url
        self._doorbell = Doorbell(settings.log_dir)
        self._backend = 0

    async def run(self) -> None:
        """Replicate until cancelled."""
        backoff = BACKOFF_SECONDS[0]
        while True:
            began = time.monotonic()
            try:
                await self._live_once()
            except (PgtideError, psycopg.Error, OSError) as error:
                if time.monotonic() - began > 5:
                    backoff = BACKOFF_SECONDS[0]
                log.error("replication stopped: %s; next try in %.1f s", error, backoff)
            self._doorbell.ring(Pulse(0, False))
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, BACKOFF_SECONDS[1])

    async def _live_once(self) -> None:
        walsender = await asyncio.to_thread(Walsender.connect, self._url)
        writer: LogWriter | None = None
        try:
            await self._take_lock(walsender)
            writer = LogWriter(self._settings.log_dir)
            await self._prepare(walsender, writer)
            await self._run_stream(walsender, writer)
        finally:
            walsender.close()
            if writer is not None:
                writer.close()

    async def _take_lock(self, walsender: Walsender) -> None:
        """The session lock that keeps a second engine out; it lives and dies with the connection."""
        self._end_former(walsender)
        statement = f"select pg_try_advisory_lock(hashtext('{self._settings.slot}'))"
        if walsender.query(statement)[0][0] == "t":
            return
        log.warning("another engine holds the lock of slot %s: waiting", self._settings.slot)
        while walsender.query(statement)[0][0] != "t":
            await asyncio.sleep(0.5)

    def _end_former(self, walsender: Walsender) -> None:
        """End the backend of our last connection, if Postgres has not noticed yet that it is gone: it
        would hold the lock and the slot until `wal_sender_timeout`."""
        former, self._backend = self._backend, walsender.backend_pid
        if former:
            walsender.query(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                f"where pid = {former} and pid <> pg_backend_pid() and usename = current_user "
                "and application_name = 'pgtide' and backend_type = 'walsender'"
            )

    async def _prepare(self, walsender: Walsender, writer: LogWriter) -> None:
        """Publication, slot, and a log that continues exactly where the slot stands."""
        system, timeline = walsender.query("IDENTIFY_SYSTEM")[0][:2]
        name = self._settings.slot
        async with await psycopg.AsyncConnection.connect(
            self._url, autocommit=True, application_name="pgtide"
        ) as connection:
            publication = await ensure_publication(
                connection,
                self._settings.publication,
                manual=self._settings.manual_table_publishing,
            )
            identity = f"{system}/{timeline}/{name}/{publication.oid}"
            slot = await read_slot(connection, name)
            if slot is not None and (useless := _why_useless(slot, writer.identity, publication)):
                log.warning("making slot %s anew: %s", name, useless)
                await drop_slot(connection, name)
                slot = None
            created = slot is None
            if not self._settings.temporary_slot:
                # Checks an existing one: it may belong to another database or plugin.
                slot = await ensure_slot(connection, name)
        if slot is None:
            slot = _temporary_slot(walsender, name)
        reason = _why_new_epoch(writer, slot, created=created, identity=identity)
        if reason:
            state = writer.begin_epoch(slot.confirmed_flush_lsn, identity)
            log.warning("the log begins anew at %s: %s", format_lsn(state.progress), reason)

    async def _run_stream(self, walsender: Walsender, writer: LogWriter) -> None:
        settings = self._settings
        assert writer.state is not None
        start = format_lsn(writer.state.progress)
        await self._start_stream(walsender, start)
        with contextlib.ExitStack() as stack:
            lookup = stack.enter_context(psycopg.connect(self._url, autocommit=True))
            transactions = Transactions(
                writer,
                settings.data_dir / "spool",
                lambda oid, xid: read_ancestors(lookup, oid, xid),
                lambda: stream.on_progress(),
            )
            stack.callback(transactions.close)
            stream = Stream(
                walsender, writer, self._doorbell, transactions, settings.database_silence
            )
            log.info("streaming from %s slot=%s", start, settings.slot)
            trimmer = asyncio.create_task(self._trim(writer))
            try:
                await stream.run()
            finally:
                trimmer.cancel()
                await asyncio.wait([trimmer])

    async def _start_stream(self, walsender: Walsender, start: str) -> None:
        """A predecessor that was killed may hold the slot for a moment: its backend has to notice."""
        deadline = time.monotonic() + 10
        while True:
            try:
                return walsender.start(self._settings.slot, start, self._settings.publication)
            except SlotInUseError:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.1)

    async def _trim(self, writer: LogWriter) -> None:
        """Keep the log within its age and size, a little at a time."""
        settings = self._settings
        while True:
            before = int((time.time() - settings.retention_age) * 1e6)
            try:
                more = writer.trim(before, settings.retention_bytes)
            except LogFullError as error:
                log.error("cannot trim the log: %s", error)
                more = False
            await asyncio.sleep(0.01 if more else 1.0)


def _why_useless(slot: Slot, identity: str, publication: Publication) -> str | None:
    """Why a slot cannot be read any more, or None if it can."""
    if slot.lost:
        return "it has lost its WAL (max_slot_wal_keep_size)"
    if identity and not identity.endswith(f"/{publication.oid}"):
        return "the publication was made anew, and WAL from before cannot be read with it"
    return None


def _temporary_slot(walsender: Walsender, name: str) -> Slot:
    """A slot that ends with the connection that reads it."""
    command = f'CREATE_REPLICATION_SLOT "{name}" TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT'
    lsn = parse_lsn(walsender.query(command)[0][1] or "")
    return Slot(name, temporary=True, confirmed_flush_lsn=Lsn(lsn))


def _why_new_epoch(writer: LogWriter, slot: Slot, *, created: bool, identity: str) -> str | None:
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


async def _main(settings: Settings) -> None:
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await Replicator(settings).run()


def main() -> None:
    """Run the engine with the settings of the environment."""
    settings = Settings.from_environ(os.environ)
    configure("engine", settings.log_level)
    hold_lifeline()
    collect_rarely()
    asyncio.run(_main(settings))


if __name__ == "__main__":
    main()
