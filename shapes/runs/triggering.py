"""Starting runs: each request, idempotency key and one-time token starts one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

from shapes.database import Database
from shapes.runs.new_run import InvalidRunError, NewRun
from shapes.runs.run_store import RunStore
from shapes.runs.trigger_keys import TriggerKeys, TriggerKeyStore, hash_of


class TokenUsedError(InvalidRunError):
    """A one-time token comes for the second time."""

    code = "token_used"

    def __init__(self, what: str) -> None:
        super().__init__(
            f"Cannot trigger {what} with a one-time use token as it has already been used."
        )


class Triggered(NamedTuple):
    """`is_cached`: the run had been started before, with the same idempotency key."""

    id: str
    is_cached: bool


class Triggering:
    """Starts runs in a table."""

    def __init__(self, database: Database, store: RunStore, keys: TriggerKeyStore) -> None:
        self._database = database
        self._store = store
        self._keys = keys

    async def trigger(self, environment: str, run: NewRun, keys: TriggerKeys) -> Triggered:
        """Start one run. When this returns, it is there for everybody.

        Raises InvalidRunError, MissingColumnError, and what `Database.work` raises.
        """
        try:
            return await self._trigger(environment, run, keys)
        except asyncpg.UniqueViolationError:
            if run.idempotency_key is None:
                raise
            # Somebody who takes no locks has used the same key meanwhile: now it is there.
            return await self._trigger(environment, run, keys)

    async def _trigger(self, environment: str, run: NewRun, keys: TriggerKeys) -> Triggered:
        async with self._database.work() as work:
            await self._keys.lock(work, [*keys.all(), *_key_locks(environment, [run])], environment)
            known = await self._keys.known(work, keys.all())
            # Before the token is looked at: a client whose answer was lost asks again with both.
            if keys.request is not None and keys.request in known:
                return Triggered(known[keys.request], False)
            triggered = await self._cached(work, environment, run)
            if triggered is None:
                if keys.token is not None and keys.token in known:
                    raise TokenUsedError(run.task)
                [run] = await self._store.fitted(work, [run])
                parents = await self._store.parents(work, environment, [run.parent_id])
                token = None if keys.token is None else keys.token.hex()
                await self._store.insert(work, environment, [run], parents, token)
                triggered = Triggered(run.id, False)
            else:
                keys = TriggerKeys(keys.request)  # The token has started nothing.
            await self._keys.keep(work, keys, triggered.id)
            return triggered

    async def _cached(
        self, work: asyncpg.Connection, environment: str, run: NewRun
    ) -> Triggered | None:
        if run.idempotency_key is None:
            return None
        key = (run.task, run.idempotency_key)
        found = await self._store.by_idempotency_key(work, environment, [key])
        return Triggered(found[key], True) if key in found else None

    async def insert(
        self, work: asyncpg.Connection, environment: str, runs: Sequence[NewRun]
    ) -> list[Triggered]:
        """Start several runs in the caller's transaction; what became of each, in order."""
        await self._keys.lock(work, _key_locks(environment, runs), environment)
        runs = await self._store.fitted(work, runs)
        keys = [(run.task, run.idempotency_key) for run in runs if run.idempotency_key is not None]
        found = await self._store.by_idempotency_key(work, environment, keys)
        parents = await self._store.parents(work, environment, [run.parent_id for run in runs])
        fresh: list[NewRun] = []
        triggered: list[Triggered] = []
        for run in runs:
            key = None if run.idempotency_key is None else (run.task, run.idempotency_key)
            if key is not None and key in found:
                triggered.append(Triggered(found[key], True))
                continue
            if key is not None:
                found[key] = run.id
            fresh.append(run)
            triggered.append(Triggered(run.id, False))
        if fresh:
            await self._store.insert(work, environment, fresh, parents)
        return triggered


def _key_locks(environment: str, runs: Sequence[NewRun]) -> list[bytes]:
    return [
        hash_of("idempotency", environment, run.task, run.idempotency_key)
        for run in runs
        if run.idempotency_key is not None
    ]
