"""Writing what nodes keep beside the log, in LMDB environments of the data folder."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import lmdb

from engine.errors import PgtideError


class DiskError(PgtideError):
    """The data folder cannot be written, mostly because its disk is full. Nothing was written."""

    code = "disk"


@contextmanager
def writing(env: lmdb.Environment, db: Any = None) -> Generator[Any]:
    """A transaction that is committed at the end. Raises DiskError."""
    try:
        with env.begin(write=True, db=db) as txn:
            yield txn
    except lmdb.Error as error:
        raise DiskError(
            f"{env.path()} cannot be written: {error}; free some space if its disk is full"
        ) from error
