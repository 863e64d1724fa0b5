"""The connections that are used where no client is given: one set per event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol
from weakref import WeakKeyDictionary

from pgtide.aio.driver import Driver
from pgtide.configuration import configured


class HasDriver(Protocol):
    """A client."""

    @property
    def driver(self) -> Driver: ...


_drivers: WeakKeyDictionary[asyncio.AbstractEventLoop, Driver] = WeakKeyDictionary()


def default_driver() -> Driver:
    """Of the running loop, as it is configured now."""
    loop = asyncio.get_running_loop()
    wanted = configured()
    driver = _drivers.get(loop)
    if driver is None or driver.configuration != wanted:
        driver = _drivers[loop] = Driver(wanted)
    return driver


async def close() -> None:
    """Close the connections that were made without a client, in the running loop."""
    driver = _drivers.pop(asyncio.get_running_loop(), None)
    if driver is not None:
        await driver.close()


def driver_of(client: HasDriver | None) -> Callable[[], Driver]:
    return default_driver if client is None else lambda: client.driver
