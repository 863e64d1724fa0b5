"""Writing to a stream: in a block, or from a source that is handed on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

from pgtide.errors import PgtideError, StreamStoppedError
from pgtide.protocol.channels import GIVE_UP_SECONDS, LEAVING_SECONDS, Channel
from pgtide.protocol.exchange import Patience
from pgtide.protocol.outbox import Outbox
from pgtide.protocol.run_streams import Stop
from pgtide.sync.driver import Driver, Subscription

log = logging.getLogger("pgtide")

T = TypeVar("T")


class Writer(Generic[T]):
    """Writes to one stream, inside of `with`.

    `write` returns when a value is noted, and waits only while a megabyte is on its way; values are
    sent at once by a thread, those that come meanwhile together. Leaving the block waits until all is
    stored, and raises if that is impossible. When somebody asks the stream to stop, or its run ends,
    `write` raises StreamStoppedError, which ends the block and goes no further: look at `stopped`
    afterwards. Threads may share a writer.
    """

    def __init__(
        self,
        driver: Callable[[], Driver],
        channel: Channel,
        *,
        close: bool = False,
        give_up_seconds: float = GIVE_UP_SECONDS,
    ) -> None:
        self.stopped: Stop | None = None
        """Why it shall end."""
        self._driver = driver
        self._channel = channel
        self._closes = close
        self._patience = Patience(None, give_up_seconds)
        self._outbox = Outbox(channel.most_together)
        self._news = threading.Condition()
        """Guards all that follows, and the outbox."""
        self._error: Exception | None = None
        self._over = False
        self._entered = False
        self._left = False
        self._ended = False
        self._stops: Subscription[Stop] | None = None
        self._threads: list[threading.Thread] = []

    @property
    def position(self) -> int:
        """How many values this producer has written, those of earlier processes included: a named
        producer that is started again goes on with the value of this number."""
        return self._outbox.position

    def write(self, value: T) -> None:
        """Raises StreamStoppedError, what made delivery impossible before, and InvalidRequestError
        for what the stream cannot hold."""
        data = self._channel.encode(value)
        with self._news:
            self._check()
            while self._outbox.is_full:
                self._news.wait()
                self._check()
            self._outbox.add(data)
            self._news.notify_all()

    def flush(self) -> None:
        """Until all that was written is stored."""
        self._flush(None)

    def __enter__(self) -> Self:
        if self._entered:
            raise StreamStoppedError("a writer is for one block: make another one")
        try:
            self._outbox.position = self._driver().run(self._channel.open())
        except StreamStoppedError as error:
            self.stopped = error.stop
            raise
        self._entered = True
        self._start(self._deliver)
        wanted = self._channel.watch()
        if wanted is not None:
            self._stops = Subscription(self._driver, wanted)
            self._start(self._watch)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        mine = self._is_mine(error)
        in_order = error is None or mine
        try:
            with self._news:
                self._left = True
            self._flush(None if in_order else LEAVING_SECONDS)
            if self._closes and in_order:
                self._driver().run(self._channel.close(self._patience))
        except PgtideError as undelivered:
            if error is None or mine:
                raise
            error.add_note(f"Not all that was written to the stream was stored: {undelivered}")
        finally:
            with self._news:
                self._ended = True
                self._news.notify_all()
            if self._stops is not None:
                self._stops.close()
            for thread in self._threads:
                # One that is still trying to deliver ends by itself, sooner or later.
                thread.join(None if in_order else LEAVING_SECONDS)
        return mine

    def _is_mine(self, error: BaseException | None) -> bool:
        """Whether this is nothing but what `write` raises when it shall stop."""
        if isinstance(error, BaseExceptionGroup):
            group = cast("BaseExceptionGroup[BaseException]", error)
            return all(map(self._is_mine, group.exceptions))
        return (
            isinstance(error, StreamStoppedError)
            and self.stopped is not None
            and error.stop is self.stopped
        )

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name="pgtide stream", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _flush(self, seconds: float | None) -> None:
        with self._news:
            done = self._news.wait_for(
                lambda: self._outbox.is_empty or self._over or self._error is not None, seconds
            )
            if self._error is not None and not self._outbox.is_empty:
                raise self._error
        if not done:
            raise PgtideError("the server took too long")

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        if self._left or not self._entered:
            raise StreamStoppedError("write inside of `with` of the writer")
        if self.stopped is not None:
            reason = self.stopped.reason or "somebody asked for it"
            raise StreamStoppedError(f"the stream shall stop: {reason}", self.stopped)

    def _deliver(self) -> None:
        try:
            while True:
                with self._news:
                    while (batch := self._outbox.take()) is None:
                        if self._ended:
                            return
                        self._news.wait()
                    if self._ended:
                        return
                self._driver().run(self._channel.send(batch, self._patience))
                with self._news:
                    self._outbox.settled()
                    self._news.notify_all()
        except StreamStoppedError as error:
            # The run is over, and the server takes nothing more.
            self._stop(error.stop, over=True)
        except Exception as error:
            with self._news:
                self._error = error
                self._news.notify_all()

    def _stop(self, stop: Stop, *, over: bool = False) -> None:
        with self._news:
            self._over = self._over or over
            self.stopped = self.stopped or stop
            self._news.notify_all()

    def _watch(self) -> None:
        assert self._stops is not None
        try:
            for stop in self._stops:
                self._stop(stop)
        except PgtideError as error:
            if not self._ended:
                log.warning("nobody can stop this stream: %s", error)


class Pipe(Generic[T]):
    """A source whose values go to a stream as they are taken: iterate over it as over the source.

    Whoever takes values drives it. `wait_until_complete` takes those that nobody has taken, and returns
    when all are stored; so does the end of the iteration. When the stream is asked to stop, or its run
    ends, the iteration ends with the next value of the source, which is closed: `stopped` says why. An
    error of the source comes out of the iteration, after what came before it was stored.
    """

    def __init__(self, writer: Writer[T], source: Iterable[T]) -> None:
        self._writer = writer
        self._source: Iterator[T] = iter(source)
        self._taken = 0
        self._began = False
        self._ended = False
        self._error: Exception | None = None
        self._taking = threading.Lock()

    @property
    def stopped(self) -> Stop | None:
        return self._writer.stopped

    @property
    def position(self) -> int:
        """How many values this producer has written, those of earlier processes included."""
        return self._writer.position

    def wait_until_complete(self) -> None:
        """Until the source has ended, or was stopped, and all of it is stored. Raises what the source
        raised, and what made delivery impossible."""
        for _ in self:
            pass
        if self._error is not None:
            raise self._error

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        with self._taking:
            return self._take()

    def close(self) -> None:
        """Leave it: the source is closed, and what was taken of it is stored."""
        self._end(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end(error)

    def _take(self) -> T:
        if self._ended:
            raise StopIteration
        try:
            if not self._began:
                self._writer.__enter__()
                self._began = True
            value = self._next()
            self._taken += 1
            # Of a producer that was started again, the source repeats what is stored already.
            if self._taken > self._writer.position:
                self._writer.write(value)
        except (StopIteration, StreamStoppedError):
            self._end(None)
            raise StopIteration from None
        except BaseException as error:
            self._end(error)
            raise
        return value

    def _next(self) -> T:
        if self.stopped is not None:
            raise StopIteration
        value = next(self._source)
        if self.stopped is not None:
            raise StopIteration
        return value

    def _end(self, error: BaseException | None) -> None:
        if self._ended:
            return
        self._ended = True
        kind = None if error is None else type(error)
        try:
            try:
                close: Any = getattr(self._source, "close", None)
                if close is not None:
                    # A generator that another thread is inside of ends there.
                    with suppress(ValueError):
                        close()
            finally:
                if self._began:
                    self._writer.__exit__(kind, error, None)
        except Exception as failure:
            self._error = failure
            raise
        if isinstance(error, Exception):
            self._error = error
