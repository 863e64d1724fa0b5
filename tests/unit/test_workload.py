"""The demo's workers, without a clock and without Postgres."""

from __future__ import annotations

from random import Random

import pytest

from demo.workload import (
    BATCH_SIZE,
    CONCURRENCY,
    Completed,
    Created,
    Event,
    Failed,
    Progressed,
    Started,
    Workload,
)

TICK = 0.1
MINUTES = 20


def events_of(seed: int) -> list[Event]:
    workload = Workload(Random(seed))
    ticks = int(MINUTES * 60 / TICK)
    return [event for tick in range(ticks) for event in workload.due(tick * TICK)]


@pytest.mark.parametrize("seed", range(5))
def test_every_run_lives_one_life_in_order(seed: int) -> None:
    state: dict[str, str] = {}
    progress: dict[str, float] = {}
    for event in events_of(seed):
        before = state.get(event.id)
        match event:
            case Created():
                assert before is None
                state[event.id] = "queued"
            case Started():
                assert before == "queued"
                state[event.id] = "executing"
            case Progressed():
                assert before == "executing"
                assert progress.get(event.id, 0.0) <= event.progress < 1
                progress[event.id] = event.progress
            case Completed() | Failed():
                assert before == "executing"
                state[event.id] = "finished"
        assert list(state.values()).count("executing") <= CONCURRENCY
        assert list(state.values()).count("queued") <= 2 * CONCURRENCY + BATCH_SIZE
    assert list(state.values()).count("finished") > MINUTES * 10


def test_some_fail_and_most_complete() -> None:
    events = events_of(seed=1)
    failed = sum(isinstance(event, Failed) for event in events)
    completed = sum(isinstance(event, Completed) for event in events)
    assert 0 < failed < completed / 3


def test_a_batch_is_created_whole() -> None:
    sizes: dict[str, int] = {}
    for event in events_of(seed=2):
        if isinstance(event, Created) and event.batch_id:
            sizes[event.batch_id] = sizes.get(event.batch_id, 0) + 1
    assert len(sizes) > MINUTES
    assert set(sizes.values()) == {BATCH_SIZE}


def test_the_rate_is_modest_and_lively() -> None:
    """Several changes a second for a page to show, and not more than a laptop forgets about."""
    per_second = len(events_of(seed=3)) / (MINUTES * 60)
    assert 5 < per_second < 40


def test_the_same_seed_gives_the_same_work() -> None:
    assert events_of(seed=4) == events_of(seed=4)
