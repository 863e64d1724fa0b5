"""The router against trying every condition, over random histories of subscribers and changes.

PGTIDE_ORACLE_SECONDS says how many histories, as if each took 200 ms.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from exploring import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from where_table import COLUMNS, POSITIONS, full_row, parse

from engine.errors import PgtideError
from shapes.following.router import Router
from shapes.where import UNCHANGED, Predicate, Row
from shapes.where.values.arrays import write_array

HISTORIES = round(float(os.environ.get("PGTIDE_ORACLE_SECONDS") or 16) * 5)
Change = tuple[Row | None, Row | None]

_TEXTS = st.sampled_from(("a", "b", "c", "", "NULL", "a b", "é", "aBc", "1", "abcdef"))
_NUMBERS = st.sampled_from(("0", "1", "1.0", "1.00", "2", "-1", "NaN"))
_INTEGERS = st.sampled_from(("0", "1", "2", "-1", "7"))
_BOUNDS = st.sampled_from(("<", "<=", ">", ">="))


def _quoted(text: str) -> str:
    return "'" + text + "'"


def _array(elements: Sequence[str | None]) -> str:
    return write_array((((1, len(elements)),) if elements else (), tuple(elements)), str)


_TEXT_ARRAYS = st.lists(st.none() | _TEXTS, max_size=3).map(_array)
_NUMBER_ARRAYS = st.lists(st.none() | _NUMBERS, max_size=3).map(_array)
_EQUALITIES = st.one_of(
    st.builds("{} = {}".format, st.sampled_from(("id", "c", "vc", "ch")), _TEXTS.map(_quoted)),
    st.builds("{} = {}".format, st.sampled_from(("n", "f8")), _NUMBERS.map(_quoted)),
    st.builds("{} = {}".format, st.sampled_from(("i4", "i8")), _INTEGERS),
    st.builds("b = {}".format, st.sampled_from(("true", "false"))),
    st.builds("{} IN ({}, {})".format, st.just("c"), _TEXTS.map(_quoted), _TEXTS.map(_quoted)),
    st.builds("n IN ({}, {})".format, _INTEGERS, _INTEGERS),
    st.builds("c = ANY ({})".format, _TEXT_ARRAYS.map(_quoted)),
    st.builds("c IS NOT DISTINCT FROM {}".format, _TEXTS.map(_quoted)),
)
_ARRAYS = st.one_of(
    st.builds("{} = ANY (tags)".format, _TEXTS.map(_quoted)),
    st.builds("{} = ANY (na)".format, _NUMBERS.map(_quoted)),
    st.builds(
        "tags {} {}".format,
        st.sampled_from(("@>", "<@", "&&", "=", "<>")),
        _TEXT_ARRAYS.map(_quoted),
    ),
    st.builds("na {} {}".format, st.sampled_from(("@>", "&&")), _NUMBER_ARRAYS.map(_quoted)),
)
_RANGES = st.one_of(
    st.builds("{} {} {}".format, st.sampled_from(("i4", "i8")), _BOUNDS, _INTEGERS),
    st.builds("{} {} i4".format, _INTEGERS, _BOUNDS),
    st.builds("{} {} {}".format, st.sampled_from(("n", "f8")), _BOUNDS, _NUMBERS.map(_quoted)),
    st.builds("{} {} {}".format, st.sampled_from(("c", "ch")), _BOUNDS, _TEXTS.map(_quoted)),
    st.builds("i4 {} BETWEEN {} AND {}".format, st.sampled_from(("", "NOT")), *[_INTEGERS] * 2),
    st.builds("i4 BETWEEN SYMMETRIC {} AND {}".format, _INTEGERS, _INTEGERS),
    st.builds("n {} {} AND n {} {}".format, _BOUNDS, _INTEGERS, _BOUNDS, _INTEGERS),
    st.builds("i4 {} {}".format, _BOUNDS, st.sampled_from(("0.5", "1.0"))),
    st.builds("e {} 'ok'".format, _BOUNDS),
)
_PATTERNS = st.builds(
    "{} {} {}".format,
    st.sampled_from(("c", "vc", "id")),
    st.sampled_from(("LIKE", "ILIKE", "NOT LIKE")),
    st.lists(st.sampled_from(("%", "_", "a", "b", "BC", "é", "cde", "\\%")), max_size=5).map(
        lambda parts: _quoted("".join(parts))
    ),
)
_OTHERS = st.one_of(
    st.builds("{} IS {}NULL".format, st.sampled_from(("c", "tags", "b", "i4")), st.just("")),
    st.builds("{} IS NOT NULL".format, st.sampled_from(("c", "tags", "b"))),
    st.builds(
        "{} IS {}".format,
        st.sampled_from(("b", "(i4 = 1)", "(c > 'a')")),
        st.sampled_from(("TRUE", "NOT TRUE", "FALSE", "NOT FALSE", "UNKNOWN", "NOT UNKNOWN")),
    ),
    st.builds("length(c) {} {}".format, st.sampled_from(("=", "<>", "<", ">=")), _INTEGERS),
    st.builds("c::int4 {} {}".format, st.sampled_from(("=", "<>", ">")), _INTEGERS),
    st.sampled_from(("e::text = 'sad'", "i4::text = '1'", "b", "i4 <> i8", "TRUE", "FALSE")),
)
_LEAVES = st.one_of(_EQUALITIES, _ARRAYS, _RANGES, _PATTERNS, _OTHERS)
_CLAUSES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.builds("({} AND {})".format, inner, inner),
        st.builds("({} AND {})".format, inner, _EQUALITIES),
        st.builds("({} OR {})".format, inner, inner),
        st.builds("NOT ({})".format, inner),
    ),
    max_leaves=5,
)
_VALUES = st.fixed_dictionaries(
    {
        **dict.fromkeys(("id", "c", "vc"), st.none() | _TEXTS),
        "ch": st.none() | _TEXTS.map(lambda text: text.ljust(8)),
        **dict.fromkeys(("n", "f8"), st.none() | _NUMBERS),
        **dict.fromkeys(("i4", "i8"), st.none() | _INTEGERS),
        "b": st.none() | st.sampled_from(("t", "f", "true", "false")),
        "tags": st.none() | _TEXT_ARRAYS,
        "na": st.none() | _NUMBER_ARRAYS,
        "e": st.none() | st.sampled_from(("sad", "ok")),
    }
).map(full_row)
_PLACES = st.sets(st.sampled_from([POSITIONS[name] for name in ("id", "c", "vc", "i4", "n", "b")]))
_CHANGES = st.tuples(_VALUES, _VALUES, _PLACES | st.just(set(range(len(POSITIONS)))))
_SHOWN = st.none() | st.sets(st.sampled_from(("id", "c", "i4", "i8")))


class Follower(NamedTuple):
    test: Predicate
    shown: frozenset[str] | None


def _pairs(change: tuple[Row, Row, set[int]]) -> Iterator[Change]:
    """An insert, a delete and an update, most of whose columns are the same."""
    old, other, changed = change
    new = [other[place] if place in changed else one for place, one in enumerate(old)]
    yield from ((None, new), (old, None), (old, new))


def _holds(test: Predicate, row: Row | None) -> bool:
    return row is not None and test(row)


def _same(old: Row | None, new: Row | None, names: frozenset[str] | None) -> bool:
    """Whether an update changes nothing of some columns."""
    if old is None or new is None or names is None:
        return False
    return all(old[POSITIONS[name]] == new[POSITIONS[name]] for name in names)


def _check(
    router: Router[int],
    followers: dict[int, Follower],
    change: Change,
    complete: Change | None = None,
) -> None:
    """What the router says of a change, `complete` if some values of it were not sent."""
    answers = {one: (old, new) for one, old, new in router.route(*change)}
    failed = set(router.failed)
    assert failed <= followers.keys()
    assert answers.keys() <= followers.keys() - failed
    for number, (test, shown) in followers.items():
        try:
            expected = tuple(_holds(test, row) for row in complete or change)
        except PgtideError:
            # Which part of a condition is looked at, and so whether it fails, is open.
            continue
        if number in failed:
            assert complete is not None
            continue
        if number not in answers and expected == (True, True) and _same(*change, shown):
            # It may but need not hear of what it does not see.
            continue
        assert answers.get(number, (False, False)) == expected


@settings(max_examples=examples(HISTORIES))
@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(_CLAUSES, _SHOWN), max_size=8),
            st.sets(st.integers(0, 20)),
            st.lists(_CHANGES, max_size=3),
        ),
        min_size=1,
        max_size=4,
    ),
    _PLACES,
)
def test_agrees_with_trying_every_condition(
    history: list[
        tuple[list[tuple[str, set[str] | None]], set[int], list[tuple[Row, Row, set[int]]]]
    ],
    missing: set[int],
) -> None:
    """Subscribers come, some go, changes are made; and again."""
    router = Router[int](POSITIONS, COLUMNS)
    followers: dict[int, Follower] = {}
    born = 0
    for coming, going, changes in history:
        for clause, shown in coming:
            condition = parse(clause)
            router.add(born, condition, shown)
            names = None if shown is None else frozenset(shown)
            followers[born] = Follower(condition.compile(POSITIONS), names)
            born += 1
        for number in going & followers.keys():
            router.remove(number)
            del followers[number]
        assert len(router) == len(followers)
        for change in changes:
            for old, new in _pairs(change):
                _check(router, followers, (old, new))
                _check(router, followers, (old, _sent(old, new, missing)), (old, new))
    for number in followers:
        router.remove(number)
    for change in (pair for _, _, changes in history for one in changes for pair in _pairs(one)):
        assert router.route(*change) == []


def _sent(old: Row | None, new: Row | None, missing: set[int]) -> Row | None:
    """The new row if large values of it that did not change are not sent."""
    if new is None:
        return None
    return [
        UNCHANGED if place in missing and one and (old is None or old[place] == one) else one
        for place, one in enumerate(new)
    ]
