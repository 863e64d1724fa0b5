"""The engine: reads Postgres's WAL and writes the log. One process, one per log.

It connects, takes the slot's lock, makes sure that the log continues where the slot stands, and
streams. When anything breaks it says why, forgets what is not durable and starts over. When nobody
asks and nothing happens for long enough it lets go of Postgres until somebody asks again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager

import psycopg

from engine.configuration.settings import Settings
from engine.errors import PgtideError
from engine.log.doorbell import Doorbell, Pulse
from engine.log.writer import LogFullError, LogWriter
from engine.logs import configure
from engine.lsn import format_lsn
from engine.metrics.meter import Meter
from engine.metrics.numbers import Numbers
from engine.postgres.catalog import read_ancestors
from engine.postgres.database_url import APPLICATION_NAME, named
from engine.processes.board import Board, Stage
from engine.processes.lifeline import hold_lifeline
from engine.processes.memory import collect_rarely
from engine.replication.lock import take_lock
from engine.replication.preparation import prepare
from engine.replication.stand_in import StandIn
from engine.replication.stream import Stream
from engine.replication.transactions import Transactions
from engine.replication.walsender import SlotInUseError, Walsender

log = logging.getLogger("engine")

BACKOFF_SECONDS = (0.2, 10.0)
REMIND_SECONDS = 60.0
POST_SECONDS = 1.0
WAKE_SECONDS = 0.03
"""How soon a resting engine hears that somebody asks."""


class Replicator:
    """Keeps a `Stream` running for ever: sets up, reconnects with back-off, trims the log."""

    def __init__(
        self, settings: Settings, board: Board | None = None, numbers: Numbers | None = None
    ) -> None:
        if settings.database_url is None:
            raise PgtideError("no database to follow: set DATABASE_URL or --database-url")
        self._settings = settings
        self._url = settings.database_url
        self._board = board or Board()
        self._doorbell = Doorbell(settings.log_dir)
        self._meter = Meter(numbers or Numbers())
        self._backend = 0
        self._awake_since = time.monotonic()

    async def run(self) -> None:
        """Replicate until cancelled."""
        backoff = BACKOFF_SECONDS[0]
        complaint = Complaint()
        async with _beside(self._keep_posting()):
            while True:
                began = time.monotonic()
                self._board.post(Stage.CONNECTING)
                try:
                    await self._live_once()
                    await self._rest()
                    backoff = BACKOFF_SECONDS[0]
                    continue
                except (PgtideError, psycopg.Error, OSError) as error:
                    if time.monotonic() - began > 5:
                        backoff = BACKOFF_SECONDS[0]
                    if self._board.stage is Stage.STREAMING:
                        complaint = Complaint()
                    complaint.say(str(error))
                self._doorbell.ring(Pulse(0, False))
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, BACKOFF_SECONDS[1])

    async def _live_once(self) -> None:
        """Until something fails, or until there is nothing to do."""
        walsender = await asyncio.to_thread(Walsender.connect, self._url)
        writer: LogWriter | None = None
        name = self._slot_name()
        try:
            await self._end_former(walsender)
            await take_lock(walsender, name, lambda: self._board.post(Stage.WAITING))
            self._board.post(Stage.PREPARING)
            writer = LogWriter(self._settings.log_dir)
            await prepare(
                self._settings,
                *(self._url, walsender, writer, name),
                lambda: self._board.post(Stage.SLOT),
            )
            await self._run_stream(walsender, writer, name)
        finally:
            walsender.close()
            if writer is not None:
                writer.close()

    def _slot_name(self) -> str:
        settings = self._settings
        if settings.temporary_slot and settings.temporary_slot_random_name:
            return f"pgtide_{secrets.token_hex(16)}"
        return settings.slot

    async def _end_former(self, walsender: Walsender) -> None:
        """End the backend of our last connection, if Postgres has not noticed yet that it is gone: it
        would hold the lock and the slot until `wal_sender_timeout`."""
        former, self._backend = self._backend, walsender.backend_pid
        if former:
            await walsender.ask(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                f"where pid = {former} and pid <> pg_backend_pid() and usename = current_user "
                f"and application_name = '{APPLICATION_NAME}' and backend_type = 'walsender'"
            )

    async def _run_stream(self, walsender: Walsender, writer: LogWriter, slot: str) -> None:
        settings = self._settings
        assert writer.state is not None
        start = format_lsn(writer.state.progress)
        question = "select setting from pg_settings where name = 'wal_sender_timeout'"
        timeout = (await walsender.ask(question))[0][0]
        await self._start_stream(walsender, slot, start)
        with contextlib.ExitStack() as stack:
            lookup = stack.enter_context(psycopg.connect(named(self._url), autocommit=True))
            stand_in = stack.enter_context(StandIn(walsender, int(timeout or 0)))
            writer.meanwhile = stand_in.waiting
            transactions = Transactions(
                writer,
                settings.data_dir / "spool",
                lambda oid, xid: read_ancestors(lookup, oid, xid),
                lambda: stream.on_progress(),
                ticks=settings.publication,
            )
            stack.callback(transactions.close)
            stream = Stream(
                *(walsender, writer, self._doorbell, transactions),
                settings.database_silence,
                self._meter,
            )
            log.info("streaming from %s slot=%s", start, slot)
            self._awake_since = time.monotonic()
            self._board.post(Stage.STREAMING)
            async with _beside(self._trim(writer)), _beside(self._watch(stream)):
                await stream.run()

    async def _start_stream(self, walsender: Walsender, slot: str, start: str) -> None:
        """A predecessor that was killed may hold the slot for a moment: its backend has to notice."""
        deadline = time.monotonic() + 10
        while True:
            try:
                return walsender.start(slot, start, self._settings.publication)
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

    async def _keep_posting(self) -> None:
        while True:
            self._board.post()
            await asyncio.sleep(POST_SECONDS)

    # -- idleness ----------------------------------------------------------------------------------

    async def _watch(self, stream: Stream) -> None:
        """End the stream once it and the nodes have been idle for long enough."""
        patience = self._settings.replication_idle_timeout
        while patience:
            busy = max(self._awake_since, stream.changed, self._board.asked)
            left = busy + patience - time.monotonic()
            if left <= 0 and stream.quiet:
                log.info("idle for %.0f s: closing the connections to Postgres", patience)
                # From here on a request counts: nobody may come in between unnoticed.
                self._awake_since = time.monotonic()
                stream.stop()
                return
            await asyncio.sleep(min(max(left, 0.1), 1.0))

    async def _rest(self) -> None:
        """Return when somebody asks."""
        self._board.post(Stage.RESTING)
        while self._board.asked < self._awake_since:
            await asyncio.sleep(WAKE_SECONDS)
        log.info("somebody asks: connecting to Postgres again")


class Complaint:
    """What keeps the engine from its work: said at once, and while it stays the same now and then."""

    def __init__(self) -> None:
        self._said = ""
        self._again = 0.0

    def say(self, cause: str) -> None:
        present = time.monotonic()
        level = logging.ERROR
        if cause == self._said and present < self._again:
            level = logging.DEBUG
        else:
            self._said, self._again = cause, present + REMIND_SECONDS
        log.log(level, "replication stopped, trying again until it works: %s", cause)


@asynccontextmanager
async def _beside(work: Coroutine[None, None, None]) -> AsyncGenerator[None]:
    """`work` goes on while what is inside does."""
    # Not a TaskGroup: what is raised inside has to come out as it is.
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)


async def _main(settings: Settings) -> None:
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    told = False

    def end() -> None:
        nonlocal told
        # Who ends already must not be kept from doing so in order.
        if not told:
            told = True
            task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    with contextlib.suppress(asyncio.CancelledError):
        await Replicator(settings, Board.inherited(), Numbers.inherited()).run()


def main() -> None:
    """Run the engine with the settings of the environment."""
    settings = Settings.from_environ(os.environ)
    configure("engine", settings.log_level)
    hold_lifeline()
    collect_rarely()
    asyncio.run(_main(settings))


if __name__ == "__main__":
    main()
