"""Streams: appending, delivering and catching up, beside the reference server of Durable Streams.

The same clients ask pgtide (CPU of node, engine and Postgres together; what it has acknowledged is on
disk) and `@durable-streams/server` from npm, once in memory and once with files, in the same run. The
last part asks what appends do to those who follow runs.
"""

from __future__ import annotations

import argparse
import random
import statistics
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg

from bench.items import create_items
from bench.readers import shape, start_readers
from bench.report import Report, command, median, milliseconds
from bench.stack import STREAM_ID, BenchError, Stack, open_stack
from bench.stream_clients import Work, run_clients
from bench.stream_servers import Pgtide, Server, start_reference
from bench.writer import Writer
from engine.postgres.migrate import migrate

SIZES = {
    "producers": (32, 4, "clients that append, each to a stream of its own"),
    "readers": (200, 10, "clients that read one stream as events"),
    "pollers": (1_000, 50, "clients that wait for one stream with long polls"),
    "megabytes": (50, 4, "size of the stream that is read as a whole"),
    "small_kilobytes": (1024, 128, "size of streams of small chunks that are read as a whole"),
    "seconds": (6.0, 1.0, "duration of one measurement"),
    "rounds": (5, 1, "measurements of each kind"),
}
RATE = 50.0
CHUNK_BYTES = 64 << 10
SMALL_CHUNK_BYTES = (20, 50, 1000, 8192)
SMALL_READS = 10
FLOOD_PER_SECOND = 5_000
FLOOD_BATCH = 50

Figures = dict[str, Any]


def measure(report: Report, options: argparse.Namespace) -> None:
    with ExitStack() as context:
        folder = Path(context.enter_context(TemporaryDirectory(prefix="pgtide-bench-")))
        stack = context.enter_context(open_stack())
        report.postgres(stack.scalar("show server_version"))
        with stack.connect() as connection:
            _migrate(stack)
            create_items(connection, 1000)
            stack.start()
            servers: list[Server] = [
                Pgtide(stack),
                context.enter_context(start_reference(None)),
                context.enter_context(start_reference(folder)),
            ]
            for kind, ask in (
                ("append", _append),
                ("sse", _sse),
                ("long-poll", _long_poll),
                ("catch-up", _catch_up),
            ):
                rounds: list[dict[str, Figures]] = []
                for number in range(options.rounds):
                    # In turns, so that all of them meet the same noise.
                    rounds.append(
                        {one.name: ask(one, f"{kind}-{number}", options) for one in servers}
                    )
                    report.note(f"{kind}: {rounds[-1]}")
                _conclude(report, kind, rounds)
            _small_chunks(report, stack, connection, options)
            _shapes_meanwhile(report, stack, connection, options)


def _migrate(stack: Stack) -> None:
    import asyncio

    asyncio.run(migrate(stack.database_url, stream_id=STREAM_ID))


def _cpu(before: dict[str, float], after: dict[str, float], count: float) -> Figures:
    """Microseconds per one, by process and together."""
    each = {name: round((after[name] - before[name]) / count * 1e6, 2) for name in before}
    return each | {"all": round(sum(each.values()), 2)}


def _per_mb(before: dict[str, float], after: dict[str, float], megabytes: float) -> Figures:
    each = _cpu(before, after, megabytes)
    return {name: round(value / 1e3, 2) for name, value in each.items()}


def _append(server: Server, path: str, options: argparse.Namespace) -> Figures:
    before = server.cpu()
    work = Work("append", server.port, path, options.producers, options.seconds)
    found = run_clients(work)
    count = len(found["took"])
    return {
        "cpu_us": _cpu(before, server.cpu(), count),
        "per_second": round(count / found["seconds"]),
        "took": milliseconds(found["took"]),
    }


def _sse(server: Server, path: str, options: argparse.Namespace) -> Figures:
    """`cpu_us` has everything, the appends too; `delivery_us` what a reader more costs per chunk: the
    same with one reader is subtracted."""
    begin = server.cpu()
    alone = run_clients(Work("sse", server.port, f"{path}-alone", 1, options.seconds, RATE))
    before = server.cpu()
    found = run_clients(Work("sse", server.port, path, options.readers, options.seconds, RATE))
    after = server.cpu()
    more = len(found["took"]) - len(alone["took"])
    spent = sum(after.values()) + sum(begin.values()) - 2 * sum(before.values())
    return {
        "cpu_us": _cpu(before, after, len(found["took"])),
        "delivery_us": round(spent / more * 1e6, 2),
        "took": milliseconds(found["took"]),
    }


def _long_poll(server: Server, path: str, options: argparse.Namespace) -> Figures:
    before = server.cpu()
    work = Work("long-poll", server.port, path, options.pollers, 0.7, 5)
    found = run_clients(work)
    return {
        "cpu_us": _cpu(before, server.cpu(), 5 * options.pollers),
        "last_ms": median([one / 1e6 for one in found["from_answer"]]),
        "last_from_sent_ms": median([one / 1e6 for one in found["from_sent"]]),
    }


def _catch_up(server: Server, path: str, options: argparse.Namespace) -> Figures:
    count = options.megabytes * 2**20 // CHUNK_BYTES
    run_clients(Work("fill", server.port, path, count, size=CHUNK_BYTES))
    memory, peak, done = server.memory(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, server.memory())

    watcher = threading.Thread(target=watch)
    before = server.cpu()
    watcher.start()
    found = run_clients(Work("catch-up", server.port, path))
    done.set()
    watcher.join()
    return {
        "cpu_ms_per_mb": _per_mb(before, server.cpu(), options.megabytes),
        "first_byte_ms": round(found["first_byte"] / 1e6, 1),
        "seconds": round(found["took"] / 1e9, 3),
        "growth_mb": round(max(0, peak - memory) / 2**20, 1),
    }


def _conclude(report: Report, kind: str, rounds: list[dict[str, Figures]]) -> None:
    names = list(rounds[0])
    result: dict[str, Any] = {name: _medians([one[name] for one in rounds]) for name in names}
    ours = result["pgtide"]
    cost = "cpu_ms_per_mb" if kind == "catch-up" else "cpu_us"
    result["ratio"] = {
        name: round(ours[cost]["all"] / max(result[name][cost]["all"], 0.01), 2)
        for name in names[1:]
    }
    report.results[kind] = result | {"rounds": rounds}
    if kind == "append":
        report.at_most("CPU per append, Postgres included", ours["cpu_us"]["all"], "µs", 120.0)
        report.at_least("appends", ours["per_second"], "/s", 6_000)
    elif kind == "sse":
        report.at_most("CPU per delivery by SSE", ours["delivery_us"], "µs", 15.0)
        report.at_most("SSE p99 at 50 chunks/s", ours["took"]["p99_ms"], "ms", 25.0)
    elif kind == "long-poll":
        report.at_most("until the last long poll is answered", ours["last_ms"], "ms", 100.0)
    else:
        report.at_most("CPU of catching up", ours[cost]["all"], "ms/MB", 12.0)
        report.at_most("first byte", ours["first_byte_ms"], "ms", 50.0)
        report.at_most("memory growth", ours["growth_mb"], "MB", 20.0)


def _medians(rounds: list[Figures]) -> Figures:
    """Of each figure, whatever it is nested in."""
    found: Figures = {}
    for name, value in rounds[0].items():
        values = [one[name] for one in rounds]
        found[name] = _medians(values) if isinstance(value, dict) else statistics.median(values)
    return found


# -- small chunks ----------------------------------------------------------------------------------


def _small_chunks(
    report: Report, stack: Stack, connection: psycopg.Connection, options: argparse.Namespace
) -> None:
    """Catching up with what was appended in small pieces, e.g. the tokens of a text, page by page. Four
    other streams were written at the same time, so that neighbours in one are none in the table."""
    server = Pgtide(stack)
    count = options.small_kilobytes * 2**10
    rounds: list[dict[str, Figures]] = []
    for size in SMALL_CHUNK_BYTES:
        for begin in range(0, count // size, 100):
            connection.execute(
                "select pgtide.append(format('small/%%s-%%s-0', %s::int, one), decode(repeat('61',"
                " %s), 'hex')) from generate_series(%s::int, least(%s, %s) - 1) as chunk,"
                " generate_series(0, 4) as one order by chunk, one",
                (size, size, begin, begin + 100, count // size),
            )
    connection.execute("vacuum analyze pgtide.stream_chunks")
    for _ in range(options.rounds):
        found: dict[str, Figures] = {}
        for size in SMALL_CHUNK_BYTES:
            before = server.cpu()
            work = Work("catch-up", server.port, f"small/{size}-3")
            # CPU time is counted in steps of 10 ms.
            reads = [run_clients(work) for _ in range(SMALL_READS)]
            if any(read["bytes"] != count // size * size for read in reads):
                raise BenchError(f"a reader of chunks of {size} bytes has not got all")
            found[str(size)] = {
                "cpu_ms_per_mb": _per_mb(before, server.cpu(), SMALL_READS * count / 2**20),
                "first_byte_ms": median([read["first_byte"] / 1e6 for read in reads]),
            }
        rounds.append(found)
        report.note(f"small chunks: {found}")
    medians = _medians(rounds)
    report.results["small chunks"] = medians | {"rounds": rounds}
    report.at_most("first byte of chunks of 20 bytes", medians["20"]["first_byte_ms"], "ms", 100.0)


# -- those who follow runs -------------------------------------------------------------------------


class Flood:
    """Appends through SQL, `FLOOD_PER_SECOND` chunks a second to 50 streams, in transactions of 50."""

    def __init__(self, stack: Stack) -> None:
        self._connection: psycopg.Connection = stack.connect()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.written = 0

    def __enter__(self) -> Flood:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        began = time.monotonic()
        while not self._over.is_set():
            due = began + self.written / FLOOD_PER_SECOND
            time.sleep(max(0.0, due - time.monotonic()))
            self._connection.execute(
                "select pgtide.append('flood/' || n, 'a token of a text'::text)"
                " from generate_series(1, %s) as n",
                (FLOOD_BATCH,),
            )
            self.written += FLOOD_BATCH


def _shapes_meanwhile(
    report: Report, stack: Stack, connection: psycopg.Connection, options: argparse.Namespace
) -> None:
    writer = Writer(connection)
    quiet: list[float] = []
    flooded: list[float] = []
    written = 0
    for _ in range(options.rounds):
        quiet.append(_update_p99(stack, writer, options.seconds))
        with Flood(stack) as flood:
            flooded.append(_update_p99(stack, writer, options.seconds))
        written += flood.written
    ratio = median(flooded) / max(median(quiet), 0.001)
    report.results["runs meanwhile"] = {
        "idle_p99_ms": median(quiet),
        "flooded_p99_ms": median(flooded),
        "chunks_per_second": round(written / options.rounds / (options.seconds + 1)),
        "rounds": [quiet, flooded],
    }
    report.at_most("p99 of an update while 5,000 chunks/s are appended", ratio, "× idle", 2.0)


def _update_p99(stack: Stack, writer: Writer, seconds: float) -> float:
    choose = random.Random(1)
    queries = [shape(f"id = 'run_{number}'") for number in range(1, 101)]

    def pick() -> list[int]:
        return [choose.randint(1, 100)]

    with start_readers(stack.port, "long-poll", queries) as readers:
        readers.take_until(writer.write_paced(100, 1.0, pick))
        writer.forget()
        written = writer.write_paced(100, seconds, pick)
        receipts = readers.take_until(written)
    found = milliseconds([at - writer.sent[one] for one, at in receipts])
    writer.forget()
    return found["p99_ms"]


def main() -> None:
    command("streams", __doc__, SIZES, measure)


if __name__ == "__main__":
    main()
