"""Permits: never more than the limits over all nodes, and all given back."""

from __future__ import annotations

import asyncio
import random

import pytest
from exploring import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.configuration.kinds import ConcurrentRequests
from engine.metrics.numbers import Numbers
from shapes.http.admission import Admission, ConcurrencyError, Permit, Pool
from shapes.http.meter import ADMITTED, POOLS, REJECTED, NodeMeter


def nodes(count: int, limits: ConcurrentRequests) -> tuple[list[NodeMeter], list[Admission]]:
    """The admissions of some nodes that share their numbers."""
    numbers = Numbers()
    meters = [NodeMeter(numbers, number, count) for number in range(1, count + 1)]
    return meters, [Admission(limits, *meter.admission()) for meter in meters]


def held(meters: list[NodeMeter]) -> tuple[float, ...]:
    return tuple(
        sum(meter.region.number(ADMITTED, pool).value for meter in meters) for pool in POOLS
    )


def test_the_answer_to_one_too_many() -> None:
    meters, (admission,) = nodes(1, ConcurrentRequests(2, 5))
    permits = [admission.admit(Pool.INITIAL) for _ in range(2)]
    errors: list[ConcurrencyError] = []
    for _ in range(50):
        with pytest.raises(ConcurrencyError) as caught:
            admission.admit(Pool.INITIAL)
        errors.append(caught.value)
    assert {error.code for error in errors} == {"concurrent_request_limit_exceeded"}
    message = "Concurrent initial request limit exceeded (limit: 2), please retry"
    assert {str(error) for error in errors} == {message}
    assert {error.retry_after for error in errors} == {6, 7, 8, 9, 10}
    assert meters[0].region.number(REJECTED, "initial").value == 50
    assert meters[0].region.number(REJECTED, "existing").value == 0
    permits[0].swap()
    permits[0].swap()
    assert held(meters) == (1, 1)
    admission.admit(Pool.INITIAL).release()
    for permit in permits * 2:
        permit.release()
    assert held(meters) == (0, 0)


def test_who_waits_does_not_count_and_goes_on_in_any_case() -> None:
    meters, (admission,) = nodes(1, ConcurrentRequests(1, 1))
    first = admission.admit(Pool.INITIAL)
    for _ in range(2):
        first.rest()
        assert held(meters) == (0, 0)
    second = admission.admit(Pool.EXISTING)
    for _ in range(2):
        first.go_on()
        assert held(meters) == (0, 2)
    with pytest.raises(ConcurrencyError):
        admission.admit(Pool.EXISTING)
    first.rest()
    for permit in (first, first, second):
        permit.release()
        permit.go_on()
    assert held(meters) == (0, 0)


@settings(max_examples=examples(60))
@given(
    count=st.integers(1, 4),
    initial=st.integers(1, 4),
    existing=st.integers(1, 6),
    seed=st.integers(0, 2**32),
)
def test_limits_hold_over_all_nodes(count: int, initial: int, existing: int, seed: int) -> None:
    limits = ConcurrentRequests(initial, existing)
    meters, admissions = nodes(count, limits)
    choose = random.Random(seed)
    permits: list[Permit] = []
    swapped = 0
    for _ in range(200):
        match choose.randrange(5):
            case 0 if permits:
                permits.pop(choose.randrange(len(permits))).release()
            case 1 if permits:
                choose.choice(permits).swap()
                swapped += 1
            case _:
                pool = choose.choice(list(Pool))
                before = held(meters)[pool]
                try:
                    permits.append(choose.choice(admissions).admit(pool))
                except ConcurrencyError:
                    assert before >= limits[pool]
                else:
                    assert before < limits[pool]
        assert sum(held(meters)) == len(permits)
        # Only a swap may go beyond: that request is being served already.
        assert held(meters)[Pool.INITIAL] <= initial
        assert swapped or held(meters)[Pool.EXISTING] <= existing
    for permit in permits:
        permit.release()
    assert held(meters) == (0, 0)


async def test_requests_that_are_cancelled_anywhere() -> None:
    meters, admissions = nodes(2, ConcurrentRequests(5, 5))
    choose = random.Random(1)

    async def request() -> None:
        with choose.choice(admissions).admit(choose.choice(list(Pool))) as permit:
            for _ in range(choose.randrange(4)):
                await asyncio.sleep(0)
            permit.swap()
            await asyncio.sleep(0)
            if choose.random() < 0.3:
                raise ValueError("a bug")
            await asyncio.sleep(choose.random() * 0.002)

    tasks: list[asyncio.Task[None]] = []
    for _ in range(600):
        tasks.append(asyncio.create_task(request()))
        if choose.random() < 0.5:
            await asyncio.sleep(0)
        if choose.random() < 0.6:
            choose.choice(tasks[-8:]).cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    kinds = {type(result) for result in results}
    assert {type(None), asyncio.CancelledError, ConcurrencyError, ValueError} == kinds
    assert held(meters) == (0, 0)


def test_a_node_that_starts_again_holds_nothing() -> None:
    numbers = Numbers()
    first = NodeMeter(numbers, 1, 2)
    second = NodeMeter(numbers, 2, 2)
    admission = Admission(ConcurrentRequests(1, 1), *second.admission())
    Admission(ConcurrentRequests(1, 1), *first.admission()).admit(Pool.INITIAL)
    with pytest.raises(ConcurrencyError):
        admission.admit(Pool.INITIAL)
    NodeMeter(numbers, 1, 2)
    admission.admit(Pool.INITIAL)
    assert second.region.number(REJECTED, "initial").value == 1
