"""Commit to client: how long it takes until whoever follows a run knows of its change.

Changes are single-row transactions at a steady rate. Times run from the moment at which the writer
sends the statement (so they contain Postgres's own commit with its disk flush, shown beside them) and
from the moment at which it knows that the commit is done.
"""

from __future__ import annotations

import argparse
import random
from typing import Any, Literal

from bench.items import create_items
from bench.processes import Bystanders, cpu_seconds
from bench.readers import Receipts, shape, start_readers
from bench.report import Report, command, median, milliseconds
from bench.stack import BenchError, Stack, micros_per, open_stack
from bench.writer import Writer

SIZES = {
    "shapes": (1_000, 10, "shapes with one live client each, in the larger half"),
    "rate": (100, 20, "changes per second"),
    "seconds": (8.0, 2.0, "duration of one run"),
    "rounds": (3, 1, "runs of each kind"),
}
WARM_UP_SECONDS = 1.0


def measure(report: Report, options: argparse.Namespace) -> None:
    modes: tuple[Literal["long-poll", "sse"], ...] = ("long-poll", "sse")
    with open_stack() as stack:
        report.postgres(stack.scalar("show server_version"))
        with stack.connect() as connection:
            create_items(connection, max(options.shapes, 1000))
            stack.start()
            writer = Writer(connection)
            for shapes in (1, options.shapes):
                for mode in modes:
                    rounds = [
                        _measure_one(stack, writer, mode, shapes, options)
                        for _ in range(options.rounds)
                    ]
                    name = f"{mode}, {shapes} shapes with one client each"
                    report.results[name] = result = _summary(rounds)
                    report.note(
                        f"{name}: p50 {result['p50_ms']} p99 {result['p99_ms']} ms, "
                        f"commit alone p50 {result['commit_p50_ms']} ms"
                    )
                    report.at_most(f"{name}: p50", result["p50_ms"], "ms", 3.0)


def _measure_one(
    stack: Stack,
    writer: Writer,
    mode: Literal["long-poll", "sse"],
    shapes: int,
    options: argparse.Namespace,
) -> dict[str, Any]:
    choose = random.Random(1)
    queries = [shape(f"id = 'run_{number}'") for number in range(1, shapes + 1)]

    def pick() -> list[int]:
        return [choose.randint(1, shapes)]

    with start_readers(stack.port, mode, queries) as readers:
        readers.take_until(writer.write_paced(options.rate, WARM_UP_SECONDS, pick))
        writer.forget()
        bystanders = Bystanders()
        before = stack.cpu() | {"clients": cpu_seconds([readers.pid])}
        written = writer.write_paced(options.rate, options.seconds, pick)
        receipts = readers.take_until(written)
        after = stack.cpu() | {"clients": cpu_seconds([readers.pid])}
        others = bystanders.share()
    _check(writer, receipts)
    return {
        "from_statement": milliseconds([at - writer.sent[one] for one, at in receipts]),
        "from_commit": milliseconds([at - writer.committed[one] for one, at in receipts]),
        "commit_alone": milliseconds(
            [writer.committed[one] - writer.sent[one] for one, _ in receipts]
        ),
        "cpu_us_per_change": micros_per(written, before, after),
        "others_share_of_cpu": round(others, 2),
    }


def _check(writer: Writer, receipts: Receipts) -> None:
    if sorted(sequence for sequence, _ in receipts) != sorted(writer.sent):
        raise BenchError("what the clients got is not what was written")


def _summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    p50 = median([one["from_statement"]["p50_ms"] for one in rounds])
    commit = median([one["commit_alone"]["p50_ms"] for one in rounds])
    return {
        "p50_ms": p50,
        "p99_ms": median([one["from_statement"]["p99_ms"] for one in rounds]),
        "after_commit_p50_ms": median([one["from_commit"]["p50_ms"] for one in rounds]),
        "after_commit_p99_ms": median([one["from_commit"]["p99_ms"] for one in rounds]),
        "commit_p50_ms": commit,
        "ratio_to_commit": round(p50 / commit, 2),
        "rounds": rounds,
    }


def main() -> None:
    command("latency", __doc__, SIZES, measure)


if __name__ == "__main__":
    main()
