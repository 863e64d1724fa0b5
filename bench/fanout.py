"""One shape with many readers: time to the last of them, and what a delivery costs the node.

The baseline is a bare server that holds the same clients and sends them ready-made bytes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Literal

from bench.items import create_items
from bench.processes import Bystanders, cpu_seconds
from bench.readers import Readers, Receipts, shape, start_readers
from bench.report import Report, command, median, milliseconds
from bench.stack import BenchError, Stack, micros_per, open_stack
from bench.writer import Writer

SIZES = {
    "clients": (1_000, 50, "clients of the shape"),
    "rate": (2.0, 2.0, "changes per second"),
    "seconds": (8.0, 3.0, "duration of one run"),
    "rounds": (3, 1, "runs of each kind"),
}
WARM_UP_SECONDS = 2.0

Live = Literal["long-poll", "sse"]
AIMS: dict[Live, tuple[float, float, float]] = {
    "long-poll": (30.0, 60.0, 45.0),
    "sse": (8.0, 20.0, 9.0),
}
"""p50 and p99 in milliseconds, node CPU microseconds per delivery."""


def measure(report: Report, options: argparse.Namespace) -> None:
    with open_stack() as stack:
        report.postgres(stack.scalar("show server_version"))
        with stack.connect() as connection:
            create_items(connection, 1000)
            stack.start()
            writer = Writer(connection)
            for mode in AIMS:
                rounds: list[dict[str, Any]] = []
                floors: list[dict[str, Any]] = []
                for _ in range(options.rounds):
                    rounds.append(_measure_one(stack, writer, mode, options))
                    floors.append(_measure_floor(mode, options))
                _conclude(report, mode, rounds, floors)


def _conclude(
    report: Report, mode: Live, rounds: list[dict[str, Any]], floors: list[dict[str, Any]]
) -> None:
    p50 = median([one["from_statement"]["p50_ms"] for one in rounds])
    p99 = median([one["from_statement"]["p99_ms"] for one in rounds])
    cost = median([one["cpu_us_per_delivery"]["node"] for one in rounds])
    floor = median([one["cpu_us_per_delivery"] for one in floors])
    report.results[mode] = {
        "p50_ms": p50,
        "p99_ms": p99,
        "node_cpu_us_per_delivery": cost,
        "bare_server": {
            "p50_ms": median([one["from_write"]["p50_ms"] for one in floors]),
            "p99_ms": median([one["from_write"]["p99_ms"] for one in floors]),
            "cpu_us_per_delivery": floor,
        },
        "ratio_to_bare_server": round(cost / max(floor, 0.01), 2),
        "rounds": rounds,
        "bare_server_rounds": floors,
    }
    report.note(f"{mode}: p50 {p50} p99 {p99} ms, {cost} µs per delivery, bare server {floor} µs")
    for what, value, unit, limit in zip(
        ("p50", "p99", "node CPU per delivery"),
        (p50, p99, cost),
        ("ms", "ms", "µs"),
        AIMS[mode],
        strict=True,
    ):
        report.at_most(f"{mode}: {what}", value, unit, limit)


def _measure_one(
    stack: Stack, writer: Writer, mode: Live, options: argparse.Namespace
) -> dict[str, Any]:
    clients: int = options.clients
    with start_readers(stack.port, mode, [shape("id = 'run_1'")] * clients) as readers:
        warm = writer.write_paced(options.rate, WARM_UP_SECONDS, lambda: [1])
        readers.take_until(warm * clients)
        writer.forget()
        bystanders = Bystanders()
        before = stack.cpu() | {"clients": cpu_seconds([readers.pid])}
        written = writer.write_paced(options.rate, options.seconds, lambda: [1])
        receipts = readers.take_until(written * clients)
        after = stack.cpu() | {"clients": cpu_seconds([readers.pid])}
        others = bystanders.share()
    _check(receipts, set(writer.sent), clients)
    return {
        "from_statement": milliseconds([at - writer.sent[one] for one, at in receipts]),
        "cpu_us_per_delivery": micros_per(len(receipts), before, after),
        "others_share_of_cpu": round(others, 2),
    }


def _measure_floor(mode: Live, options: argparse.Namespace) -> dict[str, Any]:
    clients: int = options.clients
    with (
        _floor() as (process, port),
        start_readers(port, mode, ["table=items"] * clients) as readers,
    ):
        _deliver(process, readers, options.rate, WARM_UP_SECONDS, clients)
        before = cpu_seconds([process.pid])
        sent, receipts = _deliver(process, readers, options.rate, options.seconds, clients)
        cost = cpu_seconds([process.pid]) - before
    _check(receipts, set(sent), clients)
    return {
        "from_write": milliseconds([at - sent[one] for one, at in receipts]),
        "cpu_us_per_delivery": round(cost / len(receipts) * 1e6, 2),
    }


def _deliver(
    process: subprocess.Popen[bytes], readers: Readers, rate: float, seconds: float, clients: int
) -> tuple[dict[int, int], Receipts]:
    assert process.stdin is not None
    sent: dict[int, int] = {}
    began = time.monotonic()
    for number in range(int(rate * seconds)):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        sent[number] = time.monotonic_ns()
        process.stdin.write(b"%d\n" % number)
        process.stdin.flush()
    return sent, readers.take_until(len(sent) * clients)


@contextmanager
def _floor() -> Generator[tuple[subprocess.Popen[bytes], int]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.floor_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process, int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(5)
        process.stdout.close()


def _check(receipts: Receipts, sequences: set[int], clients: int) -> None:
    counts = Counter(sequence for sequence, _ in receipts)
    if counts != dict.fromkeys(sequences, clients):
        raise BenchError("what the clients got is not what was written")


def main() -> None:
    command("fanout", __doc__, SIZES, measure)


if __name__ == "__main__":
    main()
