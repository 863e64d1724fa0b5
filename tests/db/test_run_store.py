"""Triggering into tables of the user's own: whatever the types of their columns."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest

from engine.runs.table import RunTable
from shapes.database import Database
from shapes.runs.new_run import InvalidRunError, new_run
from shapes.runs.retrieved import whole
from shapes.runs.run_changes import NoSuchRunError, RunChanges
from shapes.runs.run_conditions import MissingColumnError
from shapes.runs.run_list import RunList
from shapes.runs.run_store import RunStore
from shapes.runs.trigger_keys import TriggerKeys, TriggerKeyStore
from shapes.runs.triggering import Triggering

pytestmark = pytest.mark.migrated

JOBS = """
    create type state as enum ('waiting', 'later', 'busy', 'ok', 'stopped');
    create table "My ""Job""s" (
        "Key" uuid primary key,
        tenant varchar(20) not null,
        kind text not null,
        state state not null,
        args jsonb,
        labels varchar(50)[],
        made timestamp not null,
        not_before timestamp,
        ended timestamp,
        info text,
        dedup text
    )
"""
TABLE = RunTable(
    "public",
    'My "Job"s',
    {
        "id": "Key",
        "environment_id": "tenant",
        "task": "kind",
        "status": "state",
        "payload": "args",
        "tags": "labels",
        "created_at": "made",
        "delay_until": "not_before",
        "completed_at": "ended",
        "metadata": "info",
        "idempotency_key": "dedup",
    },
    {
        "waiting": "QUEUED",
        "later": "DELAYED",
        "busy": "EXECUTING",
        "ok": "COMPLETED",
        "stopped": "CANCELED",
    },
)
NAMES = {name: name for name in ("id", "status", "created_at")}
BARE = RunTable("public", "bare", NAMES, {}, {"task": "t"})
NO_KEYS = TriggerKeys()


class Runs:
    """What is done to the runs of a table."""

    def __init__(self, database: Database, table: RunTable) -> None:
        store = RunStore(table)
        self.triggering = Triggering(database, store, TriggerKeyStore())
        self.changes = RunChanges(database, store)
        self.list = RunList(database, store)

    async def trigger(self, task: str = "t", payload: Any = None, **options: Any) -> str:
        body = {"payload": payload, "options": options}
        run = new_run(task, body, datetime.now(UTC))
        return (await self.triggering.trigger("prod", run, NO_KEYS)).id


@pytest.fixture
async def writing(database: str) -> AsyncGenerator[Database]:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        name = connection.info.dbname
        await connection.execute(f"alter database {name} set timezone to 'Asia/Kolkata'".encode())
        await connection.execute(JOBS.encode())
        await connection.execute(
            "create table bare (id text primary key, status text not null, created_at timestamptz)"
        )
    opened = Database(database, 6, 10.0)
    yield opened
    await opened.close()


@pytest.fixture
def jobs(writing: Database) -> Runs:
    return Runs(writing, TABLE)


async def test_a_run_in_a_table_of_ones_own(
    jobs: Runs, connection: psycopg.AsyncConnection
) -> None:
    run = await jobs.trigger(
        payload='{"json":{"a":1,"u":null},"meta":{"values":{"u":["undefined"]}}}',
        payloadType="application/super+json",
        tags=["x", 'y"z'],
        metadata={"p": 1},
        test=True,
    )
    cursor = await connection.execute(
        "select state::text, args, labels, info, tenant, made - now() at time zone 'utc'"
        ' from "My ""Job""s"'
    )
    [(state, args, labels, info, tenant, age)] = await cursor.fetchall()
    assert (state, args, labels, tenant) == ("waiting", {"a": 1}, ["x", 'y"z'], "prod")
    assert info.replace(" ", "") == '{"p":1}'
    assert abs(age) < timedelta(minutes=1)
    found = whole(await jobs.changes.find("prod", run))
    assert (found["id"], found["status"], found["payload"]) == (run, "QUEUED", {"a": 1})
    assert (found["metadata"], found["tags"]) == ({"p": 1}, ["x", 'y"z'])
    assert abs(found["createdAt"] - datetime.now(UTC)) < timedelta(minutes=1)


async def test_other_environments(jobs: Runs) -> None:
    run = await jobs.trigger()
    with pytest.raises(NoSuchRunError):
        await jobs.changes.find("dev", run)
    with pytest.raises(NoSuchRunError):
        await jobs.changes.cancel("dev", run)
    assert (await jobs.list.page("dev", {})).runs == []
    assert [one["id"] for one in (await jobs.list.page("prod", {})).runs] == [run]


async def test_changes(jobs: Runs) -> None:
    soon = (datetime.now(UTC) + timedelta(hours=1)).astimezone(timezone(timedelta(hours=9)))
    run = await jobs.trigger(delay=soon.isoformat())
    found = whole(await jobs.changes.find("prod", run))
    assert (found["status"], found["delayedUntil"]) == ("DELAYED", soon)
    changed = await jobs.changes.reschedule("prod", run, "0s")
    assert changed["status"] == "QUEUED"
    assert await jobs.changes.add_tags("prod", run, ["a", "b"]) == 2
    await jobs.changes.cancel("prod", run)
    found = whole(await jobs.changes.find("prod", run))
    assert (found["status"], found["tags"]) == ("CANCELED", ["a", "b"])
    assert abs(found["finishedAt"] - datetime.now(UTC)) < timedelta(minutes=1)
    by_status = {
        "filter[status]": "CANCELED",
        "filter[tag]": "b",
        "filter[createdAt][period]": "1h",
    }
    assert len((await jobs.list.page("prod", by_status)).runs) == 1


async def test_an_idempotency_key_needs_no_constraint(jobs: Runs) -> None:
    run = await jobs.trigger(idempotencyKey="k")
    assert await jobs.trigger(idempotencyKey="k") == run
    assert await jobs.trigger("other", idempotencyKey="k") != run


async def test_what_a_table_has_no_column_for(writing: Database) -> None:
    bare = Runs(writing, BARE)
    run = await bare.trigger(payload=1, metadata={"a": 1}, test=True)
    assert (await bare.changes.find("prod", run))["task"] == "t"
    lost: dict[str, dict[str, Any]] = {
        "tags": {"tags": "x"},
        "ttl": {"ttl": 5},
        "delay_until": {"delay": "1h"},
        "idempotency_key": {"idempotencyKey": "k"},
    }
    for name, options in lost.items():
        with pytest.raises(MissingColumnError, match=f"`{name}`"):
            await bare.trigger(**options)
    with pytest.raises(MissingColumnError, match="`tags`"):
        await bare.changes.add_tags("prod", run, "x")
    with pytest.raises(InvalidRunError, match="only those whose task is t"):
        await bare.trigger("other")


async def test_ids_that_are_numbers(writing: Database, connection: psycopg.AsyncConnection) -> None:
    await connection.execute(
        "create table counted (id int8 generated always as identity, status text,"
        " created_at timestamptz)"
    )
    counted = Runs(writing, RunTable("public", "counted", NAMES, {}, {"task": "t"}))
    with pytest.raises(InvalidRunError, match="are numbers"):
        await counted.trigger()
    await connection.execute("insert into counted (status, created_at) values ('busy', now())")
    assert (await counted.changes.find("prod", "1"))["id"] == "1"
