"""Clients who wait for a stream by long polls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from stream_node import Node

from shapes.access.grant import Grant


@pytest.fixture
async def node() -> Node:
    return Node()


async def poll(
    node: Node, position: int, seconds: float = 10, grant: Grant | None = None
) -> asyncio.Task[bool]:
    live = await node.live()
    task = asyncio.create_task(node.streams.long_poll(live, position, seconds, grant))
    await asyncio.sleep(0)
    return task


def append(node: Node) -> None:
    node.say(b"x")


def close(node: Node) -> None:
    node.say(close=True)


def delete(node: Node) -> None:
    node.box.delete("a")
    node.box.pass_on()


@pytest.mark.parametrize("happen", [append, close, delete])
async def test_a_long_poll_ends_with_news(node: Node, happen: Callable[[Node], None]) -> None:
    task = await poll(node, 0)
    assert not task.done()
    assert node.streams.waiting == 1
    happen(node)
    assert await asyncio.wait_for(task, 60)
    assert node.streams.waiting == 0


async def test_a_long_poll_that_is_late_need_not_wait(node: Node) -> None:
    node.say(b"x")
    assert await (await poll(node, 0))
    late = await poll(node, 1)
    await asyncio.sleep(0.01)
    assert not late.done()
    node.say(close=True)
    assert await late
    assert await (await poll(node, 60))


async def test_a_long_poll_beyond_the_end_waits_for_that(node: Node) -> None:
    task = await poll(node, 1)
    node.say(b"x")
    await asyncio.sleep(0.01)
    assert not task.done()
    node.say(b"y")
    assert await asyncio.wait_for(task, 60)


async def test_the_time_of_a_long_poll(node: Node) -> None:
    began = time.monotonic()
    short, long = await poll(node, 0, 0.3), await poll(node, 0, 60)
    assert not await short
    assert 0.3 <= time.monotonic() - began < 5
    assert not long.done()
    node.streams.stop()
    assert not await asyncio.wait_for(long, 60)
    assert not await (await poll(node, 0))


async def test_a_long_poll_ends_with_its_grant(node: Node) -> None:
    grant = Grant(environment="default", scopes=(), expires_at=node.now + 10)
    task = await poll(node, 0, 60, grant)
    node.leases.sweep()
    await asyncio.sleep(0)
    assert not task.done()
    node.now += 11
    node.leases.sweep()
    assert not await asyncio.wait_for(task, 60)


async def test_a_thousand_long_polls_are_woken_at_once(node: Node) -> None:
    tasks = [await poll(node, 0) for _ in range(1000)]
    # In the processor's time, which other programs do not take from.
    began = time.process_time()
    node.say(b"x")
    assert all(await asyncio.gather(*tasks))
    assert time.process_time() - began < 0.2
