"""The embedded Postgres: initialised, started, stopped, started again.

Folder layout: `data/` (the cluster, owned by the server's account), `run/` (its socket), and ours:
`server.log`, `port` (the last one used), `lock`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from engine.embedded import place, remains
from engine.embedded.account import Account, account_for, give
from engine.embedded.failure import EmbeddedPostgresError
from engine.embedded.guard import Guard, launch

logger = logging.getLogger(__name__)

FIRST_PORT = 54320
DEFAULT_VERSION = 18
_START_TIMEOUT = 120.0
_PATIENCE_WITH_BACKENDS = 3.0
_LOG_LIMIT = 16 * 2**20
# sun_path has 104 bytes on macOS, 108 on Linux, both with a final NUL.
_SOCKET_PATH_LIMIT = 103
_OPTIONS = {
    "wal_level": "logical",
    "max_wal_senders": "20",
    "max_replication_slots": "20",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "listen_addresses": "127.0.0.1",
}


class EmbeddedPostgres:
    """One server in `directory`. Blocking; not for use from several threads at once.

    It ends when this process ends, however that happens, and its data is there at the next start.
    `port` 0 is the last one used here, or the first free one from 54320. `options` are server
    parameters, over the defaults above. `installation` is a folder with bin/, in place of the
    Python package's of that version. Whoever reaches 127.0.0.1 gets in as superuser `postgres`.
    """

    def __init__(
        self,
        directory: Path,
        port: int = 0,
        version: int = DEFAULT_VERSION,
        options: Mapping[str, str] | None = None,
        installation: Path | None = None,
    ) -> None:
        """Raises EmbeddedPostgresError if `installation` has no Postgres."""
        self.directory = directory.absolute()
        self.port = port
        self._installation = installation
        self.version = version if installation is None else place.installed_version(installation)
        self.startup_seconds = 0.0
        self._options = _OPTIONS | dict(options or {})
        self._settled: _Settled | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None

    @property
    def database_url(self) -> str:
        return self.url("postgres")

    def url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    @property
    def bin(self) -> Path:
        """Folder of psql, pg_recvlogical, pg_dump and so on."""
        return self._place().binaries / "bin"

    @property
    def log_path(self) -> Path:
        return self.directory / "server.log"

    @property
    def pid(self) -> int | None:
        """The postmaster's, None if it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Returns when connections are accepted. Does nothing if it runs already.

        Raises EmbeddedPostgresError; nothing is left running then.
        """
        if self.pid is not None:
            return
        begin = time.monotonic()
        self._forget_process()
        if self._settled is None:
            self._settled = _take(self.directory, self.version, self._installation)
        try:
            self._initialise()
            remains.end_postmaster(self._data)
            self._launch_until_ready(begin + _START_TIMEOUT)
        except BaseException:
            self.stop("immediate")
            raise
        (self.directory / "port").write_text(f"{self.port}\n")
        self.startup_seconds = time.monotonic() - begin

    def wait(self) -> int:
        """Blocks until the postmaster ends. Returns its exit code, negative for a signal."""
        return self._process.wait() if self._process else 0

    def stop(self, mode: Literal["fast", "immediate"] = "fast", timeout: float = 10.0) -> None:
        """`fast` disconnects everybody and writes a checkpoint; `immediate`, also after `timeout`
        seconds, leaves the rest to recovery at the next start. The folder is free afterwards."""
        steps = [(signal.SIGQUIT, 6.0), (signal.SIGKILL, None)]
        if mode == "fast":
            steps.insert(0, (signal.SIGINT, timeout))
        for number, seconds in steps if self._process else ():
            assert self._process is not None
            self._process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
                break
        self._forget_process()
        if self._settled is not None:
            os.close(self._settled.lock)
            self._settled = None

    def kill(self) -> None:
        """SIGKILL the postmaster, as a fault would. `start()` begins again in the same place."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._forget_process()

    def remove(self) -> None:
        """Stop it and delete all of it."""
        self.stop("immediate")
        real = self.directory.resolve()
        shutil.rmtree(real, ignore_errors=True)
        if self.directory.is_symlink():
            self.directory.unlink()

    def restart(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        self.stop(mode)
        self.start()

    def __enter__(self) -> EmbeddedPostgres:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _place(self) -> _Settled:
        if self._settled is None:
            raise EmbeddedPostgresError("the embedded Postgres has not been started")
        return self._settled

    @property
    def _data(self) -> Path:
        return self._place().directory / "data"

    def _forget_process(self) -> None:
        if self._guard is not None:
            self._guard.release()
        self._guard = self._process = None

    def _initialise(self) -> None:
        here = self._place()
        version_file = self._data / "PG_VERSION"
        if self._data.exists():
            found = _read_version(version_file)
            if found != str(self.version):
                raise EmbeddedPostgresError(
                    f"{self._data} was made by Postgres {found}: start with "
                    f"--postgres-version {found}, or move {here.directory} away to begin anew"
                )
            if here.account.switch and version_file.stat().st_uid != here.account.uid:
                give(self._data, here.account)
            return
        for leftover in here.directory.glob("making-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        # In a folder that gets its name only once complete: an interrupted initdb is begun anew.
        making = Path(tempfile.mkdtemp(prefix="making-", dir=here.directory))
        give(making, here.account)
        command = [here.binaries / "bin" / "initdb", "-D", making, *_initdb_options(self.version)]
        if self._options.get("fsync") == "off":
            command.append("--no-sync")
        result = here.account.run(*command)
        if result.returncode != 0:
            raise EmbeddedPostgresError(
                f"initdb in {here.directory} failed: {result.stderr.strip()[-500:]}"
            )
        making.rename(self._data)

    def _launch_until_ready(self, deadline: float) -> None:
        ports = self._ports()
        port = next(ports)
        blocked_since: float | None = None
        while True:
            failure = self._launch(port, deadline)
            if failure is None:
                self.port = port
                return
            if "could not create any TCP/IP sockets" in failure:
                following = next(ports, None)
                if following is None:
                    raise EmbeddedPostgresError(
                        f"port {port} is taken: stop what listens there, "
                        "or choose another --postgres-port"
                    )
                port = following
            elif _is_in_use(failure) and time.monotonic() < deadline:
                # Backends of a postmaster that was killed. They notice and go, most at once.
                remains.end_postmaster(self._data)
                blocked_since = blocked_since or time.monotonic()
                if time.monotonic() - blocked_since > _PATIENCE_WITH_BACKENDS:
                    remains.end_backends(self._data)
                time.sleep(0.05)
            else:
                raise EmbeddedPostgresError(
                    f"Postgres did not start, see {self.log_path}: {failure.strip()[-500:]}"
                )

    def _launch(self, port: int, deadline: float) -> str | None:
        """One try. None if it succeeded, otherwise what the server logged."""
        here = self._place()
        if self.log_path.exists() and self.log_path.stat().st_size > _LOG_LIMIT:
            self.log_path.replace(self.log_path.with_suffix(".log.old"))
        with open(here.directory / "server.log", "ab") as log:
            begin = log.tell()
            self._process, self._guard = launch(self._command(port), here.account, log)
        while self._process.poll() is None:
            lines = remains.pid_file(self._data)
            if len(lines) > 7 and lines[0] == str(self._process.pid) and "ready" in lines[7]:
                return None
            if time.monotonic() > deadline:
                self._process.kill()
                self._process.wait()
            time.sleep(0.01)
        self._forget_process()
        with open(here.directory / "server.log", "rb") as written:
            written.seek(begin)
            return written.read().decode(errors="replace") or "no reason given"

    def _command(self, port: int) -> list[str | Path]:
        here = self._place()
        options = {**self._options, "port": str(port), "unix_socket_directories": ""}
        sockets = here.directory / "run"
        if len(os.fsencode(sockets / f".s.PGSQL.{port}")) <= _SOCKET_PATH_LIMIT:
            sockets.mkdir(exist_ok=True)
            give(sockets, here.account)
            options["unix_socket_directories"] = '"' + str(sockets).replace('"', '""') + '"'
        words: list[str | Path] = [here.binaries / "bin" / "postgres", "-D", self._data]
        for name, value in options.items():
            words += ["-c", f"{name}={value}"]
        return words

    def _ports(self) -> Iterator[int]:
        if self.port:
            yield self.port
            return
        with contextlib.suppress(OSError, ValueError):
            remembered = int((self.directory / "port").read_text())
            if _is_free(remembered):
                yield remembered
            else:
                logger.warning(
                    "port %d, where this Postgres was, is taken: whoever has its old URL needs the new",
                    remembered,
                )
        yield from filter(_is_free, range(FIRST_PORT, FIRST_PORT + 1000))


class _Settled:
    """What is known once the folder is ours."""

    def __init__(self, directory: Path, account: Account, binaries: Path, lock: int) -> None:
        self.directory = directory
        self.account = account
        self.binaries = binaries
        self.lock = lock


def _take(directory: Path, version: int, installation: Path | None) -> _Settled:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = place.lock(directory)
    except OSError as error:
        raise EmbeddedPostgresError(
            f"{directory} cannot be written ({error.strerror}): choose another --data-dir"
        ) from error
    try:
        account = account_for(directory / "data")
        real = place.settle(directory, account)
        if not os.path.samestat(os.fstat(lock), os.stat(real / "lock")):
            lock = place.lock(real)  # the folder was moved to another disk
        binaries = place.find_binaries(installation or place.packaged(version), account)
        return _Settled(real, account, binaries, lock)
    except BaseException:
        os.close(lock)
        raise


def _read_version(version_file: Path) -> str:
    try:
        return version_file.read_text().strip()
    except PermissionError as error:
        raise EmbeddedPostgresError(
            f"{version_file.parent} belongs to another user: start as that one, "
            "or choose another --data-dir"
        ) from error
    except OSError as error:
        raise EmbeddedPostgresError(
            f"{version_file.parent} is no Postgres data folder ({error.strerror}): move it away"
        ) from error


def _initdb_options(version: int) -> list[str]:
    """UTF-8 everywhere, and an order of text that is the bytes' own: the same on every machine, and
    what pgtide's filters compare by. Letters beyond ASCII still have case where the build allows it
    (these binaries have no ICU): from 17 by the built-in provider, before by the C library's."""
    options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-instructions"]
    if version >= 17:
        return [*options, "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    return [*options, "--lc-ctype=C.UTF-8"] if sys.platform == "linux" else options


def _is_in_use(failure: str) -> bool:
    return "is still in use" in failure or 'file "postmaster.pid" already exists' in failure


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
