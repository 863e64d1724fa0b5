"""pg_recvlogical, the baseline of whatever reads the WAL: it writes what Postgres sends to a file."""

from __future__ import annotations

import os
import subprocess
import time
from typing import NamedTuple

from bench.processes import tree_cpu_seconds
from bench.stack import BenchError, Stack


class Run(NamedTuple):
    """Seconds of wall time, of the reader's CPU, and of Postgres's CPU."""

    wall: float
    cpu: float
    postgres_cpu: float


def receive(stack: Stack, slot: str, end: int) -> Run:
    """Read everything that commits up to LSN `end`, with the options that the engine uses."""
    postgres = tree_cpu_seconds(stack.postgres_pid)
    output = stack.folder / "recvlogical.out"
    command = [
        str(stack.postgres.bin / "pg_recvlogical"),
        *("--dbname", stack.database_url, "--slot", slot, "--start", "--no-loop"),
        *("--endpos", f"{end >> 32:X}/{end & 0xFFFFFFFF:X}", "--file", str(output)),
        *("-o", "proto_version=2", "-o", "streaming=on"),
        *("-o", f"publication_names={stack.settings.publication}"),
    ]
    environ = {**os.environ, "PGOPTIONS": "-c logical_decoding_work_mem=16MB"}
    began = time.monotonic()
    process = subprocess.Popen(command, env=environ)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise BenchError(
            f"pg_recvlogical ended with {process.returncode}; its last words are above"
        )
    output.unlink()
    postgres = tree_cpu_seconds(stack.postgres_pid) - postgres
    return Run(wall, usage.ru_utime + usage.ru_stime, postgres)


def create_slot(stack: Stack, name: str) -> None:
    with stack.connect() as connection:
        connection.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", (name,))


def copy_slot(stack: Stack, source: str, name: str) -> None:
    with stack.connect() as connection:
        connection.execute("select pg_copy_logical_replication_slot(%s, %s, false)", (source, name))


def drop_slot(stack: Stack, name: str) -> None:
    """Once its reader has gone, which Postgres may have to be told."""
    with stack.connect() as connection:
        connection.execute(
            "select pg_terminate_backend(active_pid, 10000) from pg_replication_slots "
            "where slot_name = %s and active",
            (name,),
        )
        connection.execute("select pg_drop_replication_slot(%s)", (name,))


def insert_lsn(stack: Stack) -> int:
    """Where the WAL ends now."""
    return int(stack.scalar("select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"))
