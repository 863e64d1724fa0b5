"""WAL into the log: how fast the engine takes in what Postgres has, against pg_recvlogical.

The changes lie in the WAL before anybody reads them. Engine and pg_recvlogical (which writes what it
gets to a file) then read the very same WAL in turns, each from a copy of one slot.
"""

from __future__ import annotations

import argparse
import shutil
import time
from typing import Any

from bench.items import Kind, create_items, publish, write_items
from bench.processes import cpu_seconds, tree_cpu_seconds
from bench.recvlogical import Run, copy_slot, create_slot, drop_slot, insert_lsn, receive
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
    "changes": (500_000, 5_000, "changes per workload"),
    "rounds": (3, 1, "times that each side reads them"),
}


def measure(report: Report, options: argparse.Namespace) -> None:
    with open_stack() as stack:
        report.postgres(stack.scalar("show server_version"))
        with stack.connect() as connection:
            create_items(connection)
            publish(connection, stack.settings.publication)
        for name, kind, per in WORKLOADS:
            result = _measure_one(stack, kind, per, options)
            report.results[name] = result
            cost = result["engine_cpu_us_per_change"]
            report.note(
                f"{name}: {result['engine_changes_per_s']}/s, {result['ratio']:.2f} of "
                f"pg_recvlogical, {cost:.1f} µs CPU"
            )
            report.at_least(f"{name}: speed against pg_recvlogical", result["ratio"], "ratio", 0.8)
            report.at_most(f"{name}: engine CPU per change", cost, "µs", 8.0)


def _measure_one(stack: Stack, kind: Kind, per: int, options: argparse.Namespace) -> dict[str, Any]:
    changes: int = options.changes
    end = _prepare(stack, kind, changes, per)
    engine: list[Run] = []
    baseline: list[Run] = []
    for number in range(options.rounds):
        # The order changes, so that neither always profits from what the other has warmed up.
        for side in ((engine, baseline), (baseline, engine))[number % 2]:
            side.append(_run_engine(stack, end) if side is engine else _run_baseline(stack, end))
    drop_slot(stack, BASE_SLOT)
    return {
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


def _prepare(stack: Stack, kind: Kind, changes: int, per: int) -> int:
    """Write the changes behind a slot; the LSN before the last of them."""
    with stack.connect() as connection:
        if kind == "insert":
            connection.execute("truncate items")
        create_slot(stack, BASE_SLOT)
        write_items(connection, kind, 1, changes - 1, min(per, changes))
        end = insert_lsn(stack)
        write_items(connection, kind, changes, 1, 1)
        connection.execute("checkpoint")  # which also writes the WAL out
    return end


def _run_engine(stack: Stack, end: int) -> Run:
    """From the moment at which the engine is connected and its log exists to the last change."""
    shutil.rmtree(stack.settings.data_dir, ignore_errors=True)
    copy_slot(stack, BASE_SLOT, ENGINE_SLOT)
    postgres = tree_cpu_seconds(stack.postgres_pid)
    stack.start_engine()
    reader = stack.open_log()
    began, cpu = time.monotonic(), cpu_seconds([stack.engine_pid])
    stack.wait_for_log(reader, end)
    wall, cpu = time.monotonic() - began, cpu_seconds([stack.engine_pid]) - cpu
    reader.close()
    stack.stop_engine()
    postgres = tree_cpu_seconds(stack.postgres_pid) - postgres
    drop_slot(stack, ENGINE_SLOT)
    return Run(wall, cpu, postgres)


def _run_baseline(stack: Stack, end: int) -> Run:
    copy_slot(stack, BASE_SLOT, BASELINE_SLOT)
    run = receive(stack, BASELINE_SLOT, end + 1)
    drop_slot(stack, BASELINE_SLOT)
    return run


def _micros(changes: int, seconds: list[float]) -> float:
    return round(median(seconds) / changes * 1e6, 3)


def main() -> None:
    command("wal_throughput", __doc__, SIZES, measure)


if __name__ == "__main__":
    main()
