"""Which changes of a block concern whom."""

from __future__ import annotations

import pytest
from log_builder import (
    TEXT,
    change,
    delete,
    insert,
    relation,
    shape,
    table,
    transaction,
    truncate,
    update,
)
from routed_log import LogBox, Recorder, one

from engine.log.layout import UNCHANGED
from engine.lsn import Offset
from shapes.following.encoder import DELETE, INSERT, REKEY, UPDATE, Entry

OTHER = 2000

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


def test_a_filter_without_an_index_is_not_asked_about_what_does_not_show(log: LogBox) -> None:
    narrow = shape(where="v <> 'x'", columns=("id", "v"))
    changes = [
        update(["1", "a", "1"], ["1", "a", "2"]),
        update(["1", "a", "2"], ["1", "b", "2"]),
        update(["1", "b", "2"], ["2", "b", "2"]),
        update(["2", "b", "2"], ["2", "x", "2"]),
    ]
    assert log.route(one(*changes), narrow).run() == [[(4, UPDATE), (6, REKEY), (8, DELETE)]]


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


# -- filters that cannot be evaluated ----------------------------------------------------------------


def test_a_filter_that_fails_ends_its_shapes_only(log: LogBox) -> None:
    """Once per block, however often it fails; what came before is recorded."""
    numbers = [shape(where=where) for where in ("v::int4 = 1", "v::int4 <> 1")]
    changes = [insert("1", "1", None), insert("2", "x", None), insert("3", "y", None)]
    routed = log.route([transaction(200, *changes)], *numbers, A, ALL)
    assert routed.run() == [[(2, INSERT)], [], [], [(2, INSERT), (4, INSERT), (6, INSERT)]]
    assert routed.routing.ended == [(one, 200) for one in routed.recorders[:2]]


def test_a_filter_that_failed_goes_on_for_whoever_does_not_mind(log: LogBox) -> None:
    """A shape that begins after the failure is in the routing already: it has to miss nothing."""
    number = shape(where="v::int4 = 1")
    failing, later = insert("1", "x", None), update(["2", "1", "1"], ["2", "1", "2"])
    routed = log.route([transaction(200, failing), transaction(300, later)], number)
    assert routed.run() == [[(2, UPDATE)]]
    assert routed.ended == {(0, 200)}


def test_a_filter_that_fails_on_the_old_row(log: LogBox) -> None:
    number = shape(where="v::int4 = 1")
    routed = log.route(one(update(["1", "x", "1"], ["1", "1", "1"])), number, ALL)
    assert routed.run() == [[], [(2, UPDATE)]]
    assert routed.ended == {(0, 200)}


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
    assert routed.ended == {(0, 200), (1, 200)}
    assert seen == [[], [], [(2, UPDATE)], [(2, INSERT)]]


def test_complete_relations_are_not_reported(log: LogBox) -> None:
    routed = log.route(one(insert("1", "a", None)), ALL)
    routed.run()
    assert routed.routing.incomplete == set()
