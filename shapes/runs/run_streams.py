"""Runs whose streams are written to: they have to be there, and under way, and name their streams."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final

import asyncpg

from engine.runs.statuses import FINAL
from shapes.database import Database
from shapes.runs.new_run import InvalidRunError
from shapes.runs.run_changes import NoSuchRunError
from shapes.runs.run_store import Record, RunStore

KNOWN_SECONDS: Final = 1.0
"""So long what was found out about a run is relied on: whoever appends word by word asks again and
again."""

MOST_KNOWN: Final = 10_000

_FIELDS = ("id", "status", "completed_at", "parent_id", "root_id", "realtime_streams")
_NO_ID = (asyncpg.InvalidTextRepresentationError, asyncpg.NumericValueOutOfRangeError)
"""A text that is no value of the column's type is nobody's id."""


class RunIsOverError(InvalidRunError):
    """The run is over: nothing more comes of it."""

    code = "run_is_over"

    def __init__(self) -> None:
        super().__init__("The run is over: its streams take nothing more", 400)


class NoTargetError(InvalidRunError):
    """The run has no such relative."""

    code = "no_target"

    def __init__(self) -> None:
        super().__init__("Target not found", 404)


Place = tuple[str, str, str, str]
"""Environment, run, target and key."""


class RunStreams:
    """Methods raise NoSuchRunError, NoTargetError, RunIsOverError, and what `Database.work` raises."""

    def __init__(self, database: Database, store: RunStore) -> None:
        self._database = database
        self._store = store
        self._known: OrderedDict[Place, tuple[float, str]] = OrderedDict()
        """Until when it is relied on, and the id of the run."""

    async def open(self, environment: str, run_id: str, key: str, target: str = "self") -> str:
        """The id of the run, or of its `target` ("parent", "root"), if something may be written to
        its stream `key`. The run names it among its own from now on, so that those who follow it
        come to know."""
        place = (environment, run_id, target, key)
        until, found = self._known.get(place, (0.0, ""))
        if time.monotonic() < until:
            return found
        self._known.pop(place, None)
        found = await self.check(environment, run_id, target, key)
        self._known[place] = (time.monotonic() + KNOWN_SECONDS, found)
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return found

    async def check(
        self, environment: str, run_id: str, target: str = "self", key: str | None = None
    ) -> str:
        """The same at any rate now, and perhaps without a stream to be named."""
        try:
            async with self._database.work() as work:
                run = await self._target(work, environment, run_id, target)
                if _is_over(run):
                    raise RunIsOverError
                if key is not None and not self._names(run, key):
                    await self._name(work, environment, run["id"], key)
                return run["id"]
        except _NO_ID as error:
            raise NoSuchRunError from error

    async def find(self, environment: str, run_id: str, target: str) -> str:
        """The id of the run, or of its target, whether it is over or not."""
        try:
            async with self._database.work() as work:
                return (await self._target(work, environment, run_id, target))["id"]
        except _NO_ID as error:
            raise NoSuchRunError from error

    async def _name(
        self, work: asyncpg.Connection, environment: str, run_id: str, key: str
    ) -> None:
        """Let the run name the stream, once. Mostly it does already, and then nobody has to wait for
        its row."""
        run = await self._find(work, environment, run_id, " for no key update")
        if run is None:
            raise NoSuchRunError
        if not self._names(run, key):
            names: list[str] = [*(run["realtime_streams"] or ()), key]
            changes: Record = {"realtime_streams": names}
            await self._store.change(work, environment, run_id, changes)

    def _names(self, run: Record, key: str) -> bool:
        """Whether the run names the stream, or has no place for names."""
        if self._store.table.column("realtime_streams") is None:
            return True
        return key in (run["realtime_streams"] or ())

    async def _target(
        self, work: asyncpg.Connection, environment: str, run_id: str, target: str
    ) -> Record:
        run = await self._find(work, environment, run_id)
        if run is None:
            raise NoSuchRunError
        if target == "self":
            return run
        above: str | None = run.get(f"{target}_id")
        found = None if above is None else await self._find(work, environment, above)
        if found is None:
            raise NoTargetError
        return found

    async def _find(
        self, work: asyncpg.Connection, environment: str, run_id: str, rest: str = ""
    ) -> Record | None:
        where = self._store.where(environment)
        where.equal("id", run_id)
        rows = await self._store.select(work, where, rest, _FIELDS)
        return rows[0] if rows else None


def _is_over(run: Record) -> bool:
    return run.get("completed_at") is not None or run["status"] in FINAL
