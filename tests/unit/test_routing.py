"""Which changes of a block concern whom, and what ends a shape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from log_builder import (
    COLUMNS,
    INT8,
    OID,
    TEXT,
    Transaction,
    change,
    delete,
    insert,
    make_log,
    reading,
    relation,
    shape,
    table,
    transaction,
    truncate,
    update,
)

from engine.log.layout import UNCHANGED, Block, Change, RelationVersion
from engine.log.reader import LogReader
from engine.lsn import Offset
from shapes.encoder import DELETE, INSERT, REKEY, UPDATE, Entry
from shapes.routing import Encoders, Routing, fits
from shapes.shape import Shape

OTHER, ROOT, MIDDLE = 2000, 3000, 4000
BEGINNING = Offset(0, 0)
Seen = list[tuple[int, int]]


class Recorder:
    """A subscriber that keeps what it is given."""

    def __init__(self, followed: Shape) -> None:
        self.shape = followed
        self.entries: list[Entry] = []

    def record(self, entry: Entry) -> None:
        self.entries.append(entry)

    @property
    def seen(self) -> Seen:
        """Index and kind of the entries."""
        return [(entry.index, entry.kind) for entry in self.entries]


class Routed:
    """A routing of some shapes over a log."""

    def __init__(self, reader: LogReader, *shapes: Shape) -> None:
        self._reader = reader
        self.routing = Routing(Encoders(reader))
        self.recorders = [Recorder(one) for one in shapes]
        for recorder in self.recorders:
            self.routing.add(recorder)

    def run(self, after: Offset = BEGINNING) -> list[Seen]:
        """What each shape sees of the log after an offset."""
        for block in self._reader.read(after)[1]:
            self.routing.apply(block, after)
        return [recorder.seen for recorder in self.recorders]

    def read(self) -> list[Block]:
        return self._reader.read(Offset(0, 0))[1]

    @property
    def ended(self) -> set[tuple[int, int]]:
        """Which shapes have ended, by their place, and where."""
        places = {recorder: place for place, recorder in enumerate(self.recorders)}
        return {(places[one], lsn) for one, lsn in self.routing.ended if isinstance(one, Recorder)}


@pytest.fixture
def log(folder: Path) -> Iterator[LogBox]:
    box = LogBox(folder)
    yield box
    box.close()


class LogBox:
    """Makes a log and keeps it open until the test's end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._opened = False

    def route(
        self,
        transactions: Sequence[Transaction],
        *shapes: Shape,
        relations: Sequence[RelationVersion] = (relation(),),
    ) -> Routed:
        make_log(self._folder, transactions, relations)
        self._reading = reading(self._folder)
        self._opened = True
        return Routed(self._reading.__enter__(), *shapes)

    def close(self) -> None:
        if self._opened:
            self._reading.__exit__(None, None, None)


def one(*changes: Change, blocks: int = 1000) -> list[Transaction]:
    return [transaction(200, *changes, blocks=blocks)]


ALL, A, B, A_OR_B = (shape(where=where) for where in (None, "v = 'a'", "v = 'b'", "v in ('a','b')"))
LIKE, NULL, ID, W = (
    shape(where=where) for where in ("v like 'a%'", "v is null", "id > 5", "w = '1'")
)


# -- complete changes ------------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", [1, 2, 1000])
def test_inserts_and_deletes(log: LogBox, blocks: int) -> None:
    changes = [insert("1", "a", None), insert("9", None, None), delete("1", "b", "x")]
    routed = log.route(one(*changes, blocks=blocks), ALL, A, B, A_OR_B, LIKE, NULL, ID, W)
    assert routed.run() == [
        [(2, INSERT), (4, INSERT), (6, DELETE)],
        [(2, INSERT)],
        [(6, DELETE)],
        [(2, INSERT), (6, DELETE)],
        [(2, INSERT)],
        [(4, INSERT)],
        [(4, INSERT)],
        [],
    ]
    assert routed.routing.ended == []


def test_updates_move_rows_in_and_out(log: LogBox) -> None:
    old, new = ["1", "a", "x"], ["1", "b", "x"]
    routed = log.route(one(update(old, new)), ALL, A, B, A_OR_B, LIKE, NULL, ID, W)
    assert routed.run() == [
        [(2, UPDATE)],
        [(2, DELETE)],
        [(2, INSERT)],
        [(2, UPDATE)],
        [(2, DELETE)],
        [],
        [],
        [],
    ]


def test_entries_say_where_they_are_from(log: LogBox) -> None:
    change = update(["1", "a", "x"], ["1", "b", "x"], version=7)
    routed = log.route([transaction(200, change, xid=2**32 - 1)], ALL, relations=[relation(7)])
    routed.run()
    assert routed.recorders[0].entries == [
        Entry(200, 2, UPDATE, 7, 2**32 - 1, ["1", "b", "x"], ["1", "a", "x"])
    ]


def test_a_changed_key(log: LogBox) -> None:
    old, new = ["1", "a", "x"], ["9", "a", "x"]
    routed = log.route(one(update(old, new)), ALL, A, ID, shape(where="id < 5"), B)
    assert routed.run() == [[(2, REKEY)], [(2, REKEY)], [(2, INSERT)], [(2, DELETE)], []]


def test_updates_of_which_nothing_shows(log: LogBox) -> None:
    narrow = shape(columns=("id", "v"))
    filtered = shape(where="w = '2'", columns=("id", "v"))
    changes = [
        update(["1", "a", "1"], ["1", "a", "2"]),
        update(["1", "a", "2"], ["1", "a", "2"]),
        update(["1", "a", "2"], ["1", "b", "2"]),
    ]
    routed = log.route(one(*changes), ALL, narrow, filtered)
    assert routed.run() == [
        [(2, UPDATE), (6, UPDATE)],
        [(6, UPDATE)],
        # It moves in although nothing of it that is shown has changed.
        [(2, INSERT), (6, UPDATE)],
    ]


def test_without_a_primary_key(log: LogBox) -> None:
    keyless = shape(table(key=()))
    changes = [
        update(["1", "a", "1"], ["1", "a", "2"]),
        update(["1", "a", "2"], ["1", "a", "2"]),
    ]
    assert log.route(one(*changes), keyless).run() == [[(2, REKEY)]]


@pytest.mark.parametrize("blocks", [1, 2, 3, 1000])
@pytest.mark.parametrize("index", range(14))
def test_only_what_comes_after_an_offset(log: LogBox, blocks: int, index: int) -> None:
    changes = [insert(str(place), "a", None) for place in range(5)]
    routed = log.route(
        [transaction(200, *changes, blocks=blocks), transaction(208, insert("9", "a", None))], A
    )
    expected = [(place, INSERT) for place in range(2, 12, 2) if place > index]
    assert routed.run(Offset(200, index)) == [[*expected, (2, INSERT)]]


def test_touched_are_those_who_recorded_something(log: LogBox) -> None:
    routed = log.route(one(insert("1", "a", None)), A, B, ALL)
    routed.run()
    assert routed.routing.touched == {routed.recorders[0], routed.recorders[2]}


def test_other_tables_do_not_matter(log: LogBox) -> None:
    relations = [relation(), relation(2, OTHER, "other", (("v", TEXT),))]
    routed = log.route(one(insert("a", version=2), truncate(2)), ALL, relations=relations)
    assert routed.run() == [[]]
    assert not routed.ended


def test_several_tables_in_one_block(log: LogBox) -> None:
    relations = [relation(), relation(2, OTHER, "other")]
    changes = [
        insert("1", "a", None, version=2),
        insert("2", "a", None),
        insert("3", "a", None, version=2),
    ]
    routed = log.route(one(*changes), A, shape(table(OTHER, "other")), relations=relations)
    assert routed.run() == [[(4, INSERT)], [(2, INSERT), (6, INSERT)]]


# -- coming and going ------------------------------------------------------------------------------


def test_who_comes_later_gets_what_comes_later(log: LogBox) -> None:
    routed = log.route([transaction(lsn, insert("1", "a", None)) for lsn in (200, 300, 400)], A)
    late, other = Recorder(ALL), Recorder(shape(table(OTHER, "other")))
    routing, after = routed.routing, Offset(0, 0)
    for lsn, block in zip((200, 300, 400), routed.read(), strict=True):
        routing.apply(block, after)
        if lsn == 200:
            routing.add(late)
            routing.add(other)
        if lsn == 300:
            routing.remove(routed.recorders[0])
            routing.remove(other)
    assert [entry.lsn for entry in routed.recorders[0].entries] == [200, 300]
    assert [entry.lsn for entry in late.entries] == [300, 400]
    assert other.entries == []
    assert list(routing.subscribers()) == [late]
    assert len(routing) == 1


def test_the_first_follower_of_a_table_that_the_log_has_shown_already(log: LogBox) -> None:
    routed = log.route([transaction(lsn, insert("1", "a", None)) for lsn in (200, 300)])
    first, second = routed.read()
    routed.routing.apply(first, Offset(0, 0))
    late = Recorder(A)
    routed.routing.add(late)
    routed.routing.apply(second, Offset(0, 0))
    assert [entry.lsn for entry in late.entries] == [300]
    routed.routing.remove(late)
    routed.routing.apply(second, Offset(0, 0))
    assert len(late.entries) == 1


def test_removing_a_stranger_is_nothing(log: LogBox) -> None:
    routed = log.route(one(insert("1", "a", None)), A)
    routed.routing.remove(Recorder(A))
    routed.routing.remove(Recorder(shape(table(OTHER, "other"))))
    assert routed.run() == [[(2, INSERT)]]


# -- what ends a shape -----------------------------------------------------------------------------


def test_truncate_ends_all_shapes_of_the_table(log: LogBox) -> None:
    relations = [relation(), relation(2, OTHER, "other")]
    routed = log.route(
        [transaction(200, insert("1", "a", None)), transaction(300, truncate())],
        *(ALL, B, shape(table(OTHER, "other"))),
        relations=relations,
    )
    routed.run()
    assert routed.ended == {(0, 300), (1, 300)}


def test_a_truncate_before_the_offset_is_not_news(log: LogBox) -> None:
    routed = log.route(one(insert("1", "a", None), truncate(), insert("2", "a", None)), ALL)
    assert routed.run(Offset(200, 4)) == [[(6, INSERT)]]
    assert not routed.ended


@pytest.mark.parametrize("what", [truncate(2), insert("1", "a", None, version=2)])
def test_partitions_count_for_all_their_ancestors(log: LogBox, what: Change) -> None:
    ancestors = ((MIDDLE, "public", "middle"), (ROOT, "public", "root"))
    part = relation(2, OTHER, "part", ancestors=ancestors)
    shapes = [
        shape(table(ROOT, "root", kind="p")),
        shape(table(MIDDLE, "middle", kind="p")),
        shape(table(OTHER, "part")),
        shape(),
    ]
    routed = log.route(one(what), *shapes, relations=[relation(), part])
    seen = routed.run()
    if what[1] == "T":
        assert routed.ended == {(0, 200), (1, 200), (2, 200)}
    else:
        assert seen == [[(2, INSERT)], [(2, INSERT)], [(2, INSERT)], []]
        assert not routed.ended


def test_partitions_may_have_their_columns_in_any_order(log: LogBox) -> None:
    root = ((ROOT, "public", "root"),)
    relations = [
        relation(1, OID, "one", ancestors=root),
        relation(2, OTHER, "two", (("w", TEXT), ("v", TEXT), ("id", INT8)), ancestors=root),
    ]
    followed = table(ROOT, "root", kind="p")
    changes = [
        insert("1", "a", "b"),
        insert("b", "a", "2", version=2),
        update(["1", "a", "b"], ["1", "x", "b"]),
        update(["b", "a", "2"], ["b", "x", "2"], version=2),
        # From one partition to another, as Postgres does it.
        delete("1", "x", "b"),
        insert("b", "a", "1", version=2),
    ]
    routed = log.route(
        one(*changes), shape(followed), shape(followed, "v = 'a'"), relations=relations
    )
    assert routed.run() == [
        [(2, INSERT), (4, INSERT), (6, UPDATE), (8, UPDATE), (10, DELETE), (12, INSERT)],
        [(2, INSERT), (4, INSERT), (6, DELETE), (8, DELETE), (12, INSERT)],
    ]
    assert not routed.ended


def test_another_table_of_the_same_name_ends_the_shapes_of_the_former_one(log: LogBox) -> None:
    relations = [relation(), relation(2, OTHER, "t")]
    routed = log.route(
        [transaction(200, insert("1", "a", None)), transaction(300, insert("1", "a", "b", version=2))],
        *(ALL, shape(table(OTHER, "t"))),
        relations=relations,
    )
    routed.run()
    assert routed.ended == {(0, 300), (1, 200)}


def test_the_same_name_in_another_schema_is_another_table(log: LogBox) -> None:
    other = RelationVersion(2, OTHER, "s", "t", "f", relation().columns)
    routed = log.route(one(insert("1", "a", None, version=2)), ALL, relations=[relation(), other])
    assert routed.run() == [[]]
    assert not routed.ended


V_AS_INT8 = (("id", INT8), ("v", INT8), ("w", TEXT))
WITHOUT_W = COLUMNS[:2]
WITH_X = (*COLUMNS, ("x", TEXT))
REORDERED = COLUMNS[::-1]
W_AS_X = (*WITHOUT_W, ("x", TEXT))

EXPLICIT = shape(columns=("id", "v"))
ON_W = shape(where="w = 'b'", columns=("id", "v"))


@pytest.mark.parametrize(
    ("followed", "columns", "fitting"),
    [
        (ALL, COLUMNS, True),
        (ALL, REORDERED, True),
        (ALL, WITH_X, False),
        (ALL, WITHOUT_W, False),
        (ALL, W_AS_X, False),
        (ALL, V_AS_INT8, False),
        (A, WITH_X, False),
        (EXPLICIT, COLUMNS, True),
        (EXPLICIT, WITH_X, True),
        (EXPLICIT, WITHOUT_W, True),
        (EXPLICIT, W_AS_X, True),
        (EXPLICIT, V_AS_INT8, False),
        (EXPLICIT, COLUMNS[:1], False),
        (ON_W, WITH_X, True),
        (ON_W, WITHOUT_W, False),
        (ON_W, W_AS_X, False),
        # The filter would read numbers as texts.
        (ON_W, (("id", INT8), ("v", TEXT), ("w", INT8)), False),
    ],
)
def test_which_versions_a_shape_fits(
    log: LogBox, followed: Shape, columns: Sequence[tuple[str, int]], fitting: bool
) -> None:
    version = relation(2, columns=columns)
    assert fits(followed, version) is fitting
    row = [{"id": "1", "v": "a"}.get(name, "b") for name, _ in columns]
    routed = log.route(
        [transaction(200, insert("1", "a", "b")), transaction(300, insert(*row, version=2))],
        followed,
        relations=[relation(), version],
    )
    seen = routed.run()[0]
    assert routed.ended == (set() if fitting else {(0, 300)})
    if fitting:
        assert seen == [(2, INSERT), (2, INSERT)]


def test_a_changed_modifier_ends_a_shape() -> None:
    column = relation().columns[1]
    columns = (relation().columns[0], column.__class__("v", TEXT, 12, True), relation().columns[2])
    version = RelationVersion(2, OID, "public", "t", "f", columns)
    assert not fits(ALL, version)
    assert not fits(shape(where="v = 'a'", columns=("id", "w")), version)
    assert fits(shape(columns=("id", "w")), version)


@pytest.mark.parametrize(("schema", "name"), [("public", "u"), ("s", "t")])
def test_another_name_of_the_table_ends_its_shapes(schema: str, name: str) -> None:
    version = RelationVersion(2, OID, schema, name, "f", relation().columns)
    assert not fits(EXPLICIT, version)


def test_the_name_of_a_partition_does_not_matter_to_its_root() -> None:
    part = relation(2, OTHER, "part", ancestors=((OID, "public", "t"),))
    assert fits(ALL, part)


def test_a_version_that_comes_again_ends_nothing_twice(log: LogBox) -> None:
    routed = log.route(
        [transaction(lsn, insert("1", "a", None)) for lsn in (200, 300, 400)], ALL, A
    )
    assert [len(seen) for seen in routed.run()] == [3, 3]
    assert not routed.ended


# -- old rows that are not complete ----------------------------------------------------------------


def test_who_may_have_had_a_row_whose_old_values_are_unknown(log: LogBox) -> None:
    """Whoever has the new row gets all of it, everybody else a delete of its key."""
    changes = [
        change("u", ["1", "a", "x"], None),
        change("u", ["2", "a", "x"], ["1", None, None]),
        change("d", None, ["2", None, None]),
    ]
    routed = log.route(one(*changes), ALL, A, B, relations=[relation(identity="d")])
    assert routed.run() == [
        [(2, UPDATE), (4, REKEY), (6, DELETE)],
        [(2, INSERT), (4, REKEY), (6, DELETE)],
        [(2, DELETE), (4, DELETE), (6, DELETE)],
    ]
    assert routed.routing.incomplete == {table()}


def test_a_filter_that_needs_a_value_that_was_not_sent(log: LogBox) -> None:
    """Whether the row belongs to the shape cannot be known: it has to be fetched anew. A shape that
    does not need the value goes on."""
    changes = [change("u", ["1", UNCHANGED, "1"], None)]
    routed = log.route(one(*changes), A, LIKE, ALL, W, relations=[relation(identity="d")])
    seen = routed.run()
    assert routed.ended >= {(0, 200), (1, 200)}
    if not routed.ended >= {(2, 200), (3, 200)}:
        assert seen[2:] == [[(2, UPDATE)], [(2, INSERT)]]


def test_complete_relations_are_not_reported(log: LogBox) -> None:
    routed = log.route(one(insert("1", "a", None)), ALL)
    routed.run()
    assert routed.routing.incomplete == set()
