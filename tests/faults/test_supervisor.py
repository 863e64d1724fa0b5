"""The process tree with small programs in the children's places, and as a whole."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from engine.configuration.settings import Settings

ROOT = Path(__file__).parents[2]

# Each stand-in notes its start and its end in EVENTS, as lines of `<name> <what> <pid>`.
STANDIN = """
import os, signal, sys, time
from engine.processes.lifeline import hold_lifeline
name = os.environ["PGTIDE_PROCESS"]

def note(what):
    with open(os.environ["EVENTS"], "a") as events:
        events.write(f"{name} {what} {os.getpid()}\\n")

def leave(*_):
    note("asked")
    if name != os.environ.get("STUBBORN"):
        sys.exit(0)

signal.signal(signal.SIGTERM, leave)
hold_lifeline()
note("started")
if name == os.environ.get("BROKEN"):
    sys.exit(3)
"""
QUICK = 10.0
"""Seconds after which those who run containers kill what they have asked to stop."""
IDLE = STANDIN + "while True: time.sleep(60)\n"
NODE = (
    STANDIN
    + """
import socket
from engine.configuration.settings import Settings
assert Settings.from_environ(os.environ).secret == "from the supervisor"
listener = socket.socket(fileno=int(os.environ["PGTIDE_LISTEN_FD"]))
listener.setblocking(True)
while True:
    connection, _ = listener.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(b'HTTP/1.1 200 OK\\r\\n\\r\\n{"status":"active"}')
"""
)
SUPERVISOR = """
import os, sys
from engine import logs
from engine.configuration.settings import Settings
from engine.processes import supervisor
from engine.processes.supervisor import Modules, Supervisor
logs.configure("supervisor")
supervisor.NODE_SECONDS = float(os.environ.get("NODE_SECONDS", supervisor.NODE_SECONDS))
sys.exit(Supervisor(Settings.from_environ(os.environ), Modules("idle", "answering", "idle")).run())
"""


class Tree:
    """A supervisor in a process of its own, with what it and its children wrote."""

    def __init__(self, folder: Path, command: list[str], environ: dict[str, str]) -> None:
        self.events_path = folder / "events"
        self.events_path.touch()
        self.log_path = folder / "supervisor.log"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                env={**os.environ, **environ, "EVENTS": str(self.events_path)},
                cwd=ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def events(self, what: str) -> list[tuple[str, int]]:
        """Name and process id, in order."""
        lines = [line.split() for line in self.events_path.read_text().splitlines()]
        return [(name, int(pid)) for name, event, pid in lines if event == what]

    def pids(self, name: str) -> list[int]:
        return [pid for started, pid in self.events("started") if started == name]

    def until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    def until_serving(self) -> str:
        """The URL it prints."""
        self.until(lambda: "pgtide serves" in self.log or self.process.poll() is not None)
        match = re.search(r"pgtide serves (http://\S+)  \(ready in \d+\.\d s\)", self.log)
        assert match is not None, self.log
        return match[1]

    def database_url(self) -> str:
        match = re.search(r"^Postgres: psql (\S+)$", self.log, re.MULTILINE)
        assert match is not None, self.log
        return match[1]

    def stop(self) -> float:
        """Seconds that an orderly stop took."""
        begin = time.monotonic()
        self.process.terminate()
        assert self.process.wait(60) == 0, self.log
        return time.monotonic() - begin


def runs(pid: int) -> bool:
    ps = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, check=False)
    return ps.stdout.strip()[:1] not in (b"", b"Z")


def has_runs(database_url: str, at_least: int = 0) -> bool:
    with psycopg.connect(database_url) as client:
        row = client.execute("select count(*) from pgtide.runs").fetchone()
    return row is not None and row[0] >= at_least


@pytest.fixture
def grow(folder: Path) -> Iterator[Callable[..., Tree]]:
    """Starts a supervisor over stand-ins; extra variables reach them."""
    trees: list[Tree] = []
    (folder / "idle.py").write_text(IDLE)
    (folder / "answering.py").write_text(NODE)
    settings = Settings(
        database_url="postgresql://nowhere", secret="from the supervisor", port=0, demo=True
    )

    def start(**variables: str) -> Tree:
        environ = {"PYTHONPATH": str(folder), **settings.to_environ(), **variables}
        trees.append(Tree(folder, ["-c", SUPERVISOR], environ))
        return trees[-1]

    yield start
    for tree in trees:
        tree.process.kill()
        tree.process.wait()


@pytest.fixture
def program(folder: Path) -> Iterator[Callable[..., Tree]]:
    """Starts `pgtide` itself."""
    trees: list[Tree] = []

    def start(*arguments: str, **variables: str) -> Tree:
        command = ["-m", "engine.cli", *arguments, "--data-dir", str(folder / "data")]
        trees.append(Tree(folder, command, variables))
        return trees[-1]

    yield start
    for tree in trees:
        if tree.process.poll() is None:
            tree.process.terminate()
            tree.process.wait()


def test_it_serves_and_stops_in_order(grow: Callable[..., Tree]) -> None:
    tree = grow()
    url = tree.until_serving()
    with urllib.request.urlopen(f"{url}/v1/health") as answer:
        assert answer.read() == b'{"status":"active"}'
    tree.until(lambda: len(tree.events("started")) == 4)
    # As Ctrl-C at a terminal does: to the whole group, which the children are not part of.
    os.killpg(tree.process.pid, signal.SIGINT)
    assert tree.process.wait(60) == 0
    asked = [name for name, _ in tree.events("asked")]
    assert sorted(asked[:2]) == ["node-1", "node-2"]
    assert asked[2:] == ["engine", "fleet"]
    assert not any(runs(pid) for _, pid in tree.events("started"))
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{url}/v1/health")


@pytest.mark.parametrize("name", ["node-2", "engine", "fleet"])
def test_a_child_that_dies_is_started_again(grow: Callable[..., Tree], name: str) -> None:
    tree = grow()
    tree.until_serving()
    tree.until(lambda: bool(tree.pids(name)))
    os.kill(tree.pids(name)[0], signal.SIGKILL)
    tree.until(lambda: len(tree.pids(name)) == 2)
    assert f"{name} ended, starting it again in 0.1 s  signal=SIGKILL" in tree.log
    # Nobody else was.
    tree.until(lambda: len(tree.events("started")) >= 5)
    tree.stop()
    assert len(tree.events("started")) == 5


def test_a_child_that_cannot_live_is_tried_ever_more_slowly(grow: Callable[..., Tree]) -> None:
    tree = grow(BROKEN="fleet")
    tree.until(lambda: len(tree.pids("fleet")) == 4)
    delays = re.findall(r"fleet ended, starting it again in (\S+) s  exit=3", tree.log)
    assert delays[:3] == ["0.1", "0.2", "0.4"]
    tree.stop()


def test_a_child_that_does_not_stop_is_killed(grow: Callable[..., Tree]) -> None:
    tree = grow(STUBBORN="node-1", NODE_SECONDS="0.7")
    tree.until_serving()
    tree.until(lambda: len(tree.events("started")) == 4)
    assert tree.stop() >= 0.7
    assert not any(runs(pid) for _, pid in tree.events("started"))
    assert [name for name, _ in tree.events("asked")][-1] == "fleet"


def test_the_second_signal_ends_all_at_once(grow: Callable[..., Tree]) -> None:
    tree = grow(STUBBORN="node-1", NODE_SECONDS="1000")
    tree.until_serving()
    tree.until(lambda: len(tree.events("started")) == 4)
    tree.process.terminate()
    tree.until(lambda: ("node-1", tree.pids("node-1")[0]) in tree.events("asked"))
    tree.process.terminate()
    assert tree.process.wait(60) == 128 + signal.SIGTERM
    tree.until(lambda: not any(runs(pid) for _, pid in tree.events("started")))


def test_the_children_end_with_a_killed_supervisor(grow: Callable[..., Tree]) -> None:
    tree = grow()
    url = tree.until_serving()
    tree.until(lambda: len(tree.events("started")) == 4)
    tree.process.kill()
    tree.until(lambda: not any(runs(pid) for _, pid in tree.events("started")))
    # The port is free for the next one.
    again = grow(PGTIDE_PORT=url.rpartition(":")[2])
    assert again.until_serving() == url
    again.stop()


def test_a_taken_port_is_one_clear_line(program: Callable[..., Tree]) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        tree = program(
            *("serve", "--insecure", "--port", str(port)),
            DATABASE_URL="postgresql://app:hunter2@127.0.0.1/x",
        )
        assert tree.process.wait(30) == 2
    assert f"pgtide: port {port} is taken" in tree.log.splitlines()[-1]
    assert "hunter2" not in tree.log
    assert "Traceback" not in tree.log


def test_the_embedded_postgres_is_started_again_and_stopped_last(
    grow: Callable[..., Tree], folder: Path
) -> None:
    tree = grow(PGTIDE_DATABASE_URL="", PGTIDE_DATA_DIR=str(folder / "data"))
    tree.until_serving()
    database_url = tree.database_url()
    assert has_runs(database_url)
    pid_file = folder / "data" / "postgres" / "data" / "postmaster.pid"
    os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
    tree.until(lambda: tree.log.count("Postgres 18 runs") == 2)
    assert has_runs(database_url)
    assert "postgres ended, starting it again in 0.1 s  signal=SIGKILL" in tree.log
    assert tree.stop() < QUICK
    assert not pid_file.exists()
    server_log = (folder / "data" / "postgres" / "server.log").read_text()
    assert server_log.rstrip().endswith("database system is shut down")


def test_a_killed_supervisor_leaves_no_postgres(grow: Callable[..., Tree], folder: Path) -> None:
    tree = grow(PGTIDE_DATABASE_URL="", PGTIDE_DATA_DIR=str(folder / "data"))
    tree.until_serving()
    pid_file = folder / "data" / "postgres" / "data" / "postmaster.pid"
    postmaster = int(pid_file.read_text().split()[0])
    tree.process.kill()
    tree.until(lambda: not runs(postmaster))
    assert not pid_file.exists()


def test_dev_runs_everything(program: Callable[..., Tree]) -> None:
    tree = program("dev", "--port", "0", "--nodes", "1", DATABASE_URL="postgresql://other/db")
    tree.until_serving()
    assert "DATABASE_URL is left alone" in tree.log
    database_url = tree.database_url()
    tree.until(lambda: has_runs(database_url, at_least=1))
    assert tree.stop() < QUICK
