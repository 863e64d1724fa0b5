"""Lets one process of a machine have a task: whoever holds the lock on a file. When it dies, however it
does, the system takes the lock from it at once."""

from __future__ import annotations

import asyncio
import fcntl
import os
import uuid
from pathlib import Path
from typing import Final

ASK_SECONDS: Final = 0.3


class Baton:
    """A lock on the file `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    async def take(self) -> str:
        """Returns once this process has it, until it ends. The name that all its holders have had, one
        after the other: it is in the file."""
        if self._file is None:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await asyncio.sleep(ASK_SECONDS)
            else:
                return self._name(self._file)

    def _name(self, file: int) -> str:
        try:
            return str(uuid.UUID(os.pread(file, 64, 0).decode("ascii").strip()))
        except ValueError:
            name = str(uuid.uuid4())
            os.ftruncate(file, 0)
            os.pwrite(file, name.encode(), 0)
            return name

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
