"""A real nginx with deploy/nginx.conf as it is, but for addresses, paths and what is asked for here.

Used by the benchmark `cache` and by the tests of caches.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

SITE = Path(__file__).parents[1] / "deploy" / "nginx.conf"
PLACES = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin")
PATIENCE = 20.0

# What belongs into a machine's own nginx.conf; all paths are relative to the folder of the run.
MAIN = """\
pid nginx.pid;
{user}
worker_processes 2;
worker_rlimit_nofile 16384;
error_log error.log warn;
events {{ worker_connections 8000; }}
http {{
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include site.conf;
}}
"""

_LINE = re.compile(r"(?P<name>cache|origin|id|table|handle|offset|live|cursor)=(?P<value>\S*)")
_HEAD = re.compile(r"^\S+ \[[^]]*\] (?P<method>\S+) (?P<path>\S+) (?P<status>\d+) ")


def find_program() -> str | None:
    """The path of nginx, which is not on everybody's PATH where it is installed."""
    return shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), *PLACES]))


class NginxError(Exception):
    """nginx does not do what it should; the message has its own words."""


class Logged(NamedTuple):
    """A line of the access log. `origin` is pgtide's status, empty if it was not asked."""

    method: str
    path: str
    status: int
    cache: str
    origin: str
    fields: dict[str, str]


class Nginx:
    """Runs between `start` and `stop`; use `open_nginx`."""

    def __init__(self, folder: Path, origin_port: int, secret: str, replacements: dict[str, str]):
        self.folder = folder
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = folder / "log" / "access.log"
        self._process: subprocess.Popen[bytes] | None = None
        for name in ("log", "cache"):
            (folder / name).mkdir(parents=True)
        if secret:
            (folder / "pgtide-secret.conf").write_text(
                f"set $args $args&secret={secret};\n"
                'set $pgtide_reader "";\n'
                "error_log error.log crit;\n"
            )
        user = "user root;" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(MAIN.format(user=user))
        text = SITE.read_text()
        for old, new in {
            "server 127.0.0.1:3000;": f"server 127.0.0.1:{origin_port};",
            "    listen 8080;": f"    listen 127.0.0.1:{self.port};",
            "/var/cache/nginx/pgtide": str(folder / "cache" / "pgtide"),
            "/var/log/nginx/": f"{folder}/log/",
            "/etc/nginx/": f"{folder}/",
            **replacements,
        }.items():
            if old not in text:
                raise NginxError(f"deploy/nginx.conf has no {old!r} to replace")
            text = text.replace(old, new)
        (folder / "site.conf").write_text(text)

    def start(self) -> None:
        """Returns when it listens."""
        program = find_program()
        if program is None:
            raise NginxError("nginx is not installed; on Debian: apt-get install nginx")
        command = [program, "-p", str(self.folder), "-c", "nginx.conf", "-e", "error.log"]
        self._process = subprocess.Popen([*command, "-g", "daemon off;"], stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise NginxError(f"nginx does not start:\n{self.errors}") from error
                time.sleep(0.01)

    def stop(self) -> None:
        """At once, whatever is under way."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE)
            self._process = None

    @property
    def pid(self) -> int:
        """Of the master; its workers are its children."""
        assert self._process is not None
        return self._process.pid

    @property
    def errors(self) -> str:
        path = self.folder / "error.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def requests(self) -> list[Logged]:
        """All that it has answered so far, its own renewals too."""
        whole, _, _ = self.log_path.read_text().rpartition("\n")
        return [_logged(line) for line in whole.splitlines()]

    def wait_for(self, count: int, which: Callable[[Logged], bool]) -> list[Logged]:
        """The requests of a kind, once there are so many: nginx logs them after the client has its
        answer. Raises NginxError if they do not come."""
        deadline = time.monotonic() + PATIENCE
        while len(found := [line for line in self.requests() if which(line)]) < count:
            if time.monotonic() > deadline:
                raise NginxError(f"{len(found)} of {count} requests are in the log:\n{found}")
            time.sleep(0.01)
        return found

    def origin_requests(self) -> list[Logged]:
        """Those for which pgtide was asked."""
        return [line for line in self.requests() if line.origin]


@contextmanager
def open_nginx(
    folder: Path, origin_port: int, *, secret: str = "", **replacements: str
) -> Generator[Nginx]:
    """In front of a pgtide. `replacements` are lines of deploy/nginx.conf by their first word, such as
    gzip="gzip off;"."""
    named = {f"{name} on;": line for name, line in replacements.items()}
    nginx = Nginx(folder, origin_port, secret, named)
    try:
        nginx.start()
        yield nginx
    finally:
        nginx.stop()


def _logged(line: str) -> Logged:
    head = _HEAD.match(line)
    assert head is not None, line
    fields = {
        one["name"]: "" if one["value"] == "-" else one["value"] for one in _LINE.finditer(line)
    }
    return Logged(
        head["method"],
        head["path"],
        int(head["status"]),
        fields.pop("cache", ""),
        fields.pop("origin", ""),
        fields,
    )


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
