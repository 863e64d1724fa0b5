"""pgtide as a process tree of its own: what most tests talk to.

    with Serving(database, tmp_path / "pgtide", long_poll_timeout=1) as server:
        httpx.get(f"{server.url}/v1/shape?table=items&offset=-1")

Other folders of tests import it as `from serving import Serving`.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import psutil
import psycopg
from psycopg import sql

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 90.0
STOP_SECONDS = 60.0
LOG_TAIL = 4000
"""Characters of the log that a failure shows."""

_SERVES = re.compile(r"^pgtide serves (http://\S+)  \(ready in", re.MULTILINE)
_POSTGRES = re.compile(r"^Postgres: psql (\S+)$", re.MULTILINE)
_TRACEBACK = "Traceback (most recent call last)"

Setting = str | int | float | bool | Path


class Serving:
    """`pgtide serve` with a stream id, a data folder and a port that nobody else has.

    Without a database URL it is `pgtide dev`, with a Postgres and a demo fleet of its own. Keyword
    arguments are settings by field name (engine.configuration.settings). As a context manager it is
    active inside, and afterwards it has ended and its log is free of tracebacks. It may be stopped,
    killed and started again in between; its URL stays the same.
    """

    def __init__(self, database_url: str | None, folder: Path, **settings: Setting) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.log_path = folder / "log.txt"
        self.log_path.touch()
        self.stream_id = str(settings.pop("stream_id", f"t{secrets.token_hex(4)}"))
        given = {"data_dir": folder / "data", "host": "127.0.0.1", "port": 0, **settings}
        if "secret" not in given:
            given.setdefault("insecure", True)
        pooler = os.environ.get("PGTIDE_TEST_POOLER")
        if pooler and database_url:
            given.setdefault("pooled_database_url", _through(pooler, database_url))
        self._command = "dev" if database_url is None else "serve"
        self._environ = _clean_environ() | {
            "DATABASE_URL": database_url or "",
            "PGTIDE_STREAM_ID": self.stream_id,
            **{f"PGTIDE_{name.upper()}": _text(value) for name, value in given.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._begin = self._checked = 0
        self.url = ""
        """Where it serves, without a slash at the end; known after the first start."""

    # -- start and stop ----------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if error is not None:
            error.add_note(f"pgtide's log, {self.log_path}:\n{self.log[-LOG_TAIL:]}")
        else:
            self.check_log()

    def start(self) -> None:
        """Returns when it is active."""
        self.launch()
        self.wait_active()

    def launch(self) -> None:
        """Returns at once; `wait_active` waits. On the same port as the last time."""
        assert self._process is None, "it runs already"
        begin = len(self.log)
        if self.url:
            self._environ["PGTIDE_PORT"] = str(urlsplit(self.url).port)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "engine.cli", self._command],
                env=self._environ,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._begin = begin

    def wait_active(self) -> None:
        """Until requests are served and changes come in."""
        self.until(lambda: _SERVES.search(self.log, self._begin) is not None, "is not active")
        match = _SERVES.search(self.log, self._begin)
        assert match is not None
        self.url = match[1]
        self.until(lambda: self.health() == '{"status":"active"}', "is not active")

    def stop(self) -> None:
        """In order: SIGTERM. Does nothing if it does not run."""
        if self._process is None:
            return
        family = self._family()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            late = f"it did not stop in {STOP_SECONDS} s:\n{self.log[-LOG_TAIL:]}"
            raise AssertionError(late) from None
        self._process = None
        _wait_gone(family)

    def kill(self) -> None:
        """kill -9 of the supervisor; returns when its children have ended too."""
        if self._process is None:
            return
        family = self._family()
        self._process.kill()
        self._process.wait()
        self._process = None
        _wait_gone(family)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something that it should bring about; fails early if there is a traceback."""
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            self.check_log()
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                raise AssertionError(f"pgtide {what}:\n{self.log[-LOG_TAIL:]}")
            time.sleep(0.01)

    # -- what it is made of ------------------------------------------------------------------------

    @property
    def postgres_url(self) -> str:
        """Of its own Postgres."""
        self.until(lambda: _POSTGRES.search(self.log) is not None, "runs no Postgres")
        return _POSTGRES.findall(self.log)[-1]

    @property
    def pid(self) -> int:
        """Of the supervisor."""
        assert self._process is not None, "it does not run"
        return self._process.pid

    def engine_pids(self) -> list[int]:
        """None for a moment after it was killed, otherwise one."""
        return self._pids("engine.replication.replicator")

    def node_pids(self) -> list[int]:
        return self._pids("shapes.node")

    def kill_engine(self) -> None:
        """kill -9; returns when another one has been started in its place."""
        self._replace(self.engine_pids, self.engine_pids())

    def kill_node(self, pid: int | None = None) -> None:
        """kill -9 of this node, or of any; returns when another one has been started."""
        self._replace(self.node_pids, [pid or self.node_pids()[0]])

    def health(self) -> str:
        """The body of /v1/health, empty if there is no answer."""
        try:
            with urllib.request.urlopen(f"{self.url}/v1/health", timeout=20) as answer:
                return answer.read().decode()
        except OSError:
            return ""

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def check_log(self) -> None:
        """Fails if there is a traceback in it that was not there the last time."""
        log = self.log
        at = log.find(_TRACEBACK, self._checked)
        self._checked = len(log)
        assert at < 0, f"a traceback in pgtide's log:\n{log[max(0, at - 1000) : at + LOG_TAIL]}"

    def _replace(self, pids: Callable[[], list[int]], victims: list[int]) -> None:
        expected = len(pids())
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        self.until(
            lambda: len(now := pids()) >= expected and not set(now) & set(victims),
            "does not start a process again",
        )

    def _pids(self, module: str) -> list[int]:
        found: list[int] = []
        for process in self._family():
            with suppress(psutil.NoSuchProcess):
                if _lives(process) and module in process.cmdline():
                    found.append(process.pid)
        return sorted(found)

    def _family(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []


@contextmanager
def fresh_database(server_url: str, template: str = "template0") -> Generator[str]:
    """URL of a new database for as long as this lasts; dropped with its slots and connections."""
    name = f"test_{secrets.token_hex(6)}"
    create = sql.SQL("create database {} template {}").format(
        sql.Identifier(name), sql.Identifier(template)
    )
    with psycopg.connect(server_url, autocommit=True) as admin:
        # Half the CPU time of writing the copy to the WAL. The only way before Postgres 15.
        if admin.info.server_version >= 150000:
            create += sql.SQL(" strategy file_copy")
        admin.execute(create)
        yield urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
        # The function returns once the walsender has ended: only then may its slot be dropped.
        admin.execute(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = %s",
            (name,),
        )
        admin.execute(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots"
            " where database = %s",
            (name,),
        )
        admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def _clean_environ() -> dict[str, str]:
    """This process's own, without settings that a developer may have exported."""
    ours = ("PGTIDE_", "ELECTRIC_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def _through(pooler: str, database_url: str) -> str:
    """The URL of a database behind a pooler, `host:port`, that knows it by the same name."""
    parts = urlsplit(database_url)
    user, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}{at}{pooler}"))


def _text(value: Setting) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _wait_gone(processes: list[psutil.Process]) -> None:
    """A zombie counts as gone: orphans are reaped by whoever adopts them, sooner or later."""
    deadline = time.monotonic() + STOP_SECONDS
    while alive := [process for process in processes if _lives(process)]:
        if time.monotonic() > deadline:
            for process in alive:
                process.kill()
            raise AssertionError(f"these outlived their supervisor: {alive}")
        time.sleep(0.01)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
