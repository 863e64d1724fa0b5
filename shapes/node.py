"""A node: one HTTP process that follows the log and serves shapes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import socket
import time
from typing import NamedTuple

from starlette.routing import BaseRoute

from engine.configuration.settings import Settings
from engine.errors import LogError, SettingsError
from engine.log.layout import RelationVersion
from engine.log.reader import LogReader
from engine.logs import configure
from engine.metrics.numbers import Numbers
from engine.postgres.table import Table
from engine.processes import listener
from engine.processes.board import NODE_VARIABLE, Board, Stage
from engine.processes.lifeline import hold_lifeline
from engine.processes.memory import collect_rarely, give_back
from shapes.abandoned import pass_over_abandoned
from shapes.access.authority import Authority
from shapes.access.leases import Leases
from shapes.catalog.table_ledger import TableLedger
from shapes.database import Database
from shapes.definitions import Definitions
from shapes.first_log import open_log
from shapes.following.activation import Activation
from shapes.following.feed import Feed
from shapes.following.feeds import Feeds
from shapes.following.tail import Tail
from shapes.http.admission import Admission
from shapes.http.api.assembly import make_api
from shapes.http.api.trigger_streams import TriggerStreams
from shapes.http.application import Application
from shapes.http.crowd import Crowd
from shapes.http.departure import serve_until_told
from shapes.http.front import Front
from shapes.http.limits import Limits
from shapes.http.live_limit import LiveLimit
from shapes.http.meter import NodeMeter
from shapes.http.polling import Polls
from shapes.http.regulars import Regulars
from shapes.http.server import Server
from shapes.http.shape_endpoint import ShapeEndpoint
from shapes.http.sse import Streams
from shapes.http.streams.stream_api import StreamServices, make_stream_api
from shapes.http.streams.subscription_routes import subscription_routes
from shapes.kept import DiskError
from shapes.library import Library
from shapes.snapshots.snapshot import Snapshots
from shapes.snapshots.snapshot_store import SnapshotStore
from shapes.snapshots.subset import Subsets
from shapes.streams.appending.writer import StreamWriter
from shapes.streams.live.event_streams import EventStreams
from shapes.streams.live.hub import StreamHub
from shapes.streams.storage.keeper import StreamKeeper
from shapes.streams.storage.store import StreamStore
from shapes.streams.subscriptions.courier import Courier
from shapes.streams.subscriptions.driver import make_driver
from shapes.streams.subscriptions.subscriptions import Subscriptions
from shapes.windows.clock import WindowClock
from shapes.windows.ledger import WindowLedger
from shapes.wish import Wish

log = logging.getLogger("node")

SWEEP_SECONDS = 15.0
FEW_SHAPES = 256
"""Letting go of so many is not worth a look for memory that could be given back."""
SETTLING_SECONDS = 90.0
"""By then what was remembered of ended shapes, for those who might have come back, has gone, too."""
FEW_READERS = 256
"""A node with no more of them, and few shapes, has so little to do that another may take its place."""
REST_SECONDS = 0.5
SNAPSHOT_SWEEP_SECONDS = 300.0
DELETION_SECONDS = 0.1
MEASURE_SECONDS = 1.0


class Shared(NamedTuple):
    """What a node's server and its application both use."""

    number: int
    meter: NodeMeter
    admission: Admission
    crowd: Crowd
    authority: Authority
    leases: Leases
    limit: LiveLimit
    regulars: Regulars


class Node:
    """Everything that a node consists of, put together."""

    def __init__(
        self, settings: Settings, log_reader: LogReader, board: Board, shared: Shared
    ) -> None:
        if settings.database_url is None:
            raise SettingsError("no database to follow: set DATABASE_URL or --database-url")
        self._settings = settings
        self._board = board
        self._database = Database(
            settings.query_url or settings.database_url,
            settings.db_pool_size // settings.nodes,
            settings.database_silence,
            pooled=settings.pooled_database_url is not None,
        )
        self._store = SnapshotStore(settings.snapshot_dir)
        self.tail = Tail(
            settings.log_dir,
            log_reader,
            on_ended=self._end,
            on_incomplete=self._mend,
            on_version=self._compare,
            on_start_over=self._start_over,
            board=board,
        )
        self._activation = Activation(self.tail)
        self._feeds = Feeds(self.tail, self._activation)
        self._snapshots = Snapshots(
            self._store, self._database, self.tail, settings, self._end_table
        )
        self._ledger = TableLedger(settings.data_dir / "tables")
        self._definitions = Definitions(
            self._database,
            self._ledger,
            settings.publication,
            manual=settings.manual_table_publishing,
            on_ended=self._end_columns,
            interval=settings.catalog_interval,
            added_column_grace=settings.added_column_grace,
            epoch=lambda: self.tail.epoch,
        )
        self._window_ledger = WindowLedger(settings.data_dir / "windows")
        self._clock = WindowClock(
            self.tail,
            self._database,
            self._window_ledger,
            prefix=settings.publication,
            longest_step=settings.window_step,
        )
        self.library = Library(
            self.tail,
            self._feeds,
            self._store,
            self._snapshots,
            self._definitions,
            self._clock,
            retention_bytes=settings.retention_bytes,
            retention_age=settings.retention_age,
            long_poll_timeout=settings.long_poll_timeout,
        )
        subsets = Subsets(
            self._database, settings.snapshot_dir, settings.database_silence, self._end_table
        )
        self._leases, self._regulars = shared.leases, shared.regulars
        self._polls = Polls(settings.long_poll_timeout, self._leases)
        self._streams = Streams(settings, self.tail, self.library, self._leases)
        self._meter, self._crowd = shared.meter, shared.crowd
        self._snapshots.on_taken = shared.meter.snapshot_taken
        endpoint = ShapeEndpoint(
            *(settings, self.tail, self.library, self._definitions, subsets),
            *(self._polls, self._streams, shared.admission, shared.limit, shared.authority),
        )
        store = StreamStore(self._database, self.tail)
        self.tail.hub = hub = StreamHub(store, self.tail)
        self.stream_services = StreamServices(
            *(store, StreamWriter(self._database, shared.meter.streams), hub),
            EventStreams(hub, store, self._leases),
        )
        self._trigger_streams = TriggerStreams(
            *(settings, self._database, self._leases, self.stream_services)
        )
        courier = Courier(local=settings.insecure, trusted=settings.webhook_hosts)
        subscriptions = Subscriptions(self._database, shared.authority)
        self._driver = make_driver(
            *(settings, self._database, hub, subscriptions, courier, shared.meter.streams)
        )
        api = make_api(
            *(settings, self._database, endpoint),
            *(shared.authority, shared.limit, shared.regulars, self._trigger_streams.routes),
        )
        stream_api = make_stream_api(
            *(settings, self._database, shared.authority, shared.admission, shared.limit),
            self.stream_services,
            subscription_routes(subscriptions, shared.authority, courier, settings.public_url),
        )
        self.application = Application(
            *(endpoint, self.tail, board, api, stream_api), _demo_routes(settings)
        )
        self._keeper = StreamKeeper(self._database, settings, shared.meter.streams)
        # Last: what has been made before is needed for ever.
        self._wish = Wish(board, shared.number)

    async def run(self) -> None:
        """Everything that goes on beside requests, until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.tail.run())
                tasks.create_task(self._activation.run())
                tasks.create_task(self._definitions.run())
                tasks.create_task(self._clock.run())
                tasks.create_task(self._sweep())
                tasks.create_task(self._rest())
                tasks.create_task(self._measure())
                tasks.create_task(self._leases.run())
                tasks.create_task(self._keeper.run())
                tasks.create_task(self.stream_services.writer.run())
                tasks.create_task(self._trigger_streams.run())
                tasks.create_task(self._driver.run())
                if self._settings.enable_delete:
                    tasks.create_task(self._follow_deletions())
        finally:
            await self._snapshots.close()
            await self._database.close()
            # Threads may still be writing: to close what they use would crash this process.
            await asyncio.get_running_loop().shutdown_default_executor()
            self._store.close()
            self._ledger.close()
            self._window_ledger.close()

    def stop(self) -> None:
        """Answer those who wait, so that nobody is cut off when this node ends."""
        self._polls.stop()
        self._streams.stop()
        self.stream_services.event_streams.stop()

    def _start_over(self) -> None:
        self._feeds.forget_all()
        # The publication may have been made anew, without tables.
        self._definitions.forget_published()

    def _end(self, feed: Feed, lsn: int) -> None:
        self.library.end(feed, lsn)

    def _end_table(self, oid: int) -> None:
        self.library.end_table(oid)

    def _end_columns(self, oid: int, columns: frozenset[str]) -> None:
        self.library.end_columns(oid, columns)

    def _compare(self, version: RelationVersion) -> None:
        self._definitions.compare(version)

    def _mend(self, table: Table) -> None:
        self._definitions.mend(table)

    async def _follow_deletions(self) -> None:
        """Readers who wait here hear of a shape's deletion at another node."""
        while True:
            await asyncio.sleep(DELETION_SECONDS)
            self.library.follow_deletions()

    async def _rest(self) -> None:
        """Let go of Postgres while the engine does."""
        while True:
            await asyncio.sleep(REST_SECONDS)
            self._database.resting = self._board.stage is Stage.RESTING
            if self._database.resting:
                # Every time: one may have been on its way when the others were closed.
                await self._database.close()

    async def _measure(self) -> None:
        """Show the numbers that change too often to be counted one by one."""
        while True:
            await asyncio.sleep(MEASURE_SECONDS)
            polls, crowd = self._polls, self._crowd
            waiting = len(polls) + len(crowd) - crowd.waiting_for_streams
            self._meter.waiting("long_poll", waiting, polls.delivered + crowd.delivered)
            self._meter.waiting("sse", len(self._streams), self._streams.delivered)
            self.stream_services.measure(self._meter, crowd, len(self._trigger_streams))
            state, oldest = self.tail.log.read(self.tail.horizon, most=1)
            age = time.time() - oldest[0].commit_time / 1e6 if oldest else 0.0
            lag = max(state.end_lsn - self.tail.processed.lsn, 0)
            self._meter.standing(self._store.count(), len(self._feeds), lag, age)

    async def _sweep(self) -> None:
        swept = forgotten = time.monotonic()
        released = 0
        settled = math.inf
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            # A reader who waits uses its feed at least once in this time.
            longest = 2 * max(self._settings.long_poll_timeout, self._settings.sse_keepalive)
            with contextlib.suppress(DiskError):
                # A full disk keeps what is of no use; that is tried again.
                self.library.forget_idle(max(self._settings.shape_idle_timeout, longest))
            if self._settings.max_shapes is not None:
                self.library.forget_surplus(self._settings.max_shapes, longest)
            if time.monotonic() > forgotten + self._settings.long_poll_timeout:
                self._regulars.forget()
                forgotten = time.monotonic()
            if time.monotonic() > swept + SNAPSHOT_SWEEP_SECONDS:
                swept = time.monotonic()
                try:
                    await self.library.sweep(self._settings.max_shapes)
                except (OSError, DiskError) as error:
                    log.error("snapshots of no use cannot be removed: %s", error)
            if self.library.released - released > max(FEW_SHAPES, len(self._feeds)):
                released = self.library.released
                self.application.forget()
                give_back()
                settled = time.monotonic() + max(SETTLING_SECONDS, longest)
            elif time.monotonic() > settled:
                settled = math.inf
                self.application.forget()
                give_back()
            streams = self.stream_services.event_streams
            waiting = (self._polls, self._crowd, self._streams, streams)
            readers = sum(map(len, waiting)) + streams.waiting
            few = readers <= FEW_READERS and len(self._feeds) <= FEW_SHAPES
            self._wish.look(idle=few and settled == math.inf)


def _demo_routes(settings: Settings) -> list[BaseRoute]:
    if not settings.demo:
        return []
    from demo.site import demo_routes

    return demo_routes()


async def serve(settings: Settings, bound: socket.socket) -> None:
    """Serve on a bound socket until told to end."""
    pass_over_abandoned(asyncio.get_running_loop())
    board = Board.inherited()
    authority = Authority(settings)
    front = Front(settings, board, authority)
    number = int(os.environ.get(NODE_VARIABLE) or 0)
    # One more than there are: that of a node's successor, while both are there.
    meter = NodeMeter(Numbers.inherited(), number or 1, settings.nodes + 1)
    admission = Admission(settings.max_concurrent_requests, *meter.admission())
    leases = Leases(authority)
    limit = LiveLimit(settings.max_live_requests, *meter.live())
    regulars = Regulars(authority, leases, limit)
    crowd = Crowd(regulars)
    server = Server(
        front,
        Limits.of(settings),
        crowd,
        regulars,
        on_answer=meter.answered,
        on_connections=meter.connections,
        on_stop=front.stop,
    )
    await server.start(bound)
    shared = Shared(number, meter, admission, crowd, authority, leases, limit, regulars)
    background = asyncio.create_task(_run(settings, front, board, shared))
    await serve_until_told(server, background)
    background.cancel()
    await asyncio.wait([background])
    if not background.cancelled() and (error := background.exception()):
        raise error


async def _run(settings: Settings, front: Front, board: Board, shared: Shared) -> None:
    node = Node(settings, await open_log(settings.log_dir), board, shared)
    front.open(node.application, node.stop)
    board.serve(shared.number)
    log.info("serving")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(node.run())
        tasks.create_task(front.attend())


def main() -> None:
    """Run a node with the settings of the environment."""
    import uvloop

    settings = Settings.from_environ(os.environ)
    configure("node", settings.log_level)
    hold_lifeline()
    descriptor = os.environ.get(listener.VARIABLE)
    if descriptor is None:
        raise SystemExit("a node is started by `pgtide serve`, which hands it the listening socket")
    bound = socket.socket(fileno=int(descriptor))
    collect_rarely()
    try:
        uvloop.run(serve(settings, bound))
    except (SettingsError, LogError) as error:
        # The settings file is another one than when the supervisor looked at it, or the log is damaged.
        log.error("%s", error)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
