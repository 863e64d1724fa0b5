"""A run's metadata in Postgres: read, replaced, or changed by operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import asyncpg
import orjson

from engine.runs.table import RunTable
from shapes.database import Database
from shapes.runs.metadata_operations import (
    InvalidOperationError,
    Metadata,
    Operation,
    apply_operations,
    parse_operations,
)
from shapes.runs.new_run import METADATA_BYTES, InvalidRunError
from shapes.runs.run_changes import NoSuchRunError
from shapes.runs.run_conditions import Conditions, needed
from shapes.runs.run_store import RunStore
from shapes.runs.trigger_keys import hash_of

KEPT_AFTER_END = 3600
"""Seconds for which the metadata of a run that is over may be changed."""

_REPEATABLE = frozenset(("delete", "remove", "set", "update"))
"""Operations that have no other effect when they are done twice."""

# Few connections are for writing: whoever holds a run for longer must not keep them all.
_WAIT_BRIEFLY = "set local lock_timeout = '5s'"

_NO_ID = (asyncpg.InvalidTextRepresentationError, asyncpg.NumericValueOutOfRangeError)
"""A text that is no value of the column's type is nobody's id."""

# Each request that leaves a key takes away two that have expired, so there are never many of them.
_LEAVE_KEY = """
    with expired as (
        delete from pgtide.trigger_keys
        where key in (
            select key from pgtide.trigger_keys
            where expires_at < now()
            limit 2
            for update skip locked
        )
    )
    insert into pgtide.trigger_keys (key, id, expires_at)
    values ($1, $2, now() + interval '1 hour')
    on conflict do nothing
    returning true
"""


@dataclass(frozen=True, slots=True)
class MetadataChange:
    """What a request wants. `replacement` counts where there are no operations for the run itself."""

    replacement: Metadata | None = None
    own: list[Operation] = field(default_factory=list[Operation])
    parent: list[Operation] = field(default_factory=list[Operation])
    root: list[Operation] = field(default_factory=list[Operation])

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> MetadataChange:
        """Read a request's body. Raises InvalidOperationError."""
        replacement = body.get("metadata")
        if replacement is not None and not isinstance(replacement, dict):
            raise InvalidOperationError("metadata must be a JSON object")
        names = ("operations", "parentOperations", "rootOperations")
        own, parent, root = (parse_operations(body.get(name), name) for name in names)
        if replacement is None and not any(body.get(name) is not None for name in names):
            raise InvalidOperationError(f"the body must have metadata or {' or '.join(names)}")
        return cls(cast("Metadata | None", replacement), own, parent, root)

    @property
    def repeatable(self) -> bool:
        """Whether doing it twice has no other effect than doing it once."""
        operations = (*self.own, *self.parent, *self.root)
        return all(operation.type in _REPEATABLE for operation in operations)


class _Run(NamedTuple):
    metadata: Metadata
    version: int
    parent: str | None
    root: str | None
    over: bool


class RunMetadata:
    """The metadata of the runs of a table, in one environment at a time.

    Methods raise InvalidRunError, MissingColumnError and what `Database.work` raises.
    """

    def __init__(self, database: Database, table: RunTable) -> None:
        self._database = database
        self._store = RunStore(table)

    async def read(self, environment: str, run_id: str) -> Metadata:
        try:
            async with self._database.work() as work:
                return (await self._existing(work, environment, run_id)).metadata
        except _NO_ID as error:
            raise NoSuchRunError from error

    async def change(
        self, environment: str, run_id: str, change: MetadataChange, request: str | None
    ) -> Metadata:
        """Change a run's metadata, and that of its parent and its root, all in one transaction; the
        run's own afterwards.

        `request` is the same when a client repeats a request whose answer did not reach it: what
        was done then is not done again. Takes `change` over. Raises NoSuchRunError, InvalidRunError,
        TooMuchWorkError, MissingColumnError and DatabaseUnavailableError.
        """
        try:
            async with self._database.work() as work:
                await work.execute(_WAIT_BRIEFLY)
                if not change.repeatable and request is not None:
                    key = hash_of("metadata", environment, run_id, request)
                    if await work.fetchval(_LEAVE_KEY, key, run_id) is None:
                        return (await self._existing(work, environment, run_id)).metadata
                return await self._change(work, environment, run_id, change)
        except asyncpg.UntranslatableCharacterError as error:
            raise InvalidRunError("metadata cannot contain NUL characters", 400) from error
        except _NO_ID as error:
            raise NoSuchRunError from error

    async def _change(
        self, work: asyncpg.Connection, environment: str, run_id: str, change: MetadataChange
    ) -> Metadata:
        runs = await self._locked(work, environment, run_id, change)
        run = runs[run_id]
        if run.over:
            raise InvalidRunError("Cannot update metadata for a completed run", 422)
        parent = run.parent if run.parent in runs else None
        root = run.root if run.root in runs else None
        before = {name: _written(one.metadata) for name, one in runs.items()}
        after = {name: one.metadata for name, one in runs.items()}
        if change.replacement is not None and not change.own:
            after[run_id] = change.replacement
        for name, operations in (
            (run_id, change.own),
            (parent or run_id, change.parent),
            (root or run_id, change.root),
        ):
            after[name], _ = apply_operations(after[name], operations)
        for name, metadata in after.items():
            written = _written(metadata)
            if written != before[name]:
                _check_size(written)
                changes = {"metadata": metadata, "metadata_version": runs[name].version + 1}
                await self._store.change(work, environment, name, changes)
        return after[run_id]

    async def _locked(
        self, work: asyncpg.Connection, environment: str, run_id: str, change: MetadataChange
    ) -> dict[str, _Run]:
        """The runs that are changed: the run itself, its parent and its root, as far as they are
        there. Nobody else changes them until the transaction ends.

        They are locked in the order of their ids, so that two transactions never wait for each other.
        """
        wanted = {run_id}
        if change.parent or change.root:
            run = await self._existing(work, environment, run_id)
            wanted |= {run.parent or run_id} if change.parent else set()
            wanted |= {run.root or run_id} if change.root else set()
        found: dict[str, _Run] = {}
        for name in sorted(wanted):
            run = await self._find(work, environment, name, lock=True)
            if run is not None:
                found[name] = run
        if run_id not in found:
            raise NoSuchRunError
        return found

    async def _existing(self, work: asyncpg.Connection, environment: str, run_id: str) -> _Run:
        run = await self._find(work, environment, run_id)
        if run is None:
            raise NoSuchRunError
        return run

    async def _find(
        self, work: asyncpg.Connection, environment: str, run_id: str, *, lock: bool = False
    ) -> _Run | None:
        """Only the columns that are wanted here: payloads may be large."""
        table = self._store.table
        where = Conditions(table, environment)
        where.equal("id", run_id)
        row = await work.fetchrow(
            f"select r.{needed(table, 'metadata')}::text, {self._field('metadata_version', '0')},"
            f" {self._field('parent_id')}::text, {self._field('root_id')}::text,"
            # By seconds, since a column without a time zone is in UTC, wherever the server is.
            f" coalesce(extract(epoch from now()) - extract(epoch from"
            f" {self._field('completed_at', 'null::timestamptz')}) > {KEPT_AFTER_END}, false)"
            f" from {table.sql} as r where {where.sql}{' for no key update' if lock else ''}",
            *where.values,
        )
        if row is None:
            return None
        text, version, parent, root, over = row
        return _Run(_read(text), int(version or 0), parent, root, over)

    def _field(self, name: str, otherwise: str = "null") -> str:
        table = self._store.table
        return f"r.{table.quoted(name)}" if table.column(name) else otherwise


def _read(text: str | None) -> Metadata:
    value: Any = orjson.loads(text) if text else {}
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRunError("the metadata of this run is no JSON object", 422)
    return cast("Metadata", value)


def _written(metadata: Metadata) -> bytes:
    """As JSON, the same for equal metadata. Raises InvalidRunError."""
    try:
        return orjson.dumps(metadata, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        raise InvalidRunError("metadata is nested too deeply", 413) from error


def _check_size(text: bytes) -> None:
    """Raises InvalidRunError."""
    if len(text) > METADATA_BYTES:
        raise InvalidRunError(f"metadata may have {METADATA_BYTES >> 10} KiB at most", 413)
