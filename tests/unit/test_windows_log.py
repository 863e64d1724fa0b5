"""Ticks on their way into the log: what they say there is exact, whatever was going on beside them."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from log_builder import OID, START, Transaction, append, reading, stage, transaction, update
from log_builder import delete as deleted
from window_log import NOON_US, ROWS, added, content, moment, row, tick

from engine import pgoutput
from engine.log.layout import Block
from engine.log.reader import LogReader
from engine.log.writer import LogWriter
from engine.lsn import Lsn, Offset
from engine.replication.tick import Tick, read_tick, window_key
from engine.replication.tick_log import MOST_UNSEEN
from engine.replication.transactions import Transactions
from engine.replication.visibility import Visibility

PREFIX = "pgtide_test"
KEY = window_key(OID, "at", 3600)


class Engine:
    """The part of an engine that turns messages into a log."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._closed = False
        self.writer = LogWriter(folder / "log", sync=False)
        if self.writer.state is None:
            self.writer.begin_epoch(START, "test")
            self.writer.add_relation(ROWS)
        self.transactions = Transactions(
            self.writer, folder / "spool", lambda oid, xid: (), lambda: None, PREFIX
        )

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.transactions.close()
            self.writer.close()

    def again(self) -> Engine:
        """After kill -9."""
        self.close()
        return Engine(self._folder)

    def write(self, *transactions: Transaction) -> None:
        append(self.writer, transactions)

    def say(self, lsn: int, data: bytes, *, prefix: str = PREFIX, xid: int = 0) -> None:
        """A transaction that is a logical message."""
        self.transactions.message(pgoutput.Begin(Lsn(lsn), 0, xid or lsn))
        self.transactions.message(pgoutput.LogicalMessage(True, Lsn(lsn), prefix, data))
        self.transactions.message(pgoutput.Commit(0, Lsn(lsn), Lsn(lsn + 8), NOON_US))

    def tick(self, lsn: int, of: Tick) -> None:
        self.say(lsn, content(of))
        self.transactions.flush()

    def end(self) -> tuple[LogReader, list[Block]]:
        self.close()
        reader = LogReader(self._folder / "log")
        return reader, reader.read(Offset(0, 0))[1]


@pytest.fixture
def engine(tmp_path: Path) -> Generator[Engine]:
    made = Engine(tmp_path)
    yield made
    made.close()


def said(block: Block) -> tuple[str | int | None, str | int | None, list[str | int | None]]:
    """From which cut-off to which a tick goes, and the ids of its rows."""
    (_, operation, head, _), *rows = block.changes()
    assert operation == "W"
    assert head is not None
    return head[2], head[3], [one[0] for _, _, _, one in rows if one is not None]


def ticks(blocks: list[Block]) -> dict[int, tuple[object, object, list[str | int | None]]]:
    return {block.commit_lsn: said(block) for block in blocks if block.changes()[0][1] == "W"}


def test_a_window_begins_and_goes_on(engine: Engine) -> None:
    engine.tick(200, tick(None, 60))
    engine.tick(300, tick(60, 61, row(1, 60)))
    engine.tick(400, tick(61, 63))
    reader, blocks = engine.end()
    assert ticks(blocks) == {
        200: (None, moment(60), []),
        300: (moment(60), moment(61), ["1"]),
        400: (moment(61), moment(63), []),
    }
    places = [(200, 0), (200, 2), (208, 0), (300, 0), (300, 4), (308, 0), (9999, 0)]
    found = [reader.cutoff(KEY, Offset(*place)) for place in places]
    assert found == [None, *map(moment, (60, 60, 60, 61, 61, 63))]
    assert reader.cutoff(window_key(OID, "at", 60), Offset(9999, 0)) is None
    reader.close()


def test_a_tick_from_the_future_is_none(engine: Engine) -> None:
    engine.tick(200, tick(None, 13 * 60))
    engine.tick(300, tick(None, 11 * 60))
    reader, blocks = engine.end()
    assert ticks(blocks) == {300: (None, moment(11 * 60), [])}
    reader.close()


def test_ticks_that_say_the_same_or_less(engine: Engine) -> None:
    engine.tick(200, tick(None, 60))
    engine.tick(300, tick(60, 61, row(1, 60)))
    engine.tick(310, tick(60, 61, row(1, 60)))
    engine.tick(320, tick(None, 61))
    engine.tick(330, tick(60, 62, row(1, 60), row(2, 61)))
    reader, blocks = engine.end()
    assert ticks(blocks) == {
        200: (None, moment(60), []),
        300: (moment(60), moment(61), ["1"]),
        330: (moment(61), moment(62), ["2"]),
    }
    reader.close()


def test_a_tick_that_does_not_connect_is_a_beginning(engine: Engine) -> None:
    engine.tick(200, tick(60, 61, row(1, 60)))
    engine.tick(300, tick(70, 71, row(2, 70)))
    reader, blocks = engine.end()
    assert [one[0] for one in ticks(blocks).values()] == [None, None]
    reader.close()


def test_what_the_query_did_not_see(engine: Engine) -> None:
    """Rows as of the tick's place in the log: all transactions from xid 300 on came beside it."""
    engine.tick(200, tick(None, 60))
    engine.write(
        added(290, row(9, 60)),
        transaction(300, update(row(1, 60), row(1, 90))),
        transaction(310, update(row(2, 60), row(22, 60))),
        transaction(320, deleted(*row(3, 60))),
        added(330, row(4, 60), row(5, 61), row(6, 59), row(7, None)),
        transaction(340, update(row(8, 90), row(8, 60, "b"))),
        transaction(350, update(row(8, 60, "b"), row(8, 60, "c"))),
    )
    seen = Visibility(300, 300, frozenset())
    read = [row(number, 60) for number in (1, 2, 3, 9)]
    engine.tick(400, tick(60, 61, *read, seen=seen))
    reader, blocks = engine.end()
    assert sorted(map(str, ticks(blocks)[400][2])) == ["22", "4", "8", "9"]
    rows = {one[0]: one for _, _, _, one in blocks[-1].changes()[1:] if one is not None}
    assert rows["8"] == ["8", "c", moment(60), 0]
    reader.close()


def test_only_what_the_query_did_not_see(engine: Engine) -> None:
    engine.tick(200, tick(None, 60))
    engine.write(
        transaction(300, update(row(1, 60), row(1, 90)), xid=7),
        transaction(310, update(row(1, 90), row(1, 60)), xid=9),
        transaction(320, deleted(*row(2, 60)), xid=8),
    )
    seen = Visibility(8, 10, frozenset((8,)))
    engine.tick(400, tick(60, 61, row(1, 60), row(2, 60), seen=seen))
    reader, blocks = engine.end()
    assert ticks(blocks)[400][2] == ["1"]
    reader.close()


def test_with_too_much_beside_it_a_tick_is_left_out(engine: Engine) -> None:
    engine.tick(200, tick(None, 60))
    big = transaction(
        300, *added(1, *(row(n, 90) for n in range(MOST_UNSEEN + 1))).changes, blocks=4000
    )
    stage(engine.writer, big)
    engine.writer.commit(300, 308, 308)
    seen = Visibility(300, 300, frozenset())
    engine.tick(400, tick(60, 61, row(1, 60), seen=seen))
    assert not engine.transactions.uncommitted
    engine.tick(500, tick(60, 61, row(1, 60)))
    reader, blocks = engine.end()
    assert ticks(blocks) == {200: (None, moment(60), []), 500: (moment(60), moment(61), ["1"])}
    reader.close()


def test_many_rows_are_many_blocks(engine: Engine) -> None:
    engine.tick(200, tick(None, 60))
    engine.tick(300, tick(60, 61, *(row(n, 60) for n in range(1000))))
    reader, blocks = engine.end()
    of_it = [block for block in blocks if block.commit_lsn == 300]
    assert len(of_it) > 1
    assert [block.end_lsn for block in of_it] == [0] * (len(of_it) - 1) + [308]
    assert [str(n) for n in range(1000)] == [n for block in of_it for n in said(block)[2]]
    assert {said(block)[:2] for block in of_it} == {(moment(60), moment(61))}
    reader.close()


def test_replaying_changes_nothing(engine: Engine) -> None:
    engine.tick(200, tick(None, 60))
    engine.tick(300, tick(60, 61, row(1, 60)))
    # Killed before this one was flushed: then it comes again.
    engine.say(400, content(tick(61, 62, row(2, 61))))
    engine = engine.again()
    for _ in range(2):
        engine.tick(200, tick(None, 60))
        engine.tick(300, tick(60, 61, row(1, 60)))
        engine.tick(400, tick(61, 62, row(2, 61)))
    reader, blocks = engine.end()
    assert [(one[0], one[2]) for one in ticks(blocks).values()] == [
        (None, []),
        (moment(60), ["1"]),
        (moment(61), ["2"]),
    ]
    reader.close()


def test_a_tick_in_a_streamed_transaction(engine: Engine) -> None:
    engine.tick(200, tick(None, 60))
    data = content(tick(60, 61, row(1, 60)))
    for xid in (5, 6):
        engine.transactions.message(pgoutput.StreamStart(xid, True))
        message = pgoutput.LogicalMessage(True, Lsn(250), PREFIX, data)
        engine.transactions.message(message, xid)
        engine.transactions.message(pgoutput.StreamStop())
    engine.transactions.message(pgoutput.StreamAbort(5, 5))
    engine.transactions.message(pgoutput.StreamCommit(6, 0, Lsn(300), Lsn(308), NOON_US))
    engine.transactions.flush()
    reader, blocks = engine.end()
    assert ticks(blocks)[300] == (moment(60), moment(61), ["1"])
    reader.close()


GARBAGE = [
    b"",
    b"{}",
    b"\xff",
    b"{}\n1:1:",
    b'{"oid": 1}\n1:1:\n["1"]',
    content(tick(None, 60)).replace(b'"key":["id"]', b'"key":["note"]'),
    content(tick(None, 60)).replace(b'"seconds":3600', b'"seconds":"x"'),
    content(tick(60, 61, row(1, 60))).replace(b'["1",', b'["1","2",'),
    content(tick(60, 61, row(1, 60))).replace(b'["1",', b'{"1":'),
    content(tick(60, 61, row(1, 60)))[:-3],
    content(tick(None, 60)).replace(b'"columns":[[', b'"columns":[[1,'),
]


@pytest.mark.parametrize("data", GARBAGE)
def test_messages_that_are_no_ticks(engine: Engine, data: bytes) -> None:
    assert read_tick(data) is None
    engine.say(200, data)
    engine.say(300, content(tick(None, 60)), prefix="pgtide_other")
    engine.transactions.message(
        pgoutput.LogicalMessage(False, Lsn(310), PREFIX, content(tick(None, 60)))
    )
    assert not engine.transactions.uncommitted


@pytest.mark.parametrize("value", [b"5", b"[]", b'{"a":[1]}', b"true"])
def test_values_of_other_kinds_do_no_harm(engine: Engine, value: bytes) -> None:
    engine.tick(200, tick(None, 60))
    data = content(tick(60, 61, row(1, 60)))
    engine.say(300, data.replace(b'["1",', b"[%b," % value))
    engine.transactions.flush()


def test_a_read_tick_is_the_one_that_was_written() -> None:
    one = tick(60, 61, row(1, 60), row(2, 60, 'q"\n\\'), seen=Visibility(3, 9, frozenset((4, 5))))
    assert read_tick(content(one)) == one


def test_cutoffs_go_with_the_log_but_the_last(engine: Engine) -> None:
    for number in range(5):
        engine.tick(200 + 100 * number, tick(59 + number if number else None, 60 + number))
    engine.write(added(900, row(1, 90)), transaction(1000, *added(1, row(2, 90)).changes))
    state = engine.writer.state
    assert state is not None
    # Everything goes, but for the last transaction.
    while engine.writer.trim(NOON_US + 1, 1 << 40):
        pass
    engine.close()
    reader = LogReader(engine.writer.path)
    assert reader.state().horizon > Offset(900, 0)
    assert reader.cutoff(KEY, reader.state().horizon) == moment(64)
    assert reader.cutoff(KEY, Offset(500, 0)) is None
    reader.close()
    with_new_epoch = LogWriter(engine.writer.path, sync=False)
    with_new_epoch.begin_epoch(2000, "other")
    assert with_new_epoch.cutoff(KEY) is None
    with_new_epoch.close()
    with reading(engine.writer.path) as reader:
        assert reader.cutoff(KEY, Offset(9999, 0)) is None
