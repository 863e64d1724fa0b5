"""What is measured: a Postgres of its own, an engine and nodes, in a temporary folder."""

from __future__ import annotations

import contextlib
import tempfile
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, LiteralString

import psutil
import psycopg

from bench.processes import cpu_seconds, tree_cpu_seconds
from engine.configuration.settings import Settings
from engine.embedded import EmbeddedPostgres
from engine.log.layout import LogState
from engine.log.reader import LogMissingError, LogReader
from engine.processes import lifeline, listener
from engine.processes.program import Program

STREAM_ID = "bench"
PATIENCE = 120.0
"""Nothing that we wait for takes so many seconds unless it is broken."""

# Everything that decides about durability is as Postgres has it by default. Checkpoints while we
# measure would only be noise, and the benchmarks that compare need several slots.
_POSTGRES_OPTIONS = {"max_wal_size": "16GB", "checkpoint_timeout": "1h"}


class BenchError(Exception):
    """Something that is measured did not do what it should; the message says what."""


class Stack:
    """Starts and stops the processes. Use `open_stack`."""

    def __init__(self, folder: Path, overrides: dict[str, Any]) -> None:
        self.folder = folder
        self.postgres = EmbeddedPostgres(folder / "postgres", options=_POSTGRES_OPTIONS)
        self.postgres.start()
        self._line = lifeline.Lifeline()
        self._door = listener.listen("127.0.0.1", 0)
        self.port: int = self._door.getsockname()[1]
        self.settings = replace(
            Settings(),
            database_url=self.postgres.database_url,
            data_dir=folder / "pgtide",
            stream_id=STREAM_ID,
            nodes=1,
            insecure=True,
            log_level="warning",
            **overrides,
        )
        self._supervisor: Program | None = None
        self._engine: Program | None = None
        self._nodes: list[Program] = []

    # -- Postgres ----------------------------------------------------------------------------------

    @property
    def database_url(self) -> str:
        return self.postgres.database_url

    def connect(self) -> psycopg.Connection:
        """A connection in autocommit mode."""
        return psycopg.connect(self.database_url, autocommit=True)

    def scalar(self, query: LiteralString) -> Any:
        with self.connect() as connection:
            row = connection.execute(query).fetchone()
        return None if row is None else row[0]

    @property
    def postgres_pid(self) -> int:
        pid = self.postgres.pid
        if pid is None:
            raise BenchError("Postgres has ended")
        return pid

    # -- engine ------------------------------------------------------------------------------------

    def start_engine(self) -> None:
        """Returns at once."""
        environ = self.settings.to_environ() | {lifeline.VARIABLE: str(self._line.reading)}
        self._engine = Program(
            "engine", "engine.replication.replicator", environ, [self._line.reading]
        )
        self._engine.start()

    def stop_engine(self) -> None:
        if self._engine is not None:
            self._engine.ask_to_end()
            self._engine.end(10)
            self._engine = None

    @property
    def engine_pid(self) -> int:
        if self._supervisor is not None:
            return self._children("engine.replication.replicator")[0]
        pid = self._engine.pid if self._engine is not None else None
        if pid is None:
            raise BenchError("the engine has ended; its last words are above")
        return pid

    def open_log(self) -> LogReader:
        """The engine's log, as soon as it has begun."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            assert self.engine_pid
            with contextlib.suppress(LogMissingError):
                reader = LogReader(self.settings.log_dir)
                try:
                    reader.state()
                    return reader
                except LogMissingError:
                    reader.close()
            time.sleep(0.001)
        raise BenchError("the engine does not begin a log")

    def wait_for_log(self, reader: LogReader, lsn: int, seconds: float = PATIENCE) -> LogState:
        """Wait until a transaction that ends after `lsn` is in the log."""
        deadline = time.monotonic() + seconds
        while (state := reader.state()).end_lsn <= lsn:
            assert self.engine_pid
            if time.monotonic() > deadline:
                raise BenchError(f"the log has come to {state.end_lsn} and not past {lsn}")
            time.sleep(0.002)
        return state

    # -- nodes -------------------------------------------------------------------------------------

    def start_node(self) -> None:
        """Returns when it serves."""
        environ = self.settings.to_environ() | {
            lifeline.VARIABLE: str(self._line.reading),
            listener.VARIABLE: str(self._door.fileno()),
        }
        descriptors = [self._line.reading, self._door.fileno()]
        program = Program(f"node-{len(self._nodes) + 1}", "shapes.node", environ, descriptors)
        program.start()
        self._nodes.append(program)
        deadline = time.monotonic() + PATIENCE
        while '"active"' not in listener.health(self._door):
            assert self.node_pids
            if time.monotonic() > deadline:
                raise BenchError("the node does not become active")
            time.sleep(0.02)

    @property
    def node_pids(self) -> list[int]:
        if self._supervisor is not None:
            return self._children("shapes.node")
        pids = [node.pid for node in self._nodes]
        if None in pids:
            raise BenchError("a node has ended; its last words are above")
        return [pid for pid in pids if pid is not None]

    def start(self) -> None:
        """Engine and one node; returns when they serve."""
        self.start_engine()
        self.start_node()

    def start_supervised(self) -> None:
        """Engine and node under a supervisor, instead of `start`; returns when they serve."""
        self._door.close()
        self.settings = replace(self.settings, host="127.0.0.1", port=self.port)
        environ = self.settings.to_environ() | {lifeline.VARIABLE: str(self._line.reading)}
        self._supervisor = Program(
            "supervisor", "bench.supervised_process", environ, [self._line.reading]
        )
        self._supervisor.start()
        deadline = time.monotonic() + PATIENCE
        while not self._serves():
            if self._supervisor.pid is None or time.monotonic() > deadline:
                raise BenchError("the supervisor does not come to serve")
            time.sleep(0.02)

    def _serves(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v1/health") as answer:
                return b'"active"' in answer.read()
        except OSError:
            return False

    def _children(self, module: str) -> list[int]:
        """Process ids of what the supervisor runs."""
        assert self._supervisor is not None
        found: list[int] = []
        for child in psutil.Process(self._supervisor.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if module in child.cmdline():
                    found.append(child.pid)
        return found

    def cpu(self) -> dict[str, float]:
        """CPU seconds used until now, of engine, nodes and Postgres with all its processes."""
        return {
            "engine": cpu_seconds([self.engine_pid]),
            "node": cpu_seconds(self.node_pids),
            "postgres": tree_cpu_seconds(self.postgres_pid),
        }

    def close(self) -> None:
        if self._supervisor is not None:
            self._supervisor.ask_to_end()
            self._supervisor.end(15)
        for node in self._nodes:
            node.ask_to_end()
        self.stop_engine()
        for node in self._nodes:
            node.end(5)
        self._door.close()
        self._line.close()
        self.postgres.remove()


def micros_per(count: int, before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """CPU microseconds per one of `count` things that were done between two `Stack.cpu`."""
    return {name: round((after[name] - before[name]) / count * 1e6, 2) for name in before}


@contextmanager
def open_stack(**settings: Any) -> Generator[Stack]:
    """A Postgres that runs, with everything else ready to be started; all gone afterwards.

    `settings` replace fields of `Settings`.
    """
    with tempfile.TemporaryDirectory(prefix="pgtide-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # Postgres may have to run as another user than we do
        stack = Stack(folder, settings)
        try:
            yield stack
        finally:
            stack.close()
