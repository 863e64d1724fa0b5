"""Logical messages about streams on their way into the log, and from there to the hub."""

from __future__ import annotations

from pathlib import Path

import pytest
from log_builder import (
    OID,
    START,
    Elsewhere,
    append_to,
    following,
    insert,
    make_log,
    relation,
    shape,
    transaction,
)
from wal import Wal, connected, logged
from window_log import NOON_US, content, tick

from engine import pgoutput
from engine.log.layout import Change, RelationVersion
from engine.log.reader import LogReader
from engine.lsn import Lsn, Offset
from engine.replication.stream_notices import MOST_NOTICE_BYTES, NOTICE_PREFIX
from engine.replication.transactions import BLOCK_BYTES
from shapes.following.feed import Batch, Feed, RotatedError
from shapes.streams.live.hub import StreamHub
from shapes.streams.notice import PREFIX, Notice, pack_notices
from shapes.streams.stream import StreamState

EVERY_BYTE = bytes(range(256))


def say(wal: Wal, text: bytes, *, prefix: str = PREFIX, transactional: bool = True) -> None:
    wal.message(pgoutput.LogicalMessage(transactional, Lsn(1), prefix, text))


def changes(folder: Path) -> list[tuple[int, int, str, str]]:
    """Commit LSN, index, operation and the first value of what is logged."""
    return [
        (one.offset.lsn, one.offset.index, one.operation, str((one.new or one.old or [""])[0]))
        for one in logged(folder)
    ]


def test_both_sides_know_the_same_prefix() -> None:
    assert NOTICE_PREFIX == PREFIX


def test_a_transaction_of_notices_alone_is_logged(folder: Path) -> None:
    with connected(folder, start=START) as wal:
        wal.begin(200)
        say(wal, b"one")
        say(wal, EVERY_BYTE)
        wal.commit(200, 240)
        assert wal.transactions.uncommitted
        wal.flush()
        assert wal.writer.state is not None
        assert wal.writer.state[1:4] == (200, 240, 240)
    assert changes(folder) == [
        (200, 2, "S", "one"),
        (200, 4, "S", EVERY_BYTE.decode("latin-1")),
    ]


def test_notices_stand_in_their_place_among_rows(folder: Path) -> None:
    with connected(folder, start=START) as wal:
        wal.begin(200)
        wal.relation()
        wal.insert("a")
        say(wal, b"one")
        wal.insert("b")
        say(wal, b"two")
        wal.commit(200)
        wal.flush()
    assert [one[2:] for one in changes(folder)] == [
        ("I", "a"),
        ("S", "one"),
        ("I", "b"),
        ("S", "two"),
    ]


def test_one_relation_stands_for_all_streams_for_good(folder: Path) -> None:
    for lsn in (200, 300):
        with connected(folder, start=START if lsn == 200 else None) as wal:
            wal.begin(lsn)
            say(wal, b"x")
            wal.commit(lsn)
            # A table that comes up later gets a number of its own.
            wal.begin(lsn + 20)
            wal.relation(oid=OID + lsn, name=f"t{lsn}")
            wal.insert("a", oid=OID + lsn)
            wal.commit(lsn + 20)
            wal.flush()
    reader = LogReader(folder)
    _, blocks = reader.read(Offset(0, 0), most=1 << 30)
    first, other, again, last = [block.relations for block in blocks]
    assert first == again
    assert len({*first, *other, *last}) == 3
    assert reader.relation(first[0]).replica_identity == "s"
    reader.close()


def test_what_is_no_notice_is_left_out(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with connected(folder, start=START) as wal:
        wal.begin(200)
        say(wal, b"outside", transactional=False)
        say(wal, b"other", prefix="somebody")
        say(wal, b"x" * (MOST_NOTICE_BYTES + 1))
        wal.commit(200)
        assert not wal.transactions.uncommitted
        wal.begin(300)
        say(wal, b"x")
        wal.commit(300)
        wal.flush()
    assert [one[2:] for one in changes(folder)] == [("S", "x")]
    assert "left out" in caplog.text


def test_many_notices_are_many_blocks(folder: Path) -> None:
    with connected(folder, start=START) as wal:
        wal.begin(200)
        for number in range(1000):
            say(wal, b"%04d" % number + b"x" * 10_000)
        wal.commit(200)
        wal.flush()
    reader = LogReader(folder)
    _, blocks = reader.read(Offset(0, 0), most=1 << 30)
    assert len(blocks) > 200
    assert max(len(block.payload) for block in blocks) < 2 * BLOCK_BYTES
    assert [block.end_lsn for block in blocks[:-1]] == [0] * (len(blocks) - 1)
    numbers = [str(change[2][0])[:4] for block in blocks for change in block.changes() if change[2]]
    assert numbers == [f"{number:04d}" for number in range(1000)]
    reader.close()


def test_a_streamed_transaction_leaves_out_aborted_subtransactions(folder: Path) -> None:
    with connected(folder, start=START) as wal:
        with wal.stream(7, first=True):
            say(wal, b"top")
            wal.relation()
            wal.subtransaction(8)
            say(wal, b"aborted")
            wal.insert("aborted")
            wal.subtransaction(9)
            wal.insert("kept")
            say(wal, b"kept")
        wal.stream_abort(7, 8)
        # Another one that comes meanwhile.
        wal.begin(150)
        say(wal, b"between")
        wal.commit(150)
        with wal.stream(7):
            wal.subtransaction(10)
            say(wal, b"aborted too")
        wal.stream_abort(7, 10)
        with wal.stream(11, first=True):
            say(wal, b"all of it aborted")
        wal.stream_abort(11)
        with wal.stream(7):
            say(wal, b"end")
        wal.stream_commit(7, 200)
        wal.flush()
    assert [(lsn, *rest) for lsn, _, *rest in changes(folder)] == [
        (150, "S", "between"),
        (200, "S", "top"),
        (200, "I", "kept"),
        (200, "S", "kept"),
        (200, "S", "end"),
    ]


def test_what_is_in_the_log_is_not_logged_again(folder: Path) -> None:
    with connected(folder, start=START) as wal:
        wal.begin(200)
        say(wal, b"one")
        wal.commit(200)
        wal.flush()
    with connected(folder) as wal:
        for lsn in (200, 300):
            wal.begin(lsn)
            say(wal, b"one" if lsn == 200 else b"two")
            wal.commit(lsn)
        wal.flush()
    assert [(lsn, text) for lsn, _, _, text in changes(folder)] == [(200, "one"), (300, "two")]


def test_a_tick_is_alone_in_its_transaction(folder: Path) -> None:
    with connected(folder, start=START, ticks="ticks") as wal:
        for lsn, with_notice in ((200, False), (300, True), (400, False)):
            wal.begin(lsn)
            if with_notice:
                say(wal, b"mixed")
            say(wal, content(tick(None, lsn // 100)), prefix="ticks")
            wal.commit(lsn, time_us=NOON_US)
            wal.flush()
    assert [(lsn, operation) for lsn, _, operation, _ in changes(folder)] == [
        (200, "W"),
        (300, "S"),
        (400, "W"),
    ]


# -- from the log to the hub -----------------------------------------------------------------------

IN_LOG = RelationVersion(2, 0, "", "", "s", ())


class Ledger:
    """Keeps, in order, what the hub tells and what a feed is given."""

    def __init__(self) -> None:
        self.entries: list[str] = []

    def deliver(self, batch: Batch | None) -> bool:
        self.entries.append("row")
        return True

    def end(self, error: RotatedError) -> None:
        self.entries.append("rotated")

    def heard(self, notice: Notice) -> None:
        self.entries.append(f"{notice.stream_id}: {notice.position}-{notice.end}")


class NoStreams:
    """A database without streams."""

    async def find(self, environment: str, path: str) -> StreamState | None:
        return None

    async def touch(self, *states: StreamState) -> None:
        raise AssertionError(states)

    async def catch_up(self) -> None:
        pass


def noticed(
    stream: int, position: int, data: bytes | None = b"x"
) -> tuple[int, str, list[str | int | None], None]:
    packed = pack_notices([Notice(stream, position, 1, 0, 0, data)])
    return 2, "S", [packed.decode("latin-1")], None


async def test_the_hub_hears_of_complete_transactions_after_the_feeds(
    folder: Path, elsewhere: Elsewhere
) -> None:
    make_log(folder, [], [relation(), IN_LOG])
    async with following(folder) as follower:
        ledger = Ledger()
        follower.tail.hub = hub = StreamHub(NoStreams(), NoStreams())
        hub.watch(ledger.heard)
        feed = Feed(shape(), follower.tail.cursor)
        follower.tail.routing.add(feed, follower.tail.cursor)
        feed.attach(ledger, follower.tail.processed)
        mixed = transaction(200, noticed(5, 0), insert("1", "a", None), noticed(5, 1), blocks=1)
        elsewhere.run(append_to, folder, [mixed, transaction(300, noticed(6, 7))])
        follower.go_on()
        assert sorted(ledger.entries) == ["5: 0-2", "6: 7-8", "row"]
        assert ledger.entries.index("row") < ledger.entries.index("5: 0-2")
        assert follower.versions == [relation()]


async def test_nobody_hears_of_a_message_that_is_no_notice(
    folder: Path, elsewhere: Elsewhere, caplog: pytest.LogCaptureFixture
) -> None:
    make_log(folder, [], [relation(), IN_LOG])
    async with following(folder) as follower:
        ledger = Ledger()
        follower.tail.hub = hub = StreamHub(NoStreams(), NoStreams())
        hub.watch(ledger.heard)
        nonsense: list[Change] = [(2, "S", [text], None) for text in ("", "x" * 30, "é" * 200)]
        elsewhere.run(
            append_to,
            folder,
            [transaction(200 + 10 * n, one) for n, one in enumerate([*nonsense, noticed(5, 0)])],
        )
        follower.go_on()
        assert ledger.entries == ["5: 0-1"]
        assert len([one for one in caplog.records if one.name == "streams"]) == 1
