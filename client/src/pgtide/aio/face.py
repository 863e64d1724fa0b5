"""Makes methods of plans: the signature is the plan's, the waiting is asyncio's."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from pgtide.aio.driver import Driver, Subscription
from pgtide.protocol.steps import Plan, Values
from pgtide.signatures import show_as

P = ParamSpec("P")
T = TypeVar("T")


class Face:
    """A group of methods, e.g. `runs`, of one client."""

    def __init__(self, driver: Callable[[], Driver]) -> None:
        self._driver = driver

    def perform(self, plan: Plan[T]) -> Coroutine[Any, Any, T]:
        return self._driver().run(plan)

    def follow_plan(self, values: Values[T]) -> Subscription[T]:
        return Subscription(self._driver, values)


def awaited(
    make: Callable[P, Plan[T]],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """A method that performs the plan."""

    async def method(self: Face, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.perform(make(*args, **kwargs))

    show_as(method, make)
    return method


def iterated(
    make: Callable[P, Values[T]],
) -> Callable[Concatenate[Any, P], Subscription[T]]:
    """A method whose result is iterated over."""

    def method(self: Face, *args: P.args, **kwargs: P.kwargs) -> Subscription[T]:
        return self.follow_plan(make(*args, **kwargs))

    show_as(method, make)
    return method
