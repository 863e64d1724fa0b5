"""A node that comes back to many clients, each at an offset of its own."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import psycopg
from log_progress import reach
from serving import Serving
from shape_client import ShapeClient
from shape_rows import Subject

SHAPES = int(os.environ.get("PGTIDE_RESUME_SHAPES") or 240)
AT_ONCE = 20
ROUNDS = 8


async def test_many_shapes_resume_at_different_offsets(database: str, tmp_path: Path) -> None:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute("create table items (id int primary key, round int, noise text)")
        await connection.execute(
            f"insert into items select i, 0 from generate_series(1, {SHAPES * 2}) i".encode()
        )
        with Serving(database, tmp_path / "pgtide", nodes=1) as server:
            data = server.folder / "data"
            clients = [
                ShapeClient(server.url, Subject("items", "id = $1", (str(number),)))
                for number in range(1, SHAPES + 1)
            ]
            begin = time.monotonic()
            await _each(clients)
            print(f"{SHAPES} shapes made in {time.monotonic() - begin:.2f} s")
            for round_number in range(1, ROUNDS + 1):
                await connection.execute(
                    "update items set round = %s, noise = repeat('x', 100)", (round_number,)
                )
                await reach(data, connection)
                await _each(clients[round_number % ROUNDS :: ROUNDS])
            await asyncio.to_thread(server.kill_node)
            await asyncio.to_thread(server.wait_active)
            begin = time.monotonic()
            await asyncio.gather(*(client.catch_up() for client in clients))
            print(f"{SHAPES} shapes resumed in {time.monotonic() - begin:.2f} s")
            for number, client in enumerate(clients, 1):
                assert client.rows[f'"public"."items"/"{number}"']["round"] == str(ROUNDS)
                assert client.counts.messages == 1 + ROUNDS, client.describe()
                assert client.counts.snapshots == 1, client.describe()


async def test_new_readers_are_spared_a_long_replay(database: str, tmp_path: Path) -> None:
    """They get the rows as they are now, and those who have read before go on as before."""
    busy, quiet = Subject("items", "id = $1", ("1",)), Subject("items", "id = $1", ("2",))
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute("create table items (id int primary key, round int)")
        await connection.execute("insert into items values (1, 0), (2, 0)")
        with Serving(database, tmp_path / "pgtide", nodes=1) as server:
            data = server.folder / "data"
            first = {one: await _reader(server, one) for one in (busy, quiet)}
            # 300 changes of the one row.
            await connection.execute(
                "do $$ begin for i in 1..300 loop update items set round = i where id = 1; "
                "commit; end loop; end $$"
            )
            await reach(data, connection)
            assert (await _reader(server, busy)).handle != first[busy].handle
            assert (await _reader(server, quiet)).handle == first[quiet].handle

            # 20 MiB of WAL that is nobody's; which shapes they concern, a new node would have to see.
            await connection.execute(
                "select pg_logical_emit_message(true, 'other', repeat('x', 1 << 20)) "
                "from generate_series(1, 20)"
            )
            await reach(data, connection)
            assert (await _reader(server, quiet)).handle == first[quiet].handle
            await asyncio.to_thread(server.kill_node)
            await asyncio.to_thread(server.wait_active)
            assert (await _reader(server, quiet)).handle != first[quiet].handle
            for client in first.values():
                await client.catch_up()
                assert client.counts.snapshots == 1, client.describe()
            assert first[busy].counts.messages == 1 + 300


async def _reader(server: Serving, subject: Subject) -> ShapeClient:
    """A new one, up to date."""
    client = ShapeClient(server.url, subject)
    await client.catch_up()
    return client


async def _each(clients: list[ShapeClient]) -> None:
    """Bring all up to date, a few at a time."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(client: ShapeClient) -> None:
        async with gate:
            await client.catch_up()

    await asyncio.gather(*(one(client) for client in clients))
