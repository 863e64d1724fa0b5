"""What ends a shape: truncates, and relations that are not what they were."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from log_builder import (
    COLUMNS,
    INT8,
    OID,
    TEXT,
    delete,
    insert,
    relation,
    shape,
    table,
    transaction,
    truncate,
    update,
)
from routed_log import LogBox, one

from engine.log.layout import Change, RelationVersion
from engine.lsn import Offset
from shapes.following.encoder import DELETE, INSERT, UPDATE
from shapes.following.routing import fits
from shapes.shape import Shape

OTHER, ROOT, MIDDLE = 2000, 3000, 4000
ALL, A, B = (shape(where=where) for where in (None, "v = 'a'", "v = 'b'"))


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
        [
            transaction(200, insert("1", "a", None)),
            transaction(300, insert("1", "a", "b", version=2)),
        ],
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
        (ALL, WITH_X, True),
        (ALL, WITHOUT_W, False),
        (ALL, W_AS_X, False),
        (ALL, V_AS_INT8, False),
        (A, WITH_X, True),
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
