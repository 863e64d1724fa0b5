"""A run's metadata: noted by its worker, delivered about once a second."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Self

from pgtide.errors import NoCurrentRunError, PgtideError
from pgtide.protocol.backoff import Backoff
from pgtide.protocol.exchange import Patience, is_answered
from pgtide.protocol.metadata_calls import (
    EXIT_SECONDS,
    FIRST_FLUSH_SECONDS,
    FLUSH_SECONDS,
    flush_metadata,
    get_metadata,
    metadata_path,
    replace_metadata,
)
from pgtide.protocol.operations import Operation, Pending, Recorder, Relative, Target
from pgtide.protocol.run_following import Identity
from pgtide.sync.driver import Driver
from pgtide.sync.face import Face, awaited

log = logging.getLogger("pgtide")

_current: ContextVar[Progress | None] = ContextVar("pgtide-current-run-sync", default=None)


class Progress(Recorder):
    """The metadata of one run, to be written inside of `with`.

    `set`, `increment` and the like return at once and may be called from any thread. What they note
    is delivered every `interval` seconds, once, whatever happens to connections, by a thread of its
    own; leaving the block delivers the rest, and raises if that does not succeed within
    `exit_seconds`.
    """

    def __init__(
        self,
        driver: Callable[[], Driver],
        run: Identity,
        *,
        interval: float = FLUSH_SECONDS,
        exit_seconds: float = EXIT_SECONDS,
    ) -> None:
        self.run_id = run if isinstance(run, str) else run.id
        self.parent = Relative(self, "parentOperations")
        self.root = Relative(self, "rootOperations")
        self.latest: dict[str, Any] | None = None
        """The metadata as the server answered the last flush."""
        self._driver = driver
        self._path = metadata_path(run)
        self._interval = interval
        self._exit_seconds = exit_seconds
        self._pending = Pending()
        self._noted = threading.Event()
        self._ended = threading.Event()
        self._sending = threading.Lock()
        self._thread: threading.Thread | None = None
        self._error: PgtideError | None = None
        self._left = False
        self._token: Token[Progress | None] | None = None

    def flush(self) -> None:
        """Deliver now what is noted. Raises what was refused since the last flush, and what made
        delivery impossible: then it is tried again later."""
        self._send(Patience())
        self._check()

    def __enter__(self) -> Self:
        self._ended.clear()
        name = f"pgtide metadata of {self.run_id}"
        self._thread = threading.Thread(target=self._deliver_often, name=name, daemon=True)
        self._thread.start()
        self._token = _current.set(self)
        self._left = False
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._token is not None and _current.get() is self:
            _current.reset(self._token)
        self._left = True
        self._ended.set()
        self._noted.set()
        try:
            self._send(Patience(None, self._exit_seconds))
            self._check()
        except PgtideError as undelivered:
            if error is None:
                raise
            error.add_note(f"The metadata of {self.run_id} was not delivered: {undelivered}")
        finally:
            if self._thread is not None:
                self._thread.join()

    def record(self, target: Target, operation: Operation) -> None:
        if self._left:
            raise NoCurrentRunError(f"the block of the metadata of {self.run_id} has ended")
        self._pending.add(target, operation)
        self._noted.set()

    def _check(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _send(self, patience: Patience) -> None:
        with self._sending:
            latest = self._driver().run(flush_metadata(self._path, self._pending, patience))
            if latest is not None:
                self.latest = latest

    def _deliver_often(self) -> None:
        failures = Backoff(first=self._interval)
        wait = FIRST_FLUSH_SECONDS
        while not self._ended.is_set():
            self._noted.wait()
            # Those that are noted in the meantime go along.
            if self._ended.wait(wait):
                return
            self._noted.clear()
            wait = self._interval
            try:
                self._send(Patience(0))
                failures.reset()
            except PgtideError as error:
                if is_answered(error):
                    log.warning("metadata of %s was refused: %s", self.run_id, error)
                    self._error = error
                else:
                    wait = failures.next()
                    self._noted.set()


class Metadata(Face, Recorder):
    """Metadata of runs. `set`, `increment`, … concern the run of the block that they are called in:
    `with metadata.of(run_id)`."""

    get = awaited(get_metadata)
    replace = awaited(replace_metadata)

    def of(
        self,
        run: Identity,
        *,
        interval: float = FLUSH_SECONDS,
        exit_seconds: float = EXIT_SECONDS,
    ) -> Progress:
        """Write a run's metadata: `with metadata.of(run_id) as progress: progress.set(…)`."""
        return Progress(self._driver, run, interval=interval, exit_seconds=exit_seconds)

    def flush(self) -> None:
        """Deliver now what is noted for the current run."""
        self.current.flush()

    @property
    def current(self) -> Progress:
        """Raises NoCurrentRunError outside of `metadata.of`."""
        progress = _current.get()
        if progress is None:
            raise NoCurrentRunError(
                "there is no current run: use `with metadata.of(run_id):` around this"
            )
        return progress

    @property
    def parent(self) -> Relative:
        return self.current.parent

    @property
    def root(self) -> Relative:
        return self.current.root

    def record(self, target: Target, operation: Operation) -> None:
        self.current.record(target, operation)
