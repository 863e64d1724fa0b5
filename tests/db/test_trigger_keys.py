"""Keys of requests and tokens in the database: remembered, locked, forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from shapes.access.grant import Grant
from shapes.database import Database
from shapes.runs.trigger_keys import TriggerKeys, TriggerKeyStore

pytestmark = pytest.mark.migrated

MOST = 500
"""After so many new keys there is a sweep."""


@pytest.fixture
async def writing(database: str) -> AsyncGenerator[Database]:
    opened = Database(database, 12, 10.0)
    yield opened
    await opened.close()


async def test_old_keys_are_forgotten(
    writing: Database, connection: psycopg.AsyncConnection
) -> None:
    await connection.execute(
        "insert into pgtide.trigger_keys"
        " select sha256(i::text::bytea), 'old', now() from generate_series(1, 700) i"
    )
    store = TriggerKeyStore()
    async with writing.work() as work:
        for number in range(MOST):
            await store.keep(work, TriggerKeys(request=b"%d" % number), "new")
    cursor = await connection.execute("select id, count(*) from pgtide.trigger_keys group by id")
    assert await cursor.fetchall() == [("new", MOST)]


async def test_a_used_token_is_remembered_for_longer_than_it_counts(
    writing: Database, connection: psycopg.AsyncConnection
) -> None:
    until = datetime.now(UTC) + timedelta(days=3)
    grant = Grant("prod", (), expires_at=until.timestamp(), digest=b"digest")
    async with writing.work() as work:
        await TriggerKeyStore().keep(work, TriggerKeys.of(grant, "task:t", None), "run")
    cursor = await connection.execute("select expires_at from pgtide.trigger_keys")
    [(kept,)] = await cursor.fetchall()
    assert kept > until


def test_whose_key_it_is() -> None:
    """Only the same credential's request for the same thing is the same one."""
    known = {
        TriggerKeys.of(grant, target, key).request
        for grant in (
            Grant("prod"),
            Grant("dev"),
            Grant("prod", (), public=True),
            Grant("prod", (), public=True, digest=b"1"),
            Grant("prod", (), public=True, digest=b"2"),
        )
        for target in ("task:a", "task:b", "batch")
        for key in ("x", "y")
    }
    assert len(known) == 5 * 3 * 2


@pytest.mark.parametrize(("one", "other"), [(1, 1), (1, 60), (60, 1), (60, 60)])
async def test_locks_exclude_each_other(writing: Database, one: int, other: int) -> None:
    """Whoever locks a few keys and whoever locks many."""
    store = TriggerKeyStore()
    order: list[str] = []
    held = asyncio.Event()

    async def first() -> None:
        async with writing.work() as work:
            await store.lock(work, [b"%08d" % number for number in range(one)], "prod")
            held.set()
            # Until the second one waits, or has come through.
            for _ in range(200):
                waits = await work.fetchval(
                    "select exists(select from pg_locks where locktype = 'advisory' and not granted)"
                )
                if waits or order:
                    break
                await asyncio.sleep(0.01)
            order.append("first")

    async def second() -> None:
        await held.wait()
        async with writing.work() as work:
            await store.lock(work, [b"%08d" % number for number in range(other)], "prod")
            order.append("second")

    await asyncio.gather(first(), second())
    assert order == ["first", "second"]


async def test_other_keys_are_not_locked(writing: Database) -> None:
    store = TriggerKeyStore()
    async with writing.work() as work, writing.work() as another:
        await store.lock(work, [b"12345678"], "prod")
        async with asyncio.timeout(20):
            await store.lock(another, [b"87654321"], "prod")
