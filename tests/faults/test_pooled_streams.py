"""Streams whose every statement goes through a real PgBouncer, which is killed in between."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import httpx
import psycopg
import pytest
from pooler import Mode, Pooler, pgbouncer
from serving import Serving
from stream_follower import StreamFollower

from engine.postgres.migrate import migrate

STREAMS = 4
EACH = 25
"""Messages of a stream."""
KILLED_AT = (20, 60)
"""Messages of all streams."""
MODES: list[tuple[Mode, int]] = [("transaction", 3)]
if os.environ.get("PGTIDE_FAULT_SECONDS"):
    # A connection is one client's: as many are needed as pgtide has.
    MODES.append(("session", 40))


@pytest.mark.parametrize(("mode", "pool"), MODES)
async def test_appends_while_the_pooler_is_killed(
    database: str, tmp_path: Path, mode: Mode, pool: int
) -> None:
    await migrate(database)
    with (
        pgbouncer(database, mode, pool=pool) as pooler,
        Serving(
            database, tmp_path / "pgtide", pooled_database_url=pooler.url, long_poll_timeout=2
        ) as server,
    ):
        async with AsyncExitStack() as stack, httpx.AsyncClient(timeout=20) as client:
            producers = [Producer(client, server.url, f"s/{name}") for name in range(STREAMS)]
            for producer in producers:
                await producer.make()
            followers = [
                await stack.enter_async_context(
                    StreamFollower(server.url, f"s/{name}", sse=name % 2 == 0)
                )
                for name in range(STREAMS)
            ]
            async with asyncio.TaskGroup() as tasks:
                for producer in producers:
                    tasks.create_task(producer.produce(EACH))
                for count in KILLED_AT:
                    while sum(producer.done for producer in producers) < count:
                        await asyncio.sleep(0.002)
                    pooler.kill()
                    await asyncio.sleep(0.05)
                    pooler.start()
            for follower in followers:
                await follower.until(lambda one=follower: one.count == EACH)
            # A writer that waits for somebody's transaction, and others that do not wait for it.
            await behind_somebody(database, client, server.url)
            # Nobody new gets a connection: what is open goes on, and what is not is tried again.
            await with_no_place_left(pooler, client, server)
        with psycopg.connect(database, autocommit=True) as connection:
            left = connection.execute(
                "select state from pg_stat_activity where datname = current_database()"
                " and pid <> pg_backend_pid() and state like 'idle in%'"
            ).fetchall()
        assert left == []


async def behind_somebody(database: str, client: httpx.AsyncClient, url: str) -> None:
    held, free = Producer(client, url, "held"), Producer(client, url, "free")
    await held.make()
    await free.make()
    async with await psycopg.AsyncConnection.connect(database) as application:
        await application.execute("select pgtide.append('held', '0'::jsonb)")
        waiting = asyncio.create_task(client.post(held.url, json=[1]))
        await free.produce(3)
        assert not waiting.done()
    assert (await waiting).status_code in (200, 204)
    async with StreamFollower(url, "held") as follower:
        await follower.until(lambda: follower.count == 2)


async def with_no_place_left(pooler: Pooler, client: httpx.AsyncClient, server: Serving) -> None:
    pooler.allow(1)
    server.kill_node()
    with suppress(httpx.TransportError):
        answer = await client.put(f"{server.url}/v1/stream/new", json=[])
        assert answer.status_code in (201, 503), answer.text
    pooler.allow(200)
    later = Producer(client, server.url, "later")
    await later.make()
    await later.produce(3)


class Producer:
    """Appends 0, 1, 2, … each in a request of its own, that is repeated until it was answered."""

    def __init__(self, client: httpx.AsyncClient, url: str, path: str) -> None:
        self._client = client
        self.url = f"{url}/v1/stream/{path}"
        self.done = 0

    async def make(self) -> None:
        await self._ask("PUT", {"content-type": "application/json"}, b"")

    async def produce(self, count: int) -> None:
        """So many more."""
        for number in range(self.done, self.done + count):
            headers = {
                "content-type": "application/json",
                "producer-id": "one",
                "producer-epoch": "0",
                "producer-seq": str(number),
            }
            await self._ask("POST", headers, str(number).encode())
            self.done += 1

    async def _ask(self, method: str, headers: dict[str, str], body: bytes) -> None:
        async with asyncio.timeout(60):
            while True:
                with suppress(httpx.TransportError):
                    answer = await self._client.request(
                        method, self.url, headers=headers, content=body
                    )
                    if answer.is_success:
                        return
                    assert answer.status_code == 503, answer.text
                await asyncio.sleep(0.02)
