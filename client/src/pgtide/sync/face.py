"""Makes methods of plans: the signature is the plan's, the waiting blocks the thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from pgtide.protocol.steps import Plan, Values
from pgtide.signatures import show_as
from pgtide.sync.driver import Driver, Subscription

P = ParamSpec("P")
T = TypeVar("T")


class Face:
    """A group of methods, e.g. `runs`, of one client."""

    def __init__(self, driver: Callable[[], Driver]) -> None:
        self._driver = driver

    def perform(self, plan: Plan[T]) -> T:
        return self._driver().run(plan)

    def follow_plan(self, values: Values[T]) -> Subscription[T]:
        return Subscription(self._driver, values)


def awaited(make: Callable[P, Plan[T]]) -> Callable[Concatenate[Any, P], T]:
    """A method that performs the plan."""

    def method(self: Face, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.perform(make(*args, **kwargs))

    show_as(method, make)
    return method


def iterated(make: Callable[P, Values[T]]) -> Callable[Concatenate[Any, P], Subscription[T]]:
    """A method whose result is iterated over."""

    def method(self: Face, *args: P.args, **kwargs: P.kwargs) -> Subscription[T]:
        return self.follow_plan(make(*args, **kwargs))

    show_as(method, make)
    return method
