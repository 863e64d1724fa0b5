"""The process tree: one engine, several nodes on one port, in development Postgres and a demo.

Children are started again when they end. They and Postgres end with this process, however it ends.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from contextlib import closing
from dataclasses import dataclass, replace
from types import FrameType
from typing import TYPE_CHECKING

from engine import lifeline, listener
from engine.keeper import Keeper, end_together
from engine.program import Program
from engine.settings import Settings

if TYPE_CHECKING:
    from engine.embedded import EmbeddedPostgres

logger = logging.getLogger(__name__)

# An orderly stop takes at most their sum; a Postgres that is not done by then recovers at its next
# start.
NODE_SECONDS = 2.0
ENGINE_SECONDS = 1.0
FLEET_SECONDS = 0.5
POSTGRES_SECONDS = 1.2
_PATIENCE = 15.0


@dataclass(frozen=True, slots=True)
class Modules:
    """What the children run."""

    engine: str = "engine.replicator"
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

    def end(self, seconds: float) -> None:
        self._postgres.stop("fast", seconds)

    def kill(self) -> None:
        if (pid := self._postgres.pid) is not None:
            os.kill(pid, signal.SIGQUIT)


class Supervisor:
    def __init__(self, settings: Settings, modules: Modules | None = None) -> None:
        """Without `settings.database_url` it runs the embedded Postgres."""
        self._settings = settings
        self._modules = modules or Modules()
        self._begin = time.monotonic()
        self._stop = threading.Event()
        self._database: Keeper | None = None
        self._engine: list[Keeper] = []
        self._nodes: list[Keeper] = []
        self._fleet: list[Keeper] = []

    def run(self) -> int:
        """Until SIGTERM, SIGINT or SIGHUP. Returns the exit code. Call it in the main thread.

        Raises PgtideError if it cannot start; nothing is left running then.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        settings = self._settings
        line = lifeline.Lifeline()
        with closing(line), listener.listen(settings.listen_host, settings.port) as door:
            try:
                if settings.database_url is None:
                    settings = self._start_database(settings)
                self._start_children(settings, door, line)
                self._announce(settings, door)
                self._stop.wait()
            finally:
                self._end_all()
        return 0

    def _start_database(self, settings: Settings) -> Settings:
        """Settings that point at it, once the schema is there."""
        # Here, because `pgtide serve` needs none of it and stays smaller without.
        import asyncio

        from engine.embedded import EmbeddedPostgres
        from engine.migrate import migrate

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
        held = {lifeline.VARIABLE: str(line.reading)}
        environ = settings.to_environ() | held
        serving = environ | {listener.VARIABLE: str(door.fileno())}
        modules = self._modules
        self._keep(self._engine, Program("engine", modules.engine, environ, [line.reading]))
        for number in range(1, settings.nodes + 1):
            descriptors = [line.reading, door.fileno()]
            self._keep(self._nodes, Program(f"node-{number}", modules.node, serving, descriptors))
        if settings.demo:
            self._keep(self._fleet, Program("fleet", modules.fleet, environ, [line.reading]))

    def _keep(self, group: list[Keeper], program: Program) -> None:
        keeper = Keeper(program)
        keeper.start()
        group.append(keeper)

    def _announce(self, settings: Settings, door: socket.socket) -> None:
        """Say so when requests are served, and from time to time why they are not yet."""
        remind = time.monotonic() + _PATIENCE
        while not self._stop.wait(0.03):
            answer = listener.health(door)
            if '"active"' in answer:
                break
            if time.monotonic() > remind:
                logger.warning("not serving yet  health=%s", answer)
                remind = time.monotonic() + _PATIENCE
        else:
            return
        seconds = time.monotonic() - self._begin
        print(f"pgtide serves {listener.url(door)}  (ready in {seconds:.1f} s)", flush=True)
        if self._database is not None:
            print(f"Postgres: psql {settings.database_url}", flush=True)

    def _end_all(self) -> None:
        logger.info("stopping")
        begin = time.monotonic()
        end_together(self._nodes, NODE_SECONDS)
        end_together(self._engine, ENGINE_SECONDS)
        end_together(self._fleet, FLEET_SECONDS)
        if self._database is not None:
            end_together([self._database], POSTGRES_SECONDS)
        logger.info("stopped  seconds=%.1f", time.monotonic() - begin)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if not self._stop.is_set():
            self._stop.set()
            return
        # The second time: at once. What is not hit here ends with this process.
        for keeper in (*self._nodes, *self._engine, *self._fleet, self._database):
            if keeper is not None:
                keeper.service.kill()
        os._exit(128 + number)
