"""Memory of engine and node, idle and with many idle shapes, and how fast small shapes are made.

A shape is opened as a client does it: its snapshot (offset -1), then the answer after that. Nobody
waits on it afterwards. What counts per shape is anonymous memory beyond the first few thousand
shapes: the snapshots are in a file that is mapped, whose pages the kernel takes back when it needs
them. The baseline of the time is one indexed query per shape over one connection.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from bench.items import create_items
from bench.processes import Memory, memory
from bench.readers import Receipts, shape, start_readers
from bench.report import Report, command, median
from bench.stack import Stack, micros_per, open_stack

SIZES = {
    "shapes": (100_000, 2_000, "shapes of one run each, opened in the end"),
    "rounds": (1, 1, "times that all of it is done"),
}
MARKS = (1_000, 5_000)
"""Numbers of shapes whose creation has a goal: 1 s and 5 s."""

GOAL_SECONDS_PER_SHAPE = 0.001
IDLE_MEGABYTES = 120
SETTLE_SECONDS = 1.0


def measure(report: Report, options: argparse.Namespace) -> None:
    rounds = [_measure_once(report, options.shapes) for _ in range(options.rounds)]
    report.results["rounds"] = rounds
    idle = median([one["idle"]["engine_and_node_pss_mb"] for one in rounds])
    report.at_most("engine and node, idle", idle, "MB (PSS)", IDLE_MEGABYTES)
    for position, point in enumerate(rounds[0]["points"]):
        each = [one["points"][position]["anonymous_bytes_per_shape"] for one in rounds]
        report.at_most(f"{point['shapes']} idle shapes: each", median(each), "bytes", 1024)
    for mark, ratio in rounds[0]["creating"].items():
        seconds = median([one["creating"][mark]["seconds"] for one in rounds])
        limit = mark * GOAL_SECONDS_PER_SHAPE
        report.at_most(f"opening {mark} shapes", seconds, "s", limit)
        del ratio


def _measure_once(report: Report, shapes: int) -> dict[str, Any]:
    with open_stack(shape_idle_timeout=86400.0) as stack:
        report.postgres(stack.scalar("show server_version"))
        with stack.connect() as connection:
            create_items(connection, shapes)
        stack.start()
        time.sleep(SETTLE_SECONDS)
        idle = _memory(stack)
        report.note(f"idle: {_megabytes(idle)}")
        points: list[dict[str, Any]] = []
        creating: dict[int, dict[str, float]] = {}
        first: dict[str, Memory] = {}
        opened = 0
        for target in (shapes // 20, shapes // 10, shapes):
            cpu = stack.cpu()
            began = time.monotonic_ns()
            receipts = _open_shapes(stack, opened, target)
            cost = micros_per(target - opened, cpu, stack.cpu())
            seconds = (max(at for _, at in receipts) - began) / 1e9
            rate = round((target - opened) / seconds)
            time.sleep(SETTLE_SECONDS)
            now = _memory(stack)
            report.note(f"{target} shapes: {_megabytes(now)}, {rate} opened per second")
            if first:
                grown = _grown(first, now, target - shapes // 20)
                costs = {"opened_per_s": rate, "cpu_us_per_opening": cost}
                points.append({"shapes": target} | grown | costs | {"memory": _megabytes(now)})
            else:
                creating = _creating(stack, receipts, began)
                first = now
            opened = target
        return {"idle": _megabytes(idle), "points": points, "creating": creating}


def _open_shapes(stack: Stack, first: int, last: int) -> Receipts:
    queries = [shape(f"id = 'run_{number}'") for number in range(first + 1, last + 1)]
    with start_readers(stack.port, "open", queries) as readers:
        return readers.take()


def _creating(stack: Stack, receipts: Receipts, began: int) -> dict[int, dict[str, float]]:
    """Seconds until so many shapes were open, against the bare queries."""
    ends = sorted(at for _, at in receipts)
    found: dict[int, dict[str, float]] = {}
    for mark in MARKS:
        if mark > len(ends):
            break
        seconds = (ends[mark - 1] - began) / 1e9
        queries = _query_seconds(stack, mark)
        found[mark] = {
            "seconds": round(seconds, 3),
            "bare_queries_seconds": round(queries, 3),
            "ratio_to_bare_queries": round(seconds / queries, 2),
        }
    return found


def _query_seconds(stack: Stack, count: int) -> float:
    with stack.connect() as connection:
        began = time.monotonic()
        for number in range(1, count + 1):
            connection.execute("select * from items where id = %s", (f"run_{number}",)).fetchall()
        return time.monotonic() - began


def _memory(stack: Stack) -> dict[str, Memory]:
    return {"engine": memory(stack.engine_pid), "node": memory(stack.node_pids[0])}


def _grown(before: dict[str, Memory], now: dict[str, Memory], shapes: int) -> dict[str, int]:
    """Growth of both processes together, per shape."""
    return {
        f"{field}_bytes_per_shape": round(
            sum(getattr(now[name], field) - getattr(before[name], field) for name in now) / shapes
        )
        for field in Memory._fields
    }


def _megabytes(now: dict[str, Memory]) -> dict[str, float]:
    figures = {
        f"{name}_{field}_mb": round(getattr(one, field) / 1e6, 1)
        for name, one in now.items()
        for field in Memory._fields
    }
    return figures | {"engine_and_node_pss_mb": round(sum(m.pss for m in now.values()) / 1e6, 1)}


def main() -> None:
    command("memory", __doc__, SIZES, measure)


if __name__ == "__main__":
    main()
