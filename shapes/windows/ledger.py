"""What all nodes of one data folder know of the windows that are followed, beside what the log says."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lmdb
import orjson

from shapes.kept import writing

CLAIM_SECONDS = 4.0
"""Whoever has not moved a window by then is not waited for."""


class WindowLedger:
    """Per window: the columns that the shapes with it read, and which node is about to move it.

    Every method is quick; several processes may call. Whatever writes raises DiskError.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # What is lost with the machine is written again by those who follow.
        self._env = lmdb.open(str(folder), map_size=1 << 30, max_readers=510, metasync=False)

    def close(self) -> None:
        self._env.close()

    def join(self, window: bytes, columns: Iterable[str]) -> None:
        """A shape with this window reads these columns: rows that leave must come with them."""
        with self._env.begin() as txn:
            known, _ = _entry(txn.get(window))
        if not known.issuperset(columns):
            with writing(self._env) as txn:
                known, claimed = _entry(txn.get(window))
                _put(txn, window, known.union(columns), claimed)

    def claim(self, window: bytes, columns: Iterable[str]) -> set[str] | None:
        """The columns that rows must come with, if nobody else is about to move the window."""
        with writing(self._env) as txn:
            known, claimed = _entry(txn.get(window))
            now = time.time()
            if claimed <= now < claimed + CLAIM_SECONDS:
                return None
            known |= set(columns)
            _put(txn, window, known, now)
        return known

    def release(self, window: bytes, gone: Iterable[str] = ()) -> None:
        """The window has been moved. Columns that are `gone` need not be asked for again."""
        with writing(self._env) as txn:
            known, _ = _entry(txn.get(window))
            _put(txn, window, known.difference(gone), 0.0)


def _entry(data: bytes | None) -> tuple[set[str], float]:
    if data is None:
        return set(), 0.0
    fields: list[Any] = orjson.loads(data)
    return set(fields[0]), float(fields[1])


def _put(txn: lmdb.Transaction, window: bytes, columns: set[str], claimed: float) -> None:
    txn.put(window, orjson.dumps([sorted(columns), claimed]))
