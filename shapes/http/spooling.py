"""Large answers go through a file without a name, which costs no memory while a client is slow."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import IO

SPOOLED_BYTES = 64 << 10
"""Answers beyond this size that are made for one client do not stay in memory."""


def is_large(messages: list[bytes]) -> bool:
    """Whether a body of these messages should be spooled."""
    return sum(map(len, messages)) > SPOOLED_BYTES


def spooled(messages: list[bytes], folder: Path) -> IO[bytes]:
    """The messages as a JSON array in a file; whoever gets it closes it."""
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
    separator = b"["
    for start in range(0, len(messages), 500):
        file.write(separator + b",\n".join(messages[start : start + 500]))
        separator = b",\n"
    file.write(b"]")
    return file
