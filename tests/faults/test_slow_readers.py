"""Clients that stop reading cost a bounded amount of memory and nobody else's time."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psycopg
from http_connection import HttpConnection
from memory import Memory
from serving import Serving
from shape_client import ShapeClient
from shape_rows import Subject

READERS = int(os.environ.get("PGTIDE_SLOW_READERS") or 200)
ROWS = 500
ROW_BYTES = 2_000
TRANSACTIONS = (*[ROWS] * 3, *[10] * 150, *[ROWS] * 3)
"""How many rows each changes."""
MOST_GROWTH = 100 << 20


async def test_readers_that_stop_reading(database: str, tmp_path: Path) -> None:
    """Neither many small batches nor a few large ones pile up for them."""
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute("create table pages (id int primary key, round int, body text)")
        await connection.execute(
            "insert into pages select i, 0, '' from generate_series(1, %s) i", (ROWS,)
        )
        with Serving(database, tmp_path / "pgtide", nodes=1, sse_timeout=60) as server:
            reader = ShapeClient(server.url, Subject("pages"), sse=True, name="reader")
            await reader.catch_up()
            stalled = [await _stall(reader) for _ in range(READERS)]
            reader.start()
            memory = Memory(server.node_pids()[0])
            begin = time.monotonic()
            slowest = 0.0
            body = "x" * ROW_BYTES
            for number, rows in enumerate(TRANSACTIONS, 1):
                round_began = time.monotonic()
                await connection.execute(
                    "update pages set round = %s, body = %s where id <= %s",
                    (number, f"{number} {body}", rows),
                )
                await _sees(reader, rows, number)
                slowest = max(slowest, time.monotonic() - round_began)
                memory.sample()
            print(
                f"{READERS} stalled readers, {reader.counts.messages} changes in "
                f"{time.monotonic() - begin:.1f} s: the node grew by {memory}, "
                f"another reader waited {slowest * 1000:.0f} ms at most"
            )
            await reader.stop()
            for slow in stalled:
                await slow.close()
            assert memory.private < MOST_GROWTH
            assert slowest < 3.0


async def _sees(reader: ShapeClient, row: int, number: int) -> None:
    key = f'"public"."pages"/"{row}"'
    there = await reader.until(lambda: reader.rows[key]["round"] == str(number))
    assert there, reader.describe()[:3000]


async def _stall(like: ShapeClient) -> HttpConnection:
    """An SSE connection at the position of `like` of which only the head is read."""
    connection = await HttpConnection.open(like.url)
    parameters = {
        **like.subject.parameters(),
        "offset": like.offset,
        "handle": like.handle or "",
        "live": "true",
        "live_sse": "true",
    }
    response = await connection.get("/v1/shape", parameters)
    assert response.status == 200
    connection.pause()
    return connection
