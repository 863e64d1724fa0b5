"""The API's writing through a real PgBouncer, whose every transaction is another connection."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import psycopg
from pooler import pgbouncer

from engine.postgres.migrate import migrate
from engine.runs.table import RunTable
from shapes.database import Database
from shapes.runs.new_run import new_run
from shapes.runs.run_changes import RunChanges
from shapes.runs.run_store import RunStore
from shapes.runs.trigger_keys import TriggerKeys, TriggerKeyStore
from shapes.runs.triggering import Triggering


async def test_triggering_through_a_pooler(database: str) -> None:
    await migrate(database, publish=False)
    with pgbouncer(database) as pooler:
        # More connections to the pooler than it has.
        pooled = Database(pooler.url, 30, 20.0, pooled=True)
        try:
            store = RunStore(RunTable())
            triggering = Triggering(pooled, store, TriggerKeyStore())
            changes = RunChanges(pooled, store)

            async def trigger(number: int) -> str:
                options: dict[str, Any] = {"idempotencyKey": str(number % 20), "tags": "a"}
                run = new_run("t", {"payload": number, "options": options}, datetime.now(UTC))
                keys = TriggerKeys(request=b"%d" % number)
                found = (await triggering.trigger("prod", run, keys)).id
                await changes.add_tags("prod", found, f"b{number}")
                return found

            ids = await asyncio.gather(*(trigger(number) for number in range(100)))
        finally:
            await pooled.close()
    assert len(set(ids)) == 20
    async with await psycopg.AsyncConnection.connect(database) as connection:
        cursor = await connection.execute(
            "select count(*), min(cardinality(tags)), max(cardinality(tags)) from pgtide.runs"
        )
        # One tag for each of the five requests, beside the first.
        assert await cursor.fetchall() == [(20, 6, 6)]
