"""The router finds exactly the subscribers whose condition is TRUE of a row."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from where_table import COLUMNS, POSITIONS, full_row, parse, row

from shapes.router import Router
from shapes.where import UNCHANGED, Condition, Predicate, Row, UnchangedValueError
from shapes.where.arrays import write_array

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
    assert len(router.route(row(c="b"), new)) == 50
    assert len(calls) == 3


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


def test_scanned_conditions_are_evaluated_once_if_nothing_they_read_changed() -> None:
    calls: list[str] = []
    router = Router[int](POSITIONS, COLUMNS)
    for one in range(5):
        router.add(one, _Counting.of(f"c LIKE '%{one}%'", calls))
    old, new = row(c="03", i4="1"), row(c="03", i4="2")
    assert router.route(old, new) == [(0, True, True), (3, True, True)]
    assert len(calls) == 5


@pytest.mark.parametrize(
    "clause", ["c = 'x'", "'x' = ANY (tags)", "n = 1", "c LIKE 'x%'", "c = 'x' AND n = 1"]
)
def test_a_value_that_was_not_sent(clause: str) -> None:
    router = make_router(one=clause, other="id = 'x'")
    sent = row(id="x", c="x", tags="{x}", n="1")
    missing = row(id="x", c=UNCHANGED, tags=UNCHANGED, n=UNCHANGED)
    for old, new in ((sent, missing), (None, missing), (missing, missing), (missing, None)):
        with pytest.raises(UnchangedValueError):
            router.route(old, new)
    # Nobody asks for what is not sent here.
    router.remove("one")
    assert router.route(missing, missing) == [("other", True, True)]


def test_memory_per_equality() -> None:
    count = 20_000
    conditions = [parse("id = $1", f"run_{number:032x}") for number in range(count)]
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
    assert used / count <= 400


# -- against trying every condition ----------------------------------------------------------------

_TEXTS = st.sampled_from(("a", "b", "c", "", "NULL", "a b", "é"))
_NUMBERS = st.sampled_from(("0", "1", "1.0", "1.00", "2", "-1", "NaN"))
_INTEGERS = st.sampled_from(("0", "1", "2", "-1"))


def _quoted(text: str) -> str:
    return "'" + text + "'"


def _array(elements: Sequence[str | None]) -> str:
    return write_array((((1, len(elements)),) if elements else (), tuple(elements)), str)


_TEXT_ARRAYS = st.lists(st.none() | _TEXTS, max_size=3).map(_array)
_NUMBER_ARRAYS = st.lists(st.none() | _NUMBERS, max_size=3).map(_array)
_LEAVES = st.one_of(
    st.builds("{} = {}".format, st.sampled_from(("id", "c", "vc", "ch")), _TEXTS.map(_quoted)),
    st.builds("{} = {}".format, st.sampled_from(("n", "f8")), _NUMBERS.map(_quoted)),
    st.builds("{} = {}".format, st.sampled_from(("i4", "i8")), _INTEGERS),
    st.builds("b = {}".format, st.sampled_from(("true", "false"))),
    st.builds("c IN ({}, {})".format, _TEXTS.map(_quoted), _TEXTS.map(_quoted)),
    st.builds("n IN ({}, {})".format, _INTEGERS, _INTEGERS),
    st.builds("c = ANY ({})".format, _TEXT_ARRAYS.map(_quoted)),
    st.builds("{} = ANY (tags)".format, _TEXTS.map(_quoted)),
    st.builds("{} = ANY (na)".format, _NUMBERS.map(_quoted)),
    st.builds(
        "{} {} {}".format,
        st.just("tags"),
        st.sampled_from(("@>", "<@", "&&", "=")),
        _TEXT_ARRAYS.map(_quoted),
    ),
    st.builds("na {} {}".format, st.sampled_from(("@>", "&&")), _NUMBER_ARRAYS.map(_quoted)),
    st.builds("c IS NOT DISTINCT FROM {}".format, _TEXTS.map(_quoted)),
    st.builds("{} IS NULL".format, st.sampled_from(("c", "tags", "b"))),
    st.builds("c LIKE {}".format, st.sampled_from(("'a%'", "'%'", "'_'"))),
    st.sampled_from(("e::text = 'sad'", "i4::text = '1'", "b", "i4 <> i8", "TRUE", "FALSE")),
)
_CLAUSES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.builds("({} AND {})".format, inner, inner),
        st.builds("({} OR {})".format, inner, inner),
        st.builds("NOT ({})".format, inner),
    ),
    max_leaves=5,
)
_VALUES = st.fixed_dictionaries(
    {
        **dict.fromkeys(("id", "c", "vc"), st.none() | _TEXTS),
        "ch": st.none() | _TEXTS.map(lambda text: text.ljust(4)),
        **dict.fromkeys(("n", "f8"), st.none() | _NUMBERS),
        **dict.fromkeys(("i4", "i8"), st.none() | _INTEGERS),
        "b": st.none() | st.sampled_from(("t", "f", "true", "false")),
        "tags": st.none() | _TEXT_ARRAYS,
        "na": st.none() | _NUMBER_ARRAYS,
        "e": st.none() | st.sampled_from(("sad", "ok")),
    }
).map(full_row)
_CHANGES = st.tuples(_VALUES, _VALUES, st.sets(st.integers(0, len(POSITIONS) - 1)))


def _change(change: tuple[Row, Row, set[int]]) -> tuple[Row, Row]:
    """Two rows of which most columns are the same."""
    old, other, changed = change
    return old, [other[place] if place in changed else one for place, one in enumerate(old)]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(_CLAUSES, min_size=1, max_size=12),
    st.sets(st.integers(0, 11)),
    st.lists(_CHANGES, min_size=1, max_size=5),
)
def test_agrees_with_trying_every_condition(
    clauses: list[str], removed: set[int], changes: list[tuple[Row, Row, set[int]]]
) -> None:
    router = Router[int](POSITIONS, COLUMNS)
    tests = {number: parse(clause).compile(POSITIONS) for number, clause in enumerate(clauses)}
    for number, clause in enumerate(clauses):
        router.add(number, parse(clause))
    for number in removed & tests.keys():
        router.remove(number)
        del tests[number]
    assert len(router) == len(tests)
    for old, new in map(_change, changes):
        for before, after in ((old, new), (None, new), (old, None)):
            outcomes = (
                (
                    number,
                    before is not None and test(before),
                    after is not None and test(after),
                )
                for number, test in tests.items()
            )
            expected = [one for one in outcomes if one[1] or one[2]]
            assert sorted(router.route(before, after)) == expected
