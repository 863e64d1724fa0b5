"""Waking the readers of the log.

Each reader has a FIFO in `<log>/readers/`, named after its process. After every commit, and once a
second, the writer puts a `Pulse` into each; a reader that is busy loses pulses, never data: the log
itself says how far it reaches. A FIFO without a reader is removed by the writer.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from struct import Struct
from typing import NamedTuple

_PULSE = Struct(">QB")


class Pulse(NamedTuple):
    """Every transaction that commits before `progress` is in the log; `streaming` says whether the
    engine is connected to Postgres right now."""

    progress: int
    streaming: bool

    def pack(self) -> bytes:
        return _PULSE.pack(self.progress, self.streaming)


class Doorbell:
    """The writer's end: rings at every reader. Never blocks, never raises."""

    def __init__(self, log: Path) -> None:
        self._folder = log / "readers"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._pipes: dict[str, int] = {}

    def refresh(self) -> None:
        """Find new readers. Cheap; call it about once a second."""
        for name in os.listdir(self._folder):
            if name not in self._pipes:
                self._connect(name)

    def ring(self, pulse: Pulse) -> None:
        data = pulse.pack()
        gone: list[str] = []
        for name, pipe in self._pipes.items():
            try:
                os.write(pipe, data)
            except BlockingIOError:
                continue
            except OSError:
                gone.append(name)
        self._forget(gone)

    def close(self) -> None:
        for pipe in self._pipes.values():
            os.close(pipe)
        self._pipes.clear()

    def _connect(self, name: str) -> None:
        path = self._folder / name
        try:
            self._pipes[name] = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.ENXIO:
                path.unlink(missing_ok=True)

    def _forget(self, names: Iterable[str]) -> None:
        for name in names:
            os.close(self._pipes.pop(name))
            (self._folder / name).unlink(missing_ok=True)


class Ear:
    """A reader's end. `fileno` becomes readable when the log has moved."""

    def __init__(self, log: Path) -> None:
        folder = log / "readers"
        folder.mkdir(parents=True, exist_ok=True)
        # Process ids come again, and containers that share a folder have the same ones.
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._path = folder / name
        # Made elsewhere first: the writer removes a FIFO that nobody has opened yet.
        hidden = log / f".{name}.fifo"
        os.mkfifo(hidden, 0o600)
        # Read and write, so that the writer's death is not an end of file.
        self._pipe = os.open(hidden, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        hidden.rename(self._path)

    def fileno(self) -> int:
        return self._pipe

    def listen(self) -> Pulse | None:
        """The latest pulse, or None if there is none. Does not block."""
        last = b""
        while True:
            try:
                data = os.read(self._pipe, _PULSE.size * 4096)
            except BlockingIOError:
                break
            last = data[-_PULSE.size :]
            if len(data) < _PULSE.size * 4096:
                break
        if len(last) < _PULSE.size:
            return None
        progress, streaming = _PULSE.unpack(last)
        return Pulse(progress, bool(streaming))

    def close(self) -> None:
        os.close(self._pipe)
        self._path.unlink(missing_ok=True)
