"""Shapes of any table: as a stream of messages, or as rows that keep themselves up to date."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, Unpack

from pgtide.errors import ConnectionLostError, WaitTimeoutError
from pgtide.protocol.definition import ShapeOptions, table_definition, table_following
from pgtide.protocol.follower import Follower
from pgtide.protocol.messages import Batch, Message, Position
from pgtide.protocol.rows import Row, RowSet
from pgtide.protocol.steps import Values
from pgtide.sync.default import HasDriver, driver_of
from pgtide.sync.driver import Subscription

log = logging.getLogger("pgtide")

Listener = Callable[[dict[str, Row]], None]


class ShapeStream:
    """The messages of a shape, in order, from `position` or from the beginning.

    `for message in stream` gives changes and controls; `stream.batches()` gives them by answer, each
    with the position after it. There is one reader: iterate over one of the two. `close` may be
    called from any thread. `options` are those of `pgtide.ShapeOptions`.
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

    def __iter__(self) -> Subscription[Message]:
        return self._messages

    def close(self) -> None:
        """End the request that waits, if there is one, and the iteration."""
        self._messages.close()
        self._batches.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Shape:
    """The rows of a shape, kept up to date by a thread from the first time they are asked for.

    Rows change with whole transactions only. Close it (`with`, `close`) to stop. `options` are those
    of `pgtide.ShapeOptions`.
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
        self._thread: threading.Thread | None = None
        self._closed = self._done = False
        self._version = 0
        self._news = threading.Condition()
        self._error: Exception | None = None
        self._listeners: list[Listener] = []

    @property
    def rows(self) -> dict[str, Row]:
        """The present rows by key; a copy."""
        with self._news:
            return dict(self._set.rows)

    @property
    def is_ready(self) -> bool:
        return self._set.ready

    @property
    def columns(self) -> Mapping[str, Mapping[str, Any]]:
        return self._stream.columns

    def ready(self, timeout: float | None = None) -> dict[str, Row]:
        """The rows, once they are all there. Raises what made following impossible, and
        WaitTimeoutError after `timeout` seconds."""
        self._start()
        with self._news:
            done = self._news.wait_for(lambda: self._set.ready or self._ended, timeout)
            if not self._set.ready:
                self._check()
                if not done:
                    raise WaitTimeoutError(f"the rows were not there in {timeout} seconds")
                raise ConnectionLostError("the shape was closed before its rows were there")
            return dict(self._set.rows)

    def changes(self) -> Generator[dict[str, Row]]:
        """The rows now, and whenever they have changed. Who is slow gets the latest, not each."""
        seen = -1
        self._start()
        while True:
            with self._news:
                while not (fresh := self._set.ready and self._version != seen) and not self._ended:
                    self._news.wait()
                if not fresh or self._closed:
                    self._check()
                    return
                seen = self._version
                rows = dict(self._set.rows)
            yield rows

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call a function, in the shape's thread, with the rows when they have changed. Returns what
        ends that. What it raises is logged."""
        self._start()
        self._listeners.append(listener)

        def unsubscribe() -> None:
            with suppress(ValueError):
                self._listeners.remove(listener)

        return unsubscribe

    def close(self) -> None:
        with self._news:
            self._closed = True
            self._news.notify_all()
        self._stream.close()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _ended(self) -> bool:
        return self._closed or self._done or self._error is not None

    def _start(self) -> None:
        with self._news:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(
                    target=self._follow, name="pgtide shape", daemon=True
                )
                self._thread.start()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _follow(self) -> None:
        try:
            with self._stream.batches() as batches:
                for batch in batches:
                    self._apply(batch)
            with self._news:
                self._done = True
                self._news.notify_all()
        except Exception as error:
            with self._news:
                self._error = error
                self._news.notify_all()

    def _apply(self, batch: Batch) -> None:
        with self._news:
            first = not self._set.ready
            changed = self._set.apply(batch)
            if not changed and not (first and self._set.ready):
                return
            self._version += 1
            self._news.notify_all()
            rows = dict(self._set.rows)
        for listener in list(self._listeners):
            try:
                listener(rows)
            except Exception:
                log.exception("a listener of a shape failed")
