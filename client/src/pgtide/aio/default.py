"""The connections that are used where no client is given: one set per event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Protocol
from weakref import WeakKeyDictionary

from pgtide.aio.driver import Driver
from pgtide.configuration import Configuration, configured


class HasDriver(Protocol):
    """A client."""

    @property
    def driver(self) -> Driver: ...


class _Default:
    """The connections of one loop. They are closed when the loop ends, as asyncio closes generators."""

    def __init__(self, configuration: Configuration) -> None:
        self.driver = Driver(configuration)
        self._guard = self._closing()
        # As far as its `yield`, which is not asynchronous; asyncio knows of it from then on.
        with suppress(StopIteration):
            self._guard.__anext__().send(None)

    async def close(self) -> None:
        await self._guard.aclose()

    async def _closing(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await self.driver.close()


_defaults: WeakKeyDictionary[asyncio.AbstractEventLoop, list[_Default]] = WeakKeyDictionary()
"""The last of a loop is as it is configured now; others may still be in use."""


def default_driver() -> Driver:
    """Of the running loop, as it is configured now."""
    loop = asyncio.get_running_loop()
    wanted = configured()
    mine = _defaults.get(loop)
    if mine is None:
        for ended in [one for one in _defaults if one.is_closed()]:
            del _defaults[ended]
        mine = _defaults[loop] = []
    if not mine or mine[-1].driver.configuration != wanted:
        mine.append(_Default(wanted))
    return mine[-1].driver


async def close() -> None:
    """Close the connections that were made without a client, as the end of the loop would."""
    for default in _defaults.pop(asyncio.get_running_loop(), []):
        await default.close()


def driver_of(client: HasDriver | None) -> Callable[[], Driver]:
    return default_driver if client is None else lambda: client.driver
