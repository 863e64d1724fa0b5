"""The connections that are used where no client is given: one set per process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Protocol

from pgtide.configuration import configured
from pgtide.sync.driver import Driver


class HasDriver(Protocol):
    """A client."""

    @property
    def driver(self) -> Driver: ...


class _Default:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._driver: Driver | None = None
        self._process = 0

    def get(self) -> Driver:
        wanted = configured()
        with self._lock:
            # Connections must not be shared with the process that this one was forked from.
            if self._process != os.getpid():
                self._driver, self._process = None, os.getpid()
            if self._driver is None or self._driver.configuration != wanted:
                self._driver = Driver(wanted)
            return self._driver

    def close(self) -> None:
        with self._lock:
            driver, self._driver = self._driver, None
        if driver is not None:
            driver.close()


_default = _Default()


def default_driver() -> Driver:
    """As it is configured now."""
    return _default.get()


def close() -> None:
    """Close the connections that were made without a client."""
    _default.close()


def driver_of(client: HasDriver | None) -> Callable[[], Driver]:
    return default_driver if client is None else lambda: client.driver
