"""What a change costs a node that has many shapes to find it in.

The log is real: an engine made it from updates in transactions of 100. Every update touches one row,
which of each kind of shape has exactly one (except where there is only one shape at all). Measured are
the routing alone, in this process, and the whole node, which is stopped while the log grows and then
let go. The baseline is to read and decode the same log and do nothing with it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import time
import urllib.request
from typing import NamedTuple

import psycopg

from bench.items import BATCH_SIZE, TAGS, create_items, publish, write_items
from bench.processes import cpu_seconds
from bench.readers import shape, start_readers
from bench.recvlogical import insert_lsn
from bench.report import Report, command, median
from bench.stack import PATIENCE, BenchError, Stack, open_stack
from engine.log.reader import LogReader
from engine.lsn import Offset
from engine.postgres.catalog import load_table
from engine.postgres.table import Table
from shapes.following.encoders import Encoders
from shapes.following.feed import Feed
from shapes.following.routing import Routing
from shapes.shape import Projection, make_shape
from shapes.where import parse_where

SIZES = {
    "changes": (100_000, 5_000, "changes per measurement"),
    "rows": (100_000, 2_000, "rows of the table, and the most shapes of one row"),
    "served": (10_000, 500, "the most shapes of one row that are opened over HTTP"),
    "rounds": (3, 1, "passes of the routing over the log"),
}
PER_TRANSACTION = 100
READ_BYTES = 1 << 18
AIM_MICROS = 4.0


class Part(NamedTuple):
    """A piece of the log: its changes are between these LSNs."""

    start: int
    end: int
    changes: int


class Routed(NamedTuple):
    """A pass of the routing: CPU microseconds per change, and CPU seconds before the first one.

    Once per version of a table the routing has to put all its shapes into an index; nothing else
    happens in a node meanwhile.
    """

    micros: float
    shapes_per_change: float
    first_seconds: float


def measure(report: Report, options: argparse.Namespace) -> None:
    with open_stack(shape_idle_timeout=86400.0) as stack:
        report.postgres(stack.scalar("show server_version"))
        with stack.connect() as connection:
            create_items(connection, options.rows)
            publish(connection, stack.settings.publication)
        stack.start()
        log = stack.open_log()
        _measure_routing(report, stack, log, options)
        _measure_node(report, stack, log, options)
        log.close()


def _runs(first: int, last: int) -> list[str]:
    return [f"id = 'run_{number}'" for number in range(first, last + 1)]


def _tags() -> list[str]:
    return [f"'user_{number}' = any(tags)" for number in range(TAGS)]


def _batches(rows: int) -> list[str]:
    return [f"batch_id = 'batch_{number}'" for number in range(rows // BATCH_SIZE + 1)]


def _write(stack: Stack, log: LogReader, rows: int, changes: int) -> Part:
    """Update rows 1 to `rows` in turn, and wait until the log has all of it."""
    start, passes = log.state().progress, max(1, changes // rows)
    rows = min(rows, changes)
    with stack.connect() as connection:
        for _ in range(passes):
            write_items(connection, "update", 1, rows, PER_TRANSACTION)
        before_last = insert_lsn(stack)
        write_items(connection, "update", 1, 1, 1)
    state = stack.wait_for_log(log, before_last)
    return Part(start, state.end_lsn, rows * passes + 1)


# -- routing alone ---------------------------------------------------------------------------------


def _measure_routing(
    report: Report, stack: Stack, log: LogReader, options: argparse.Namespace
) -> None:
    rows: int = options.rows
    table = asyncio.run(_load_table(stack))
    kinds = [
        (size, f"{size} run shapes", _runs(1, size))
        for size in sorted({1, min(1000, rows), min(10_000, rows), rows})
    ]
    tags, batches = _tags(), _batches(rows)
    kinds += [
        (rows, f"{len(tags)} tag shapes", tags),
        (rows, f"{len(batches)} batch shapes", batches),
        (
            rows,
            f"{rows} run, {len(tags)} tag and {len(batches)} batch shapes",
            [*_runs(1, rows), *tags, *batches],
        ),
    ]
    part = None
    touched = 0
    for size, name, wheres in kinds:
        if part is None or size != touched:
            touched = size
            part = _write(stack, log, max(size, min(1000, rows)), options.changes)
        floor = [_decode(log, part) for _ in range(options.rounds)]
        feeds = _feeds(table, wheres, part)
        passes = [_route(log, part, feeds) for _ in range(options.rounds)]
        cost = median([one.micros for one in passes])
        baseline = median(floor)
        report.results[f"routing: {name}"] = {
            "cpu_us_per_change": cost,
            "read_and_decode_us_per_change": baseline,
            "ratio_to_read_and_decode": round(cost / baseline, 2),
            "shapes_per_change": passes[0].shapes_per_change,
            "first_change_s": median([one.first_seconds for one in passes]),
            "passes": [one._asdict() for one in passes],
        }
        report.note(f"routing, {name}: {cost} µs, reading and decoding alone {baseline} µs")
        report.at_most(f"routing, {name}: CPU per change", cost, "µs", AIM_MICROS)


async def _load_table(stack: Stack) -> Table:
    async with await psycopg.AsyncConnection.connect(stack.database_url) as connection:
        table = await load_table(connection, "public", "items")
    if table is None:
        raise BenchError("the table is gone")
    return table


def _feeds(table: Table, wheres: list[str], part: Part) -> list[Feed]:
    projection = Projection(table, table.columns, False)
    start = Offset(part.start, 0)
    return [Feed(make_shape(projection, parse_where(text, {}, table)), start) for text in wheres]


def _decode(log: LogReader, part: Part) -> float:
    """CPU microseconds per change of reading the log and decoding its changes."""
    began = time.process_time()
    cursor = Offset(part.start, 0)
    while cursor.lsn < part.end:
        _, blocks = log.read(cursor, most=READ_BYTES)
        for block in blocks:
            block.changes()
        cursor = _after(blocks[-1].end_lsn, blocks[-1].last)
    return round((time.process_time() - began) / part.changes * 1e6, 3)


def _route(log: LogReader, part: Part, feeds: list[Feed]) -> Routed:
    """Find the shapes of each change, as the node does it, only that nobody waits at the feeds."""
    encoders = Encoders(log)
    routing = Routing(encoders)
    for feed in feeds:
        routing.add(feed)
    start = Offset(part.start, 0)
    known = sum(feed.count_after(start) for feed in feeds)
    began = time.process_time()
    cursor = _pass(log, routing, encoders, start, part.start + 1)
    first = time.process_time() - began
    routed = sum(feed.count_after(start) for feed in feeds) - known
    began = time.process_time()
    _pass(log, routing, encoders, cursor, part.end)
    cost = time.process_time() - began
    records = sum(feed.count_after(start) for feed in feeds) - known
    changes = part.changes - _count(log, start, cursor)
    return Routed(
        round(cost / changes * 1e6, 3), round((records - routed) / changes, 3), round(first, 3)
    )


def _pass(log: LogReader, routing: Routing, encoders: Encoders, cursor: Offset, end: int) -> Offset:
    while cursor.lsn < end:
        _, blocks = log.read(cursor, most=READ_BYTES)
        for block in blocks:
            routing.apply(block, cursor)
            cursor = _after(block.end_lsn, block.last)
        for subscriber in routing.touched:
            if isinstance(subscriber, Feed):
                subscriber.publish(cursor.lsn, encoders.encode)
        routing.touched.clear()
    return cursor


def _count(log: LogReader, after: Offset, until: Offset) -> int:
    _, blocks = log.read(after, most=READ_BYTES)
    return sum(block.count for block in blocks if block.last < until)


def _after(end_lsn: int, last: Offset) -> Offset:
    return Offset(end_lsn, 0) if end_lsn else last


# -- the whole node --------------------------------------------------------------------------------


def _measure_node(
    report: Report, stack: Stack, log: LogReader, options: argparse.Namespace
) -> None:
    served: int = options.served
    opened = 0
    wheres: list[str] = []
    for size in sorted({1, min(1000, served), served}):
        _open(stack, _runs(opened + 1, size))
        opened = size
        _measure_caught_up(report, stack, log, max(size, min(1000, served)), options, size)
    wheres = [*_tags(), *_batches(served)]
    _open(stack, wheres)
    _measure_caught_up(report, stack, log, served, options, served + len(wheres))


def _open(stack: Stack, wheres: list[str]) -> None:
    with start_readers(stack.port, "open", [shape(where) for where in wheres]):
        pass


def _measure_caught_up(
    report: Report,
    stack: Stack,
    log: LogReader,
    rows: int,
    options: argparse.Namespace,
    shapes: int,
) -> None:
    """Let the node go through everything that was written while it was stopped."""
    costs: list[float] = []
    for _ in range(options.rounds):
        pid = stack.node_pids[0]
        os.kill(pid, signal.SIGSTOP)
        try:
            part = _write(stack, log, rows, options.changes)
            cpu = cpu_seconds([pid])
        finally:
            os.kill(pid, signal.SIGCONT)
        # Answered once the node has gone as far as the log reaches.
        url = f"http://127.0.0.1:{stack.port}/v1/shape?table=items&offset=now"
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            answer.read()
        costs.append(round((cpu_seconds([pid]) - cpu) / part.changes * 1e6, 2))
    cost = median(costs)
    name = f"{shapes} shapes"
    report.results[f"whole node: {name}"] = {"cpu_us_per_change": cost, "rounds": costs}
    report.note(f"whole node, {name}: {cost} µs")
    report.at_most(f"whole node, {name}: CPU per change", cost, "µs", AIM_MICROS)


def main() -> None:
    command("node_cpu", __doc__, SIZES, measure)


if __name__ == "__main__":
    main()
