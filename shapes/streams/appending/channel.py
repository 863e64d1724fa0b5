"""A connection for transactions of group commit: opened when needed, and again after it broke."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from shapes.database import Database, DatabaseUnavailableError
from shapes.stream_meter import StreamMeter
from shapes.streams.appending import statements
from shapes.streams.appending.batch import Batch, Verdicts
from shapes.streams.appending.pipeline import ConnectionLostError, Pipeline, StatementError
from shapes.streams.refusals import StreamTablesError

_LOCKED: Final = frozenset(("55P03", "40P01", "40001"))
"""lock_not_available, deadlock_detected, serialization_failure."""
_READ_ONLY: Final = "25006"
_LACKING: Final = frozenset(("42P01", "42883", "42703", "3F000"))
"""An undefined table, function or column, an invalid schema name."""
_FORBIDDEN: Final = "42501"
_UNAVAILABLE: Final = ("08", "53", "57", "58")

_T = TypeVar("_T")


class LockedError(Exception):
    """Somebody else has a stream locked; nothing was written."""


class AppendChannel:
    """For one batch at a time."""

    def __init__(self, database: Database, meter: StreamMeter) -> None:
        self._database = database
        self._meter = meter
        self._pipeline: Pipeline | None = None

    @property
    def closed(self) -> bool:
        """Whether there is no connection."""
        return self._pipeline is None or self._pipeline.closed

    async def write(self, batch: Batch) -> Verdicts:
        """Judge a batch and commit what is accepted.

        Nothing of it was written if this raises LockedError, StatementError (a request is none that
        Postgres can take) or StreamTablesError. After DatabaseUnavailableError nobody knows.
        """
        pipeline, fresh = await self._opened()
        try:
            try:
                verdicts = await self._timed(batch.judge(pipeline), batch.patience)
            except ConnectionLostError:
                if fresh:
                    raise
                # It broke while nobody used it.
                pipeline, _ = await self._opened()
                verdicts = await self._timed(batch.judge(pipeline), batch.patience)
            await self._timed(batch.commit(pipeline), 0)
        except StatementError as error:
            await self._roll_back(pipeline)
            raise _known(error) from error
        except (ConnectionLostError, TimeoutError) as error:
            pipeline.close()
            raise DatabaseUnavailableError("Database is unreachable") from error
        except BaseException:
            # Nobody waits for what may be under way.
            pipeline.close()
            raise
        self._meter.appended(*batch.written)
        return verdicts

    def close(self) -> None:
        """End the connection. The next batch makes another."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.close()

    async def _opened(self) -> tuple[Pipeline, bool]:
        """The connection, and whether it is new."""
        pipeline = self._pipeline
        if pipeline is not None and not pipeline.closed:
            return pipeline, False
        connection = await self._database.dedicated()
        pipeline = self._pipeline = Pipeline(connection, prepared=not self._database.pooled)
        if not self._database.pooled:
            try:
                await self._timed(pipeline.run([statements.SETTINGS]), 0)
            except (ConnectionLostError, StatementError, TimeoutError) as error:
                pipeline.close()
                raise DatabaseUnavailableError("Database is unreachable") from error
        return pipeline, True

    async def _timed(self, work: Coroutine[Any, Any, _T], patience: float) -> _T:
        async with asyncio.timeout(self._database.silence + patience):
            return await work

    async def _roll_back(self, pipeline: Pipeline) -> None:
        try:
            await self._timed(pipeline.run([statements.ROLLBACK]), 0)
        except (ConnectionLostError, StatementError, TimeoutError):
            pipeline.close()
        except BaseException:
            pipeline.close()
            raise


def _known(error: StatementError) -> Exception:
    state = error.state
    if state in _LOCKED:
        return LockedError()
    if state == _READ_ONLY:
        return DatabaseUnavailableError("Database takes no writes")
    if state.startswith(_UNAVAILABLE):
        return DatabaseUnavailableError("Database is unreachable")
    if state in _LACKING:
        return StreamTablesError.missing()
    if state == _FORBIDDEN:
        return StreamTablesError.forbidden()
    return error
