"""What a change of the catalog ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.postgres.table_state import (
    EVERYTHING,
    ColumnState,
    MemberState,
    TableState,
    endings,
    newcomers,
)

ID = ColumnState(1, "id", 20, -1, True, 0, 700, "int8", ())
A = ColumnState(2, "a", 25, -1, True, 100, 700, "text", ())
MOOD = ColumnState(3, "m", 9000, -1, False, 0, 700, "mood", ("sad", "glad"))
SELF = MemberState(1000, 0, 0, 0, "f", 5000)
TABLE = TableState(
    oid=1000,
    kind="r",
    key=(1,),
    columns=(ID, A, MOOD),
    tree=(SELF,),
    entries=frozenset((1, 2)),
    complete=True,
    via_root=False,
    generated=True,
)
LEAF = MemberState(1001, 1000, 710, 710, "f", 5001)
ROOT = replace(TABLE, kind="p", tree=(SELF, LEAF))


def with_column(place: int, **changes: object) -> TableState:
    columns = list(TABLE.columns)
    columns[place - 1] = replace(columns[place - 1], changed=701, **changes)  # pyright: ignore
    return replace(TABLE, columns=tuple(columns))


def rewritten(state: TableState) -> TableState:
    return replace(state, tree=(replace(SELF, file=5002),))


@pytest.mark.parametrize(
    "after",
    [
        TABLE,
        replace(TABLE, columns=(*TABLE.columns, replace(A, number=4, name="b"))),
        rewritten(replace(TABLE, columns=(*TABLE.columns, replace(A, number=4, name="b")))),
        rewritten(TABLE),
        with_column(2),
        with_column(3, not_null=True),
        with_column(3, labels=("mad", "sad", "bad", "glad")),
        with_column(3, type="temper"),
        replace(TABLE, tree=(replace(SELF, identity="d"),)),
        replace(TABLE, entries=frozenset((2, 3))),
        replace(TABLE, generated=False),
    ],
)
def test_what_ends_nothing(after: TableState) -> None:
    assert endings(TABLE, after) == set()


@pytest.mark.parametrize(
    ("after", "column"),
    [
        (replace(TABLE, columns=(ID, MOOD)), "a"),
        (with_column(2, name="b"), "a"),
        (with_column(2, number=4), "a"),
        (with_column(2, type_oid=1043), "a"),
        (with_column(2, modifier=9), "a"),
        (with_column(2, collation=950), "a"),
        (with_column(2, not_null=False), "a"),
        (rewritten(with_column(2)), "a"),
        (with_column(3, labels=("blue", "glad")), "m"),
        (with_column(3, labels=("glad", "sad")), "m"),
        (with_column(3, labels=()), "m"),
    ],
)
def test_what_ends_the_readers_of_a_column(after: TableState, column: str) -> None:
    assert endings(TABLE, after) == {column}


@pytest.mark.parametrize(
    "after",
    [
        None,
        replace(TABLE, oid=1001),
        replace(TABLE, key=(1, 2)),
        replace(TABLE, key=()),
        with_column(1, name="number"),
        replace(TABLE, entries=frozenset()),
        replace(TABLE, entries=frozenset((3,))),
        replace(TABLE, complete=False),
        replace(TABLE, via_root=True),
    ],
)
def test_what_ends_everything(after: TableState | None) -> None:
    assert endings(TABLE, after) == {EVERYTHING}


def test_a_table_that_was_not_published_can_lapse_no_further() -> None:
    unpublished = replace(TABLE, entries=frozenset())
    assert endings(unpublished, TABLE) == set()
    assert endings(unpublished, unpublished) == set()
    assert endings(replace(TABLE, complete=False), TABLE) == set()


def test_published_means_whole() -> None:
    assert TABLE.published
    assert ROOT.published
    assert not replace(TABLE, complete=False).published
    assert not replace(TABLE, entries=frozenset()).published
    assert not replace(ROOT, tree=(SELF, replace(LEAF, identity="d"))).published


def test_partitions_that_go_end_everything() -> None:
    assert endings(ROOT, replace(ROOT, tree=(SELF,))) == {EVERYTHING}
    assert endings(replace(ROOT, tree=(SELF,)), ROOT) == set()


def test_which_partitions_may_have_come_with_rows() -> None:
    """Of a subtree that is attached its top; not what was made where it is."""
    made = MemberState(2000, 1000, 720, 720, "f", 1)
    attached = MemberState(2001, 1000, 715, 720, "f", 1)
    below = MemberState(2002, 2001, 716, 716, "f", 1)
    attached_below = MemberState(2003, 2001, 717, 718, "f", 1)
    after = replace(ROOT, tree=(SELF, LEAF, made, attached, below, attached_below))
    assert newcomers(ROOT, after) == [attached]
    assert newcomers(after, after) == []
