"""A real PgBouncer before a database."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import psycopg
import pytest
from own_ports import own_port

PROGRAM = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
POOL = 3
"""Connections to the database that it has, unless told otherwise."""

Mode = Literal["transaction", "session"]


class Pooler:
    """May be killed and started again in the same place."""

    def __init__(self, folder: Path, database: str) -> None:
        parts = urlsplit(database)
        self._folder = folder
        self._port = own_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"postgresql://{parts.username}@127.0.0.1:{self._port}{parts.path}"
        self._console = f"postgresql://{parts.username}@127.0.0.1:{self._port}/pgbouncer"

    def write(self, database: str, mode: Mode, pool: int, clients: int) -> None:
        parts = urlsplit(database)
        (self._folder / "users.txt").write_text(f'"{parts.username}" ""\n')
        (self._folder / "pgbouncer.ini").write_text(
            f"""
            [databases]
            * = host=127.0.0.1 port={parts.port} user={parts.username}
            [pgbouncer]
            listen_addr = 127.0.0.1
            listen_port = {self._port}
            unix_socket_dir =
            auth_type = any
            auth_file = {self._folder}/users.txt
            admin_users = {parts.username}
            pool_mode = {mode}
            default_pool_size = {pool}
            max_client_conn = {clients}
            server_reset_query =
            """.replace("            ", "")
        )

    def start(self) -> None:
        """Returns when it takes connections."""
        # It refuses to be root, and whoever it becomes must be able to read its files.
        user = "nobody" if os.geteuid() == 0 else getpass.getuser()
        command = [PROGRAM, "-u", user, str(self._folder / "pgbouncer.ini")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self._port), 1).close()
            except OSError:
                assert self._process.poll() is None, self.log
                assert time.monotonic() < deadline, self.log
                time.sleep(0.02)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def end(self) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(10)

    def allow(self, clients: int) -> None:
        """How many may be connected from now on; those that are stay."""
        self._tell(f"set max_client_conn = {clients}")

    def _tell(self, command: str) -> None:
        with psycopg.connect(self._console, autocommit=True) as console:
            console.pgconn.exec_(command.encode())

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text()


@contextmanager
def pgbouncer(
    database: str, mode: Mode = "transaction", *, pool: int = POOL, clients: int = 200
) -> Generator[Pooler]:
    """A pooler that runs, with so many connections to the database."""
    if not Path(PROGRAM).exists():
        pytest.skip("NOT TESTED: the pooled URL, for lack of pgbouncer (apt-get install pgbouncer)")
    with tempfile.TemporaryDirectory(prefix="pgtide-pooler-") as name:
        Path(name).chmod(0o755)
        pooler = Pooler(Path(name), database)
        pooler.write(database, mode, pool, clients)
        pooler.start()
        try:
            yield pooler
        finally:
            pooler.end()
