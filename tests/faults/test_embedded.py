"""The embedded Postgres under everything that ends programs early."""

from __future__ import annotations

import contextlib
import os
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

import psycopg
import pytest
from embedded_holder import FAST, HOLDER, ROOT, ask, hold, runs
from own_ports import own_port

from engine.embedded import EmbeddedPostgres, EmbeddedPostgresError
from engine.embedded.account import account_for

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """A data folder, for copying."""
    with tempfile.TemporaryDirectory(prefix="pgtide-test-") as name:
        Path(name).chmod(0o755)
        with EmbeddedPostgres(Path(name), options=FAST):
            pass
        yield Path(name) / "data"


@pytest.fixture
def made(folder: Path, cluster: Path) -> Path:
    """The folder of a server that has its data already: making that takes longer than most tests."""
    (folder / "postgres").mkdir()
    subprocess.run(["cp", "-Rp", cluster, folder / "postgres"], check=True)
    return folder / "postgres"


@pytest.fixture
def server(made: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(made, own_port(), options=FAST)
    server.start()
    yield server
    server.remove()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


@pytest.mark.parametrize("version", [16, 18])
def test_it_is_made_for_replication_and_keeps_its_data_and_port(folder: Path, version: int) -> None:
    port = own_port()
    server = EmbeddedPostgres(folder / "postgres", port, version=version)
    with server:
        assert server.port == port
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
    other = EmbeddedPostgres(folder / "postgres", version=34 - version)
    advice = rf"by Postgres {version}.*--postgres-version {version}"
    with pytest.raises(EmbeddedPostgresError, match=advice):
        other.start()


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


def test_a_remembered_port_that_is_taken_is_given_up(made: Path) -> None:
    with EmbeddedPostgres(made, own_port(), options=FAST) as first:
        port = first.port
    with socket.create_server(("127.0.0.1", port)):
        second = EmbeddedPostgres(made, options=FAST)
        second.start()
        assert second.port != port
        second.remove()


def test_a_given_port_that_is_taken_is_named(made: Path) -> None:
    port = own_port()
    with socket.create_server(("127.0.0.1", port)):
        server = EmbeddedPostgres(made, port, options=FAST)
        with pytest.raises(EmbeddedPostgresError, match=f"port {port} is taken.*--postgres-port"):
            server.start()
    assert server.pid is None
    server.start()
    assert server.port == port
    server.remove()


def test_a_server_that_refuses_to_start_says_why(made: Path) -> None:
    server = EmbeddedPostgres(made, options=FAST | {"wal_level": "nonsense"})
    with pytest.raises(EmbeddedPostgresError, match="nonsense"):
        server.start()
    EmbeddedPostgres(made, options=FAST).remove()  # the folder is free again


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


def test_it_ends_when_its_parent_is_killed(made: Path) -> None:
    holder, pid, url = hold(made)
    with holder, psycopg.connect(url):
        holder.kill()
        until(lambda: not runs(pid))
    log = (made / "server.log").read_text()
    assert "received fast shutdown request" in log
    assert "database system is shut down" in log


def test_the_next_start_waits_for_one_whose_parent_was_killed(made: Path) -> None:
    holder, pid, url = hold(made)
    ask(url, "create table kept as select 42 as x")
    with holder:
        holder.kill()
    server = EmbeddedPostgres(made, options=FAST)
    server.start()
    assert not runs(pid)
    assert ask(server.database_url, "select x from kept") == 42
    server.remove()


def test_the_next_start_ends_one_that_is_stuck(made: Path) -> None:
    holder, pid, _ = hold(made)
    guards = subprocess.run(
        ["pgrep", "-f", f"pgtide-guard {pid}"], capture_output=True, text=True, check=True
    )
    os.kill(int(guards.stdout), signal.SIGKILL)
    with holder:
        holder.kill()
    assert runs(pid)
    server = EmbeddedPostgres(made, options=FAST)
    server.start()
    assert not runs(pid)
    assert "received fast shutdown request" in server.log_path.read_text()
    server.remove()


def test_a_stale_process_id_that_is_now_another_programs(made: Path) -> None:
    with EmbeddedPostgres(made, own_port(), options=FAST) as server:
        lines = (made / "data" / "postmaster.pid").read_text().splitlines()
        server.kill()
    account = account_for(made / "data")
    # Of the same account, as only such a process looks alive to Postgres.
    bystander = subprocess.Popen(["sleep", "60"], **account.identity)
    stale = made / "data" / "postmaster.pid"
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
