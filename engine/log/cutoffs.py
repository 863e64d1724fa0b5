"""Where in the log the cut-off of which window moved (`replication.tick`). In the database `meta`.

Cursors are on that database. The key is `PREFIX`, the window's key (8 bytes) and the tick's commit LSN
(8), the value the cut-off.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import lmdb

from engine.log.layout import LSN
from engine.lsn import Offset

PREFIX: Final = b"cutoff:"
_WINDOW: Final = slice(len(PREFIX), len(PREFIX) + 8)

MOST_WINDOWS: Final = 10_000
"""So many keep a cut-off from before the log's beginning; windows that moved last of all."""


def cutoff_key(window: bytes, commit_lsn: int) -> bytes:
    return PREFIX + window + LSN.pack(commit_lsn)


def cutoff_at(cursor: lmdb.Cursor, window: bytes, position: Offset) -> str | None:
    """A window's cut-off at an offset; None if it has none."""
    # A tick counts from its own first offset on.
    after = cutoff_key(window, position.lsn + (position.index > 0))
    found = cursor.prev() if cursor.set_range(after) else cursor.last()
    if not found or not bytes(cursor.key()).startswith(PREFIX + window):
        return None
    return bytes(cursor.value()).decode()


def latest_cutoffs(cursor: lmdb.Cursor) -> dict[bytes, str]:
    """All windows' cut-offs at the end of the log."""
    return {key[_WINDOW]: value.decode() for key, value in _all(cursor)}


def drop_cutoffs(cursor: lmdb.Cursor, horizon: int) -> None:
    """Drop those that no offset from `horizon` on needs."""
    doomed: list[bytes] = []
    last: dict[bytes, tuple[int, bytes]] = {}
    for key, _ in _all(cursor):
        (lsn,) = LSN.unpack(key[_WINDOW.stop :])
        if lsn < horizon:
            former = last.get(key[_WINDOW])
            if former is not None:
                doomed.append(former[1])
            last[key[_WINDOW]] = lsn, key
    if len(last) > MOST_WINDOWS:
        doomed += [key for _, key in sorted(last.values())[: len(last) - MOST_WINDOWS]]
    _delete(cursor, doomed)


def drop_all_cutoffs(cursor: lmdb.Cursor) -> None:
    """The log begins anew."""
    _delete(cursor, [key for key, _ in _all(cursor)])


def _delete(cursor: lmdb.Cursor, keys: list[bytes]) -> None:
    for key in keys:
        if cursor.set_key(key):
            cursor.delete()


def _all(cursor: lmdb.Cursor) -> Iterator[tuple[bytes, bytes]]:
    """In the order of windows, then of the log."""
    found = cursor.set_range(PREFIX)
    while found and bytes(cursor.key()).startswith(PREFIX):
        yield bytes(cursor.key()), bytes(cursor.value())
        found = cursor.next()
