"""Checks the folder that holds the log."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from engine.configuration.settings import Settings
from engine.doctor.finding import Finding, Findings, advice, met, unmet

# With less, even the first snapshot of a middling table fills the disk.
_LEAST_FREE = 2**28


async def check_folder(settings: Settings) -> Findings:
    """Whether the data folder can be written to and has room."""
    folder = settings.data_dir.absolute()
    yield _try_to_write(folder)
    existing = _nearest_existing(folder)
    free = shutil.disk_usage(existing).free
    room = f"{free / 2**30:.1f} GiB free for {folder}"
    if free < _LEAST_FREE:
        yield unmet(room, "Free some space, or set PGTIDE_DATA_DIR to a folder on another disk")
    elif free < settings.retention_bytes:
        yield advice(
            f"{room}, but the log may grow to {settings.retention_bytes / 2**30:.1f} GiB",
            "Set PGTIDE_RETENTION_BYTES lower, or PGTIDE_DATA_DIR to a folder on another disk",
        )
    else:
        yield met(room)


def _try_to_write(folder: Path) -> Finding:
    """By writing: permissions alone do not tell of a read-only or full disk."""
    existing = _nearest_existing(folder)
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"\0" * 4096)
    except OSError as error:
        return unmet(
            f"the data folder {folder} cannot be written: {error.strerror}",
            f"Give this user the right to write to {existing}, or set PGTIDE_DATA_DIR",
        )
    return met(f"the data folder {folder} can be written")


def _nearest_existing(folder: Path) -> Path:
    """The folder, or the parent that it would be made in."""
    return next(path for path in (folder, *folder.parents) if path.exists())
