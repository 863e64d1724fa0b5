"""Shapes of any table: as a stream of messages, or as rows that keep themselves up to date."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, Unpack

from pgtide.aio.default import HasDriver, driver_of
from pgtide.aio.driver import Subscription
from pgtide.errors import ConnectionLostError
from pgtide.protocol.definition import ShapeOptions, table_definition, table_following
from pgtide.protocol.follower import Follower
from pgtide.protocol.messages import Batch, Message, Position
from pgtide.protocol.rows import Row, RowSet
from pgtide.protocol.steps import Values

log = logging.getLogger("pgtide")

Listener = Callable[[dict[str, Row]], None | Awaitable[None]]


class ShapeStream:
    """The messages of a shape, in order, from `position` or from the beginning.

    `async for message in stream` gives changes and controls; `stream.batches()` gives them by
    answer, each with the position after it. There is one reader: iterate over one of the two.
    `options` are those of `pgtide.ShapeOptions`.
    """

    def __init__(
        self,
        table: str,
        *,
        position: Position | None = None,
        client: HasDriver | None = None,
        **options: Unpack[ShapeOptions],
    ) -> None:
        self._driver = driver_of(client)
        definition = table_definition(table, options)
        self._follower = Follower(definition, table_following(options), position)
        self._messages = Subscription[Message](self._driver, Values(self._follower.messages()))
        self._batches = Subscription[Batch](self._driver, Values(self._follower.plan()))

    @property
    def position(self) -> Position | None:
        """After the last batch whose messages were all taken: a later stream goes on from there. None
        before the first, and when the shape begins anew."""
        return self._follower.taken

    @property
    def columns(self) -> Mapping[str, Mapping[str, Any]]:
        """The columns as the server describes them; empty before the first answer."""
        return self._follower.schema.columns

    def batches(self) -> Subscription[Batch]:
        return self._batches

    def __aiter__(self) -> Subscription[Message]:
        return self._messages

    async def aclose(self) -> None:
        """End the request that waits, if there is one, and the iteration."""
        await self._messages.aclose()
        await self._batches.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()


class Shape:
    """The rows of a shape, kept up to date in the background from the first time they are asked for.

    Rows change with whole transactions only. Close it (`async with`, `aclose`) to stop. `options` are
    those of `pgtide.ShapeOptions`.
    """

    def __init__(
        self,
        table: str,
        *,
        client: HasDriver | None = None,
        **options: Unpack[ShapeOptions],
    ) -> None:
        self._stream = ShapeStream(table, client=client, **options)
        self._set = RowSet()
        self._task: asyncio.Task[None] | None = None
        self._ended = False
        self._version = 0
        self._news = asyncio.Event()
        self._error: Exception | None = None
        self._listeners: list[Listener] = []

    @property
    def rows(self) -> dict[str, Row]:
        """The present rows by key; a copy."""
        return dict(self._set.rows)

    @property
    def is_ready(self) -> bool:
        return self._set.ready

    @property
    def columns(self) -> Mapping[str, Mapping[str, Any]]:
        return self._stream.columns

    async def ready(self) -> dict[str, Row]:
        """The rows, once they are all there. Raises what made following impossible."""
        self._start()
        while not self._set.ready:
            self._check()
            if self._ended:
                raise ConnectionLostError("the shape was closed before its rows were there")
            await self._news.wait()
        return self.rows

    async def changes(self) -> AsyncGenerator[dict[str, Row]]:
        """The rows now, and whenever they have changed. Who is slow gets the latest, not each."""
        seen = -1
        self._start()
        while True:
            if self._set.ready and self._version != seen:
                seen = self._version
                yield self.rows
                continue
            self._check()
            if self._ended:
                return
            await self._news.wait()

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call a function, which may be async, with the rows when they have changed. Returns what
        ends that. What it raises is logged."""
        self._start()
        self._listeners.append(listener)

        def unsubscribe() -> None:
            with suppress(ValueError):
                self._listeners.remove(listener)

        return unsubscribe

    async def aclose(self) -> None:
        self._ended = True
        self._tell()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _start(self) -> None:
        if self._task is None and not self._ended:
            self._task = asyncio.get_running_loop().create_task(self._follow())

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _follow(self) -> None:
        try:
            async with self._stream.batches() as batches:
                async for batch in batches:
                    first = not self._set.ready
                    changed = self._set.apply(batch)
                    if changed or (first and self._set.ready):
                        self._version += 1
                        self._tell()
                        await self._call_listeners()
        except Exception as error:
            self._error = error
        finally:
            self._ended = True
            self._tell()

    async def _call_listeners(self) -> None:
        for listener in list(self._listeners):
            try:
                result = listener(self.rows)
                if inspect.isawaitable(result):
                    await result
            except Exception:
                log.exception("a listener of a shape failed")
