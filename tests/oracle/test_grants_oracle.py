"""Nobody is ever sent what is outside his grant, and everybody ends with all that is inside.

PGTIDE_ORACLE_SECONDS is how long it goes on, PGTIDE_SEED repeats one run (each prints how).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import psycopg
import pytest
from access_tokens import SECRET_KEY, bearer, public_token
from grant_history import CREATE, LEDGER, RUNS, TASKS, GrantWriter, Past, Row
from grant_judge import Judge
from grant_readers import SKIPPABLE, Grant, GrantReader, ledger_grant, runs_grant
from http_connection import HttpConnection, HttpError
from pulse import Pulse
from serving import Serving

from engine.postgres.migrate import migrate

SECONDS = float(os.environ.get("PGTIDE_ORACLE_SECONDS") or 12)
HISTORY_SECONDS = 2.5
MOST_HISTORIES = 8
READERS = 36
CONVERGE_SECONDS = 30.0


@pytest.mark.timeout(SECONDS * 3 + 120)
async def test_nothing_outside_a_grant_is_sent(seed: str, database: str, tmp_path: Path) -> None:
    await migrate(database)
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute(CREATE.encode())
    seen: Counter[str] = Counter()
    with Serving(
        database,
        tmp_path / "pgtide",
        insecure=False,
        secret_keys=SECRET_KEY,
        long_poll_timeout=1,
        sse_timeout=2,
        chunk_bytes=20_000,
    ) as server:
        ends = time.monotonic() + SECONDS * 0.2
        number = 0
        # A busy machine may need more than one to see something of everything.
        while time.monotonic() < ends or (missing(seen) and number < MOST_HISTORIES):
            faults = await history(f"{seed}/{number}", database, server.url, seen)
            print(f"history {number}: {dict(sorted(seen.items()))}")
            assert not faults, f"history {number} of seed {seed}:\n" + "\n\n".join(faults[:10])
            number += 1
    assert not missing(seen), seen


def missing(seen: Counter[str]) -> list[str]:
    """What no reader has been sent yet."""
    kinds = ("insert", "update", "delete", "in", "out")
    return [
        f"{table} {kind}"
        for table in (RUNS, LEDGER)
        for kind in kinds
        if not seen[f"{table} {kind}"]
    ]


async def history(seed: str, database: str, url: str, seen: Counter[str]) -> list[str]:
    """Make one; what was wrong with what readers were sent."""
    random, past, begin = Random(f"{seed}/plan"), Past(), time.time()
    first = int(time.time() * 10) % 10**8 * 10
    writers = [GrantWriter(Random(f"{seed}/{n}"), first + n, past) for n in range(4)]
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute("truncate pgtide.runs, ledger")
    await writers[0].fill(database, 12)
    ids = sorted(str(key) for table, key in past.versions if table == RUNS)[:8]
    pulse = Pulse(url)
    judge, faults = Judge(past, pulse), list[str]()
    readers: list[GrantReader] = []
    looks: list[tuple[Grant, str]] = []
    async with asyncio.TaskGroup() as group:
        work = [group.create_task(one.run(database, HISTORY_SECONDS)) for one in writers]
        beating = group.create_task(pulse.run())
        asking = group.create_task(look(Random(f"{seed}/look"), url, ids, begin, looks))
        following: list[asyncio.Task[None]] = []
        for _ in range(READERS):
            grant = (
                ledger_grant(random, HISTORY_SECONDS)
                if random.random() < 0.5
                else runs_grant(random, ids, begin, HISTORY_SECONDS)
            )
            readers.append(GrantReader(url, grant))
            following.append(group.create_task(readers[-1].run()))
            await asyncio.sleep(random.random() * 0.02)
        await asyncio.wait(work)
        asking.cancel()
        rows = await final(database)
        for reader in readers:
            faults += await outcome(reader, judge, rows[reader.grant.table])
        for task in (*following, beating):
            task.cancel()
    for reader in readers:
        faults += judge.faults(reader)
    for grant, text in looks:
        seen["looks"] += 1
        faults += judge.faults_of_text(grant, text)
    seen += judge.seen
    return faults


async def outcome(reader: GrantReader, judge: Judge, rows: list[Row]) -> list[str]:
    """Wait until a reader has everything, or has been refused as it had to be."""
    grant = reader.grant
    deadline = time.monotonic() + CONVERGE_SECONDS
    if grant.expires_at is not None:
        if not await until(lambda: reader.ended_at is not None, deadline):
            return [f"has never been refused: {grant.about}"]
        if reader.served_at is not None and judge.is_late(grant, reader.served_at):
            ends = f"{reader.served_at}, {grant.expires_at}"
            return [f"was served until and should have been until {ends}: {grant.about}"]
    if reader.ended_at is not None:
        expected = 401 if grant.expires_at is not None else 0
        return [] if reader.status == expected else [f"ended with {reader.status}: {grant.about}"]
    single = grant.path.startswith(("/realtime/v1/runs/", "/realtime/v1/batches/"))
    if not single and not await until(lambda: reader.served_at is not None, deadline):
        return [f"was never served, last with {reader.status}: {grant.about}"]
    await until(lambda: not judge.missing(reader, rows), deadline)
    return [f"{one}\n  for {grant.about}" for one in judge.missing(reader, rows)]


async def until(condition: Callable[[], bool], deadline: float) -> bool:
    """Wait for something; False if it has not come by a time of the monotonic clock."""
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True


async def final(database: str) -> dict[str, list[Row]]:
    async with await psycopg.AsyncConnection.connect(database) as connection:
        found: dict[str, list[Row]] = {}
        for table in (RUNS, LEDGER):
            cursor = await connection.execute(f"select to_jsonb(t) from {table} as t".encode())
            found[table] = [row[0] for row in await cursor.fetchall()]
        return found


async def look(
    random: Random, url: str, ids: list[str], begin: float, found: list[tuple[Grant, str]]
) -> None:
    """Ask for single answers, again and again: runs, lists of runs, subsets."""
    while True:
        connection = await HttpConnection.open(url)
        try:
            for _ in range(50):
                grant, path, query = _one_look(random, ids, begin)
                response = await connection.get(path, query, bearer(grant.token))
                text = (await response.body()).decode()
                assert response.status in (200, 400, 403, 404), text
                found.append((grant, text))
                await asyncio.sleep(0.01)
        except HttpError:
            continue
        finally:
            await connection.close()


def _one_look(random: Random, ids: list[str], begin: float) -> tuple[Grant, str, dict[str, str]]:
    match random.choice(("run", "list", "subset")):
        case "run":
            grant = runs_grant(random, ids, begin, None)
            while not grant.path.startswith("/realtime/v1/runs/"):
                grant = runs_grant(random, ids, begin, None)
            if "'realtime':" not in grant.about:
                # What a query leaves out is left out of shapes only.
                columns = frozenset((*grant.columns, *SKIPPABLE))
                grant = replace(grant, columns=columns)
            return grant, grant.path.replace("/realtime/v1", "/api/v3"), {}
        case "list":
            task = random.choice(TASKS)
            token = public_token(SECRET_KEY, [f"read:tasks:{task}"])
            grant = Grant(
                *(RUNS, "", dict[str, str](), token),
                lambda row: row["task"] == task and row["environment_id"] == "default",
                frozenset(("id", "task", "tags", "metadata", "ttl")),
                about=f"list of {task}",
            )
            return grant, "/api/v1/runs", {"filter[taskIdentifier]": task}
        case _:
            grant = ledger_grant(random, None)
            query = {**grant.query, "offset": "-1", "subset__where": "id > 0"}
            if random.random() < 0.5:
                column = random.choice(("id", "note", "hidden"))
                query |= {"subset__order_by": column, "subset__limit": "5"}
            return grant, "/v1/shape", query
