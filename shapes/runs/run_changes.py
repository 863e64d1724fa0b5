"""What is done to runs from outside: cancelled, tagged, put off, started again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from engine.runs.statuses import FINAL
from shapes.database import Database
from shapes.runs.new_run import InvalidRunError, NewRun, check_count, delay_of, new_run, tags_of
from shapes.runs.run_conditions import needed
from shapes.runs.run_store import Record, RunStore

_REPLAYED = ("delay", "ttl", "idempotencyKey", "idempotencyKeyTTL", "payloadType")


class NoSuchRunError(InvalidRunError):
    """There is no such run in this environment."""

    code = "no_such_run"

    def __init__(self) -> None:
        super().__init__("Run not found", 404)


class RunChanges:
    """Changes of a table's runs. All methods raise NoSuchRunError, MissingColumnError, and what
    `Database.work` raises."""

    def __init__(self, database: Database, store: RunStore) -> None:
        self._database = database
        self._store = store

    async def find(self, environment: str, run_id: str) -> Record:
        async with self._database.work() as work:
            run = await self._store.find(work, environment, run_id)
        if run is None:
            raise NoSuchRunError
        return run

    async def family(self, environment: str, run: Record) -> dict[str, Record]:
        """The runs above a run: its `parent` and the `root`, as far as they are there."""
        wanted = {name: run.get(f"{name}_id") for name in ("parent", "root")}
        ids = sorted({one for one in wanted.values() if one is not None})
        if not ids:
            return {}
        where = self._store.where(environment)
        where.one_of("id", ids)
        async with self._database.work() as work:
            found = {one["id"]: one for one in await self._store.select(work, where)}
        return {name: found[one] for name, one in wanted.items() if one in found}

    async def cancel(self, environment: str, run_id: str) -> None:
        """End a run. One that is over stays as it is."""
        async with self._database.work() as work:
            run = await self._store.find(work, environment, run_id, lock=True)
            if run is None:
                raise NoSuchRunError
            if run["status"] in FINAL:
                return
            word = self._store.table.word("CANCELED")
            changes = {"status": word}
            await self._store.change(work, environment, run_id, changes, now=["completed_at"])

    async def add_tags(self, environment: str, run_id: str, value: object) -> int:
        """Give a run more tags; how many are new. Raises InvalidRunError."""
        given = tags_of(value)
        needed(self._store.table, "tags")
        async with self._database.work() as work:
            run = await self._store.find(work, environment, run_id, lock=True)
            if run is None:
                raise NoSuchRunError
            tags: list[str] = run["tags"] or []
            new = [tag for tag in given if tag not in tags]
            if new:
                check_count(len(tags) + len(new))
                await self._store.change(work, environment, run_id, {"tags": tags + new})
            return len(new)

    async def reschedule(self, environment: str, run_id: str, delay: object) -> Record:
        """Let a delayed run begin at another time; the run as it is then. Raises InvalidRunError."""
        if delay is None:
            raise InvalidRunError("delay must be a duration like 1h30m or a date", 400)
        until = delay_of(delay, datetime.now(UTC))
        needed(self._store.table, "delay_until")
        async with self._database.work() as work:
            run = await self._store.find(work, environment, run_id, lock=True)
            if run is None:
                raise NoSuchRunError
            if run["status"] != "DELAYED":
                raise InvalidRunError("Cannot reschedule a run that is not delayed")
            if until is None:
                changes = {"status": self._store.table.word("QUEUED")}
                await self._store.change(work, environment, run_id, changes, now=["queued_at"])
            else:
                await self._store.change(work, environment, run_id, {"delay_until": until})
            changed = await self._store.find(work, environment, run_id)
        if changed is None:
            raise NoSuchRunError
        return changed

    async def forget_key(self, environment: str, task: str, key: str) -> list[str]:
        """Let an idempotency key start another run; whose it was."""
        where = self._store.where(environment)
        where.equal("task", task)
        where.equal("idempotency_key", key)
        async with self._database.work() as work:
            rows = await self._store.select(work, where, " for no key update", ("id", "status"))
            for run in rows:
                await self._store.forget_key(work, environment, run["id"])
        return [run["id"] for run in rows]


def replay_of(run: Record, body: Mapping[str, Any], now: datetime) -> NewRun:
    """Another run like one, with what the body says otherwise. Raises InvalidRunError."""
    options: dict[str, Any] = {name: body[name] for name in _REPLAYED if name in body}
    options["tags"] = body.get("tags", run.get("tags"))
    options["metadata"] = body.get("metadata", run.get("metadata"))
    options["test"] = bool(run.get("is_test"))
    if "payload" not in body:
        payload, options["payloadType"] = run.get("payload"), run.get("payload_type")
    elif body.get("payloadType") == "application/super+json":
        payload = body["payload"]
    else:
        payload = orjson.dumps(body["payload"]).decode()
    return new_run(run["task"], {"payload": payload, "options": options}, now)
