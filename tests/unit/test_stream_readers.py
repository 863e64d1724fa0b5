"""Clients who get a stream as events."""

from __future__ import annotations

import asyncio
import time

import pytest
from stream_node import Node, Words

from shapes.access.grant import Grant
from shapes.access.leases import SWEEP_SECONDS
from shapes.streams.live import event_reader as reader_module
from shapes.streams.live import frames as frames_module
from shapes.streams.live.event_reader import PAGE_BYTES, Ending, Policy


@pytest.fixture
async def node() -> Node:
    return Node()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "LEAST_SECONDS", 0.05)


async def ended(task: asyncio.Task[Ending]) -> Ending:
    return await asyncio.wait_for(task, 60)


async def test_a_reader_gets_what_there_is_and_what_comes(node: Node) -> None:
    node.say(b"one ", b"two ")
    async with node.reader() as (client, task), node.reader(1) as (other, _):
        await client.got(b"one two ")
        reads = node.box.reads
        node.say(b"three ")
        # No task was needed for that.
        assert client.text == b"one two three "
        assert other.text == b"two three "
        node.say(b"four", close=True)
        assert await ended(task) is Ending.CLOSED
        assert client.text == b"one two three four."
        assert node.box.reads == reads
    assert len(node.streams) == 0


async def test_all_get_the_same_bytes(node: Node) -> None:
    async with node.reader() as (client, _), node.reader() as (other, _):
        node.box.append("a", b"x", b"y")
        node.box.append("a", b"z")
        node.box.pass_on()
        assert client.pieces == [b"xyz"]
        assert client.pieces[0] is other.pieces[0]


async def test_a_closed_stream_ends_at_once(node: Node) -> None:
    node.say(b"one", close=True)
    for position, text in ((0, b"one."), (1, b".")):
        async with node.reader(position) as (client, task):
            assert await ended(task) is Ending.CLOSED
            assert client.text == text


async def test_a_reader_may_go_on_at_a_closed_stream(node: Node) -> None:
    node.say(b"one", close=True)
    policy = Policy(ends_when_closed=False, keep_alive=0.01)
    async with node.reader(0, policy) as (client, task):
        await client.got(b"one.???")
        assert not task.done()


async def test_a_client_that_is_behind_is_only_a_position(node: Node) -> None:
    async with node.reader() as (slow, _), node.reader() as (quick, _):
        node.say(b"0")
        slow.stick()
        for number in range(1, 10):
            node.say(b"%d" % number)
        assert (slow.text, quick.text) == (b"0", b"0123456789")
        slow.go_on()
        await slow.got(b"0123456789")
        # It came from memory, all at once.
        assert (len(slow.pieces), node.box.reads) == (2, 0)
        node.say(b"a")
        assert slow.text == b"0123456789a"


async def test_what_is_not_remembered_comes_from_the_table_once_for_all(node: Node) -> None:
    async with node.reader() as (client, _), node.reader() as (other, _):
        node.say(b"x" * 9000, inline=False)
        await client.got(b"x" * 9000)
        await other.got(b"x" * 9000)
        assert node.box.reads == 1
        assert client.pieces[0] is other.pieces[0]
        node.say(b"y")
        assert client.text[9000:] == other.text[9000:] == b"y"


async def test_a_long_stream_comes_in_small_pieces(node: Node) -> None:
    pieces = [b"%05d" % number * 2000 for number in range(100)]
    node.say(*pieces, inline=False)
    async with node.reader() as (client, _):
        await client.got(b"".join(pieces))
        assert max(map(len, client.pieces)) <= reader_module.SHARED_BYTES
        assert node.box.reads >= sum(map(len, pieces)) // (PAGE_BYTES + 10_000)
        node.say(b"end")
        assert client.text.endswith(b"end")


async def test_a_large_frame_is_sent_in_parts_to_those_who_take_it(node: Node) -> None:
    async with node.reader() as (client, task):
        node.say(*[b"x" * 8000] * 20)
        await client.got(b"x" * 160_000)
        assert max(map(len, client.pieces)) <= reader_module.SLICE_BYTES
        assert not task.done()


async def test_a_position_beyond_the_end_waits(node: Node) -> None:
    node.say(b"0", b"1")
    async with node.reader(4) as (client, _):
        node.say(b"2", b"3")
        node.say(b"4")
        node.say(b"5")
        await client.got(b"45")


async def test_a_framing_may_hold_back_the_end(node: Node) -> None:
    async with node.reader(framing=Words()) as (client, _):
        node.say(b"one ", b"tw")
        assert client.text == b"one "
        node.say(b"o ")
        assert client.text == b"one two "
        # More is held back than is read at a time.
        node.say(*[b"x" * 8000] * 40, inline=False)
        await asyncio.sleep(0.01)
        assert client.text == b"one two "
        node.say(b" end")
        await asyncio.sleep(0.01)
        assert client.text == b"one two "
        node.say(close=True)
        await client.got(b"one two " + b"x" * 320_000 + b" end.")


async def test_keep_alives_come_when_nothing_else_does(node: Node) -> None:
    async with node.reader(policy=Policy(keep_alive=0.02)) as (client, _):
        await client.got(b"??")
        node.say(b"one")
        await client.got(client.text + b"?")
        assert b"?one?" in client.text
        client.stick()
        before = client.text
        await asyncio.sleep(0.06)
        assert client.text == before
        client.go_on()
        await client.got(before + b"?")


async def test_lifetimes(node: Node, hasty: None) -> None:
    began = time.monotonic()
    async with node.reader(policy=Policy(lifetime=0.01)) as (client, task):
        node.say(b"one")
        assert await ended(task) is Ending.LIFETIME
        assert client.text == b"one"
        assert time.monotonic() - began >= 0.05


async def test_a_reader_ends_when_nothing_comes_for_long(node: Node) -> None:
    async with node.reader(policy=Policy(idle_end=1.0, keep_alive=0.02)) as (client, task):
        await asyncio.sleep(0.3)
        said = time.monotonic()
        node.say(b"x")
        assert await ended(task) is Ending.IDLE
        assert time.monotonic() - said >= 0.95
        assert client.text.replace(b"?", b"") == b"x"


async def test_a_deleted_stream_ends(node: Node) -> None:
    async with node.reader() as (_, task), node.reader() as (stuck, other):
        stuck.stick()
        node.box.delete("a")
        node.box.pass_on()
        assert await ended(task) is Ending.GONE
        stuck.go_on()
        assert await ended(other) is Ending.GONE


async def test_over(node: Node) -> None:
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    async with node.reader(over=over) as (client, task):
        node.say(b"x" * 9000, inline=False)
        over.set_result(None)
        assert await ended(task) is Ending.OVER
        assert client.text == b"x" * 9000
    async with node.reader(over=over) as (client, task):
        assert await ended(task) is Ending.OVER
        assert client.text == b"x" * 9000


async def test_stopping(node: Node, hasty: None) -> None:
    told: list[bool] = []
    forgotten = node.streams.on_stop(lambda: told.append(False))
    node.streams.on_stop(lambda: told.append(True))
    forgotten()
    aborted = Policy(abort_on_stop=True)
    async with (
        node.reader() as (client, task),
        node.reader(policy=aborted) as (_, other),
    ):
        node.say(b"one")
        node.streams.stop()
        assert told == [True]
        assert await ended(task) is Ending.STOPPED
        with pytest.raises(asyncio.CancelledError):
            await other
        assert client.text == b"one"
    began = time.monotonic()
    async with node.reader() as (client, task):
        # Who still comes gets what there is.
        assert await ended(task) is Ending.STOPPED
        assert client.text == b"one"
        assert time.monotonic() - began >= 0.05


async def test_nothing_is_sent_after_the_end_of_a_grant(node: Node) -> None:
    grant = Grant(environment="default", scopes=(), expires_at=node.now + 60)
    async with node.reader(grant=grant) as (client, task):
        node.say(b"one")
        assert client.text == b"one"
        node.leases.sweep()
        assert not task.done()
        # Ends are noticed in steps.
        node.now += 60 + SWEEP_SECONDS
        node.leases.sweep()
        node.say(b"two")
        assert await ended(task) is Ending.FORBIDDEN
        assert client.text == b"one"
    assert not len(node.leases)


async def test_nothing_is_lost_when_the_log_is(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    async with node.reader() as (client, _), node.reader() as (stuck, _):
        node.say(b"one ")
        stuck.stick()
        node.box.append("a", b"two ")
        node.box.lose()
        await client.got(b"one two ")
        node.say(b"three ")
        stuck.go_on()
        await client.got(b"one two three ")
        await stuck.got(b"one two three ")


async def test_a_reader_waits_for_what_is_missing_in_the_table(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames_module, "MISSING_SECONDS", 0.05)
    async with node.reader() as (client, _):
        number = node.box.streams["a"].state.id
        node.box.notice(number, 0, 5, 0, None)
        node.box.pass_on()
        await asyncio.sleep(0.2)
        assert 0 < node.box.reads < 10
        node.say(b"one")
        await client.got(b"one")
