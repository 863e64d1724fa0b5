"""From decoded messages to the log: each committed change once, in commit order, whatever comes."""

from __future__ import annotations

from pathlib import Path

import pytest
from log_builder import INT8, OID, TEXT, reading
from wal import Logged, connected, inserted, logged

from engine import pgoutput
from engine.errors import ProtocolError
from engine.log.layout import UNCHANGED, Row
from engine.lsn import Offset
from engine.replication import transactions

OTHER = 2000


# -- transactions sent at their commit -------------------------------------------------------------


def test_every_kind_of_change(folder: Path) -> None:
    changes: list[pgoutput.Change] = [
        ("I", OID, ["1", None, ""], None, False),
        ("U", OID, ["1", "a", "b"], ["1", None, ""], False),
        ("U", OID, ["1", UNCHANGED, "c"], None, False),
        ("U", OID, ["2", UNCHANGED, "c"], ["1", None, None], True),
        ("D", OID, None, ["2", "a", "c"], False),
        ("D", OID, None, ["3", None, None], True),
    ]
    with connected(folder, start=100) as wal:
        wal.begin(200, xid=2**32 - 1)
        wal.relation()
        for change in changes:
            wal.change(change)
        wal.truncate(OID)
        wal.commit(200)
        wal.flush()
    columns = ("id", "v", "w")
    expected: list[tuple[str, Row | None, Row | None]] = [
        ("I", ["1", None, ""], None),
        ("U", ["1", "a", "b"], ["1", None, ""]),
        ("u", ["1", UNCHANGED, "c"], None),
        ("u", ["2", UNCHANGED, "c"], ["1", None, None]),
        ("D", None, ["2", "a", "c"]),
        ("d", None, ["3", None, None]),
        ("T", None, None),
    ]
    assert logged(folder) == [
        Logged(Offset(200, 2 + 2 * place), 2**32 - 1, "t", columns, *one)
        for place, one in enumerate(expected)
    ]


def test_nothing_is_visible_before_flush(folder: Path) -> None:
    with connected(folder, start=100) as wal:
        wal.begin(200)
        wal.relation()
        wal.insert("a")
        assert wal.transactions.in_flight
        assert not wal.transactions.uncommitted
        wal.flush()
        assert wal.writer.state is not None
        assert wal.writer.state.commit_lsn == 100
        wal.commit(200, 300)
        assert wal.transactions.in_flight
        assert wal.transactions.uncommitted
        wal.flush()
        assert not wal.transactions.in_flight
        assert wal.writer.state[1:4] == (200, 300, 300)


def test_a_broken_connection_leaves_nothing_behind(folder: Path) -> None:
    with connected(folder, start=100) as wal:
        wal.relation()
        wal.whole(200, ["a"])
        wal.flush()
        wal.whole(300, ["b"])
        wal.begin(400)
        wal.insert("c")
    assert inserted(folder) == {200: ["a"]}


def test_what_comes_again_is_skipped(folder: Path) -> None:
    """Postgres repeats what was not acknowledged; the log may be ahead of that."""
    with connected(folder, start=100) as wal:
        wal.relation()
        wal.whole(200, ["a"])
        wal.whole(208, ["b", "c"])
        wal.flush()
    with connected(folder) as wal:
        wal.relation()
        wal.whole(200, ["a"])
        assert not wal.transactions.in_flight
        wal.whole(208, ["b", "c"])
        assert not wal.transactions.in_flight
        # Begins exactly where the last one ended.
        wal.whole(216, ["d"])
        wal.flush()
        wal.whole(300, ["e"])
        wal.flush()
    assert inserted(folder) == {200: ["a"], 208: ["b", "c"], 216: ["d"], 300: ["e"]}


def test_skipped_within_one_connection(folder: Path) -> None:
    with connected(folder, start=100) as wal:
        wal.relation()
        wal.whole(200, ["a"])
        wal.whole(200, ["again"])
        wal.flush()
        wal.whole(200, ["again"])
        wal.whole(208, ["b"])
        wal.flush()
    assert inserted(folder) == {200: ["a"], 208: ["b"]}


def test_a_transaction_without_changes_leaves_no_trace(folder: Path) -> None:
    with connected(folder, start=100) as wal:
        wal.begin(200)
        wal.commit(200)
        assert not wal.transactions.in_flight
        wal.flush()
        assert wal.writer.state is not None
        assert wal.writer.state.end_lsn == 100
    assert logged(folder) == []


def test_a_first_transaction_exactly_at_the_start_of_the_log(folder: Path) -> None:
    with connected(folder, start=100) as wal:
        wal.relation()
        wal.whole(100, ["a"])
        wal.flush()
    assert inserted(folder) == {100: ["a"]}


def test_truncate_of_several_tables(folder: Path) -> None:
    with connected(folder, start=100) as wal:
        wal.begin(200)
        wal.relation()
        wal.relation(OTHER, "other")
        wal.insert("a")
        wal.truncate(OID, OTHER)
        wal.insert("b", oid=OTHER)
        wal.commit(200)
        wal.flush()
    found = [(one.offset.index, one.relation, one.operation) for one in logged(folder)]
    assert found == [(2, "t", "I"), (4, "t", "T"), (6, "other", "T"), (8, "other", "I")]


def test_a_change_of_an_unknown_relation_is_refused(folder: Path) -> None:
    with connected(folder, start=100) as wal:
        wal.begin(200)
        with pytest.raises(ProtocolError, match=f"relation {OID}"):
            wal.insert("a")


def test_a_change_outside_of_a_transaction_is_refused(folder: Path) -> None:
    with connected(folder, start=100) as wal:
        wal.relation()
        wal.insert("a")
        with pytest.raises(ProtocolError, match="without its begin"):
            wal.commit(200)


# -- relation versions -----------------------------------------------------------------------------


def test_the_same_relation_keeps_its_version(folder: Path) -> None:
    for lsn in (200, 300):
        with connected(folder, start=100 if lsn == 200 else None) as wal:
            wal.relation()
            wal.relation()
            wal.whole(lsn, ["a"])
            wal.flush()
            assert [one.id for one in wal.writer.relations()] == [1]


def test_another_shape_of_a_relation_is_another_version(folder: Path) -> None:
    layouts = [
        (("id", INT8), ("v", TEXT)),
        (("id", INT8), ("v", TEXT), ("new", TEXT)),
        (("id", INT8), ("renamed", TEXT), ("new", TEXT)),
        (("id", TEXT), ("renamed", TEXT), ("new", TEXT)),
        (("id", INT8), ("v", TEXT)),
    ]
    with connected(folder, start=100) as wal:
        for place, layout in enumerate(layouts):
            wal.begin(200 + 8 * place)
            wal.relation(columns=layout)
            wal.insert("1", "x")
            wal.commit(200 + 8 * place)
        wal.flush()
        versions = wal.writer.relations()
    assert [one.id for one in versions] == [1, 2, 3, 4, 5]
    expected = [tuple(name for name, _ in layout) for layout in layouts]
    assert [one.columns for one in logged(folder)] == expected


@pytest.mark.parametrize("what", ["name", "schema", "identity", "modifier", "key", "ancestors"])
def test_whatever_differs_makes_a_version(folder: Path, what: str) -> None:
    partitions: dict[int, tuple[tuple[int, str, str], ...]] = {}
    column = pgoutput.RelationColumn("id", INT8, -1, is_key=False)
    message = pgoutput.Relation(OID, "public", "t", "f", (column,))
    with connected(folder, start=100, partitions=partitions) as wal:
        wal.transactions.message(message)
        match what:
            case "name":
                message = message._replace(name="u")
            case "schema":
                message = message._replace(schema="s")
            case "identity":
                message = message._replace(replica_identity="d")
            case "modifier":
                message = message._replace(columns=(column._replace(modifier=8),))
            case "key":
                message = message._replace(columns=(column._replace(is_key=True),))
            case _:
                partitions[OID] = ((9, "public", "root"),)
        wal.transactions.message(message)
        wal.transactions.message(message)
        assert [one.id for one in wal.writer.relations()] == [1, 2]


def test_versions_go_on_after_a_restart(folder: Path) -> None:
    with connected(folder, start=100) as wal:
        wal.relation()
        wal.relation(OTHER, "other")
    with connected(folder) as wal:
        wal.relation(OTHER, "other", columns=(("id", INT8),))
        wal.relation()
        wal.begin(200)
        wal.insert("a", oid=OTHER)
        wal.insert("b", "x", "y")
        wal.commit(200)
        wal.flush()
        assert [one.id for one in wal.writer.relations()] == [1, 2, 3]
    assert [(one.relation, len(one.columns)) for one in logged(folder)] == [("other", 1), ("t", 3)]


def test_versions_of_an_old_epoch_are_not_reused(folder: Path) -> None:
    with connected(folder, start=100) as wal:
        wal.relation(OTHER, "other")
        wal.relation()
    with connected(folder, start=500) as wal:
        wal.relation()
        wal.whole(600, ["a"])
        wal.flush()
    assert [(one.relation, one.new) for one in logged(folder)] == [("t", ["a"])]


def test_partitions_know_their_ancestors(folder: Path) -> None:
    ancestors = ((OTHER, "public", "middle"), (OTHER + 1, "public", "root"))
    with connected(folder, start=100, partitions={OID: ancestors}) as wal:
        wal.begin(200, xid=77)
        wal.relation()
        assert wal.writer.relations()[0].ancestors == ancestors
        assert wal.asked == [(OID, 77)]


# -- blocks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
def test_blocks_are_closed_when_they_are_large_enough(folder: Path, streamed: bool) -> None:
    size = transactions.BLOCK_BYTES // 10 + 1
    with connected(folder, start=100) as wal:
        if streamed:
            with wal.stream(5, first=True):
                wal.relation()
                for place in range(25):
                    wal.insert(str(place), size=size)
            wal.stream_commit(5, 200, 300)
        else:
            wal.begin(200)
            wal.relation()
            for place in range(25):
                wal.insert(str(place), size=size)
            wal.commit(200, 300)
        wal.flush()
    with reading(folder) as reader:
        blocks = reader.read(Offset(0, 0))[1]
    assert [(one.index, one.count, one.end_lsn) for one in blocks] == [
        (2, 10, 0),
        (22, 10, 0),
        (42, 5, 300),
    ]
    assert inserted(folder) == {200: [str(place) for place in range(25)]}


@pytest.mark.parametrize("streamed", [False, True])
def test_a_large_transaction_goes_to_disk_while_it_comes(folder: Path, streamed: bool) -> None:
    text = "x" * 100_000
    count = 2 * transactions.SPILL_BYTES // len(text) + 10
    with connected(folder, start=100) as wal:
        wal.relation()
        wal.whole(108, ["before"])
        if streamed:
            with wal.stream(5, first=True):
                wal.relation()
                for place in range(count):
                    wal.insert(str(place), text, None, size=len(text))
            assert wal.progressed == 0
            wal.stream_commit(5, 200)
        else:
            wal.begin(200)
            for place in range(count):
                wal.insert(str(place), text, None, size=len(text))
            wal.commit(200)
        assert wal.progressed == 2
        assert wal.writer.state is not None
        # Spilling has shown nothing; moving a streamed one has flushed what was complete.
        assert wal.writer.state.commit_lsn == (108 if streamed else 100)
        wal.flush()
    assert inserted(folder) == {108: ["before"], 200: [str(place) for place in range(count)]}


def test_a_crash_after_a_spill(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "SPILL_BYTES", 100)
    monkeypatch.setattr(transactions, "BLOCK_BYTES", 100)
    with connected(folder, start=100) as wal:
        wal.relation()
        wal.whole(200, ["a"])
        wal.begin(208)
        for place in range(50):
            wal.insert(str(place))
        assert wal.progressed > 3
    assert inserted(folder) == {}
    with connected(folder) as wal:
        wal.relation()
        wal.whole(200, ["a"])
        wal.whole(208, ["b", "c"])
        wal.flush()
    assert inserted(folder) == {200: ["a"], 208: ["b", "c"]}
