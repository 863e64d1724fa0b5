"""nginx in front: what many long-poll clients of one shape then cost pgtide, and when they hear of it.

The baseline are the same clients without nginx.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.items import create_items
from bench.nginx import Nginx, open_nginx
from bench.processes import Bystanders, cpu_seconds, tree_cpu_seconds
from bench.readers import Receipts, shape, start_readers
from bench.report import Report, command, median, milliseconds
from bench.stack import BenchError, Stack, micros_per, open_stack
from bench.writer import Writer

SIZES = {
    "clients": (2_000, 100, "clients of the shape"),
    "rate": (2.0, 2.0, "changes per second"),
    "seconds": (10.0, 4.0, "duration of one run"),
    "rounds": (3, 1, "runs of each kind"),
}
WARM_UP_SECONDS = 2.0
MOST_REQUESTS = 3.0
"""Per change."""


def measure(report: Report, options: argparse.Namespace) -> None:
    with open_stack() as stack:
        report.postgres(stack.scalar("show server_version"))
        with stack.connect() as connection:
            create_items(connection, 1000)
            stack.start()
            writer = Writer(connection)
            behind: list[dict[str, Any]] = []
            straight: list[dict[str, Any]] = []
            for _ in range(options.rounds):
                with _nginx(stack) as nginx:
                    behind.append(_measure_one(stack, writer, options, nginx))
                straight.append(_measure_one(stack, writer, options, None))
    requests = median([one["requests_per_change"] for one in behind])
    p50, p99 = (
        median([one["from_statement"][name] for one in behind]) for name in ("p50_ms", "p99_ms")
    )
    report.results = {
        "requests_per_change": requests,
        "p50_ms": p50,
        "p99_ms": p99,
        "behind_nginx": behind,
        "straight": straight,
    }
    report.note(f"{requests} requests per change, p50 {p50} p99 {p99} ms")
    report.at_most("requests to pgtide per change", requests, "", MOST_REQUESTS)


def _measure_one(
    stack: Stack, writer: Writer, options: argparse.Namespace, nginx: Nginx | None
) -> dict[str, Any]:
    clients: int = options.clients
    port = stack.port if nginx is None else nginx.port
    with start_readers(port, "long-poll", [shape("id = 'run_1'")] * clients) as readers:

        def cpu() -> dict[str, float]:
            proxy = {} if nginx is None else {"nginx": tree_cpu_seconds(nginx.pid)}
            return stack.cpu() | proxy | {"clients": cpu_seconds([readers.pid])}

        warm = writer.write_paced(options.rate, WARM_UP_SECONDS, lambda: [1])
        readers.take_until(warm * clients)
        writer.forget()
        asked = 0 if nginx is None else len(nginx.origin_requests())
        bystanders = Bystanders()
        before = cpu()
        written = writer.write_paced(options.rate, options.seconds, lambda: [1])
        receipts = readers.take_until(written * clients)
        after = cpu()
        share = bystanders.share()
        found: dict[str, Any] = {}
        if nginx is not None:
            asked = len(nginx.origin_requests()) - asked
            found["requests_per_change"] = round(asked / written, 2)
    _check(receipts, set(writer.sent), clients)
    return found | {
        "from_statement": milliseconds([at - writer.sent[one] for one, at in receipts]),
        "cpu_us_per_delivery": micros_per(len(receipts), before, after),
        "others_share_of_cpu": round(share, 2),
    }


@contextmanager
def _nginx(stack: Stack) -> Generator[Nginx]:
    """With nothing kept yet."""
    with (
        tempfile.TemporaryDirectory(prefix="pgtide-bench-nginx-") as folder,
        open_nginx(Path(folder), stack.port) as nginx,
    ):
        yield nginx


def _check(receipts: Receipts, sequences: set[int], clients: int) -> None:
    counts = Counter(sequence for sequence, _ in receipts)
    if counts != dict.fromkeys(sequences, clients):
        raise BenchError("what the clients got is not what was written")


def main() -> None:
    command("cache", __doc__, SIZES, measure)


if __name__ == "__main__":
    main()
