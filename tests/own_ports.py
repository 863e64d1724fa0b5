"""Ports for servers that a test stops and starts again.

In between, the port is free for anybody: another worker's server, which takes the first free one, or a
connection of this machine. These ports are given out once, by worker, and the system does not give
them to connections.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

FIRST = 20_000
EACH = 1_000


def _ports() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for port in range(FIRST + EACH * worker, FIRST + EACH * (worker + 1)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield port


_given = _ports()


def own_port() -> int:
    """A port that nobody else is given."""
    return next(_given)
