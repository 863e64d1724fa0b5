"""More shapes than may be kept: the least recently used go, and whoever returns misses nothing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from brute_force import FOLLOWED, expected
from log_builder import Elsewhere, append_to, insert, make_log, transaction
from reading_client import Client, node

from engine.lsn import Offset
from shapes.shape import Handle
from shapes.snapshots.snapshot_store import SnapshotStore

HISTORY = [transaction(200, insert("1", "a", None), insert("2", "b", "x"))]
MORE = [transaction(300, insert("3", "a", "x"), insert("4", "rare", None))]
RECENT_SECONDS = 30.0


async def test_the_least_recently_used_feeds_go(folder: Path, elsewhere: Elsewhere) -> None:
    make_log(folder, HISTORY)
    async with node(folder) as one:
        clients = [Client(one, shape, Offset(100, 0), 10_000) for shape in FOLLOWED]
        for client in clients:
            await client.open()
            await client.read()
        found = [one.feeds.get(shape.shape.hash) for shape in FOLLOWED]
        now = time.monotonic()
        for age, feed in enumerate(found):
            assert feed is not None
            # The first two were used lately: somebody may be about to wait at them.
            feed.last_used = now - age * 20
        assert one.feeds.forget_surplus(len(FOLLOWED), RECENT_SECONDS) == 0
        assert one.feeds.forget_surplus(6, RECENT_SECONDS) == len(FOLLOWED) - 6
        left = [one.feeds.get(shape.shape.hash) is not None for shape in FOLLOWED]
        assert left == [True] * 6 + [False] * (len(FOLLOWED) - 6)
        assert len(list(one.tail.routing.subscribers())) == 6
        assert one.feeds.forget_surplus(1, RECENT_SECONDS) == 4
        assert len(one.feeds) == 2

        elsewhere.run(append_to, folder, MORE)
        one.follower.go_on()
        for client, shape in zip(clients, FOLLOWED, strict=True):
            late = Client(one, shape, client.position, 10_000)
            await late.open()
            await late.read()
            assert late.messages == expected(shape, [*HISTORY, *MORE], client.position)


def test_the_oldest_snapshots_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SnapshotStore(tmp_path)
    begin = time.time()
    handles: list[Handle] = []
    for number in range(5):
        later = begin + number
        monkeypatch.setattr(time, "time", lambda later=later: later)
        record, _ = store.claim(number, 1, lambda _: True)
        handles.append(Handle(number, record.generation))
    assert store.sweep(0.0, 3) == 0, "somebody may be reading them"
    monkeypatch.setattr(time, "time", lambda: begin + 120)
    assert store.sweep(0.0) == 0
    assert store.sweep(0.0, 3) == 2
    assert [store.get(handle) is None for handle in handles] == [True, True, False, False, False]
    store.close()
