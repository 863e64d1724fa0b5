"""When a worker is told again, and whom an append concerns."""

from __future__ import annotations

import pytest

from shapes.streams.subscriptions.attempts import delay_after
from shapes.streams.subscriptions.interests import Interest, Interests
from shapes.streams.subscriptions.subscription import Key

ONE, TWO, ELSEWHERE = Key("default", "one"), Key("default", "two"), Key("staging", "one")


@pytest.mark.parametrize(
    ("failures", "seconds"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (8, 60), (10**6, 60)]
)
def test_delays_double_up_to_a_minute_and_differ(failures: int, seconds: float) -> None:
    delays = [delay_after(failures) for _ in range(200)]
    assert 0.8 * seconds <= min(delays) < 0.95 * seconds
    assert 1.05 * seconds < max(delays) <= 1.2 * seconds


def test_whom_a_stream_concerns() -> None:
    interests = Interests()
    assert not interests
    interests.replace(
        3,
        [(ONE, "events/*", None), (TWO, "**", "wakes/two"), (ELSEWHERE, "**", None)],
        [(ONE, "named"), (TWO, "wakes/one")],
    )
    assert interests
    both = frozenset((ONE, TWO))
    assert interests.learn(1, "default", "events/a") == Interest("events/a", both, both)
    assert interests.learn(2, "default", "named") == Interest("named", frozenset((TWO,)), both)
    assert interests.learn(3, "default", "wakes/two") is None
    assert interests.learn(4, "staging", "events/a") == (
        *("events/a", frozenset((ELSEWHERE,)), frozenset((ELSEWHERE,))),
    )
    assert interests.learn(5, "nowhere", "events/a") is None
    assert set(interests.known) == {1, 2, 3, 4, 5}
    interests.replace(0, [], [])
    assert not interests.known
