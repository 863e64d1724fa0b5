"""Shapes that have come to their end: a node lets go of them soon after their last reader."""

from __future__ import annotations

import time
from typing import NamedTuple

from shapes.definition import Definition
from shapes.definitions import Definitions
from shapes.following.feeds import Feeds
from shapes.shape import Handle, Shape
from shapes.snapshots.snapshot_store import SnapshotStore

FEED_SECONDS = 10.0
"""How long after its last reader a feed is kept; one who polls comes back sooner."""

SNAPSHOT_SECONDS = 60.0
"""How long a snapshot is kept for readers who are about to go on from it."""


class _End(NamedTuple):
    definition: Definition
    handle: Handle
    since: float


class EndedShapes:
    """What is kept of shapes that nothing is expected of any more."""

    def __init__(self, feeds: Feeds, definitions: Definitions, store: SnapshotStore) -> None:
        self._feeds = feeds
        self._definitions = definitions
        self._store = store
        self._ends: dict[int, _End] = {}
        self.released = 0
        """How many feeds have been let go of."""

    def __len__(self) -> int:
        return len(self._ends)

    def note(self, definition: Definition, shape: Shape, handle: Handle) -> None:
        """Somebody has been told of the shape's end."""
        self._ends[shape.hash] = _End(definition, handle, time.monotonic())

    def sweep(self, now: float) -> None:
        """Let go of what nobody uses. `now` is of the monotonic clock."""
        for shape_hash, end in list(self._ends.items()):
            there = self._feeds.get(shape_hash) is not None
            if not self._feeds.release(shape_hash, now - FEED_SECONDS):
                continue
            self.released += there
            self._definitions.release(end.definition)
            if end.since < now - SNAPSHOT_SECONDS:
                self._store.forget(end.handle)
                del self._ends[shape_hash]
