"""Transactions that Postgres sends while they are in progress."""

from __future__ import annotations

from pathlib import Path

import pytest
from log_builder import INT8, OID, TEXT, reading
from wal import connected, inserted, logged

from engine import pgoutput
from engine.errors import ProtocolError
from engine.lsn import Offset

OTHER = 2000


def test_a_streamed_transaction(folder: Path) -> None:
    with connected(folder, start=100) as wal:
        with wal.stream(7, first=True):
            wal.relation()
            wal.insert("a")
        assert not wal.transactions.in_flight
        with wal.stream(7):
            assert wal.transactions.in_flight
            wal.insert("b")
            wal.truncate(OID)
        wal.stream_commit(7, 200, 300)
        assert wal.transactions.uncommitted
        wal.flush()
        assert wal.writer.state is not None
        assert wal.writer.state[1:4] == (200, 300, 300)
    found = [(one.offset, one.xid, one.operation) for one in logged(folder)]
    assert found == [(Offset(200, 2), 7, "I"), (Offset(200, 4), 7, "I"), (Offset(200, 6), 7, "T")]


def test_streams_that_take_turns(folder: Path) -> None:
    with connected(folder, start=100) as wal:
        for turn in range(3):
            for xid in (7, 8, 9):
                with wal.stream(xid, first=turn == 0):
                    if turn == 0:
                        wal.relation()
                    wal.insert(f"{xid}.{turn}")
            wal.relation()
            wal.whole(200 + 8 * turn, [f"whole {turn}"])
        wal.stream_commit(8, 300)
        wal.stream_abort(7)
        wal.whole(308, ["after"])
        wal.stream_commit(9, 316)
        wal.flush()
    assert inserted(folder) == {
        200: ["whole 0"],
        208: ["whole 1"],
        216: ["whole 2"],
        300: ["8.0", "8.1", "8.2"],
        308: ["after"],
        316: ["9.0", "9.1", "9.2"],
    }


def test_aborted_subtransactions_are_dropped(folder: Path) -> None:
    with connected(folder, start=100) as wal:
        with wal.stream(7, first=True):
            wal.relation()
            wal.insert("top")
            wal.subtransaction(8)
            wal.insert("aborted")
            wal.subtransaction(9)
            wal.insert("kept")
            wal.subtransaction(7)
            wal.insert("top again")
        wal.stream_abort(7, 8)
        with wal.stream(7):
            wal.subtransaction(10)
            wal.insert("aborted too")
        wal.stream_abort(7, 10)
        with wal.stream(7):
            wal.insert("end")
        wal.stream_commit(7, 200)
        wal.flush()
    assert inserted(folder) == {200: ["top", "kept", "top again", "end"]}
    assert [one.offset.index for one in logged(folder)] == [2, 4, 6, 8]


@pytest.mark.parametrize("last_is_aborted", [False, True])
def test_the_last_block_says_where_the_transaction_ends(
    folder: Path, last_is_aborted: bool
) -> None:
    with connected(folder, start=100) as wal:
        with wal.stream(7, first=True):
            wal.relation()
            for subxid in (8, 9, 10):
                wal.subtransaction(subxid)
                wal.insert(str(subxid))
        wal.stream_abort(7, 10 if last_is_aborted else 8)
        wal.stream_commit(7, 200, 333)
        wal.flush()
    with reading(folder) as reader:
        assert [block.end_lsn for block in reader.read(Offset(0, 0))[1]] == [0, 333]


def test_a_streamed_transaction_of_which_nothing_is_left(folder: Path) -> None:
    with connected(folder, start=100) as wal:
        with wal.stream(7, first=True):
            wal.relation()
            wal.subtransaction(8)
            wal.insert("gone")
        wal.stream_abort(7, 8)
        wal.stream_commit(7, 200)
        assert not wal.transactions.in_flight
        wal.flush()
        wal.relation()
        wal.whole(300, ["a"])
        wal.flush()
    assert inserted(folder) == {300: ["a"]}


def test_spool_files_go_with_their_transactions(folder: Path) -> None:
    spool = folder.parent / "spool"
    with connected(folder, start=100) as wal:
        for xid in (7, 8, 9):
            with wal.stream(xid, first=True):
                wal.relation()
                wal.insert("x")
        assert len(list(spool.iterdir())) == 3
        wal.stream_commit(7, 200)
        wal.stream_abort(8)
        assert len(list(spool.iterdir())) == 1
    assert not list(spool.iterdir())


def test_a_streamed_transaction_that_the_log_has_is_skipped(folder: Path) -> None:
    for start in (100, None):
        with connected(folder, start=start) as wal:
            with wal.stream(7, first=True):
                wal.relation()
                wal.insert("a")
            wal.stream_commit(7, 200)
            wal.flush()
            assert not wal.transactions.in_flight
    assert inserted(folder) == {200: ["a"]}


def test_a_stream_that_starts_over_replaces_what_came_before(folder: Path) -> None:
    with connected(folder, start=100) as wal:
        for text in ("old", "new"):
            with wal.stream(7, first=True):
                wal.relation()
                wal.insert(text)
        wal.stream_commit(7, 200)
        wal.flush()
    assert inserted(folder) == {200: ["new"]}


def test_the_middle_of_an_unknown_stream_is_refused(folder: Path) -> None:
    """To go on without its beginning would lose that."""
    with connected(folder, start=100) as wal:
        wal.relation()
        with pytest.raises(ProtocolError):
            wal.transactions.message(pgoutput.StreamStart(7, first_segment=False))


def test_the_commit_of_an_unknown_stream_is_refused(folder: Path) -> None:
    with connected(folder, start=100) as wal, pytest.raises(ProtocolError, match="transaction 7"):
        wal.stream_commit(7, 200)


def test_the_abort_of_an_unknown_stream_is_nothing(folder: Path) -> None:
    with connected(folder, start=100) as wal:
        wal.stream_abort(7)
        wal.stream_abort(7, 8)


def test_a_description_within_a_stream_counts_there_until_the_commit(folder: Path) -> None:
    wide = (("id", INT8), ("added", TEXT))
    with connected(folder, start=100) as wal:
        wal.relation(columns=(("id", INT8),))
        with wal.stream(7, first=True):
            wal.relation(columns=wide)
            wal.insert("7", "x")
        wal.whole(200, ["narrow"])
        wal.stream_commit(7, 300)
        wal.whole(400, ["wide"])
        wal.flush()
    assert [(one.offset.lsn, one.columns) for one in logged(folder)] == [
        (200, ("id",)),
        (300, ("id", "added")),
        (400, ("id", "added")),
    ]


def test_a_description_within_an_aborted_stream_counts_for_nobody(folder: Path) -> None:
    with connected(folder, start=100) as wal:
        wal.relation(columns=(("id", INT8),))
        with wal.stream(7, first=True):
            wal.relation(columns=(("id", INT8), ("added", TEXT)))
            wal.insert("7", "x")
        wal.stream_abort(7)
        wal.whole(200, ["narrow"])
        wal.flush()
    assert [one.columns for one in logged(folder)] == [("id",)]


def test_the_same_relation_keeps_its_version_in_streams(folder: Path) -> None:
    """However many large transactions there are, and however often one of them describes it."""
    for start in (100, None):
        with connected(folder, start=start) as wal:
            for xid in (7, 8, 9):
                for first in (True, False):
                    with wal.stream(xid, first=first):
                        wal.relation()
                        wal.insert("a")
                wal.stream_commit(xid, 200 + 8 * xid)
                wal.flush()
            assert len(wal.writer.relations()) == 1


def test_partitions_of_a_stream_are_asked_for_when_it_has_committed(folder: Path) -> None:
    """A partition that the transaction made is one for others only then."""
    partitions: dict[int, tuple[tuple[int, str, str], ...]] = {}
    root = ((OTHER, "public", "root"),)
    with connected(folder, start=100, partitions=partitions) as wal:
        with wal.stream(7, first=True):
            wal.relation()
            wal.insert("a")
        assert wal.asked == []
        partitions[OID] = root
        wal.stream_commit(7, 200)
        wal.flush()
        assert wal.asked == [(OID, 7)]
    with reading(folder) as reader:
        (block,) = reader.read(Offset(0, 0))[1]
        assert reader.relation(block.relations[0]).ancestors == root


def test_an_older_description_within_a_stream_does_not_replace_a_newer_one(folder: Path) -> None:
    """The stream touched the table in a savepoint that was rolled back, then others altered it."""
    with connected(folder, start=100) as wal:
        with wal.stream(7, first=True):
            wal.relation(columns=(("id", INT8),))
            wal.insert("top", oid=OID)
            wal.subtransaction(8)
            wal.relation(OTHER, "other", columns=(("id", INT8),))
            wal.insert("gone", oid=OTHER)
        wal.stream_abort(7, 8)
        wal.begin(200)
        wal.relation(OTHER, "other", columns=(("id", INT8), ("added", TEXT)))
        wal.insert("1", "x", oid=OTHER)
        wal.commit(200)
        wal.stream_commit(7, 300)
        wal.begin(400)
        wal.insert("2", "y", oid=OTHER)
        wal.commit(400)
        wal.flush()
    found = [one.columns for one in logged(folder) if one.relation == "other"]
    assert found == [("id", "added"), ("id", "added")]
