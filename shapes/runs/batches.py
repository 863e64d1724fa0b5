"""Batches: runs that are started together, in two steps. First the batch is made with the number of its
runs, then its items come in, in one request or, when that broke off, in several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import asyncpg

from shapes.database import Database
from shapes.runs.new_run import MOST_KEY_CHARACTERS, InvalidRunError, NewRun, new_id, text_up_to
from shapes.runs.run_store import Record, RunStore
from shapes.runs.trigger_keys import TriggerKeys, TriggerKeyStore, hash_of
from shapes.runs.triggering import TokenUsedError, Triggered, Triggering

MOST_ITEMS = 1000
_OVER = ("COMPLETED", "PARTIAL_FAILED", "ABORTED")


class NoSuchBatchError(InvalidRunError):
    """There is no such batch in this environment."""

    code = "no_such_batch"

    def __init__(self) -> None:
        super().__init__("Batch not found", 404)


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A batch that somebody wants to make."""

    id: str
    count: int
    parent_id: str | None = None
    waits: bool = False
    idempotency_key: str | None = None

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> NewBatch:
        """Read a request. Raises InvalidRunError."""
        count = body.get("runCount")
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise InvalidRunError("runCount must be a positive integer", 400)
        check_size(count)
        key = text_up_to(body, "idempotencyKey", MOST_KEY_CHARACTERS)
        parent = text_up_to(body, "parentRunId", MOST_KEY_CHARACTERS)
        return cls(
            new_id("batch"), count, parent, body.get("resumeParentOnCompletion") is True, key
        )


class Created(NamedTuple):
    """`is_cached`: the batch had been made before, with the same idempotency key."""

    id: str
    count: int
    is_cached: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it is. `run_ids` has None where an item is still to come."""

    id: str
    status: str
    count: int
    run_ids: list[str | None]
    sealed: bool
    parent_id: str | None
    waits: bool
    token: str | None


class Added(NamedTuple):
    """What became of items. `enqueued` is how many items the batch has now, of `expected`."""

    accepted: int
    deduplicated: int
    enqueued: int
    expected: int

    @property
    def sealed(self) -> bool:
        return self.enqueued >= self.expected


def check_size(count: int) -> None:
    """Raises InvalidRunError for more items than a batch may have."""
    if count > MOST_ITEMS:
        raise InvalidRunError(
            f"Batch size of {count} is too large. Maximum allowed batch size is {MOST_ITEMS}.", 400
        )


class Batches:
    """Makes batches, and starts their runs."""

    def __init__(
        self, database: Database, store: RunStore, keys: TriggerKeyStore, triggering: Triggering
    ) -> None:
        self._database = database
        self._store = store
        self._keys = keys
        self._triggering = triggering

    async def create(self, environment: str, batch: NewBatch, keys: TriggerKeys) -> Created:
        """Make a batch. Raises InvalidRunError, and what `Database.work` raises."""
        locks = keys.all()
        if batch.idempotency_key is not None:
            locks.append(hash_of("batch idempotency", environment, batch.idempotency_key))
        async with self._database.work() as work:
            await self._keys.lock(work, locks, environment)
            known = await self._keys.known(work, keys.all())
            if keys.request is not None and keys.request in known:
                made = await _find(work, environment, known[keys.request])
                return Created(made.id, made.count, False)
            cached = await _by_key(work, environment, batch.idempotency_key)
            if cached is not None:
                await self._keys.keep(work, TriggerKeys(keys.request), cached.id)
                return Created(cached.id, cached.count, True)
            if keys.token is not None and keys.token in known:
                raise TokenUsedError("a batch")
            await _insert(work, environment, batch, keys.token)
            await self._keys.keep(work, keys, batch.id)
            return Created(batch.id, batch.count, False)

    async def find(self, environment: str, batch_id: str) -> Batch:
        """Raises NoSuchBatchError."""
        async with self._database.work() as work:
            return await _find(work, environment, batch_id)

    async def add(
        self, environment: str, batch_id: str, items: Sequence[tuple[int, NewRun]]
    ) -> Added:
        """Start the runs of items that the batch does not have yet; each has its index in the batch.

        All or none. Raises InvalidRunError, NoSuchBatchError, and what `Database.work` raises.
        """
        async with self._database.work() as work:
            batch = await _find(work, environment, batch_id, lock=True)
            run_ids = batch.run_ids
            fresh: dict[int, NewRun] = {}
            for index, run in items:
                if index >= batch.count:
                    raise InvalidRunError(
                        f"the item of index {index} is one too many: the batch has {batch.count}",
                        400,
                    )
                if run_ids[index] is None:
                    fresh.setdefault(index, run)
            if fresh:
                started = await self._triggering.insert(work, environment, list(fresh.values()))
                for index, triggered in zip(fresh, started, strict=True):
                    run_ids[index] = triggered.id
                await _note(work, environment, batch_id, run_ids)
            enqueued = sum(run_id is not None for run_id in run_ids)
            return Added(len(fresh), len(items) - len(fresh), enqueued, batch.count)

    async def start(
        self, environment: str, batch: NewBatch, runs: Sequence[NewRun], keys: TriggerKeys
    ) -> tuple[Created, list[Triggered]]:
        """Both steps at once, as older clients want it; nothing is started if the batch is cached or
        the request has been answered."""
        created = await self.create(environment, batch, keys)
        if not created.is_cached:
            await self.add(environment, created.id, list(enumerate(runs)))
        made = await self.find(environment, created.id)
        return created, [Triggered(run_id, False) for run_id in made.run_ids if run_id is not None]

    async def describe(self, environment: str, batch_id: str) -> Record:
        """A batch in the words of the API. Raises NoSuchBatchError."""
        async with self._database.work() as work:
            row = await work.fetchrow(_DESCRIBE, environment, batch_id)
            if row is None:
                raise NoSuchBatchError
            runs = [run_id for run_id in row["run_ids"] if run_id is not None]
            runs = runs or await self._runs_of(work, environment, batch_id)
            status = row["status"]
            if (
                status not in _OVER
                and row["sealed"]
                and await self._is_over(work, environment, runs)
            ):
                status = "COMPLETED"
        return {
            "id": batch_id,
            "status": status,
            "createdAt": row["created_at"],
            "updatedAt": row["updated_at"],
            "runCount": max(row["expected_count"], row["run_count"], len(runs)),
            "runs": runs,
            **_present("idempotencyKey", row["idempotency_key"]),
            "processing": {
                **_present("completedAt", row["processing_completed_at"]),
                "errors": cast("list[object]", []),
            },
        }

    async def _runs_of(
        self, work: asyncpg.Connection, environment: str, batch_id: str
    ) -> list[str]:
        """The runs of a batch whose row does not name them: it was written with SQL."""
        if self._store.table.column("batch_id") is None:
            return []
        where = self._store.where(environment)
        where.equal("batch_id", batch_id)
        rest = f" order by r.{self._store.table.quoted('created_at')} limit {MOST_ITEMS}"
        rows = await self._store.select(work, where, rest, ("id", "status"))
        return [row["id"] for row in rows]

    async def _is_over(
        self, work: asyncpg.Connection, environment: str, runs: Sequence[str]
    ) -> bool:
        """Whether none of the runs is still to end."""
        where = self._store.where(environment)
        where.one_of("id", runs)
        if self._store.table.column("completed_at") is not None:
            where.add(f"r.{self._store.table.quoted('completed_at')} is null")
            return not await self._store.select(work, where, " limit 1", ("id", "status"))
        return False


# Batches are always in pgtide's own table.
_COLUMNS = """id, status, expected_count, run_ids, sealed, parent_id, trigger_function,
    one_time_use_token"""
_DESCRIBE = """
    select status, created_at, updated_at, run_ids, run_count, expected_count, sealed,
        idempotency_key, processing_completed_at
    from pgtide.batches
    where environment_id = $1 and id = $2
"""


async def _find(
    work: asyncpg.Connection, environment: str, batch_id: str, *, lock: bool = False
) -> Batch:
    row = await work.fetchrow(
        f"select {_COLUMNS} from pgtide.batches where environment_id = $1 and id = $2"
        + " for no key update" * lock,
        *(environment, batch_id),
    )
    if row is None:
        raise NoSuchBatchError
    return _batch(row)


async def _by_key(work: asyncpg.Connection, environment: str, key: str | None) -> Batch | None:
    if key is None:
        return None
    row = await work.fetchrow(
        f"select {_COLUMNS} from pgtide.batches where environment_id = $1 and idempotency_key = $2",
        *(environment, key),
    )
    return None if row is None else _batch(row)


def _batch(row: asyncpg.Record) -> Batch:
    run_ids: list[str | None] = list(row["run_ids"])
    run_ids += [None] * (row["expected_count"] - len(run_ids))
    return Batch(
        id=row["id"],
        status=row["status"],
        count=row["expected_count"],
        run_ids=run_ids,
        sealed=row["sealed"],
        parent_id=row["parent_id"],
        waits=row["trigger_function"] == "batchTriggerAndWait",
        token=row["one_time_use_token"],
    )


async def _insert(
    work: asyncpg.Connection, environment: str, batch: NewBatch, token: bytes | None
) -> None:
    await work.execute(
        "insert into pgtide.batches (id, environment_id, expected_count, parent_id, trigger_function,"
        " idempotency_key, one_time_use_token) values ($1, $2, $3, $4, $5, $6, $7)",
        *(batch.id, environment, batch.count, batch.parent_id),
        *("batchTrigger" + "AndWait" * batch.waits, batch.idempotency_key),
        None if token is None else token.hex(),
    )


async def _note(
    work: asyncpg.Connection, environment: str, batch_id: str, run_ids: list[str | None]
) -> None:
    """Write down the batch's runs; with the last one it is sealed."""
    count = sum(run_id is not None for run_id in run_ids)
    await work.execute(
        "update pgtide.batches set run_ids = $3, run_count = $4,"
        " sealed = $5, status = case when $5 and status = 'PENDING' then 'PROCESSING' else status end,"
        " processing_completed_at = case when $5 then now() end"
        " where environment_id = $1 and id = $2",
        *(environment, batch_id, run_ids, count, count == len(run_ids)),
    )


def _present(name: str, value: object) -> dict[str, object]:
    """Members that are not there must be absent, not null."""
    return {} if value is None else {name: value}
