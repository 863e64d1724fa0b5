"""Random changes of two tables, and every version that their rows had: what grants are judged by.

Whatever is written into a row is marked with a number of its own, so that a value that is seen
somewhere tells which versions of which rows it was in.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

import psycopg
from psycopg import errors

Row = dict[str, Any]

TAGS = ("a", "b", "c", "user:1")
TASKS = ("red", "green", "my/blue")
BATCHES = ("batch_1", "batch_2", None)
ENVIRONMENTS = (*["default"] * 6, "staging")
STATUSES = ("QUEUED", "EXECUTING", "WAITING", "COMPLETED", "FAILED")
OWNERS = ("ann", "bob", "eve", None)
TEAMS = ("x", "y")

RUNS, LEDGER = "pgtide.runs", "ledger"
CREATE = """
create table ledger (
    id bigint primary key, owner text, team text not null, amount int,
    note text, secret text, hidden text
);
alter table ledger replica identity full;
"""
MARK = re.compile(r"[a-z]+~\d+~")

_EXPECTED = (
    errors.UniqueViolation,
    errors.DeadlockDetected,
    errors.LockNotAvailable,
    errors.SerializationFailure,
)


@dataclass(frozen=True)
class Change:
    """What became of one row: `old` is None for a new one, `new` for one that is gone."""

    table: str
    old: Row | None
    new: Row | None


@dataclass
class Past:
    """All that was committed. `changes` are by transaction; `marked` are the versions of rows, with the
    column, in which a mark was."""

    changes: dict[int, list[Change]] = field(default_factory=lambda: defaultdict(list))
    versions: dict[tuple[str, Any], list[Row]] = field(default_factory=lambda: defaultdict(list))
    marked: dict[str, list[tuple[str, str, Row]]] = field(default_factory=lambda: defaultdict(list))

    def note(self, xid: int, changes: list[Change]) -> None:
        self.changes[xid % 2**32] += changes
        for change in changes:
            if change.new is None:
                continue
            self.versions[change.table, change.new["id"]].append(change.new)
            for column, value in change.new.items():
                for mark in MARK.findall(json.dumps(value)):
                    self.marked[mark].append((change.table, column, change.new))


class GrantWriter:
    """One connection that changes rows of both tables."""

    def __init__(self, random: Random, number: int, past: Past) -> None:
        self._random = random
        self._past = past
        self._numbers = count(number * 1_000_000)
        self.transactions = 0

    async def fill(self, url: str, rows: int) -> None:
        """Insert rows, each in a transaction of its own."""
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            for _ in range(rows):
                for insert in (self._insert_run, self._insert_entry):
                    await self._transact(connection, [insert])

    async def run(self, url: str, seconds: float) -> None:
        ends = time.monotonic() + seconds
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute("set lock_timeout = '200ms'; set deadlock_timeout = '50ms'")
            while time.monotonic() < ends:
                await self._transact(connection, self._some())
                if self._random.random() < 0.2:
                    await asyncio.sleep(self._random.random() * 0.02)

    def _some(self) -> list[Callable[..., Any]]:
        kinds = [self._insert_run, *[self._update_run] * 5, self._delete_run, self._rename_run]
        kinds += [self._insert_entry, *[self._update_entry] * 5, self._delete_entry]
        kinds += [self._rename_entry]
        return self._random.choices(kinds, k=self._random.choice((1, 1, 1, 2, 4)))

    async def _transact(
        self, connection: psycopg.AsyncConnection, statements: list[Callable[..., Any]]
    ) -> None:
        changes: list[Change] = []
        xid = 0
        rolls_back = self._random.random() < 0.05
        try:
            async with connection.transaction(force_rollback=rolls_back):
                cursor = await connection.execute("select pg_current_xact_id()::text::bigint")
                (xid,) = await cursor.fetchone() or (0,)
                for statement in statements:
                    changes += await statement(connection)
        except _EXPECTED:
            return
        if not rolls_back:
            self._past.note(xid, changes)
            self.transactions += 1

    # -- statements --------------------------------------------------------------------------------

    def _mark(self, name: str) -> str:
        return f"{name}~{next(self._numbers)}~"

    def _run_values(self) -> Row:
        random = self._random
        ended = random.random() < 0.3
        return {
            "environment_id": random.choice(ENVIRONMENTS),
            "task": random.choice(TASKS),
            "tags": random.sample(TAGS, random.choice((0, 1, 1, 2, 3))),
            "batch_id": random.choice(BATCHES),
            "status": random.choice(STATUSES),
            "metadata": json.dumps({"m": self._mark("metadata")}),
            "payload": self._mark("payload"),
            "output": self._mark("output") if ended else None,
            "ttl": self._mark("ttl"),
            "error": json.dumps({"type": "STRING_ERROR", "raw": self._mark("error")}),
            "created_at": random.choice(("now()", "now()", "now() - interval '3 days'")),
        }

    def _entry_values(self) -> Row:
        random = self._random
        return {
            "owner": random.choice(OWNERS),
            "team": random.choice(TEAMS),
            "amount": random.choice((None, *range(0, 100, 10))),
            "note": self._mark("note"),
            "secret": self._mark("secret"),
            "hidden": self._mark("hidden"),
        }

    def _new_id(self, table: str) -> Any:
        number = next(self._numbers)
        return f"run_{number}" if table == RUNS else number

    async def _insert_run(self, connection: psycopg.AsyncConnection) -> list[Change]:
        return await self._insert(connection, RUNS, self._run_values())

    async def _insert_entry(self, connection: psycopg.AsyncConnection) -> list[Change]:
        return await self._insert(connection, LEDGER, self._entry_values())

    async def _insert(
        self, connection: psycopg.AsyncConnection, table: str, values: Row
    ) -> list[Change]:
        values = {"id": self._new_id(table), **values}
        names = ", ".join(values)
        sql = f"insert into {table} as t ({names}) values ({_places(values)}) returning to_jsonb(t)"
        cursor = await connection.execute(sql.encode(), _parameters(values))
        (new,) = await cursor.fetchone() or (None,)
        return [Change(table, None, new)]

    async def _update_run(self, connection: psycopg.AsyncConnection) -> list[Change]:
        return await self._update(connection, RUNS, self._run_values())

    async def _update_entry(self, connection: psycopg.AsyncConnection) -> list[Change]:
        return await self._update(connection, LEDGER, self._entry_values())

    async def _update(
        self, connection: psycopg.AsyncConnection, table: str, values: Row
    ) -> list[Change]:
        names = self._random.sample(sorted(values), self._random.choice((1, 1, 2, 3)))
        return await self._set(connection, table, {name: values[name] for name in names})

    async def _rename_run(self, connection: psycopg.AsyncConnection) -> list[Change]:
        return await self._rename(connection, RUNS, self._run_values())

    async def _rename_entry(self, connection: psycopg.AsyncConnection) -> list[Change]:
        return await self._rename(connection, LEDGER, self._entry_values())

    async def _rename(
        self, connection: psycopg.AsyncConnection, table: str, values: Row
    ) -> list[Change]:
        """Another key, and often somebody else's row from then on."""
        some = self._random.sample(sorted(values), self._random.choice((0, 1, 3)))
        new = {"id": self._new_id(table), **{name: values[name] for name in some}}
        return await self._set(connection, table, new)

    async def _set(
        self, connection: psycopg.AsyncConnection, table: str, values: Row
    ) -> list[Change]:
        old = await self._pick(connection, table, ends="id" in values)
        if old is None:
            return []
        sets = ", ".join(f"{name} = {_place(name, values)}" for name in values)
        sql = f"update {table} as t set {sets} where id = %(key)s returning to_jsonb(t)"
        cursor = await connection.execute(sql.encode(), {**_parameters(values), "key": old["id"]})
        (new,) = await cursor.fetchone() or (None,)
        return [Change(table, old, new)]

    async def _delete_run(self, connection: psycopg.AsyncConnection) -> list[Change]:
        return await self._delete(connection, RUNS)

    async def _delete_entry(self, connection: psycopg.AsyncConnection) -> list[Change]:
        return await self._delete(connection, LEDGER)

    async def _delete(self, connection: psycopg.AsyncConnection, table: str) -> list[Change]:
        old = await self._pick(connection, table, ends=True)
        if old is None:
            return []
        await connection.execute(f"delete from {table} where id = %s".encode(), (old["id"],))
        return [Change(table, old, None)]

    async def _pick(
        self, connection: psycopg.AsyncConnection, table: str, *, ends: bool
    ) -> Row | None:
        """Some row as it is, which nobody else may change now; often one of the first, which are
        followed one by one, unless that `ends` it."""
        salt = self._random.randint(0, 10**6)
        few = self._random.random() < (0.08 if ends else 0.6)
        some = f"{table} order by id {'limit' if few else 'offset'} 8"
        one = f"select id from (select id from {some}) as s order by md5(id::text || '{salt}')"
        sql = f"select to_jsonb(t) from {table} as t where id = ({one} limit 1) for update"
        cursor = await connection.execute(sql.encode())
        found = await cursor.fetchone()
        return None if found is None else found[0]


def _place(name: str, values: Row) -> str:
    return str(values[name]) if name == "created_at" else f"%({name})s"


def _places(values: Row) -> str:
    return ", ".join(_place(name, values) for name in values)


def _parameters(values: Row) -> Row:
    return {name: value for name, value in values.items() if name != "created_at"}
