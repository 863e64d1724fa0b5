"""WAL into the log: how fast the engine takes in what Postgres has, against pg_recvlogical.

The changes lie in the WAL before anybody reads them. Engine and pg_recvlogical (which writes what it
gets to a file) then read the very same WAL in turns, each from a copy of one slot.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import time
from typing import Any, NamedTuple

from bench.items import Kind, create_items, publish, write_items
from bench.processes import cpu_seconds, tree_cpu_seconds
from bench.report import Report, command, median
from bench.stack import STREAM_ID, Stack, open_stack

BASE_SLOT = "bench_base"
ENGINE_SLOT = f"pgtide_{STREAM_ID}"
BASELINE_SLOT = "bench_recvlogical"
HUGE = 10**9

WORKLOADS: tuple[tuple[str, Kind, int], ...] = (
    ("inserts, 100 per transaction", "insert", 100),
    ("updates, 1 per transaction", "update", 1),
    ("updates, 100 per transaction", "update", 100),
    ("updates, 1000 per transaction", "update", 1000),
    ("updates, one transaction", "update", HUGE),
)

SIZES = {
    "changes": (500_000, 2_000, "changes per workload"),
    "rounds": (3, 1, "times that each side reads them"),
}


class Run(NamedTuple):
    """Seconds of wall time, of the reader's CPU, and of Postgres's CPU."""

    wall: float
    cpu: float
    postgres_cpu: float


def measure(report: Report, options: argparse.Namespace) -> None:
    with open_stack() as stack:
        report.postgres(stack.scalar("show server_version"))
        with stack.connect() as connection:
            create_items(connection)
            publish(connection, stack.settings.publication)
        for name, kind, per in WORKLOADS:
            report.results[name] = _measure_one(report, stack, name, kind, per, options)
    ratios = [one["ratio"] for one in report.results.values()]
    costs = [one["engine_cpu_us_per_change"] for one in report.results.values()]
    report.at_least("slowest workload against pg_recvlogical", min(ratios), "ratio", 0.8)
    report.at_most("engine CPU per change, dearest workload", max(costs), "µs", 8.0)


def _measure_one(
    report: Report, stack: Stack, name: str, kind: Kind, per: int, options: argparse.Namespace
) -> dict[str, Any]:
    changes: int = options.changes
    end = _prepare(stack, kind, changes, per)
    engine: list[Run] = []
    baseline: list[Run] = []
    for number in range(options.rounds):
        # The order changes, so that neither always profits from what the other has warmed up.
        for side in ((engine, baseline), (baseline, engine))[number % 2]:
            run = _run_engine(stack, end) if side is engine else _run_baseline(stack, end)
            side.append(run)
    with stack.connect() as connection:
        connection.execute("select pg_drop_replication_slot(%s)", (BASE_SLOT,))
    result = {
        "changes": changes,
        "engine_changes_per_s": round(changes / median([run.wall for run in engine])),
        "recvlogical_changes_per_s": round(changes / median([run.wall for run in baseline])),
        "ratio": median([b.wall / e.wall for e, b in zip(engine, baseline, strict=True)]),
        "engine_cpu_us_per_change": _micros(changes, [run.cpu for run in engine]),
        "recvlogical_cpu_us_per_change": _micros(changes, [run.cpu for run in baseline]),
        "postgres_cpu_us_per_change": {
            "engine": _micros(changes, [run.postgres_cpu for run in engine]),
            "recvlogical": _micros(changes, [run.postgres_cpu for run in baseline]),
        },
        "runs": {
            "engine": [run._asdict() for run in engine],
            "recvlogical": [run._asdict() for run in baseline],
        },
    }
    report.note(
        f"{name}: {result['engine_changes_per_s']}/s, {result['ratio']:.2f} of pg_recvlogical, "
        f"{result['engine_cpu_us_per_change']:.1f} µs CPU"
    )
    return result


def _prepare(stack: Stack, kind: Kind, changes: int, per: int) -> int:
    """Write the changes behind a slot; the LSN before the last of them."""
    with stack.connect() as connection:
        if kind == "insert":
            connection.execute("truncate items")
        connection.execute(
            "select pg_create_logical_replication_slot(%s, 'pgoutput')", (BASE_SLOT,)
        )
        write_items(connection, kind, 1, changes - 1, min(per, changes))
        row = connection.execute(
            "select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"
        ).fetchone()
        write_items(connection, kind, changes, 1, 1)
        connection.execute("checkpoint")  # which also writes the WAL out
    assert row is not None
    return int(row[0])


def _copy_slot(stack: Stack, name: str) -> None:
    with stack.connect() as connection:
        connection.execute(
            "select pg_copy_logical_replication_slot(%s, %s, false)", (BASE_SLOT, name)
        )


def _drop_slot(stack: Stack, name: str) -> None:
    with stack.connect() as connection:
        connection.execute(
            "select pg_terminate_backend(active_pid, 10000) from pg_replication_slots "
            "where slot_name = %s and active",
            (name,),
        )
        connection.execute("select pg_drop_replication_slot(%s)", (name,))


def _run_engine(stack: Stack, end: int) -> Run:
    """From the moment at which the engine is connected and its log exists to the last change."""
    shutil.rmtree(stack.settings.data_dir, ignore_errors=True)
    _copy_slot(stack, ENGINE_SLOT)
    postgres = tree_cpu_seconds(stack.postgres_pid)
    stack.start_engine()
    reader = stack.open_log()
    began, cpu = time.monotonic(), cpu_seconds([stack.engine_pid])
    stack.wait_for_log(reader, end)
    wall, cpu = time.monotonic() - began, cpu_seconds([stack.engine_pid]) - cpu
    postgres = tree_cpu_seconds(stack.postgres_pid) - postgres
    reader.close()
    stack.stop_engine()
    _drop_slot(stack, ENGINE_SLOT)
    return Run(wall, cpu, postgres)


def _run_baseline(stack: Stack, end: int) -> Run:
    """pg_recvlogical with the engine's options for decoding, into a file."""
    _copy_slot(stack, BASELINE_SLOT)
    postgres = tree_cpu_seconds(stack.postgres_pid)
    output = stack.folder / "recvlogical.out"
    last = end + 1
    command_line = [
        str(stack.postgres.bin / "pg_recvlogical"),
        *("--dbname", stack.database_url, "--slot", BASELINE_SLOT, "--start", "--no-loop"),
        *("--endpos", f"{last >> 32:X}/{last & 0xFFFFFFFF:X}", "--file", str(output)),
        *("-o", "proto_version=2", "-o", "streaming=on"),
        *("-o", f"publication_names={stack.settings.publication}"),
    ]
    environ = {**os.environ, "PGOPTIONS": "-c logical_decoding_work_mem=16MB"}
    began = time.monotonic()
    process = subprocess.Popen(command_line, env=environ)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"pg_recvlogical ended with {process.returncode}")
    postgres = tree_cpu_seconds(stack.postgres_pid) - postgres
    output.unlink()
    _drop_slot(stack, BASELINE_SLOT)
    return Run(wall, usage.ru_utime + usage.ru_stime, postgres)


def _micros(changes: int, seconds: list[float]) -> float:
    return round(median(seconds) / changes * 1e6, 3)


def main() -> None:
    command("wal_throughput", __doc__, SIZES, measure)


if __name__ == "__main__":
    main()
