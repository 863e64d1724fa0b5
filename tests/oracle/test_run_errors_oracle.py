"""Whatever a back end writes as a run's error, clients can parse what becomes of it.

PGTIDE_ORACLE_SECONDS says how many errors, as if each took a few milliseconds; PGTIDE_SEED repeats a
run (each prints how).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import psycopg
import pytest
from core_judge import judged
from psycopg.types.json import Jsonb

from engine.postgres.migrate import migrate

CASES = round(float(os.environ.get("PGTIDE_ORACLE_SECONDS") or 12) * 40)

TYPES = ("BUILT_IN_ERROR", "CUSTOM_ERROR", "STRING_ERROR", "INTERNAL_ERROR", "ValueError", None, 5)
MEMBERS = ("type", "name", "message", "stackTrace", "stack", "raw", "code", "causes", "other")
CODES = ("TASK_RUN_CRASHED", "UNSPECIFIED_ERROR", "SLEEPY", None, 7)


@pytest.fixture
async def backend(database: str) -> AsyncIterator[psycopg.AsyncConnection]:
    await migrate(database, publish=False)
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        yield connection


def value(random: Random, depth: int = 0) -> Any:
    kind = random.random()
    if kind < 0.15 and depth < 2:
        return [error(random, depth + 1) for _ in range(random.randint(0, 3))]
    if kind < 0.3 and depth < 2:
        return error(random, depth + 1)
    return random.choice((None, True, 0, 1.5, "", "x", "é\n"))


def error(random: Random, depth: int = 0) -> Any:
    if random.random() < 0.1:
        return value(random, depth)
    made = {
        name: value(random, depth)
        for name in random.sample(MEMBERS, random.randint(0, len(MEMBERS)))
    }
    if random.random() < 0.8:
        made["type"] = random.choice(TYPES)
    if random.random() < 0.5:
        made["code"] = random.choice(CODES)
    return made


async def test_every_error_can_be_parsed(seed: str, backend: psycopg.AsyncConnection) -> None:
    random = Random(seed)
    written = [error(random) for _ in range(CASES)]
    cursor = await backend.execute(
        "select w, e, pgtide.run_error(e) = e from unnest(%s::jsonb[]) as w,"
        " lateral (select pgtide.run_error(w) as e) as made where e is not null",
        ([Jsonb(one) for one in written],),
    )
    rows = await cursor.fetchall()
    assert len(rows) > CASES * 0.9
    verdicts = judged("error", [{"value": made} for _, made, _ in rows])
    for (given, made, again), verdict in zip(rows, verdicts, strict=True):
        assert verdict["valid"], (given, made)
        assert again, ("a second time it becomes something else", given, made)
    assert {made["type"] for _, made, _ in rows} == set(TYPES[:4])


async def test_the_codes_are_those_of_the_clients(backend: psycopg.AsyncConnection) -> None:
    theirs = set(judged("codes", [{}])[0]["codes"])
    assert len(theirs) > 30
    cursor = await backend.execute(
        "select code from unnest(%s::text[]) as code where not pgtide.is_error_code(code)",
        (sorted(theirs),),
    )
    assert await cursor.fetchall() == []
    cursor = await backend.execute(
        "select prosrc from pg_proc where oid = 'pgtide.is_error_code(text)'::regprocedure"
    )
    row = await cursor.fetchone()
    assert row is not None
    ours = {word for word in row[0].split("'") if word.isupper()}
    assert ours == theirs
