"""Shapes at their end leave memory soon after their last reader."""

from __future__ import annotations

import time
from pathlib import Path
from typing import cast

from brute_force import FOLLOWED
from log_builder import insert, make_log, transaction
from reading_client import Client, node

from engine.lsn import Offset
from shapes.definition import Definition
from shapes.definitions import Definitions
from shapes.ended import FEED_SECONDS, SNAPSHOT_SECONDS, EndedShapes
from shapes.following.feed import Batch, RotatedError
from shapes.shape import Handle
from shapes.snapshots.snapshot_store import SnapshotStore

HISTORY = [transaction(200, insert("1", "a", None), insert("2", "b", "x"))]


class Reader:
    def deliver(self, batch: Batch | None) -> bool:
        return True

    def end(self, error: RotatedError) -> None:
        raise error


class Remembered:
    """Which definitions are remembered; takes the place of the catalog's."""

    def __init__(self, *definitions: Definition) -> None:
        self.those = set(definitions)

    def release(self, definition: Definition) -> None:
        self.those.discard(definition)


async def test_what_is_left_of_an_ended_shape(folder: Path, tmp_path: Path) -> None:
    make_log(folder, HISTORY)
    store = SnapshotStore(tmp_path / "snapshots")
    one, other = FOLLOWED[0].shape, FOLLOWED[1].shape
    record, claimed = store.claim(one.hash, 0, lambda _: True)
    assert claimed
    handle = Handle(one.hash, record.generation)
    store.write_chunk(handle, 0, [b"{}"])
    remembered = Remembered(Definition("t"), Definition("u"))
    async with node(folder) as running:
        ended = EndedShapes(running.feeds, cast("Definitions", remembered), store)
        for shape in (FOLLOWED[0], FOLLOWED[1]):
            await Client(running, shape, Offset(100, 0), 10_000).open()
        ended.note(Definition("t"), one, handle)
        feed = running.feeds.get(one.hash)
        assert feed is not None
        reader = Reader()
        feed.attach(reader, running.tail.processed)
        now = time.monotonic()

        # Somebody waits at it.
        ended.sweep(now + 3600)
        assert running.feeds.get(one.hash) is feed
        feed.detach(reader)
        # Somebody may be about to come back.
        ended.sweep(time.monotonic() + FEED_SECONDS / 2)
        assert running.feeds.get(one.hash) is feed

        ended.sweep(time.monotonic() + FEED_SECONDS + 1)
        assert running.feeds.get(one.hash) is None
        assert running.feeds.get(other.hash) is not None
        assert {entry.shape.hash for entry in running.tail.routing.subscribers()} == {other.hash}
        assert remembered.those == {Definition("u")}
        assert store.read_chunk(handle, 0) is not None

        ended.sweep(time.monotonic() + SNAPSHOT_SECONDS + 1)
        assert store.read_chunk(handle, 0) is None
        assert store.count() == 0
        assert len(ended) == 0
    store.close()


async def test_a_shape_that_went_on_keeps_its_newer_snapshot(folder: Path, tmp_path: Path) -> None:
    make_log(folder, HISTORY)
    store = SnapshotStore(tmp_path / "snapshots")
    shape = FOLLOWED[0].shape
    first, _ = store.claim(shape.hash, 0, lambda _: True)
    second, claimed = store.claim(shape.hash, 0, lambda _: False)
    assert claimed
    old, new = (Handle(shape.hash, one.generation) for one in (first, second))
    async with node(folder) as running:
        ended = EndedShapes(running.feeds, cast("Definitions", Remembered()), store)
        ended.note(Definition("t"), shape, old)
        ended.sweep(time.monotonic() + SNAPSHOT_SECONDS + 1)
    assert store.get(old) is None
    assert store.get(new) is not None
    assert store.named(shape.hash)
    store.close()
