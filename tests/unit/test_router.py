"""The router finds exactly the subscribers whose condition is TRUE of a row."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping
from itertools import pairwise

import pytest
from where_table import COLUMNS, POSITIONS, parse, row

from shapes.following.router import Router
from shapes.where import UNCHANGED, Condition, Predicate, Row

Routed = list[tuple[str, bool, bool]]


def make_router(**clauses: str | None) -> Router[str]:
    router = Router[str](POSITIONS, COLUMNS)
    for subscriber, clause in clauses.items():
        router.add(subscriber, None if clause is None else parse(clause))
    return router


def routed(router: Router[str], old: Row | None, new: Row | None) -> Routed:
    return sorted(router.route(old, new))


def test_insert_update_delete() -> None:
    router = make_router(a="id = 'a'", b="id = 'b'", everyone=None)
    a, b = row(id="a"), row(id="b")
    assert routed(router, None, a) == [("a", False, True), ("everyone", False, True)]
    assert routed(router, a, None) == [("a", True, False), ("everyone", True, False)]
    assert routed(router, a, row(id="a", i4="1")) == [("a", True, True), ("everyone", True, True)]
    assert routed(router, a, b) == [
        ("a", True, False),
        ("b", False, True),
        ("everyone", True, True),
    ]
    assert routed(router, row(), row(id="c")) == [("everyone", True, True)]


def test_several_ways_to_one_subscriber_are_one_result() -> None:
    router = make_router(one="id IN ('a', 'b') OR 'x' = ANY (tags) OR i4 = 1 OR tags && '{y,z}'")
    assert routed(router, row(id="a"), row(id="b")) == [("one", True, True)]
    assert routed(router, row(id="a", tags="{x,y,z}"), row(i4="1")) == [("one", True, True)]
    assert routed(router, None, row(tags="{x,x,y,z}")) == [("one", False, True)]


def test_values_that_are_equal_but_not_the_same_text() -> None:
    router = make_router(
        n="n = 1", b="b = 'yes'", ch="ch = 'a'", f="f8 = 0", na="1 = ANY (na)", iv="iv = '1 day'"
    )
    new = row(n="1.00", b="true", ch="a   ", f8="-0", na="{2,1.0}", iv="PT24H")
    assert [one for one, _, _ in routed(router, None, new)] == ["b", "ch", "f", "iv", "n", "na"]
    assert routed(router, new, row(b="t")) == [
        ("b", True, True),
        ("ch", True, False),
        ("f", True, False),
        ("iv", True, False),
        ("n", True, False),
        ("na", True, False),
    ]


def test_conditions_that_are_never_true() -> None:
    router = make_router(a="FALSE", b="id = NULL", c="id = 'x' AND NULL", d="tags @> '{NULL}'")
    assert len(router) == 4
    assert routed(router, row(id="x", tags="{NULL}"), row(id="x", tags="{NULL}")) == []
    for one in "abcd":
        router.remove(one)
    assert len(router) == 0


def test_adding_and_removing() -> None:
    router = make_router(a="id = 'x'", b="id = 'x'", c="c LIKE 'a%'", d="c LIKE 'a%'", e=None)
    new = row(id="x", c="ab")
    assert [one for one, _, _ in routed(router, None, new)] == ["a", "b", "c", "d", "e"]
    router.remove("a")
    router.remove("c")
    router.remove("e")
    router.remove("e")
    assert [one for one, _, _ in routed(router, None, new)] == ["b", "d"]
    with pytest.raises(ValueError, match="already"):
        router.add("b", None)
    router.remove("b")
    router.remove("d")
    assert len(router) == 0
    assert routed(router, None, new) == []
    router.add("a", parse("c LIKE 'a%'"))
    assert routed(router, None, new) == [("a", False, True)]


@pytest.mark.parametrize("clause", ["id = 'x'", "'x' = ANY (tags)", "id = 'x' AND b"])
def test_many_subscribers_with_one_condition(clause: str) -> None:
    router = Router[int](POSITIONS, COLUMNS)
    count = 100
    for one in range(count):
        router.add(one, parse(clause))
    new = row(id="x", tags="{x}", b="t")
    assert sorted(router.route(new, new)) == [(one, True, True) for one in range(count)]
    for one in range(0, count, 2):
        router.remove(one)
    assert sorted(router.route(None, new)) == [(one, False, True) for one in range(1, count, 2)]


class _Counting(Condition):
    """A condition that counts how often its predicate is called."""

    __slots__ = ("calls",)

    @classmethod
    def of(cls, clause: str, calls: list[str]) -> _Counting:
        found = parse(clause)
        counting = cls(found._template, found._values)  # pyright: ignore[reportPrivateUsage]
        counting.calls = calls
        return counting

    def compile(self, positions: Mapping[str, int]) -> Predicate:
        test = super().compile(positions)

        def counted(row: Row) -> bool:
            self.calls.append(self.sql)
            return test(row)

        return counted


def test_a_condition_is_evaluated_once_for_all_its_subscribers() -> None:
    calls: list[str] = []
    router = Router[int](POSITIONS, COLUMNS)
    for one in range(50):
        clause = "c LIKE 'a%' AND i4 > 1" if one % 2 else "(c  LIKE 'a%') AND ((i4 > 1))"
        router.add(one, _Counting.of(clause, calls))
    new = row(c="abc", i4="2")
    assert len(router.route(None, new)) == 50
    assert len(calls) == 1
    # No key of it holds of the old row.
    assert len(router.route(row(c="b"), new)) == 50
    assert len(calls) == 2
    assert len(router.route(row(c="ac", i4="3"), new)) == 50
    assert len(calls) == 4


def test_only_candidates_are_evaluated() -> None:
    """A conjunction is found by the conjunct that few others have been found by."""
    calls: list[str] = []
    router = Router[int](POSITIONS, COLUMNS)
    for one in range(500):
        clause = f"c = 'RUNNING' AND 'tag{one}' = ANY (tags) AND i4 > 0 AND b = true"
        router.add(one, _Counting.of(clause, calls))
    assert router.route(None, row(c="RUNNING", tags="{tag7,tag8}", i4="1", b="t")) == [
        (7, False, True),
        (8, False, True),
    ]
    assert len(calls) < 20
    calls.clear()
    assert router.route(None, row(c="RUNNING", tags="{}", i4="1", b="t")) == []
    assert len(calls) < 20


def _scanning(count: int, calls: list[str], shown: tuple[str, ...] | None = None) -> Router[int]:
    """Conditions on `c` that no index finds: shorter than 0, 1, … characters."""
    router = Router[int](POSITIONS, COLUMNS)
    for one in range(count):
        router.add(one, _Counting.of(f"length(c) <> {one}", calls), shown)
    return router


def test_scanned_conditions_are_evaluated_once_if_nothing_they_read_changed() -> None:
    calls: list[str] = []
    router = _scanning(5, calls)
    old, new = row(c="abc", i4="1"), row(c="abc", i4="2")
    assert router.route(old, new) == [(one, True, True) for one in (0, 1, 2, 4)]
    assert len(calls) == 5


def test_scanned_conditions_are_not_evaluated_for_values_seen_before() -> None:
    calls: list[str] = []
    router = _scanning(20, calls)
    rows = [row(c="abc", i4=str(number)) for number in range(10)]
    for old, new in pairwise(rows):
        assert len(router.route(old, new)) == 19
    assert len(calls) == 20
    assert len(router.route(rows[0], row(c="ab"))) == 20
    assert len(calls) == 40
    router.remove(3)
    router.add(3, _Counting.of("length(c) <> 2", calls))
    assert (3, False, True) not in router.route(None, row(c="ab"))


def test_updates_of_columns_that_nobody_sees_are_not_evaluated() -> None:
    calls: list[str] = []
    router = _scanning(5, calls, shown=("id", "i8"))
    old = row(c="abc", i4="1", i8="1")
    assert router.route(old, row(c="abc", i4="2", i8="1")) == []
    assert calls == []
    assert len(router.route(old, row(c="abc", i4="2", i8="2"))) == 4
    assert len(router.route(old, row(c="abcd", i4="1", i8="1"))) == 5
    # Another subscriber of the same condition sees all columns.
    router.add(9, parse("length(c) <> 0"))
    assert (9, True, True) in router.route(old, row(c="abc", i4="2", i8="1"))
    router.remove(9)
    assert router.route(old, row(c="abc", i4="2", i8="1")) == []


def test_patterns_are_found_by_what_they_contain() -> None:
    calls: list[str] = []
    router = Router[int](POSITIONS, COLUMNS)
    for one in range(1000):
        router.add(one, _Counting.of(f"c ILIKE '%User_{one:04}%'", calls))
    assert router.route(None, row(c="by USER-0042, for user-0917")) == [
        (42, False, True),
        (917, False, True),
    ]
    assert len(calls) < 30


def test_a_pattern_in_a_long_text() -> None:
    router = make_router(a="c LIKE '%needle%'", b="c LIKE '%haystacks%'")
    assert routed(router, None, row(c="hay" * 10_000 + "needle")) == [("a", False, True)]


_CLAUSES_THAT_NEED_VALUES = (
    *("c = 'x'", "'x' = ANY (tags)", "n = 1", "c LIKE 'x%'", "c = 'x' AND n = 1", "n < 1"),
    *("c LIKE '%x%'", "length(c) <> 5", "length(c) = 1", "c = 'x' OR n > 3"),
)


@pytest.mark.parametrize("clause", _CLAUSES_THAT_NEED_VALUES)
def test_a_value_that_was_not_sent(clause: str) -> None:
    router = make_router(one=clause, other="id = 'x'")
    sent = row(id="x", c="x", tags="{x}", n="1")
    missing = row(id="x", c=UNCHANGED, tags=UNCHANGED, n=UNCHANGED)
    for old, new in ((sent, missing), (None, missing), (missing, missing), (missing, None)):
        assert routed(router, old, new) == [("other", old is not None, new is not None)]
        assert set(router.failed) == {"one"}
    # Nobody asks for what is not sent here.
    router.remove("one")
    assert routed(router, missing, missing) == [("other", True, True)]
    assert router.failed == []


@pytest.mark.parametrize(
    "clause",
    ["c::int4 = 1", "c::int4 <> 1", "c::int4 > 1", "c::int4 = 1 AND i4 = 1", "c::int4 IN (1, 2)"],
)
def test_a_condition_that_cannot_be_evaluated(clause: str) -> None:
    """It concerns nobody else, and only the row that it fails for."""
    router = make_router(one=clause, two=clause, other="c = 'x'")
    good, bad = row(c="2", i4="1"), row(c="x", i4="1")
    for old, new in ((good, bad), (bad, good), (None, bad), (bad, None)):
        expected = ("other", old is bad, new is bad)
        assert routed(router, old, new) == [expected]
        assert set(router.failed) == {"one", "two"}
    assert all(one in ["one", "two"] for one, _, _ in router.route(good, good))
    assert router.failed == []


def test_what_guards_a_condition_from_failing() -> None:
    """An index over what fails must not end shapes whose condition does not get so far."""
    router = make_router(a="i4 = 1 AND c::int4 = 1", b="i4 = 2 OR c::int4 = 1")
    assert routed(router, None, row(c="x", i4="2")) == [("b", False, True)]
    assert router.failed == []
    assert routed(router, None, row(c="1", i4="1")) == [("a", False, True), ("b", False, True)]
    assert routed(router, None, row(c="x", i4="1")) == []
    assert set(router.failed) == {"a", "b"}


@pytest.mark.parametrize(
    ("clause", "most"),
    [
        ("id = $1", 400),
        ("c = 'RUNNING' AND id = $1", 560),
        ("$1 = ANY (tags)", 400),
        ("c > $1", 700),
        ("c > $1 AND i4 > 3", 1100),
    ],
)
def test_memory_per_subscriber(clause: str, most: int) -> None:
    count = 5_000
    conditions = [parse(clause, f"run_{number:032x}") for number in range(count)]
    subscribers = [f"subscriber {number}" for number in range(count)]
    router = Router[str](POSITIONS, COLUMNS)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for subscriber, condition in zip(subscribers, conditions, strict=True):
            router.add(subscriber, condition)
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert used / count <= most
