"""How many live requests an environment may have, over all nodes."""

from __future__ import annotations

from engine.metrics.numbers import Numbers
from shapes.http.live_limit import LiveLimit


def test_an_environment_has_its_own_number() -> None:
    limit = LiveLimit(2)
    for environment in ("prod", "staging", "prod", "staging"):
        assert limit.take(environment)
    assert not limit.take("prod")
    # Who is refused is not counted.
    assert not limit.take("prod")
    limit.give("prod")
    assert limit.take("prod")
    assert not limit.take("prod")


def test_all_nodes_count_together() -> None:
    numbers = Numbers()
    first = LiveLimit(2, numbers.unshown(1), [numbers.unshown(2)])
    second = LiveLimit(2, numbers.unshown(2), [numbers.unshown(1)])
    assert first.take("prod")
    assert second.take("prod")
    assert not first.take("prod")
    first.give("prod")
    assert second.take("prod")
    assert not first.take("prod")
    assert not second.take("prod")


def test_many_environments_are_not_in_each_others_way() -> None:
    limit = LiveLimit(3)
    for number in range(20):
        for _ in range(3):
            assert limit.take(f"environment-{number}")
