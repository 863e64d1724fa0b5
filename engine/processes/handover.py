"""Passes the listening socket on to the next pgtide, so that an upgrade refuses no connection.

A running supervisor offers its socket in the data folder; one that is started there with the same
address takes it and serves beside it. Connections that wait in the socket's queue belong to both,
and are there for whoever is left when one of them stops.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)

NAME = "listener.sock"
_SECONDS = 2.0
_PATH_LIMIT = 103
"""Bytes of a Unix socket's path, without the final NUL; 104 with it on macOS."""


class Handover:
    """Gives `door` to whoever asks for it, while this is open. Where it cannot, it says so once."""

    def __init__(self, folder: Path, door: socket.socket) -> None:
        self._path = folder / NAME
        self._door = door
        self._offer: socket.socket | None = None
        self._identity = (0, 0)

    def __enter__(self) -> Handover:
        try:
            self._open()
        except OSError as error:
            logger.info("the port cannot be handed over to a successor: %s", error)
        return self

    def __exit__(self, *_: object) -> None:
        if self._offer is None:
            return
        # A successor has put its own socket there.
        with contextlib.suppress(OSError):
            found = os.stat(self._path)
            if (found.st_dev, found.st_ino) == self._identity:
                self._path.unlink()
        # Closing alone would not wake the thread.
        with contextlib.suppress(OSError):
            self._offer.shutdown(socket.SHUT_RDWR)
        self._offer.close()

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        offer = socket.socket(socket.AF_UNIX)
        try:
            with _short(self._path) as address:
                self._path.unlink(missing_ok=True)
                offer.bind(address)
                os.chmod(address, 0o600)
                found = os.stat(address)
            offer.listen(1)
        except BaseException:
            offer.close()
            raise
        self._identity = (found.st_dev, found.st_ino)
        self._offer = offer
        threading.Thread(target=self._give, args=(offer,), name="handover", daemon=True).start()

    def _give(self, offer: socket.socket) -> None:
        while True:
            try:
                asking, _ = offer.accept()
            except OSError:
                return
            with asking, contextlib.suppress(OSError):
                asking.settimeout(_SECONDS)
                socket.send_fds(asking, [b"\0"], [self._door.fileno()])
                logger.info("the port is offered to another pgtide in this data folder")


def take_over(folder: Path, host: str, port: int) -> socket.socket | None:
    """The socket of the pgtide that runs in `folder`, if it listens at this address; else None."""
    if port == 0:
        return None
    path = folder / NAME
    with (
        contextlib.suppress(OSError),
        _short(path) as address,
        socket.socket(socket.AF_UNIX) as asking,
    ):
        asking.settimeout(_SECONDS)
        asking.connect(address)
        _, descriptors, _, _ = socket.recv_fds(asking, 1, 1)
        for descriptor in descriptors:
            door = socket.socket(fileno=descriptor)
            if door.getsockname()[:2] == _resolved(host, port):
                return door
            door.close()
    return None


def _resolved(host: str, port: int) -> tuple[str, int]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    address = found[0][4]
    return str(address[0]), int(address[1])


@contextmanager
def _short(path: Path) -> Generator[str]:
    """The path, or a short way to it. Raises OSError if there is none."""
    if len(os.fsencode(path)) <= _PATH_LIMIT:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Only Linux has this; elsewhere the path is too long.
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
