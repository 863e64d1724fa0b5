"""Keeps something running that should always run."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from engine.errors import PgtideError
from engine.processes.program import describe_exit

logger = logging.getLogger(__name__)

FIRST_DELAY = 0.1
LONGEST_DELAY = 5.0
HEALTHY_AFTER = 10.0


class Service(Protocol):
    """Something with a life: a child process, or the embedded Postgres.

    `start` and `wait` are called from one thread; the others from another, also while `wait` blocks.
    After `end` it has ended.
    """

    name: str

    def start(self) -> None:
        """Returns once it runs. Raises OSError or PgtideError if it cannot."""
        ...

    def wait(self) -> int:
        """Blocks until it has ended by itself or was ended. Exit code, negative for a signal."""
        ...

    def ask_to_end(self) -> None:
        """Does not wait."""
        ...

    def ask_to_leave(self) -> None:
        """To end when it has done what it is doing, however long that takes. Does not wait."""
        ...

    def end(self, seconds: float) -> None:
        """Waits up to `seconds` for an orderly end, then ends it by force."""
        ...

    def kill(self) -> None:
        """At once, without waiting for anything. May be called in a signal handler."""
        ...


class Keeper:
    """Starts a service and starts it again whenever it ends, until stopped."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._delay = FIRST_DELAY
        self._stopping = threading.Event()
        self._starting = threading.Lock()
        self._thread = threading.Thread(target=self._keep, name=service.name, daemon=True)

    def start(self) -> None:
        """Raises what the service's first start raises."""
        self.service.start()
        self._thread.start()

    def ask_to_end(self) -> None:
        self._stopping.set()
        self.service.ask_to_end()

    def retire(self) -> None:
        """Let it do what it is doing, then end."""
        # Not while it is being started again: what it starts would not hear of it.
        with self._starting:
            self._stopping.set()
            self.service.ask_to_leave()

    def ended(self, seconds: float) -> bool:
        """Wait so long for the end of what was asked to. Whether it has come."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def end(self, deadline: float) -> None:
        """By force at `deadline`, of time.monotonic(). `ask_to_end` comes first."""
        # Not while it is being started again: what it starts would be overlooked.
        if self._starting.acquire(timeout=max(0.1, deadline - time.monotonic())):
            self.service.end(max(0.1, deadline - time.monotonic()))
            self._starting.release()
            self._thread.join()

    def _keep(self) -> None:
        while True:
            begin = time.monotonic()
            code = self.service.wait()
            if self._stopping.is_set():
                return
            lived = time.monotonic() - begin
            if lived >= HEALTHY_AFTER:
                self._delay = FIRST_DELAY
            logger.warning(
                "%s ended, starting it again in %.1f s  %s after=%.1fs",
                *(self.service.name, self._delay, describe_exit(code), lived),
            )
            if not self._start_again():
                return

    def _start_again(self) -> bool:
        """False if stopped meanwhile."""
        while not self._stopping.wait(self._delay):
            self._delay = min(self._delay * 2, LONGEST_DELAY)
            with self._starting:
                if self._stopping.is_set():
                    return False
                try:
                    self.service.start()
                    if self._stopping.is_set():
                        # It was asked to end while it was started: perhaps only what was before it.
                        self.service.ask_to_end()
                    return True
                except (OSError, PgtideError) as error:
                    logger.error("%s does not start  cause=%s", self.service.name, error)
        return False


def end_together(keepers: Sequence[Keeper], seconds: float) -> None:
    """Ask all of them, then wait for all of them, at most `seconds` in total."""
    deadline = time.monotonic() + seconds
    for keeper in keepers:
        keeper.ask_to_end()
    for keeper in keepers:
        keeper.end(deadline)
