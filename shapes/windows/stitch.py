"""Stitching the snapshot of a shape with a window to the log, where the window has moved meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from engine.log.layout import INDEX_STEP
from engine.lsn import Offset
from engine.replication.tick import TICK_IDENTITY, is_inside
from shapes.following.encoder import DELETE, Entry
from shapes.following.encoders import Encoders
from shapes.shape import Shape


def settle(
    shape: Shape,
    encoders: Encoders,
    entries: list[Entry],
    sees: Callable[[int], bool],
    since: Offset,
    cutoff: str,
) -> list[Entry]:
    """What a snapshot lacks, given all that happened to its rows from when it was taken, or before,
    until where the log takes over. There the window is at `cutoff`; the snapshot was read with the one
    of `since`.

    `entries` take no notice of the window's moves: they are those of a shape with the rows since the
    cut-off that the snapshot was read with, and a delete for every row that a tick names, whether the
    snapshot sees the tick or not. Of that row the last word counts: it leaves, unless it has come back
    later or is gone anyhow. What comes in later with a time that is over leaves, too.
    """
    assert shape.window is not None
    missed: list[Entry] = []
    leaving: dict[str, Entry] = {}
    for entry in entries:
        encoder = encoders.encoder(shape, entry.version)
        version = encoders.version(entry.version)
        if entry.old is not None:
            leaving.pop(encoder.key(entry.old), None)
        if version.replica_identity == TICK_IDENTITY:
            if entry.old is not None and entry.lsn >= since.lsn:
                leaving[encoder.key(entry.old)] = entry
            continue
        if not sees(entry.xid):
            missed.append(entry)
        if entry.new is not None and entry.kind != DELETE:
            key = encoder.key(entry.new)
            leaving.pop(key, None)
            if not is_inside(entry.new[version.positions[shape.window.column]], cutoff):
                leaving[key] = entry._replace(kind=DELETE, old=entry.new)
    # They come last, whatever order they left in.
    last = entries[-1] if entries else None
    return missed + [
        one._replace(lsn=last.lsn, index=last.index + INDEX_STEP * number)
        for number, one in enumerate(leaving.values(), 1)
        if last is not None
    ]
