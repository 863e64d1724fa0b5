"""One write that touches many overlapping shapes, each with a waiting client.

Every shape has a filter of its own, which the written row passes. Measured is the time from before
the statement until the last client has the change, and the node's CPU time for it (of long polls with
the next requests); nobody else writes. The clients, in a process of their own, share the machine.
"""

from __future__ import annotations

import argparse
import time
from typing import Any, Literal

from bench.items import create_items
from bench.processes import cpu_seconds
from bench.readers import shape, start_readers
from bench.report import Report, command, median
from bench.stack import Stack, open_stack
from bench.writer import Writer

SIZES = {
    "shapes": (10_000, 200, "shapes with a client each"),
    "writes": (10, 3, "writes, one after the other"),
}
AIM_MS = 600.0
SETTLE_SECONDS = 0.5
WARM_UP = 2


def measure(report: Report, options: argparse.Namespace) -> None:
    modes: tuple[Literal["long-poll", "sse"], ...] = ("sse", "long-poll")
    for mode in modes:
        with open_stack(shape_idle_timeout=86400.0) as stack:
            report.postgres(stack.scalar("show server_version"))
            with stack.connect() as connection:
                create_items(connection, 10)
                stack.start()
                found = _measure(stack, Writer(connection), mode, options)
        report.results[mode] = found
        report.note(f"{mode}: {found['all_served_ms']} ms, CPU {found['node_cpu_ms']} ms")
        report.at_most(f"{mode}: all served", found["all_served_ms"], "ms", AIM_MS)


def _measure(
    stack: Stack, writer: Writer, mode: Literal["long-poll", "sse"], options: argparse.Namespace
) -> dict[str, Any]:
    shapes: int = options.shapes
    queries = [shape(f"seq > -{number}") for number in range(1, shapes + 1)]
    rounds: list[dict[str, float]] = []
    with start_readers(stack.port, mode, queries) as readers:
        for _ in range(WARM_UP + options.writes):
            time.sleep(SETTLE_SECONDS)
            pids = {"node": stack.node_pids[0], "clients": readers.pid}
            before = {name: cpu_seconds([pid]) for name, pid in pids.items()}
            writer.forget()
            writer.write([1])
            (sent,) = writer.sent.values()
            receipts = readers.take_until(shapes)
            served = cpu_seconds([pids["node"]])
            time.sleep(SETTLE_SECONDS)
            after = {name: cpu_seconds([pid]) for name, pid in pids.items()}
            ends = sorted(at for _, at in receipts)
            rounds.append(
                {
                    "all_served_ms": round((ends[-1] - sent) / 1e6, 1),
                    "half_served_ms": round((ends[shapes // 2] - sent) / 1e6, 1),
                    "node_cpu_until_served_ms": round((served - before["node"]) * 1e3, 1),
                    "node_cpu_ms": round((after["node"] - before["node"]) * 1e3, 1),
                    "clients_cpu_ms": round((after["clients"] - before["clients"]) * 1e3, 1),
                }
            )
    rounds = rounds[WARM_UP:]
    figures = {name: median([one[name] for one in rounds]) for name in rounds[0]}
    return figures | {
        "node_cpu_us_per_shape": round(figures["node_cpu_ms"] * 1e3 / shapes, 2),
        "ratio_of_node_cpu_to_clients": round(
            figures["node_cpu_ms"] / figures["clients_cpu_ms"], 2
        ),
        "rounds": rounds,
    }


def main() -> None:
    command("overlap", __doc__, SIZES, measure)


if __name__ == "__main__":
    main()
