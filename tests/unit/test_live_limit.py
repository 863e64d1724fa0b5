"""How many live requests an environment may have, over all nodes."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from engine.metrics.numbers import Numbers
from shapes.http.live_limit import LiveLimit, TooManyLiveRequestsError


def test_an_environment_has_its_own_number() -> None:
    limit = LiveLimit(2)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(limit.held("prod"))
            stack.enter_context(limit.held("staging"))
        with pytest.raises(TooManyLiveRequestsError), limit.held("prod"):
            raise AssertionError("one too many")
    with limit.held("prod"), limit.held("prod"):
        pass


def test_all_nodes_count_together() -> None:
    numbers = Numbers()
    first = LiveLimit(2, numbers.unshown(1), [numbers.unshown(2)])
    second = LiveLimit(2, numbers.unshown(2), [numbers.unshown(1)])
    with (
        first.held("prod"),
        second.held("prod"),
        pytest.raises(TooManyLiveRequestsError),
        first.held("prod"),
    ):
        raise AssertionError("one too many")
    with second.held("prod"), second.held("prod"):
        pass


def test_many_environments_are_not_in_each_others_way() -> None:
    limit = LiveLimit(3)
    with ExitStack() as stack:
        for number in range(20):
            for _ in range(3):
                stack.enter_context(limit.held(f"environment-{number}"))


def test_a_request_that_fails_is_not_counted_on() -> None:
    limit = LiveLimit(1)
    for _ in range(3):
        with pytest.raises(KeyError), limit.held("prod"):
            raise KeyError
