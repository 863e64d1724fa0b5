"""A node: one HTTP process that follows the log and serves shapes."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time

import uvicorn
from starlette.routing import BaseRoute

from engine import listener
from engine.errors import SettingsError
from engine.lifeline import hold_lifeline
from engine.log.layout import RelationVersion
from engine.log.reader import LogMissingError, LogReader
from engine.logs import configure
from engine.memory import collect_rarely
from engine.settings import Settings
from engine.table import Table
from shapes.activation import Activation
from shapes.database import Database
from shapes.definitions import Definitions
from shapes.feed import Feed
from shapes.feeds import Feeds
from shapes.http.application import Application
from shapes.http.front import Front
from shapes.http.shape_endpoint import ShapeEndpoint
from shapes.library import Library
from shapes.snapshot import Snapshots
from shapes.snapshot_store import SnapshotStore
from shapes.tail import Tail

log = logging.getLogger("node")

SWEEP_SECONDS = 15.0
SNAPSHOT_SWEEP_SECONDS = 300.0


class Node:
    """Everything that a node consists of, put together."""

    def __init__(self, settings: Settings, log_reader: LogReader) -> None:
        if settings.database_url is None:
            raise SettingsError("no database to follow: set DATABASE_URL or --database-url")
        self._settings = settings
        self._database = Database(
            settings.query_url or settings.database_url,
            settings.db_pool_size // settings.nodes,
            settings.database_silence,
        )
        self._store = SnapshotStore(settings.snapshot_dir)
        self.tail = Tail(
            settings.log_dir,
            log_reader,
            on_ended=self._end,
            on_incomplete=self._mend,
            on_version=self._compare,
            on_start_over=self._start_over,
        )
        self._activation = Activation(self.tail)
        self._feeds = Feeds(self.tail, self._activation)
        self._snapshots = Snapshots(
            self._store, self._database, self.tail, settings, self._end_table
        )
        self._definitions = Definitions(
            self._database,
            self._store,
            settings.publication,
            manual=settings.manual_table_publishing,
            on_altered=self._end_table,
        )
        self.library = Library(
            self.tail,
            self._feeds,
            self._store,
            self._snapshots,
            self._definitions,
            retention_bytes=settings.retention_bytes,
            long_poll_timeout=settings.long_poll_timeout,
        )
        endpoint = ShapeEndpoint(settings, self.tail, self.library, self._definitions)
        self.application = Application(endpoint, self.tail, _demo_routes(settings))

    async def run(self) -> None:
        """Everything that goes on beside requests, until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.tail.run())
                tasks.create_task(self._activation.run())
                tasks.create_task(self._definitions.run())
                tasks.create_task(self._sweep())
        finally:
            await self._snapshots.close()
            await self._database.close()
            self._store.close()

    def _start_over(self) -> None:
        self._feeds.forget_all()
        # The publication may have been made anew, without tables.
        self._definitions.forget_published()

    def _end(self, feed: Feed, lsn: int) -> None:
        self.library.end(feed, lsn)

    def _end_table(self, oid: int) -> None:
        self.library.end_table(oid)

    def _compare(self, version: RelationVersion) -> None:
        self._definitions.compare(version)

    def _mend(self, table: Table) -> None:
        self._definitions.mend(table)

    async def _sweep(self) -> None:
        swept = time.monotonic()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            # A reader who waits uses its feed at least once in this time.
            longest = 2 * max(self._settings.long_poll_timeout, self._settings.sse_keepalive)
            self.library.forget_idle(max(self._settings.shape_idle_timeout, longest))
            if time.monotonic() > swept + SNAPSHOT_SWEEP_SECONDS:
                await self.library.sweep()
                swept = time.monotonic()


def _demo_routes(settings: Settings) -> list[BaseRoute]:
    if not settings.demo:
        return []
    from demo.site import demo_routes

    return demo_routes()


async def serve(settings: Settings, bound: socket.socket) -> None:
    """Serve on a bound socket until SIGTERM or SIGINT."""
    front = Front()
    config = uvicorn.Config(
        front,
        http="httptools",
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        backlog=2048,
        timeout_keep_alive=int(settings.tcp_read_timeout) + 5,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    background = asyncio.create_task(_run(settings, front))
    background.add_done_callback(lambda task: _stop(server, task))
    await server.serve(sockets=[bound])
    background.cancel()
    await asyncio.wait([background])
    if not background.cancelled() and (error := background.exception()):
        raise error


async def _run(settings: Settings, front: Front) -> None:
    node = Node(settings, await _open_log(settings))
    front.open(node.application)
    log.info("serving")
    await node.run()


def _stop(server: uvicorn.Server, task: asyncio.Task[None]) -> None:
    """A node whose follower has failed must not go on answering: it starts over."""
    if not task.cancelled() and task.exception() is not None:
        server.should_exit = True


async def _open_log(settings: Settings) -> LogReader:
    """Wait for the engine to make the log."""
    said = False
    while True:
        try:
            return _begun(LogReader(settings.log_dir))
        except LogMissingError as error:
            if not said:
                log.info("waiting for the log: %s", error)
                said = True
            await asyncio.sleep(0.05)


def _begun(reader: LogReader) -> LogReader:
    try:
        reader.state()
    except LogMissingError:
        # A process may have a log open only once.
        reader.close()
        raise
    return reader


def main() -> None:
    """Run a node with the settings of the environment."""
    import uvloop

    settings = Settings.from_environ(os.environ)
    configure("node", settings.log_level)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    hold_lifeline()
    descriptor = os.environ.get(listener.VARIABLE)
    if descriptor is None:
        raise SystemExit("a node is started by `pgtide serve`, which hands it the listening socket")
    bound = socket.socket(fileno=int(descriptor))
    collect_rarely()
    uvloop.run(serve(settings, bound))


if __name__ == "__main__":
    main()
