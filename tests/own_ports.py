"""Ports for servers that a test stops and starts again.

In between, the port is free for anybody: another worker's server, which takes the first free one, or a
connection of this machine. These ports are given out once, by worker, and the system does not give
them to connections. A lock on a file for each keeps those of tests that run at the same time apart.
"""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

FIRST = 20_000
EACH = 1_000

_locks: list[int] = []
"""Held until this process ends."""


def _ports() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for port in range(FIRST + EACH * worker, FIRST + EACH * (worker + 1)):
        if not _lock(port):
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield port


def _lock(port: int) -> bool:
    """Whether it belongs to this process now."""
    path = Path(tempfile.gettempdir()) / f"pgtide-test-port-{port}"
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError:
        # Somebody else's, who runs tests, too.
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return False
    _locks.append(file)
    return True


_given = _ports()


def own_port() -> int:
    """A port that nobody else is given."""
    return next(_given)
