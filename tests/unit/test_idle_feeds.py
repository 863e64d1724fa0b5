"""Shapes that nobody has used for long leave memory, and whoever comes back misses nothing."""

from __future__ import annotations

import time
from pathlib import Path

from brute_force import FOLLOWED, expected
from log_builder import Elsewhere, append_to, insert, make_log, transaction
from reading_client import Client, node

from engine.lsn import Offset

HISTORY = [transaction(200, insert("1", "a", None), insert("2", "b", "x"))]
MORE = [transaction(300, insert("3", "a", "x"), insert("4", "rare", None))]
IDLE_SECONDS = 600.0


async def test_idle_feeds_go(folder: Path, elsewhere: Elsewhere) -> None:
    make_log(folder, HISTORY)
    async with node(folder) as one:
        clients = [Client(one, shape, Offset(100, 0), 10_000) for shape in FOLLOWED]
        for client in clients:
            await client.open()
            await client.read()
        used = one.feeds.get(FOLLOWED[0].shape.hash)
        for shape in FOLLOWED:
            feed = one.feeds.get(shape.shape.hash)
            assert feed is not None
            feed.last_used = time.monotonic() - (0 if feed is used else IDLE_SECONDS + 1)
        assert one.feeds.forget_idle(IDLE_SECONDS) == len(FOLLOWED) - 1
        assert one.feeds.get(FOLLOWED[0].shape.hash) is used
        assert list(one.tail.routing.subscribers()) == [used]
        assert one.feeds.forget_idle(IDLE_SECONDS) == 0

        elsewhere.run(append_to, folder, MORE)
        one.follower.go_on()
        for client, shape in zip(clients, FOLLOWED, strict=True):
            late = Client(one, shape, client.position, 10_000)
            await late.open()
            await late.read()
            assert late.messages == expected(shape, [*HISTORY, *MORE], client.position)
        assert len(one.feeds) == len(FOLLOWED)
