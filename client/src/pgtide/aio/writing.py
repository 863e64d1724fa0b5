"""Writing to a stream: in a block, or from a source that is handed on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
)
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

from pgtide.aio.driver import Driver, Subscription
from pgtide.errors import PgtideError, StreamStoppedError
from pgtide.protocol.channels import GIVE_UP_SECONDS, LEAVING_SECONDS, Channel
from pgtide.protocol.exchange import Patience
from pgtide.protocol.outbox import Outbox
from pgtide.protocol.run_streams import Stop

log = logging.getLogger("pgtide")

T = TypeVar("T")


class Writer(Generic[T]):
    """Writes to one stream, inside of `async with`.

    `write` returns when a value is noted, and waits only while a megabyte is on its way; values are
    sent at once, those that come meanwhile together. Leaving the block waits until all is stored, and
    raises if that is impossible. When somebody asks the stream to stop, or its run ends, `write`
    raises StreamStoppedError, which ends the block and goes no further: look at `stopped` afterwards.
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
        self._news = asyncio.Event()
        self._progress = asyncio.Event()
        self._leaving: float | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._error: Exception | None = None
        self._over = False
        self._left = False
        self.on_stop: Callable[[], None] = lambda: None
        """Called once when `stopped` is set."""

    @property
    def position(self) -> int:
        """How many values this producer has written, those of earlier processes included: a named
        producer that is started again goes on with the value of this number."""
        return self._outbox.position

    async def write(self, value: T) -> None:
        """Raises StreamStoppedError, what made delivery impossible before, and InvalidRequestError
        for what the stream cannot hold."""
        data = self._channel.encode(value)
        while True:
            self._check()
            if not self._outbox.is_full:
                break
            await self._progressed()
        self._outbox.add(data)
        self._news.set()
        # What is written in a loop that waits for nothing else shall be on its way, too.
        await asyncio.sleep(0)

    async def flush(self) -> None:
        """Until all that was written is stored."""
        while not self._outbox.is_empty and not self._over:
            if self._error is not None:
                raise self._error
            await self._progressed()

    async def __aenter__(self) -> Self:
        if self._left or self._tasks:
            raise StreamStoppedError("a writer is for one block: make another one")
        try:
            self._outbox.position = await self._driver().run(self._channel.open())
        except StreamStoppedError as error:
            self.stopped = error.stop
            raise
        loop = asyncio.get_running_loop()
        self._tasks.append(loop.create_task(self._deliver()))
        wanted = self._channel.watch()
        if wanted is not None:
            self._tasks.append(loop.create_task(self._watch(Subscription(self._driver, wanted))))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        mine = self._is_mine(error)
        self._left = True
        try:
            await self._finish(in_order=error is None or mine)
        except PgtideError as undelivered:
            if error is None or mine:
                raise
            error.add_note(f"Not all that was written to the stream was stored: {undelivered}")
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
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

    async def _finish(self, *, in_order: bool) -> None:
        if in_order:
            await self.flush()
        else:
            try:
                async with asyncio.timeout(LEAVING_SECONDS):
                    await self.flush()
            except TimeoutError:
                raise PgtideError("the server took too long") from None
        if self._closes and in_order:
            await self._driver().run(self._channel.close(self._patience))

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        if self._left or not self._tasks:
            raise StreamStoppedError("write inside of `async with` of the writer")
        if self.stopped is not None:
            reason = self.stopped.reason or "somebody asked for it"
            raise StreamStoppedError(f"the stream shall stop: {reason}", self.stopped)

    async def _progressed(self) -> None:
        self._progress.clear()
        await self._progress.wait()

    async def _deliver(self) -> None:
        try:
            while True:
                batch = self._outbox.take()
                if batch is None:
                    self._news.clear()
                    await self._news.wait()
                    continue
                await self._driver().run(self._channel.send(batch, self._patience))
                self._outbox.settled()
                self._progress.set()
        except StreamStoppedError as error:
            # The run is over, and the server takes nothing more.
            self._over = True
            self._stop(error.stop)
            # Also if it was known before: who waits for what was on its way need not any longer.
            self._progress.set()
        except Exception as error:
            self._error = error
            self._progress.set()

    def _stop(self, stop: Stop) -> None:
        if self.stopped is None:
            self.stopped = stop
            self._progress.set()
            self.on_stop()

    async def _watch(self, stops: Subscription[Stop]) -> None:
        try:
            async with stops:
                async for stop in stops:
                    self._stop(stop)
        except PgtideError as error:
            log.warning("nobody can stop this stream: %s", error)


class Pipe(Generic[T]):
    """A source whose values go to a stream as they are taken: iterate over it as over the source.

    Whoever takes values drives it. `wait_until_complete` takes those that nobody else takes, and
    returns when all are stored; so does the end of the iteration. When the stream is asked to stop, or
    its run ends, the source is closed and the iteration ends: `stopped` says why. An error of the
    source comes out of the iteration, after what came before it was stored.
    """

    def __init__(self, writer: Writer[T], source: AsyncIterable[T] | Iterable[T]) -> None:
        self._writer = writer
        self._source: AsyncIterator[T] | Iterator[T] = (
            aiter(source) if isinstance(source, AsyncIterable) else iter(source)
        )
        self._taken = 0
        self._began = False
        self._taker: asyncio.Task[Any] | None = None
        self._inside: asyncio.Task[Any] | None = None
        self._ended = asyncio.Event()
        self._error: Exception | None = None
        writer.on_stop = self._interrupt

    @property
    def stopped(self) -> Stop | None:
        return self._writer.stopped

    @property
    def position(self) -> int:
        """How many values this producer has written, those of earlier processes included."""
        return self._writer.position

    async def wait_until_complete(self) -> None:
        """Until the source has ended, or was stopped, and all of it is stored. Raises what the source
        raised, and what made delivery impossible. While another task iterates, it waits for that."""
        taker = self._taker
        if taker is not None and taker is not asyncio.current_task() and not self._ended.is_set():
            ended = asyncio.ensure_future(self._ended.wait())
            try:
                await asyncio.wait([ended, taker], return_when=asyncio.FIRST_COMPLETED)
            finally:
                ended.cancel()
        async for _ in self:
            pass
        if self._error is not None:
            raise self._error

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._ended.is_set():
            raise StopAsyncIteration
        self._taker = asyncio.current_task()
        try:
            if not self._began:
                await self._writer.__aenter__()
                self._began = True
            value = await self._next()
            self._taken += 1
            # Of a producer that was started again, the source repeats what is stored already.
            if self._taken > self._writer.position:
                await self._writer.write(value)
        except (StopAsyncIteration, StreamStoppedError):
            await self._end(None)
            raise StopAsyncIteration from None
        except BaseException as error:
            await self._end(error)
            raise
        return value

    async def aclose(self) -> None:
        """Leave it: the source is closed, and what was taken of it is stored."""
        await self._end(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._end(error)

    async def _next(self) -> T:
        """The source's next value. Raises StopAsyncIteration at its end, and when it is stopped: a
        source that is waiting is cancelled."""
        if self.stopped is not None:
            raise StopAsyncIteration
        if isinstance(self._source, Iterator):
            await asyncio.sleep(0)
            try:
                return next(self._source)
            except StopIteration:
                raise StopAsyncIteration from None
        task = asyncio.current_task()
        assert task is not None
        self._inside, before = task, task.cancelling()
        try:
            return await anext(self._source)
        except asyncio.CancelledError:
            # As asyncio.timeout does: a cancellation that is only ours ends here.
            if self.stopped is not None and task.uncancel() <= before:
                raise StopAsyncIteration from None
            raise
        finally:
            self._inside = None

    def _interrupt(self) -> None:
        if self._inside is not None:
            self._inside.cancel()

    async def _end(self, error: BaseException | None) -> None:
        if self._ended.is_set():
            return
        self._ended.set()
        kind = None if error is None else type(error)
        try:
            try:
                await self._close_source()
            finally:
                if self._began:
                    await self._writer.__aexit__(kind, error, None)
        except Exception as failure:
            self._error = failure
            raise
        if isinstance(error, Exception):
            self._error = error

    async def _close_source(self) -> None:
        source: Any = self._source
        close = getattr(source, "aclose", None) or getattr(source, "close", None)
        if close is not None:
            result: Any = close()
            if isinstance(result, Awaitable):
                await result
