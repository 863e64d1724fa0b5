"""Whom changes and ticks concern, and what a snapshot lacks when a window moved under it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack
from pathlib import Path

import orjson
import pytest
from log_builder import OID, Transaction, change, delete, make_log, reading, transaction, update
from routed_log import Recorder
from window_log import ROWS, TICKS, added, leaving, moment, row, ticked, windowed

from engine.log.reader import LogReader
from engine.log.writer import LogWriter
from engine.lsn import Offset
from engine.replication.tick import window_key
from shapes.following.encoder import DELETE, INSERT, REKEY, UPDATE
from shapes.following.encoders import Encoders
from shapes.following.routing import Routing
from shapes.shape import Shape
from shapes.windows.stitch import settle
from shapes.windows.window import Window

START = Offset(100, 0)


class Box:
    """A log with rows and ticks, and routings over it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._opened = ExitStack()

    def open(self, *transactions: Transaction) -> LogReader:
        make_log(self._folder, transactions, (ROWS, TICKS))
        writer = LogWriter(self._folder, sync=False)
        for one in transactions:
            head = one.changes[0]
            if head[1] == "W" and head[2] is not None:
                window = window_key(OID, "at", 3600)
                writer.move_cutoff(window, one.commit_lsn, str(head[2][3]))
        state = writer.state
        assert state is not None
        writer.commit(state.commit_lsn, state.end_lsn, state.progress)
        writer.close()
        return self._opened.enter_context(reading(self._folder))

    def close(self) -> None:
        self._opened.close()


@pytest.fixture
def box(tmp_path: Path) -> Generator[Box]:
    made = Box(tmp_path / "log")
    yield made
    made.close()


def routed(
    reader: LogReader, *shapes: Shape, after: Offset = START, cutoff: str | None = None
) -> tuple[list[Recorder], Routing]:
    routing = Routing(Encoders(reader), cutoff=cutoff)
    recorders = [Recorder(one) for one in shapes]
    for recorder in recorders:
        routing.add(recorder, after)
    for block in reader.read(after)[1]:
        routing.apply(block, after)
    return recorders, routing


def kinds(recorder: Recorder) -> list[tuple[int, int]]:
    return [(entry.lsn, entry.kind) for entry in recorder.entries]


def test_what_is_outside_is_nobodys(box: Box) -> None:
    reader = box.open(
        ticked(200, None, 60),
        added(300, row(1, 59), row(2, 60), row(3, None)),
        transaction(310, update(row(1, 59), row(1, 59, note="x"))),
        transaction(320, update(row(1, 59), row(1, 61))),
        transaction(330, update(row(1, 61), row(1, 62))),
        transaction(340, update(row(1, 62), row(1, 10))),
        transaction(350, update(row(2, 60), row(4, 61))),
        transaction(360, delete(*row(3, None)), delete(*row(1, 10)), delete(*row(4, 61))),
    )
    (inside, plain), _ = routed(reader, windowed(), windowed(window=None), after=Offset(208, 0))
    assert kinds(inside) == [
        (300, INSERT),
        (320, INSERT),
        (330, UPDATE),
        (340, DELETE),
        (350, REKEY),
        (360, DELETE),
    ]
    assert len(plain.entries) == 11


def test_a_tick_lets_rows_leave(box: Box) -> None:
    reader = box.open(
        ticked(200, None, 60),
        added(300, row(1, 60), row(2, 62), row(3, 60, "b")),
        ticked(400, 60, 61, leaving(1, 60), leaving(3, 60, "b"), blocks=1),
        transaction(500, update(row(1, 60), row(1, 60, note="late"))),
        transaction(600, update(row(1, 60), row(1, 70))),
    )
    recorders, _ = routed(reader, windowed("tag = 'a'"), windowed(), after=Offset(208, 0))
    expected = [(300, INSERT), (300, INSERT), (400, DELETE), (600, INSERT)]
    assert kinds(recorders[0]) == expected
    both = [(300, INSERT)] * 3 + [(400, DELETE)] * 2 + [(600, INSERT)]
    assert kinds(recorders[1]) == both


def test_another_windows_tick_concerns_nobody(box: Box) -> None:
    other = windowed(window=Window("at", 60))
    reader = box.open(
        ticked(200, None, 60), added(300, row(1, 60)), ticked(400, 60, 61, leaving(1, 60))
    )
    (recorder,), routing = routed(reader, other, after=Offset(208, 0))
    assert kinds(recorder) == [(300, INSERT)]
    assert not routing.ended


@pytest.mark.parametrize("blocks", [1, 2, 100])
@pytest.mark.parametrize("taken", range(5))
def test_a_reader_goes_on_in_the_middle_of_a_tick(box: Box, blocks: int, taken: int) -> None:
    rows = [leaving(number, 60) for number in range(4)]
    reader = box.open(ticked(200, None, 60), ticked(400, 60, 61, *rows, blocks=blocks))
    (whole,), _ = routed(reader, windowed(), after=Offset(208, 0))
    assert len(whole.entries) == 4
    after = Offset(400, whole.entries[taken - 1].index) if taken else Offset(400, 0)
    (rest,), _ = routed(reader, windowed(), after=after)
    assert rest.entries == whole.entries[taken:]


def test_the_messages_of_rows_that_leave(box: Box) -> None:
    reader = box.open(ticked(200, None, 60), ticked(400, 60, 61, leaving(7, 60)))
    for full in (False, True):
        shape = windowed(full=full)
        (recorder,), _ = routed(reader, shape, after=Offset(208, 0))
        (message,) = Encoders(reader).encode(shape, recorder.entries)
        decoded = orjson.loads(message)
        assert decoded["key"] == '"public"."t"/"7"'
        assert decoded["value"] == {"id": "7"}
        assert decoded["headers"]["operation"] == "delete"
        assert decoded["headers"]["last"] is True


def test_a_beginning_ends_what_was_before(box: Box) -> None:
    reader = box.open(ticked(200, None, 60), ticked(400, None, 90), added(500, row(1, 89)))
    recorders, routing = routed(reader, windowed(), windowed(window=None), after=Offset(208, 0))
    assert routing.ended == [(recorders[0], 400)]
    (recorder,), routing = routed(reader, windowed(), after=Offset(408, 0))
    assert not routing.ended
    assert not recorder.entries


def test_a_shape_whose_filter_is_not_carried_ends(box: Box) -> None:
    reader = box.open(ticked(200, None, 60), ticked(400, 60, 61, leaving(7, 60, 0)))
    recorders, routing = routed(
        reader, windowed("tag = 'a'"), windowed("id = 7"), after=Offset(208, 0)
    )
    assert routing.ended == [(recorders[0], 400)]
    assert kinds(recorders[1]) == [(400, DELETE)]


def test_changes_without_the_old_row(box: Box) -> None:
    reader = box.open(
        ticked(200, None, 60),
        transaction(300, change("u", list(row(1, 61)), None)),
        transaction(310, change("u", list(row(1, 59)), None)),
        transaction(320, change("d", None, ["1", None, None, None])),
    )
    (recorder,), _ = routed(reader, windowed(), after=Offset(208, 0))
    assert kinds(recorder) == [(300, INSERT), (310, DELETE), (320, DELETE)]


# -- stitching -------------------------------------------------------------------------------------


def settled(
    reader: LogReader, seen: Sequence[int], cutoff: int, latest: int, since: Offset = START
) -> list[tuple[str, str]]:
    """Operation and id of what a snapshot lacks that sees these transactions (by commit LSN)."""
    shape = windowed()
    (recorder,), routing = routed(reader, shape, after=since, cutoff=moment(cutoff))
    entries = settle(
        shape, Encoders(reader), recorder.entries, set(seen).__contains__, since, moment(latest)
    )
    assert not routing.ended
    decoded = [orjson.loads(one) for one in Encoders(reader).encode(shape, entries)]
    places = [(int(d["headers"]["lsn"]), d["headers"]["op_position"]) for d in decoded]
    assert places == sorted(set(places))
    return [(one["headers"]["operation"], one["value"]["id"]) for one in decoded]


@pytest.mark.parametrize("seen", [(), (300,)])
def test_a_tick_leaves_whether_the_snapshot_sees_it_or_not(box: Box, seen: Sequence[int]) -> None:
    reader = box.open(ticked(300, 60, 61, leaving(1, 60)))
    assert settled(reader, seen, 60, 61) == [("delete", "1")]


def test_a_row_that_came_back_stays(box: Box) -> None:
    reader = box.open(
        ticked(300, 60, 61, leaving(1, 60), leaving(2, 60)),
        transaction(400, update(row(1, 60), row(1, 70))),
    )
    assert settled(reader, (400,), 60, 61) == [("delete", "2")]
    assert settled(reader, (), 60, 61) == [("update", "1"), ("delete", "2")]


def test_a_row_that_is_gone_is_not_deleted_again(box: Box) -> None:
    reader = box.open(ticked(300, 60, 61, leaving(1, 60)), transaction(400, delete(*row(1, 60))))
    assert settled(reader, (400,), 60, 61) == []
    assert settled(reader, (), 60, 61) == [("delete", "1")]


def test_a_row_that_comes_with_a_time_that_is_over_leaves(box: Box) -> None:
    reader = box.open(ticked(300, 60, 61), added(400, row(1, 60), row(2, 61)))
    assert settled(reader, (400,), 60, 61) == [("delete", "1")]
    assert settled(reader, (), 60, 61) == [("insert", "1"), ("insert", "2"), ("delete", "1")]


def test_without_a_tick_it_is_as_ever(box: Box) -> None:
    reader = box.open(added(400, row(1, 60), row(2, 59)), transaction(500, delete(*row(1, 60))))
    assert settled(reader, (400,), 60, 60) == [("delete", "1")]
    assert settled(reader, (400, 500), 60, 60) == []
