"""What a node remembers of the streams that are followed, and for how long."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest
from stream_box import Listener, StreamBox, settled

from shapes.streams.live import hub as hub_module
from shapes.streams.live import live_stream as live_module
from shapes.streams.live.live_stream import LiveStream


@pytest.fixture
async def box() -> StreamBox:
    return StreamBox()


async def test_what_is_remembered_is_bounded(
    box: StreamBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "ALL_RECENT_BYTES", 1 << 20)
    lives: list[LiveStream] = []
    for path in range(8):
        box.make(str(path))
        lives.append(await box.follow(str(path)))
    for _ in range(100):
        for path in range(8):
            box.append(str(path), b"x" * 8000)
            box.pass_on()
    assert max(live.size for live in lives) <= live_module.RECENT_BYTES
    assert sum(live.size for live in lives) <= 1 << 20
    # Those with the oldest news were forgotten, and have begun again.
    assert lives[-1].since(99) is not None
    assert 0 < len([live for live in lives if live.since(75) is not None]) < 8
    # A transaction that appends more than that at once.
    for _ in range(500):
        box.append("0", b"y" * 8000)
        box.note()
    box.pass_on()
    assert lives[0].tail == 600
    assert lives[0].size <= live_module.RECENT_BYTES


async def test_a_stream_that_nobody_reads_is_forgotten(
    box: StreamBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "SWEEP_SECONDS", 0.005)
    monkeypatch.setattr(hub_module, "UNREAD_SECONDS", 0.05)
    for path in ("read", "left"):
        box.make(path)
    read, left = await box.follow("read"), await box.follow("left")
    Listener(read)
    async with asyncio.timeout(60):
        while len(box.hub) > 1:
            await asyncio.sleep(0.005)
    assert await box.follow("read") is read
    # Whoever has kept it gets it back, with what was appended meanwhile.
    box.append("left", b"unheard")
    box.pass_on()
    assert box.hub.current(left) is left
    await settled(box)
    assert left.tail == 1
    assert await box.follow("left") is left


async def test_ten_thousand_streams_are_small(box: StreamBox) -> None:
    for number in range(10_000):
        box.make(f"runs/run_{number:020}/tokens")
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    lives = [await box.follow(path) for path in box.streams]
    taken = (tracemalloc.get_traced_memory()[0] - before) / len(lives)
    tracemalloc.stop()
    assert taken < 1500
