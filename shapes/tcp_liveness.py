"""TCP's own signs of life on asyncpg's connections, which take no libpq parameters for them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Mapping
from typing import Any

import asyncpg

# macOS has another name for the first.
_OPTIONS = {
    "keepalives_idle": getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None)),
    "keepalives_interval": getattr(socket, "TCP_KEEPINTVL", None),
    "keepalives_count": getattr(socket, "TCP_KEEPCNT", None),
    "tcp_user_timeout": getattr(socket, "TCP_USER_TIMEOUT", None),
}


def kept_alive(parameters: Mapping[str, str]) -> type[asyncpg.Connection]:
    """A class of connections that have the TCP options of these libpq parameters."""

    class Connection(asyncpg.Connection):
        def __init__(self, protocol: Any, transport: asyncio.Transport, *rest: Any) -> None:
            super().__init__(protocol, transport, *rest)
            connected: socket.socket | None = transport.get_extra_info("socket")
            if connected is not None and connected.family in (socket.AF_INET, socket.AF_INET6):
                _set(connected, parameters)

    return Connection


def _set(connected: socket.socket, parameters: Mapping[str, str]) -> None:
    connected.setsockopt(
        socket.SOL_SOCKET, socket.SO_KEEPALIVE, parameters.get("keepalives", "1") != "0"
    )
    for name, option in _OPTIONS.items():
        if option is not None and name in parameters:
            # A value that makes no sense is libpq's to refuse.
            with contextlib.suppress(ValueError, OSError):
                connected.setsockopt(socket.IPPROTO_TCP, option, int(parameters[name]))
