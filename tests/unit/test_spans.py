"""The index of spans against looking at every span."""

from __future__ import annotations

from itertools import product
from random import Random

import pytest
from where_table import COLUMNS, POSITIONS, parse, row

from shapes.following.router import Router
from shapes.where import Predicate, Span


def _clause(random: Random, most: int) -> str:
    low, high = sorted(random.choices(range(most), k=2))
    return random.choice(
        [
            f"i4 > {low}",
            f"i4 <= {high}",
            f"i4 >= {low} AND i4 < {high}",
            f"i4 BETWEEN {low} AND {high}",
            f"i4 NOT BETWEEN {low} AND {high}",
            f"i4 >= {low} AND i4 <> {high}",
        ]
    )


@pytest.mark.parametrize("most", [5, 40, 1000])
def test_spans_come_and_go(most: int) -> None:
    random = Random(most)
    router = Router[int](POSITIONS, COLUMNS)
    tests: dict[int, Predicate] = {}
    rows = [row(i4=None if value < 0 else str(value)) for value in range(-1, most, most // 5)]
    for born in range(600):
        condition = parse(_clause(random, most))
        router.add(born, condition)
        tests[born] = condition.compile(POSITIONS)
        # More come than go at first, then the other way round.
        for _ in range(random.choice([0, 1] if born < 400 else [1, 2, 3])):
            if tests:
                gone = random.choice(list(tests))
                router.remove(gone)
                del tests[gone]
        if born % 20 == 0:
            for old, new in product(rows, rows):
                expected = [(one, test(old), test(new)) for one, test in tests.items()]
                assert sorted(router.route(old, new)) == [
                    one for one in expected if one[1] or one[2]
                ]


class _Counted(str):
    """A text that counts how often it is compared."""

    __slots__ = ("compared",)
    __hash__ = str.__hash__

    def __init__(self, text: str) -> None:
        self.compared = 0

    def __eq__(self, other: object) -> bool:
        self.compared += 1
        return str.__eq__(self, other)


@pytest.mark.parametrize("ascending", [True, False])
def test_steps_grow_with_the_matches_not_with_the_spans(*, ascending: bool) -> None:
    counts: list[int] = []
    for shapes in (1_000, 5_000):
        router = Router[int](POSITIONS, COLUMNS)
        for one in range(shapes) if ascending else reversed(range(shapes)):
            router.add(one, parse("c >= $1 AND c < $2", f"{one:05}", f"{one + 2:05}"))
        value = _Counted(f"{shapes // 2:05}")
        assert sorted(router.route(None, row(c=value))) == [
            (shapes // 2 - 1, False, True),
            (shapes // 2, False, True),
        ]
        counts.append(value.compared)
    assert counts[1] < counts[0] + 100
    assert counts[1] < 250


def test_what_spans_have_in_common() -> None:
    above, below = Span((3, 1), None), Span((), (5, 0))
    assert above & below == below & above == Span((3, 1), (5, 0))
    assert above & Span((3, 0), None) == above
    assert below & Span((), (5, -1)) == Span((), (5, -1))
    assert not (above & below).empty
    assert (above & Span((), (3, 0))).empty
    assert (Span((3, 0), None) & Span((), (3, -1))).empty
    assert not (Span((3, 0), None) & Span((), (3, 0))).empty
