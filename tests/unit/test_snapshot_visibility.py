"""Which transactions a snapshot sees, by ids of which the log has only the lower 32 bits."""

from __future__ import annotations

import pytest
from exploring import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shapes.snapshots.snapshot import Visibility

WRAP = 2**32


def visibility(xmin: int, xmax: int, *xip: int) -> Visibility:
    return Visibility(xmin, xmax, frozenset(xip), 0, True)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("5:5: 0/10 0/10", Visibility(5, 5, frozenset(), 16, True)),
        ("5:9:5,7 0/10 0/F", Visibility(5, 9, frozenset((5, 7)), 16, False)),
        (
            f"{WRAP - 1}:{WRAP + 5}:{WRAP - 1},{WRAP + 1} 1/A 2/0",
            Visibility(WRAP - 1, WRAP + 5, frozenset((WRAP - 1, WRAP + 1)), WRAP + 10, True),
        ),
    ],
)
def test_the_first_line_of_a_snapshot(line: str, expected: Visibility) -> None:
    assert Visibility.parse(line) == expected


@pytest.mark.parametrize(
    ("xid", "seen"),
    [
        *((1, True), (99, True), (100, False), (101, True), (105, False), (109, True)),
        *((110, False), (111, False), (2**31, False)),
    ],
)
def test_who_is_seen(xid: int, seen: bool) -> None:
    assert visibility(100, 110, 100, 105).sees(xid) is seen


@pytest.mark.parametrize(
    ("xid", "seen"),
    [
        # Before the wrap: still running, ended, still running.
        (WRAP - 10, False),
        (WRAP - 9, True),
        (WRAP - 1, False),
        # After it: ended, still running, not begun. Ids 0 to 2 are never given to transactions.
        (3, True),
        (4, False),
        (5, False),
        (1000, False),
        (WRAP - 11, True),
        (2**31 + 5, True),
    ],
)
def test_who_is_seen_around_the_wrap(xid: int, seen: bool) -> None:
    around = visibility(3 * WRAP - 10, 3 * WRAP + 5, 3 * WRAP - 10, 3 * WRAP - 1, 3 * WRAP + 4)
    assert around.sees(xid) is seen


@settings(max_examples=examples(300))
@given(
    xmax=st.integers(3, 2**40) | st.integers(-20, 20).map(lambda near: 5 * WRAP + near),
    running=st.lists(st.integers(1, 40), max_size=5),
    distance=st.integers(-(2**31) + 50, 2**31 - 1) | st.integers(-60, 10),
)
@example(xmax=5 * WRAP, running=[1], distance=-1)
@example(xmax=5 * WRAP + 1, running=[1, 2], distance=-2)
def test_the_lower_half_is_enough(xmax: int, running: list[int], distance: int) -> None:
    """Compared with the rule on whole ids."""
    xip = frozenset(xmax - back for back in running if xmax - back > 2)
    xid = max(xmax + distance, 3)
    if xid - xmax >= 2**31:
        return
    xmin = min(xip, default=xmax)
    expected = xid < xmin or (xid < xmax and xid not in xip)
    assert visibility(xmin, xmax, *xip).sees(xid % WRAP) is expected
