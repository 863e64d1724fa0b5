"""A small fleet of workers that write pgtide.runs with ordinary SQL: `python -m demo.fleet`.

It takes DATABASE_URL from the environment, survives Postgres's absence, and ends with SIGTERM or
with the process that started it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import signal
import sys
import time
from typing import Any, LiteralString

import psycopg
from psycopg.types.json import Jsonb

from demo.workload import (
    BATCH_PREFIX,
    BATCH_SIZE,
    ID_PREFIX,
    Completed,
    Created,
    Event,
    Failed,
    Progressed,
    Started,
    Workload,
)
from engine import logs
from engine.configuration.settings import Settings
from engine.errors import SettingsError
from engine.processes.lifeline import hold_lifeline

logger = logging.getLogger(__name__)

TICK = 0.1
CONNECT_TIMEOUT = 5
FIRST_DELAY = 0.2
LONGEST_DELAY = 2.0
SWEEP_EVERY = 5.0
KEPT = "3 minutes"

# The row of a batch comes with its first run.
_BATCH = """
insert into pgtide.batches (id, status, run_count, expected_count, sealed)
values (%(batch_id)s, 'PROCESSING', %(count)s, %(count)s, true)
on conflict (id) do nothing
"""
_CREATE = """
insert into pgtide.runs (id, task, tags, batch_id, payload)
values (%(id)s, %(task)s, %(tags)s, %(batch_id)s, %(payload)s)
"""
_START = """
update pgtide.runs
set status = 'EXECUTING', attempt_number = attempt_number + 1, metadata = metadata || %(metadata)s
where id = %(id)s
"""
_PROGRESS = """
update pgtide.runs set metadata = metadata || %(metadata)s where id = %(id)s
"""
_COMPLETE = """
update pgtide.runs
set status = 'COMPLETED', metadata = metadata || %(metadata)s, output = %(output)s
where id = %(id)s
"""
_FAIL = """
update pgtide.runs set status = 'FAILED', error = %(error)s where id = %(id)s
"""
# What an earlier fleet left unfinished has no worker any more.
_ABANDON = """
update pgtide.runs
set status = 'CRASHED', error = %(error)s
where id like %(prefix)s and completed_at is null
"""
_FINISH_BATCHES = """
update pgtide.batches as batch
set status = case when summary.succeeded then 'COMPLETED' else 'PARTIAL_FAILED' end
from (
    select batch_id, bool_and(status = 'COMPLETED') as succeeded
    from pgtide.runs
    where batch_id like %(prefix)s
    group by batch_id
    having bool_and(completed_at is not null)
) as summary
where batch.id = summary.batch_id and batch.status = 'PROCESSING'
"""
_SWEEP_RUNS = """
delete from pgtide.runs where id like %(prefix)s and completed_at < now() - %(kept)s::interval
"""
_SWEEP_BATCHES = """
delete from pgtide.batches as batch
where id like %(prefix)s
  and not exists (select from pgtide.runs as run where run.batch_id = batch.id)
"""

Statement = tuple[LiteralString, dict[str, Any]]


def statements(event: Event) -> list[Statement]:
    """The SQL that makes an event known."""
    match event:
        case Created(id, task, tags, batch_id, payload):
            values = {"id": id, "task": task, "tags": tags, "batch_id": batch_id}
            create: Statement = (_CREATE, values | {"payload": json.dumps(payload)})
            batch: Statement = (_BATCH, {"batch_id": batch_id, "count": BATCH_SIZE})
            return [batch, create] if batch_id else [create]
        case Started(id, label):
            return [(_START, {"id": id, "metadata": _metadata(0.0, label)})]
        case Progressed(id, progress, label):
            return [(_PROGRESS, {"id": id, "metadata": _metadata(progress, label)})]
        case Completed(id, label, output):
            metadata = _metadata(1.0, label)
            return [(_COMPLETE, {"id": id, "metadata": metadata, "output": json.dumps(output)})]
        case Failed(id, error):
            return [(_FAIL, {"id": id, "error": _error(error)})]


def _metadata(progress: float, label: str) -> Jsonb:
    return Jsonb({"progress": progress, "label": label})


def _error(message: str) -> Jsonb:
    return Jsonb({"type": "STRING_ERROR", "raw": message})


class Fleet:
    """Writes until told to stop. A lost connection loses what happened meanwhile, not the fleet."""

    def __init__(self, database_url: str, stopping: asyncio.Event, seed: int | None = None) -> None:
        self._database_url = database_url
        self._stopping = stopping
        self._chance = random.Random(seed)

    async def run(self) -> None:
        """Returns once `stopping` is set."""
        delay = FIRST_DELAY
        while not self._stopping.is_set():
            begin = time.monotonic()
            try:
                await self._write()
            except psycopg.errors.UndefinedTable:
                logger.warning("pgtide.runs is missing, run `pgtide migrate`  retry=%.1fs", delay)
            except psycopg.OperationalError as error:
                cause = str(error).splitlines()[0]
                logger.warning("no connection  retry=%.1fs cause=%s", delay, cause)
            if time.monotonic() - begin > LONGEST_DELAY:
                delay = FIRST_DELAY
            await self._pause(delay)
            delay = min(delay * 2, LONGEST_DELAY)

    async def _write(self) -> None:
        async with await psycopg.AsyncConnection.connect(
            self._database_url,
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT,
            application_name="pgtide demo fleet",
        ) as connection:
            await abandon(connection)
            workload = Workload(self._chance)
            next_sweep = 0.0
            while not self._stopping.is_set():
                now = time.monotonic()
                for event in workload.due(now):
                    for statement, values in statements(event):
                        await connection.execute(statement, values)
                if now >= next_sweep:
                    next_sweep = now + SWEEP_EVERY
                    await sweep(connection)
                await self._pause(TICK)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return


async def abandon(connection: psycopg.AsyncConnection) -> None:
    """End the runs of an earlier fleet."""
    error = _error("The worker of this run ended before the run did.")
    await connection.execute(_ABANDON, {"prefix": f"{ID_PREFIX}%", "error": error})


async def sweep(connection: psycopg.AsyncConnection) -> None:
    """Close batches that are over, and delete what is old: the table stays small."""
    await connection.execute(_FINISH_BATCHES, {"prefix": f"{BATCH_PREFIX}%"})
    await connection.execute(_SWEEP_RUNS, {"prefix": f"{ID_PREFIX}%", "kept": KEPT})
    await connection.execute(_SWEEP_BATCHES, {"prefix": f"{BATCH_PREFIX}%"})


async def _main(database_url: str) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await Fleet(database_url, stopping).run()


def main() -> int:
    """The exit code; 2 if the settings do not do."""
    hold_lifeline()
    try:
        settings = Settings.from_environ(os.environ)
        if settings.database_url is None:
            raise SettingsError("no database is given: set DATABASE_URL")
    except SettingsError as error:
        print(f"demo.fleet: {error}", file=sys.stderr)
        return 2
    logs.configure("fleet", settings.log_level)
    asyncio.run(_main(settings.database_url))
    return 0


if __name__ == "__main__":
    sys.exit(main())
