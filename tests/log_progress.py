"""How far a running pgtide's log reaches, read beside it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import psycopg

from engine.log.layout import LogState
from engine.log.reader import LogReader
from engine.lsn import Lsn, parse_lsn


def log_state(data: Path) -> LogState:
    """The state of the log in this data folder. Opens it anew, so that it may be another one."""
    reader = LogReader(data / "log")
    try:
        return reader.state()
    finally:
        reader.close()


async def current_lsn(connection: psycopg.AsyncConnection) -> Lsn:
    """A position after everything that has been committed by now, durable or not."""
    cursor = await connection.execute("select pg_current_wal_insert_lsn()::text")
    row = await cursor.fetchone()
    assert row is not None
    return parse_lsn(row[0])


async def reach(data: Path, connection: psycopg.AsyncConnection, seconds: float = 60.0) -> Lsn:
    """Wait until the log has all that has been committed by now; where that is."""
    lsn = await current_lsn(connection)
    # What was committed with synchronous_commit off is not flushed, and so not sent, yet.
    await connection.execute("select pg_logical_emit_message(true, 'test', '')")
    deadline = time.monotonic() + seconds
    while (progress := log_state(data).progress) < lsn:
        assert time.monotonic() < deadline, f"the log stays at {progress}, short of {lsn}"
        await asyncio.sleep(0.01)
    return lsn
