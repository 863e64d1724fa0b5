"""NULLs that were promised never to come."""

from __future__ import annotations

from dataclasses import replace

from log_builder import TEXT, delete, insert, relation, shape, table, transaction, update
from routed_log import LogBox

from engine.log.layout import Row
from engine.postgres.table import Table
from shapes.promises import Promises
from shapes.shape import Projection


def strict(*names: str) -> Table:
    of = table()
    columns = tuple(replace(c, not_null=c.not_null or c.name in names) for c in of.columns)
    return replace(of, columns=columns)


def projection(of: Table, *names: str) -> Projection:
    return Projection(of, tuple(one for one in of.columns if one.name in names), True)


ROWS: list[tuple[Row, bool]] = [(["1", "a", "b"], False), (["1", None, "b"], True)]


def test_only_columns_that_are_shown_and_not_null_count() -> None:
    promises = Promises()
    assert not promises
    promises.add(projection(table(), "id", "v", "w"))
    promises.add(projection(strict("v"), "id", "w"))
    assert not promises
    seen = projection(strict("v"), "id", "v")
    promises.add(seen)
    assert promises
    for row, breaks in ROWS:
        assert promises.broken(relation(), row) == ({seen} if breaks else set())


def test_each_hears_of_it_once() -> None:
    promises = Promises()
    first, second = projection(strict("v"), "id", "v"), projection(strict("v", "w"), "id", "v", "w")
    promises.add(first)
    promises.add(second)
    assert promises.broken(relation(), ["1", "a", None]) == {second}
    assert promises.broken(relation(), ["1", "a", None]) == set()
    assert promises.broken(relation(), ["1", None, None]) == {first, second}
    assert not promises
    promises.add(second)
    assert promises.broken(relation(), ["1", "a", None]) == {second}


def test_other_orders_of_columns() -> None:
    promises = Promises()
    seen = projection(strict("v"), "id", "v")
    promises.add(seen)
    reordered = relation(2, columns=(("w", TEXT), ("v", TEXT), ("id", 20)))
    assert promises.broken(reordered, [None, "a", "1"]) == set()
    assert promises.broken(reordered, ["b", None, "1"]) == {seen}


def test_a_null_ends_shapes_before_it_is_delivered(log: LogBox) -> None:
    of = strict("v")
    shapes = [shape(of), shape(of, columns=("id", "w")), shape(of, "w = 'x'"), shape(table())]
    routed = log.route(
        [
            transaction(200, insert("1", "a", None), delete("1", "a", None)),
            transaction(300, update(["2", "a", "b"], ["2", None, "b"])),
        ],
        *shapes,
    )
    routed.run()
    assert routed.ended == {(0, 300), (2, 300)}
