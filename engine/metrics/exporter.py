"""`GET /metrics`: what all processes of a supervisor have counted, on a port of its own.

It runs in the supervisor, in threads, because the supervisor is the one process that is always there,
and looks at everything only when it is asked.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psycopg

from engine.configuration.settings import Settings
from engine.errors import PgtideError
from engine.metrics.exposition import CONTENT_TYPE, Family, merged, text_of
from engine.metrics.numbers import REGIONS, Numbers
from engine.redaction import redact

logger = logging.getLogger(__name__)

DATABASE_SECONDS = 2
"""How long a look at the slot may take."""

RETRY_SECONDS = 0.5
"""Between attempts at a port that a predecessor still has."""

_SLOT = (
    "select pg_wal_lsn_diff(at, restart_lsn), pg_wal_lsn_diff(at, confirmed_flush_lsn)"
    " from pg_replication_slots,"
    " lateral (select case when pg_is_in_recovery() then pg_last_wal_receive_lsn()"
    " else pg_current_wal_lsn() end as at) as here"
    " where slot_name = %s"
)
_RETAINED = "electric_postgres_replication_slot_retained_wal_size"
_UNCONFIRMED = "electric_postgres_replication_slot_confirmed_flush_lsn_lag"


class MetricsPortError(PgtideError):
    """The port of the metrics cannot be listened on; the message names the flag to change."""

    code = "metrics_port"


class Exporter:
    """Serves the page while it is open as a context manager."""

    def __init__(
        self,
        settings: Settings,
        numbers: Numbers,
        processes: Callable[[], Mapping[str, int]],
        resting: Callable[[], bool],
        *,
        succeeds: bool = False,
    ) -> None:
        """`processes` gives the process ids that run now, by name. While `resting`, Postgres is left
        alone, because it may be asleep. One that `succeeds` another pgtide waits for the port."""
        self._settings = settings
        self._numbers = numbers
        self._processes = processes
        self._resting = resting
        self._succeeds = succeeds
        self._looking = threading.Lock()
        self._server: _Server | None = None
        self._ended = threading.Event()
        self._waiting: threading.Thread | None = None

    @property
    def port(self) -> int:
        """Where it listens; 0 if it does not."""
        return 0 if self._server is None else self._server.server_address[1]

    def __enter__(self) -> Exporter:
        """Raises MetricsPortError."""
        port = self._settings.prometheus_port
        if port is None:
            return self
        try:
            self._listen(port)
        except OSError as error:
            if not self._succeeds or error.errno != errno.EADDRINUSE:
                raise MetricsPortError(
                    f"port {port} for metrics cannot be listened on ({error.strerror}):"
                    " choose another --prometheus-port"
                ) from error
            logger.info("metrics are served once port %d is free", port)
            self._waiting = threading.Thread(
                target=self._listen_when_free, args=(port,), name="metrics-port", daemon=True
            )
            self._waiting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._waiting is not None:
            self._waiting.join()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _listen(self, port: int) -> None:
        """Raises OSError."""
        self._server = _Server((self._settings.listen_host, port), self)
        serve = self._server.serve_forever
        threading.Thread(target=serve, name="metrics", daemon=True).start()
        logger.info("metrics are served  port=%d path=/metrics", self.port)

    def _listen_when_free(self, port: int) -> None:
        while self._server is None and not self._ended.wait(RETRY_SECONDS):
            with contextlib.suppress(OSError):
                self._listen(port)

    def page(self) -> str:
        """The metrics as they are now."""
        with self._looking:
            families = merged(self._numbers.read(number) for number in range(REGIONS))
            families += _processes(self._processes())
            families += self._slot()
            families.append(_gauge("pgtide_log_file_bytes", "Disk space of the log.", self._log()))
        return text_of(families)

    def _log(self) -> float:
        try:
            return os.stat(self._settings.log_dir / "data.mdb").st_blocks * 512.0
        except OSError:
            return 0.0

    def _slot(self) -> Iterable[Family]:
        """How Postgres sees the slot; that it cannot be asked is a metric, too."""
        url = self._settings.database_url
        if self._resting():
            return
        rows: list[tuple[float | None, ...]] = []
        up = 0.0
        if url is not None:
            try:
                with psycopg.connect(
                    url,
                    autocommit=True,
                    connect_timeout=DATABASE_SECONDS,
                    application_name="pgtide",
                ) as connection:
                    connection.execute("set statement_timeout = '2s'")
                    rows = connection.execute(_SLOT, [self._settings.slot]).fetchall()
                up = 1.0
            except psycopg.Error as error:
                logger.debug("no look at the slot: %s", redact(str(error)))
        yield _gauge("pgtide_postgres_up", "Whether Postgres answers, 1 or 0.", up)
        for retained, unconfirmed in rows:
            if retained is not None:
                text = "WAL that Postgres keeps for the slot, in bytes."
                yield _gauge(_RETAINED, text, float(retained))
            if unconfirmed is not None:
                text = "WAL after what pgtide has confirmed as durable, in bytes."
                yield _gauge(_UNCONFIRMED, text, float(unconfirmed))


def _gauge(name: str, text: str, value: float) -> Family:
    return Family(name, "gauge", text, [("", {}, value)])


def _processes(pids: Mapping[str, int]) -> list[Family]:
    """CPU time and memory, where the system shows them in /proc."""
    cpu = Family("pgtide_process_cpu_seconds_total", "counter", "CPU time of a process.", [])
    memory = Family("pgtide_process_resident_bytes", "gauge", "Resident memory of a process.", [])
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    for name, pid in pids.items():
        with contextlib.suppress(OSError):
            # The name of the program, in brackets, may contain anything.
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            label = {"process": name}
            cpu.samples.append(("", label, (int(stat[11]) + int(stat[12])) / ticks))
            memory.samples.append(("", label, float(int(stat[21]) * page)))
    return [family for family in (cpu, memory) if family.samples]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], exporter: Exporter) -> None:
        if ":" in address[0]:
            import socket

            self.address_family = socket.AF_INET6
        self.exporter = exporter
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    """One request. Whoever asks slowly or for something else is answered little."""

    timeout = 5.0
    server_version = "pgtide"
    sys_version = ""

    def do_GET(self) -> None:
        assert isinstance(self.server, _Server)
        if self.path.partition("?")[0] != "/metrics":
            return self._answer(404, "text/plain; charset=utf-8", "Not found: look at /metrics\n")
        try:
            page = self.server.exporter.page()
        except Exception:
            logger.exception("the metrics cannot be shown")
            return self._answer(500, "text/plain; charset=utf-8", "Internal server error\n")
        return self._answer(200, CONTENT_TYPE, page)

    do_HEAD = do_GET

    def _answer(self, status: int, content_type: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        logger.debug("metrics: %s", format % args)
