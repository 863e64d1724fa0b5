"""The process tree: one engine, several nodes on one port, in development Postgres and a demo.

Children are started again when they end. They and Postgres end with this process, however it ends.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from engine.configuration.settings import Settings
from engine.metrics import numbers as metrics
from engine.processes import lifeline, listener
from engine.processes.board import NODE_VARIABLE, VARIABLE, Board, Stage
from engine.processes.handover import Handover, take_over
from engine.processes.keeper import Keeper, end_together
from engine.processes.program import Program
from engine.processes.renewal import Renewal
from engine.processes.summons import Summons

if TYPE_CHECKING:
    from engine.embedded import EmbeddedPostgres

logger = logging.getLogger(__name__)

# An orderly stop takes at most their sum; a Postgres that is not done by then recovers at its next
# start.
NODE_SECONDS = 4.0
ENGINE_SECONDS = 1.0
FLEET_SECONDS = 0.5
POSTGRES_SECONDS = 1.2
_PATIENCE = 15.0
_LONG_PATIENCE = 300.0
_READY = (Stage.STREAMING, Stage.RESTING)
_WAITS = (
    "another pgtide holds the lock of this stream id. This one answers from the log if they share "
    "a data folder, and takes over when the other stops"
)


@dataclass(frozen=True, slots=True)
class Modules:
    """What the children run."""

    engine: str = "engine.replication.replicator"
    node: str = "shapes.node"
    fleet: str = "demo.fleet"


class DatabaseService:
    """The embedded Postgres as something that is kept running."""

    name = "postgres"

    def __init__(self, postgres: EmbeddedPostgres) -> None:
        self._postgres = postgres

    def start(self) -> None:
        self._postgres.start()
        logger.info(
            "Postgres %d runs  port=%d seconds=%.2f",
            *(self._postgres.version, self._postgres.port, self._postgres.startup_seconds),
        )

    def wait(self) -> int:
        return self._postgres.wait()

    def ask_to_end(self) -> None:
        """Its clients are gone by then, so `end` is quick."""

    def ask_to_leave(self) -> None:
        """It has no successor."""

    def end(self, seconds: float) -> None:
        self._postgres.stop("fast", seconds)

    def kill(self) -> None:
        if (pid := self._postgres.pid) is not None:
            os.kill(pid, signal.SIGQUIT)


class Supervisor:
    def __init__(
        self,
        settings: Settings,
        modules: Modules | None = None,
        on_ready: Callable[[str, Settings], None] = lambda url, settings: None,
    ) -> None:
        """Without `settings.database_url` it runs the embedded Postgres. `on_ready` is told, once
        requests are served, at which URL, and the settings with the database's."""
        self._settings = settings
        self._modules = modules or Modules()
        self._on_ready = on_ready
        self._begin = time.monotonic()
        self._board = Board()
        self._numbers = metrics.Numbers()
        self._shares = False
        self._stop = Summons()
        self._database: Keeper | None = None
        self._engine: list[Keeper] = []
        self._nodes: dict[int, Keeper] = {}
        self._renewal: Renewal | None = None
        self._fleet: list[Keeper] = []

    def run(self) -> int:
        """Until SIGTERM, SIGINT or SIGHUP. Returns the exit code. Call it in the main thread.

        Raises PgtideError if it cannot start; nothing is left running then.
        """
        self._stop.listen((signal.SIGTERM, signal.SIGINT, signal.SIGHUP), self._end_at_once)
        settings = self._settings
        line = lifeline.Lifeline()
        with closing(line), closing(self._board), self._open_door() as door:
            try:
                if settings.database_url is None:
                    settings = self._start_database(settings)
                self._start_children(settings, door, line)
                with Handover(settings.data_dir, door), self._metrics(settings):
                    self._announce(settings, door)
                    self._stop.wait()
            finally:
                self._end_all()
        return 0

    def _open_door(self) -> socket.socket:
        """The listening socket: that of a pgtide that runs in this folder, or a new one."""
        settings = self._settings
        door = take_over(settings.data_dir, settings.listen_host, settings.port)
        if door is not None:
            self._shares = True
            logger.info("sharing the port of the pgtide that runs in %s", settings.data_dir)
            return door
        return listener.listen(settings.listen_host, settings.port)

    def _start_database(self, settings: Settings) -> Settings:
        """Settings that point at it, once the schema is there."""
        # Here, because `pgtide serve` needs none of it and stays smaller without.
        import asyncio

        from engine.embedded import EmbeddedPostgres
        from engine.postgres.migrate import migrate

        postgres = EmbeddedPostgres(
            settings.postgres_dir, settings.postgres_port, settings.postgres_version
        )
        keeper = Keeper(DatabaseService(postgres))
        keeper.start()
        self._database = keeper
        publish = not settings.manual_table_publishing
        made = migrate(postgres.database_url, stream_id=settings.stream_id, publish=publish)
        for name in asyncio.run(made):
            logger.info("migrated  file=%s", name)
        return replace(settings, database_url=postgres.database_url)

    def _start_children(
        self, settings: Settings, door: socket.socket, line: lifeline.Lifeline
    ) -> None:
        board = self._board.fileno()
        numbers = self._numbers.fileno()
        held = {
            lifeline.VARIABLE: str(line.reading),
            VARIABLE: str(board),
            metrics.VARIABLE: str(numbers),
        }
        environ = settings.to_environ() | held
        serving = environ | {listener.VARIABLE: str(door.fileno())}
        modules = self._modules
        shared = [line.reading, board, numbers]
        self._keep(self._engine, Program("engine", modules.engine, environ, shared))

        def node(number: int) -> Keeper:
            numbered = serving | {NODE_VARIABLE: str(number)}
            descriptors = [*shared, door.fileno()]
            return Keeper(Program(f"node-{number}", modules.node, numbered, descriptors))

        for number in range(1, settings.nodes + 1):
            keeper = node(number)
            keeper.start()
            self._nodes[number] = keeper
        if settings.node_renewal_interval:
            self._renewal = Renewal(
                self._nodes, node, self._board, self._numbers, settings.node_renewal_interval
            )
            self._renewal.start()
        if settings.demo:
            self._keep(self._fleet, Program("fleet", modules.fleet, environ, [line.reading]))

    def _metrics(self, settings: Settings) -> AbstractContextManager[object]:
        """Whatever serves metrics, if they are wanted. Raises MetricsPortError."""
        if settings.prometheus_port is None:
            return nullcontext()
        from engine.metrics.exporter import Exporter

        return Exporter(
            settings,
            self._numbers,
            self._pids,
            lambda: self._board.stage is Stage.RESTING,
            succeeds=self._shares,
        )

    def _pids(self) -> dict[str, int]:
        """Process ids of what runs now, by name."""
        pids = {"supervisor": os.getpid()}
        for keeper in (*self._engine, *self._nodes.values(), *self._fleet):
            if isinstance(keeper.service, Program) and keeper.service.pid is not None:
                pids[keeper.service.name] = keeper.service.pid
        return pids

    def _keep(self, group: list[Keeper], program: Program) -> None:
        keeper = Keeper(program)
        keeper.start()
        group.append(keeper)

    def _announce(self, settings: Settings, door: socket.socket) -> None:
        """Say so when requests are served, and from time to time why they are not yet."""
        remind = time.monotonic() + _PATIENCE
        waits = False
        while not self._stop.wait(0.2 if waits else 0.03):
            stage = self._board.stage
            answer = listener.health(door)
            # Through a shared door another pgtide may answer.
            ours = not self._shares or (stage in _READY and self._board.serving)
            if '"active"' in answer and ours:
                break
            if stage is Stage.WAITING and not waits:
                waits = True
                print(f"pgtide waits at {listener.url(door)}: {_WAITS}", flush=True)
            if time.monotonic() > remind:
                logger.warning("not serving yet  engine=%s health=%s", stage.name.lower(), answer)
                remind = time.monotonic() + (_LONG_PATIENCE if waits else _PATIENCE)
        else:
            return
        seconds = time.monotonic() - self._begin
        print(f"pgtide serves {listener.url(door)}  (ready in {seconds:.1f} s)", flush=True)
        if self._database is not None:
            print(f"Postgres: psql {settings.database_url}", flush=True)
        self._on_ready(listener.url(door), settings)

    def _end_all(self) -> None:
        logger.info("stopping")
        begin = time.monotonic()
        if self._renewal is not None:
            self._renewal.stop()
        end_together(list(self._nodes.values()), NODE_SECONDS)
        end_together(self._engine, ENGINE_SECONDS)
        end_together(self._fleet, FLEET_SECONDS)
        if self._database is not None:
            end_together([self._database], POSTGRES_SECONDS)
        logger.info("stopped  seconds=%.1f", time.monotonic() - begin)

    def _end_at_once(self, number: int) -> None:
        """At the second signal. What is not hit here ends with this process."""
        for keeper in (*self._nodes.values(), *self._engine, *self._fleet, self._database):
            if keeper is not None:
                keeper.service.kill()
        os._exit(128 + number)
