"""The listening socket that all nodes share."""

from __future__ import annotations

import errno
import socket
from contextlib import closing

from engine.errors import PgtideError

VARIABLE = "PGTIDE_LISTEN_FD"
BACKLOG = 2048


class ListenError(PgtideError):
    """The address cannot be listened on; the message names the flag to change."""

    code = "listen"


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket. `::` takes IPv4 connections too. Raises ListenError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise ListenError(f"--host {host} is no address of this machine: {error}") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ListenError(_explain(error, host, port)) from error
    return listener


def health(listener: socket.socket, timeout: float = 1.0) -> str:
    """What GET /v1/health answers through `listener`: its body, or why there is none."""
    try:
        with closing(socket.create_connection(_target(listener), timeout)) as connection:
            connection.sendall(
                b"GET /v1/health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
            )
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
    except OSError as error:
        return f"no answer ({error.strerror or error})"
    _, _, body = answer.decode(errors="replace").partition("\r\n\r\n")
    return body.strip() or "an empty answer"


def url(listener: socket.socket) -> str:
    """Where a browser on this machine finds it."""
    host, port = _target(listener)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _target(listener: socket.socket) -> tuple[str, int]:
    host: str
    host, port = listener.getsockname()[:2]
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port


def _explain(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is taken: stop what listens there, or choose another --port"
    if error.errno == errno.EACCES:
        return f"port {port} is not open to this user: choose a --port above 1023"
    return f"{host} port {port} cannot be listened on ({error.strerror}): choose another --host"
