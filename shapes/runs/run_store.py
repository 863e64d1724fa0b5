"""Runs in Postgres, read and written by the names of their fields.

Rows pass as JSON, which Postgres itself turns into the columns' types and back. So it does not matter
whether a table has, say, its statuses as texts or as an enum.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
import orjson

from engine.runs.table import RunTable
from shapes.runs.encodings import NOTHING, SUPER_JSON, decoded
from shapes.runs.new_run import InvalidRunError, NewRun
from shapes.runs.run_conditions import Conditions, needed, record_of
from shapes.runs.values import JSON

Record = dict[str, Any]
"""A run by the names of its fields, as far as the table has them: JSON's values, except that times are
texts and `status` is one of pgtide's words."""

_KEPT_BY_CLOCK = ("created_at", "updated_at")
_FORGOTTEN_AFTER = frozenset(("FAILED", "CRASHED", "SYSTEM_FAILURE", "TIMED_OUT", "EXPIRED"))
"""A run that ended like this does not keep its idempotency key from starting another one."""

_TYPES_SECONDS = 5.0
"""A table may be altered: so long what is known of its types is relied on."""

_NUMBERS = ("int2", "int4", "int8")
_TYPES = """
    select attname::text, typname::text
    from pg_attribute join pg_type on pg_type.oid = atttypid
    where attrelid = $1::regclass and attnum > 0 and not attisdropped
"""
_OF_KEYS = ("id", "status", "task", "idempotency_key", "idempotency_key_expires_at")
_ONLY_IF_MAPPED = ("tags", "batch_id", "delay_until", "ttl", "idempotency_key")
"""What would be lost in a table that has no column for it, and must not be."""


@dataclass(frozen=True, slots=True)
class Parent:
    """The run that starts another one."""

    id: str
    root_id: str
    depth: int


class RunStore:
    """Statements about the runs of one table, for a connection that the caller has."""

    def __init__(self, table: RunTable) -> None:
        self.table = table
        self._known_types: Mapping[str, str] = {}
        self._known_until = 0.0

    # -- reading -----------------------------------------------------------------------------------

    def where(self, environment: str) -> Conditions:
        """Conditions that begin with this environment."""
        return Conditions(self.table, environment)

    async def find(
        self, work: asyncpg.Connection, environment: str, run_id: str, *, lock: bool = False
    ) -> Record | None:
        """The run of this id in the environment. `lock`: nobody else changes it until the
        transaction ends."""
        found = self.where(environment)
        found.equal("id", run_id)
        rows = await self.select(work, found, " for no key update" if lock else "")
        return rows[0] if rows else None

    async def select(
        self,
        work: asyncpg.Connection,
        where: Conditions,
        rest: str = "",
        fields: Iterable[str] | None = None,
    ) -> list[Record]:
        """The runs (`r`) that fulfil the conditions; `rest` is what follows them in the query. Of
        `fields` (all if None) those that the table has."""
        table = self.table
        names = [name for name in fields or table.columns if table.column(name)]
        pairs = ", ".join(f"'{name}', r.{table.quoted(name)}" for name in names)
        rows = await work.fetch(
            f"select json_build_object({pairs})::text from {self.table.sql} as r"
            f" where {where.sql}{rest}",
            *where.values,
        )
        return [self._record(row[0]) for row in rows]

    def _record(self, text: str) -> Record:
        record: Record = orjson.loads(text)
        for name in ("id", "batch_id", "parent_id", "root_id"):
            if record.get(name) is not None:
                record[name] = str(record[name])
        record["status"] = self.table.status(str(record["status"]))
        return {**self.table.constants, **record}

    # -- writing -----------------------------------------------------------------------------------

    async def insert(
        self,
        work: asyncpg.Connection,
        environment: str,
        runs: Sequence[NewRun],
        parents: Mapping[str, Parent],
        token: str | None = None,
    ) -> None:
        """New rows, in one statement. `parents` has those that there are; `token` is the digest of
        the one-time token that starts them. Raises InvalidRunError, MissingColumnError."""
        table, types = self.table, await self._types(work)
        rows = [
            self._row(environment, run, parents.get(run.parent_id or ""), token) for run in runs
        ]
        for run, row in zip(runs, rows, strict=True):
            typed = table.column("payload_type") is not None
            row["payload"] = _fitting_payload(run, typed=typed, kind=types.get("payload"))
        names = [name for name in rows[0] if table.column(name)]
        clock = [name for name in (*_KEPT_BY_CLOCK, "queued_at") if table.column(name)]
        columns = ", ".join(map(table.quoted, [*names, *clock]))
        times = [self._now(name) for name in clock]
        read = ", ".join([*(f"r.{table.quoted(name)}" for name in names), *times])
        data = [{table.columns[name]: row[name] for name in names} for row in rows]
        await work.execute(
            f"insert into {table.sql} ({columns})"
            f" select {read} from json_populate_recordset(null::{table.sql}, $1::json) as r",
            orjson.dumps(data).decode(),
        )

    async def fitted(self, work: asyncpg.Connection, runs: Sequence[NewRun]) -> list[NewRun]:
        """The runs with ids that the table's column can hold. Raises InvalidRunError."""
        kind = (await self._types(work)).get("id")
        if kind == "uuid":
            return [replace(run, id=str(uuid4())) for run in runs]
        if kind in _NUMBERS:
            raise InvalidRunError(
                "the ids of the table of runs are numbers: to start runs, it needs a text or a uuid"
            )
        return list(runs)

    async def _types(self, work: asyncpg.Connection) -> Mapping[str, str]:
        """The types of the columns that a table of the user's has for fields."""
        if (self.table.schema, self.table.name) == ("pgtide", "runs"):
            return {}
        if time.monotonic() > self._known_until:
            rows = await work.fetch(_TYPES, self.table.sql)
            there: dict[str, str] = {row[0]: row[1] for row in rows}
            columns = self.table.columns.items()
            self._known_types = {name: there[column] for name, column in columns if column in there}
            self._known_until = time.monotonic() + _TYPES_SECONDS
        return self._known_types

    def _now(self, name: str) -> str:
        """The time of a new row (`r`); a delayed run is not queued yet."""
        if name != "queued_at" or self.table.column("delay_until") is None:
            return "now()"
        return f"case when r.{self.table.quoted('delay_until')} is null then now() end"

    def _row(
        self, environment: str, run: NewRun, parent: Parent | None, token: str | None
    ) -> Record:
        delayed = run.delay_until is not None
        row: Record = {
            "id": run.id,
            "environment_id": environment,
            "task": run.task,
            "status": self.table.word("DELAYED" if delayed else "QUEUED"),
            "tags": run.tags,
            "batch_id": run.batch_id,
            "parent_id": parent and parent.id,
            "root_id": parent and parent.root_id,
            "depth": parent.depth + 1 if parent else 0,
            "trigger_function": run.trigger_function,
            "metadata": run.metadata,
            "payload": None,
            "payload_type": run.payload_type,
            "is_test": run.test,
            "ttl": run.ttl,
            "delay_until": run.delay_until,
            "idempotency_key": run.idempotency_key,
            "idempotency_key_expires_at": run.idempotency_expires_at,
            "one_time_use_token": token,
        }
        for name in _ONLY_IF_MAPPED:
            if row[name]:
                needed(self.table, name)
        for name, value in self.table.constants.items():
            if name in ("task", "environment_id") and row[name] != value:
                raise InvalidRunError(f"the table of runs has only those whose {name} is {value}")
        return row

    async def change(
        self,
        work: asyncpg.Connection,
        environment: str,
        run_id: str,
        changes: Mapping[str, Any],
        now: Iterable[str] = (),
    ) -> None:
        """Other values for fields of one run, and the present time for those of `now`; for fields
        that the table has."""
        table = self.table
        present = {name: value for name, value in changes.items() if table.column(name)}
        sets = [f"{table.quoted(name)} = n.{table.quoted(name)}" for name in present]
        times = [name for name in ("updated_at", *now) if table.column(name)]
        sets += [f"{table.quoted(name)} = now()" for name in times]
        where = self.where(environment)
        where.equal("id", run_id)
        place = where.parameter(record_of(table, present))
        await work.execute(
            f"update {table.sql} as r set {', '.join(sets)}"
            f" from json_populate_record(null::{table.sql}, {place}::json) as n"
            f" where {where.sql}",
            *where.values,
        )

    # -- what a run is found by --------------------------------------------------------------------

    async def parents(
        self, work: asyncpg.Connection, environment: str, ids: Iterable[str | None]
    ) -> dict[str, Parent]:
        """Those of the runs that there are, by id."""
        wanted = sorted({one for one in ids if one is not None})
        if not wanted:
            return {}
        where = self.where(environment)
        where.one_of("id", wanted)
        found: dict[str, Parent] = {}
        for run in await self.select(work, where, fields=("id", "status", "root_id", "depth")):
            root = str(run.get("root_id") or run["id"])
            found[run["id"]] = Parent(run["id"], root, run.get("depth") or 0)
        return found

    async def by_idempotency_key(
        self, work: asyncpg.Connection, environment: str, keys: Iterable[tuple[str, str]]
    ) -> dict[tuple[str, str], str]:
        """Ids of the runs that hold these keys, by task and key. Keys that are over are taken away
        from their runs, so this is only for whoever holds a lock for each of them."""
        wanted = set(keys)
        if not wanted:
            return {}
        needed(self.table, "idempotency_key")
        where = self.where(environment)
        where.one_of("task", sorted({task for task, _ in wanted}))
        where.one_of("idempotency_key", sorted({key for _, key in wanted}))
        found: dict[tuple[str, str], str] = {}
        for run in await self.select(work, where, fields=_OF_KEYS):
            if _holds(run):
                found[run["task"], run["idempotency_key"]] = run["id"]
            elif (run["task"], run["idempotency_key"]) in wanted:
                await self.forget_key(work, environment, run["id"])
        return found

    async def forget_key(self, work: asyncpg.Connection, environment: str, run_id: str) -> None:
        """From now on the run's idempotency key starts another one."""
        none = {"idempotency_key": None, "idempotency_key_expires_at": None}
        await self.change(work, environment, run_id, none)


def _fitting_payload(run: NewRun, *, typed: bool, kind: str | None) -> object:
    """The payload for a column of the type `kind`. Unless the table has a column for how it is encoded
    (`typed`), it is plain JSON."""
    text = run.payload
    if text is None:
        return None
    if not typed and run.payload_type == SUPER_JSON:
        value = decoded(text, SUPER_JSON)
        text = None if value is NOTHING else orjson.dumps(value).decode()
    if text is not None and kind in ("json", "jsonb") and run.payload_type in (JSON, SUPER_JSON):
        return orjson.Fragment(text)
    return text


def moment(text: str | None) -> datetime | None:
    """A time of a record; those without a zone are UTC. None for one that never comes."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None  # Infinity, or a year that Python does not know.
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def _holds(run: Record) -> bool:
    """Whether the run's idempotency key is still its own."""
    expires = moment(run.get("idempotency_key_expires_at"))
    return run["status"] not in _FORGOTTEN_AFTER and (
        expires is None or expires > datetime.now(UTC)
    )
