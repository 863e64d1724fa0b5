"""The engine: reads Postgres's WAL and writes the log. One process, one per log.

It connects, takes the slot's lock, makes sure that the log continues where the slot stands, and
streams. When anything breaks it says why, forgets what is not durable and starts over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import signal
import time
from collections.abc import Callable

import psycopg

from engine import pgoutput
from engine.catalog import read_ancestors
from engine.errors import PgtideError, ProtocolError
from engine.lifeline import hold_lifeline
from engine.log.doorbell import Doorbell, Pulse
from engine.log.writer import LogFullError, LogWriter
from engine.logs import configure
from engine.lsn import Lsn, format_lsn, parse_lsn
from engine.publication import ensure_publication
from engine.settings import Settings
from engine.slot import Slot, drop_slot, ensure_slot, read_slot
from engine.transactions import Transactions
from engine.walsender import ReplicationError, SlotInUseError, Walsender

log = logging.getLogger("engine")

BATCH_SECONDS = 0.02
"""The longest that a complete transaction waits for others to share its disk flush."""

PULSE_SECONDS = 0.002
"""The least time between two pulses that only say how far the stream has come."""

HEARTBEAT_SECONDS = 1.0

SILENCE_SECONDS = 20.0
"""A connection on which Postgres stays silent for so long, although asked, is given up."""

BACKOFF_SECONDS = (0.2, 10.0)


class Stream:
    """One life of the replication stream: from `START_REPLICATION` to its end or an error."""

    def __init__(
        self,
        walsender: Walsender,
        writer: LogWriter,
        doorbell: Doorbell,
        transactions: Transactions,
    ) -> None:
        assert writer.state is not None
        self._walsender = walsender
        self._writer = writer
        self._doorbell = doorbell
        self._transactions = transactions
        self._received = writer.state.progress
        self._progress = writer.state.progress
        self._acknowledged = 0
        self._in_stream = False
        self._rung = 0.0
        self._pulse_due = False
        self._heard = time.monotonic()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._poll = select.poll()
        self._poll.register(walsender.fileno(), select.POLLIN)

    async def run(self) -> None:
        """Stream until something fails; raises what did."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._walsender.fileno(), self._guarded, self._on_readable)
        try:
            self._guarded(self._on_readable)
            while not self._failed.done():
                self._guarded(self._beat)
                await asyncio.wait([self._failed], timeout=HEARTBEAT_SECONDS)
            await self._failed
        finally:
            loop.remove_reader(self._walsender.fileno())

    def _guarded(self, step: Callable[[], None]) -> None:
        """Run one step of the loop; what it raises ends the stream."""
        try:
            step()
        except Exception as error:
            if not self._failed.done():
                self._failed.set_exception(error)

    # -- receiving ---------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        """Take all that is here; flush as soon as nothing more is, or the batch is old enough."""
        began = self._heard = time.monotonic()
        while True:
            self._walsender.consume()
            for data in self._walsender.receive():
                self._take(data)
            if not self._poll.poll(0):
                break
            if time.monotonic() - began > BATCH_SECONDS:
                break
        self._flush()

    def _take(self, data: bytes) -> None:
        if data[0] == pgoutput.XLOG_DATA:
            kind = data[pgoutput.XLOG_HEADER]
            if kind in pgoutput.CHANGES:
                self._take_change(data)
            else:
                self._take_message(data)
        elif data[0] == pgoutput.KEEPALIVE:
            self._take_keepalive(data)
        else:
            raise ProtocolError(f"unknown message kind {data[0]:#x} in the replication stream")

    def _take_change(self, data: bytes) -> None:
        if self._in_stream:
            xid, change = pgoutput.decode_streamed_change(data, pgoutput.XLOG_HEADER)
            self._transactions.streamed_change(xid, change, len(data))
        else:
            change = pgoutput.decode_change(data, pgoutput.XLOG_HEADER)
            self._transactions.change(change, len(data))

    def _take_message(self, data: bytes) -> None:
        xid, message = pgoutput.decode(data, pgoutput.XLOG_HEADER, streamed=self._in_stream)
        self._transactions.message(message, xid)
        if isinstance(message, pgoutput.StreamStart):
            self._in_stream = True
        elif isinstance(message, pgoutput.StreamStop):
            self._in_stream = False
        elif isinstance(message, (pgoutput.Commit, pgoutput.StreamCommit)):
            self._received = max(self._received, message.end_lsn)

    def _take_keepalive(self, data: bytes) -> None:
        keepalive = pgoutput.decode_keepalive(data)
        self._received = max(self._received, keepalive.wal_end)
        self._flush()
        if not self._transactions.in_flight and keepalive.wal_end > self._progress:
            # Postgres has sent every transaction that committed before this, and all are durable.
            self._progress = keepalive.wal_end
            self._pulse_soon()
        if keepalive.reply_requested:
            self._acknowledge(force=True)

    # -- durability --------------------------------------------------------------------------------

    def _flush(self) -> None:
        if self._transactions.uncommitted:
            self._transactions.flush()
            assert self._writer.state is not None
            self._progress = max(self._progress, self._writer.state.progress)
            self._ring()

    def _acknowledge(self, *, force: bool = False) -> None:
        """Tell Postgres what is durable: what the log on disk says, and nothing else."""
        state = self._writer.state
        assert state is not None
        if self._progress > state.progress and not self._transactions.in_flight:
            state = self._writer.commit(state.commit_lsn, state.end_lsn, self._progress)
        if force or state.progress > self._acknowledged:
            self._walsender.acknowledge(max(self._received, state.progress), state.progress)
            self._acknowledged = state.progress

    def _beat(self) -> None:
        """Once a second: acknowledge, find new readers, tell all how far we are."""
        self._check_alive()
        self._acknowledge()
        self._doorbell.refresh()
        self._ring()

    def _check_alive(self) -> None:
        """A connection can be dead without an end of file; Postgres answers a request at once."""
        silence = time.monotonic() - self._heard
        if silence > SILENCE_SECONDS:
            raise ReplicationError(
                f"Postgres has not answered for {silence:.0f} s: the connection is taken for dead"
            )
        if silence > SILENCE_SECONDS / 2:
            self._acknowledge_only(reply=True)

    def on_progress(self) -> None:
        """Called while a large transaction moves into the log, which may take seconds."""
        if time.monotonic() - self._rung > HEARTBEAT_SECONDS:
            self._acknowledge_only()
            self._ring()

    def _acknowledge_only(self, *, reply: bool = False) -> None:
        state = self._writer.state
        assert state is not None
        written = max(self._received, state.progress)
        self._walsender.acknowledge(written, state.progress, reply=reply)

    # -- waking readers ----------------------------------------------------------------------------

    def _ring(self) -> None:
        self._rung = time.monotonic()
        self._doorbell.ring(Pulse(self._progress, True))

    def _pulse_soon(self) -> None:
        """Ring now, or shortly if we just did: other databases' traffic can move the stream often."""
        if time.monotonic() - self._rung > PULSE_SECONDS:
            self._ring()
        elif not self._pulse_due:
            self._pulse_due = True
            asyncio.get_running_loop().call_later(PULSE_SECONDS, self._pulse)

    def _pulse(self) -> None:
        self._pulse_due = False
        self._ring()


class Replicator:
    """Keeps a `Stream` running for ever: sets up, reconnects with back-off, trims the log."""

    def __init__(self, settings: Settings) -> None:
        if settings.database_url is None:
            raise PgtideError("no database to follow: set DATABASE_URL or --database-url")
        self._settings = settings
        self._url = settings.database_url
        self._doorbell = Doorbell(settings.log_dir)
        self._stream: Stream | None = None

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
        statement = f"select pg_try_advisory_lock(hashtext('{self._settings.slot}'))"
        if walsender.query(statement)[0][0] == "t":
            return
        log.warning("another engine holds the lock of slot %s: waiting", self._settings.slot)
        while walsender.query(statement)[0][0] != "t":
            await asyncio.sleep(0.5)

    async def _prepare(self, walsender: Walsender, writer: LogWriter) -> None:
        """Publication, slot, and a log that continues exactly where the slot stands."""
        system, timeline = walsender.query("IDENTIFY_SYSTEM")[0][:2]
        name = self._settings.slot
        async with await psycopg.AsyncConnection.connect(
            self._url, autocommit=True, application_name="pgtide"
        ) as connection:
            await ensure_publication(
                connection,
                self._settings.publication,
                manual=self._settings.manual_table_publishing,
            )
            slot = await read_slot(connection, name)
            if slot is not None and slot.lost:
                log.warning(
                    "slot %s has lost its WAL (max_slot_wal_keep_size): making a new one", name
                )
                await drop_slot(connection, name)
                slot = None
            created = slot is None
            if slot is None and not self._settings.temporary_slot:
                slot = await ensure_slot(connection, name)
        if slot is None:
            slot = _temporary_slot(walsender, name)
        identity = f"{system}/{timeline}/{name}"
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
                lambda oid: read_ancestors(lookup, oid),
                lambda: stream.on_progress(),
            )
            stack.callback(transactions.close)
            stream = Stream(walsender, writer, self._doorbell, transactions)
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
    asyncio.run(_main(settings))


if __name__ == "__main__":
    main()
