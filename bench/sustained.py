"""How many changes per second the whole path carries to live clients.

First many shapes of one run each, every one with a live long-poll client: the rate is raised until the
clients fall behind. Then one shape of the whole table with one live reader, behind a writer that
nothing holds back, against pg_recvlogical over the same WAL.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from typing import Any, Literal

from bench.items import create_items, write_items
from bench.processes import cpu_seconds
from bench.readers import Readers, shape, start_readers
from bench.recvlogical import create_slot, drop_slot, insert_lsn, receive
from bench.report import Report, command, median, milliseconds
from bench.stack import Stack, micros_per, open_stack
from bench.writer import Writer

SIZES = {
    "shapes": (1_000, 20, "shapes of one run, with one live client each"),
    "seconds": (4.0, 1.0, "duration at each rate"),
    "rows": (100_000, 2_000, "rows written to the whole-table shape"),
    "rounds": (3, 1, "runs of the whole-table part"),
}

FIRST_RATE = 1000.0
GROWTH = 1.5
PRECISION = 1.12
STEPS_PER_SECOND = 100
"""Transactions per second of the writer at any rate: what grows is how many rows each has."""

BEHIND_SECONDS = 0.25
"""Clients keep up if the last change of a step reaches them within this time after its commit."""

ROWS_PER_TRANSACTION = 100
FIRST_NEW_ROW = 10_000_000
BASELINE_SLOT = "bench_recvlogical"


def measure(report: Report, options: argparse.Namespace) -> None:
    with open_stack() as stack:
        report.postgres(stack.scalar("show server_version"))
        with stack.connect() as connection:
            create_items(connection, options.shapes)
        stack.start()
        _measure_shapes(report, stack, options)
        _measure_table(report, stack, "long-poll", options, FIRST_NEW_ROW)
        _measure_table(report, stack, "sse", options, 2 * FIRST_NEW_ROW)


def _measure_shapes(report: Report, stack: Stack, options: argparse.Namespace) -> None:
    queries = [shape(f"id = 'run_{number}'") for number in range(1, options.shapes + 1)]
    steps: list[dict[str, Any]] = []
    with start_readers(stack.port, "long-poll", queries) as readers, stack.connect() as connection:
        writer = Writer(connection)
        good, bad = FIRST_RATE, math.inf
        _step(stack, readers, writer, good, 1.0, options.shapes)
        rate = FIRST_RATE
        # Up until they fall behind; then two steps in between.
        while bad > good * PRECISION:
            step = _step(stack, readers, writer, rate, options.seconds, options.shapes)
            steps.append(step)
            report.note(f"{rate:.0f} changes/s: {step['behind_s'] * 1000:.0f} ms behind at the end")
            good, bad = (rate, bad) if step["kept_up"] else (good, rate)
            rate = good * GROWTH if bad == math.inf else math.sqrt(good * bad)
            if bad <= FIRST_RATE:
                break
    best = max((step["written_per_s"] for step in steps if step["kept_up"]), default=0)
    name = f"{options.shapes} shapes with a long-poll client each"
    report.results[name] = {"sustained_changes_per_s": best, "steps": steps}
    report.at_least(f"{name}: sustained", best, "changes/s", 8000)


def _step(
    stack: Stack, readers: Readers, writer: Writer, rate: float, seconds: float, shapes: int
) -> dict[str, Any]:
    """Write at a rate for some time; how far the clients were behind at the end."""
    choose = random.Random(1)
    writer.forget()
    before = stack.cpu() | {"clients": cpu_seconds([readers.pid])}
    began = time.monotonic()
    per = min(max(1, round(rate / STEPS_PER_SECOND)), shapes)
    runs = range(1, shapes + 1)

    def pick() -> list[int]:
        return choose.sample(runs, per)

    written = writer.write_paced(rate, seconds, pick, per)
    took = time.monotonic() - began
    last = max(writer.committed.values())
    receipts = readers.take_until(written)
    after = stack.cpu() | {"clients": cpu_seconds([readers.pid])}
    behind = (max(at for _, at in receipts) - last) / 1e9
    return {
        "rate": round(rate),
        "written_per_s": round(written / took),
        "behind_s": round(behind, 3),
        "kept_up": behind < BEHIND_SECONDS and written / took > rate * 0.9,
        "from_statement": milliseconds([at - writer.sent[one] for one, at in receipts]),
        "cpu_us_per_change": micros_per(written, before, after),
    }


def _measure_table(
    report: Report,
    stack: Stack,
    mode: Literal["long-poll", "sse"],
    options: argparse.Namespace,
    first: int,
) -> None:
    """Insert rows from number `first` on."""
    rounds: list[dict[str, Any]] = []
    rows: int = options.rows
    for _ in range(options.rounds):
        create_slot(stack, BASELINE_SLOT)
        with (
            start_readers(stack.port, mode, [shape()], history=False) as readers,
            stack.connect() as connection,
        ):
            before = stack.cpu() | {"clients": cpu_seconds([readers.pid])}
            began = time.monotonic_ns()
            write_items(connection, "insert", first, rows, ROWS_PER_TRANSACTION)
            written = time.monotonic_ns()
            receipts = readers.take_until(rows)
            after = stack.cpu() | {"clients": cpu_seconds([readers.pid])}
            end = insert_lsn(stack)
            connection.execute("checkpoint")
        baseline = receive(stack, BASELINE_SLOT, end)
        drop_slot(stack, BASELINE_SLOT)
        first += rows
        rounds.append(
            {
                "rows_per_s": rows / ((max(at for _, at in receipts) - began) / 1e9),
                "writer_rows_per_s": rows / ((written - began) / 1e9),
                "recvlogical_rows_per_s": rows / baseline.wall,
                "cpu_us_per_row": micros_per(rows, before, after),
            }
        )
    name = f"whole table, one {mode} reader"
    result: dict[str, Any] = {
        key: round(median([one[key] for one in rounds]))
        for key in ("rows_per_s", "writer_rows_per_s", "recvlogical_rows_per_s")
    }
    ratios = [one["rows_per_s"] / one["recvlogical_rows_per_s"] for one in rounds]
    result |= {"ratio_to_recvlogical": median(ratios), "rounds": rounds}
    report.results[name] = result
    report.note(f"{name}: {result['rows_per_s']} rows/s, writer {result['writer_rows_per_s']}")
    report.at_least(f"{name}: rows", result["rows_per_s"], "rows/s", 80_000)


def main() -> None:
    command("sustained", __doc__, SIZES, measure)


if __name__ == "__main__":
    main()
