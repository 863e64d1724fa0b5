"""The engine cannot write, or nobody can read: Postgres hears of it, and keeps no more than it must."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import lmdb
import psycopg
import pytest
from load import CREATE
from serving import Serving

from engine.log.writer import DATABASES, MAP_SIZE
from engine.lsn import Lsn, parse_lsn

TIMEOUT_SECONDS = 1


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(CREATE.encode())
        yield connection


def walsender(connection: psycopg.Connection, server: Serving) -> tuple[int | None, Lsn]:
    """The slot's reader, and what it has acknowledged."""
    row = connection.execute(
        "select active_pid, confirmed_flush_lsn::text from pg_replication_slots"
        " where slot_name = %s",
        (f"pgtide_{server.stream_id}",),
    ).fetchone()
    assert row is not None
    return row[0], parse_lsn(row[1])


def current(connection: psycopg.Connection) -> Lsn:
    row = connection.execute("select pg_current_wal_insert_lsn()::text").fetchone()
    assert row is not None
    return parse_lsn(row[0])


def until_acknowledged(connection: psycopg.Connection, server: Serving, lsn: Lsn) -> None:
    deadline = time.monotonic() + 10
    while walsender(connection, server)[1] < lsn:
        assert time.monotonic() < deadline, "it is not acknowledged"
        time.sleep(0.05)


def test_keepalives_while_the_disk_takes_its_time(
    database: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    """A log that is locked is like a disk that does not return: the engine's thread stands still."""
    url = f"{database}?options=-c%20wal_sender_timeout%3D{TIMEOUT_SECONDS}s"
    with Serving(url, tmp_path / "pgtide", nodes=1) as server:
        until_acknowledged(connection, server, current(connection))
        before, _ = walsender(connection, server)
        assert before is not None
        log = lmdb.open(
            str(server.folder / "data/log"), map_size=MAP_SIZE, max_dbs=DATABASES, max_readers=510
        )
        try:
            with log.begin(write=True):
                connection.execute("update jobs set progress = progress + 1")
                time.sleep(2.5 * TIMEOUT_SECONDS)
                pid, confirmed = walsender(connection, server)
                assert pid == before, f"the connection was given up:\n{server.log[-2000:]}"
                assert confirmed < current(connection)
        finally:
            log.close()
        until_acknowledged(connection, server, current(connection))
        assert walsender(connection, server)[0] == before
        assert "replication stopped" not in server.log


def test_readers_that_stand_still_retain_nothing(
    database: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    with Serving(database, tmp_path / "pgtide") as server:
        nodes = server.node_pids()
        try:
            for pid in nodes:
                os.kill(pid, signal.SIGSTOP)
            for _ in range(20):
                connection.execute("update jobs set progress = progress + 1")
            until_acknowledged(connection, server, current(connection))
        finally:
            for pid in nodes:
                os.kill(pid, signal.SIGCONT)
