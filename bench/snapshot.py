"""The first answer of a big shape: time and CPU for its first and its second reader.

Against COPY of the very same query by psql, and COPY of the plain table, in turns with it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import socket
import subprocess
import time
from contextlib import closing
from typing import NamedTuple

import psycopg

from bench.items import create_items
from bench.processes import tree_cpu_seconds
from bench.report import Report, command, median
from bench.stack import BenchError, Stack, open_stack
from engine.postgres.catalog import load_table
from shapes.shape import Projection, make_shape
from shapes.snapshots.snapshot_sql import DELIMITER, QUOTE, snapshot_query

SIZES = {
    "rows": (1_000_000, 5_000, "rows of the table"),
    "rounds": (3, 1, "snapshots taken, and COPYs"),
}
BUFFER_BYTES = 1 << 20

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n")
_HANDLE = re.compile(rb"\r\nelectric-handle: ([^\r]+)\r\n")
_OFFSET = re.compile(rb"\r\nelectric-offset: ([^\r]+)\r\n")


class Cost(NamedTuple):
    """Seconds of wall time, of the node's CPU and of Postgres's CPU; bytes that came."""

    wall: float
    node_cpu: float
    postgres_cpu: float
    bytes: int


def measure(report: Report, options: argparse.Namespace) -> None:
    with open_stack(enable_delete=True) as stack:
        report.postgres(stack.scalar("show server_version"))
        with stack.connect() as connection:
            create_items(connection, options.rows)
            connection.execute("vacuum items")
        stack.start()
        copy_json = asyncio.run(_copy_statement(stack.database_url))
        runs: dict[str, list[Cost]] = {
            name: [] for name in ("first_reader", "second_reader", "copy_json", "copy_table")
        }
        _psql(stack, "copy items to stdout")  # reads the table from disk, for nobody's account
        for _ in range(options.rounds):
            runs["copy_json"].append(_psql(stack, copy_json))
            runs["first_reader"].append(_read_shape(stack))
            runs["second_reader"].append(_read_shape(stack))
            runs["copy_table"].append(_psql(stack, "copy items to stdout"))
            _delete_shape(stack)
    _conclude(report, runs, options.rows)


def _conclude(report: Report, runs: dict[str, list[Cost]], rows: int) -> None:
    for name, costs in runs.items():
        report.results[name] = {
            "wall_s": median([cost.wall for cost in costs]),
            "node_cpu_us_per_row": median([cost.node_cpu / rows * 1e6 for cost in costs]),
            "postgres_cpu_us_per_row": median([cost.postgres_cpu / rows * 1e6 for cost in costs]),
            "megabytes": round(costs[0].bytes / 1e6, 1),
            "runs": [cost._asdict() for cost in costs],
        }
    copies = runs["copy_json"]
    ratios = {
        name: median([a.wall / b.wall for a, b in zip(runs[name], copies, strict=True)])
        for name in ("first_reader", "second_reader", "copy_table")
    }
    report.results["ratios_to_copy_json"] = ratios
    for name, ratio in ratios.items():
        wall = report.results[name]["wall_s"]
        report.note(f"{name}: {wall:.2f} s, {ratio:.2f} of COPY of the same JSON")
    report.at_most("first reader against COPY of the JSON", ratios["first_reader"], "ratio", 1.5)


async def _copy_statement(database_url: str) -> str:
    """COPY as the node does it, for the whole table."""
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        table = await load_table(connection, "public", "items")
    if table is None:
        raise BenchError("the table is gone")
    query = snapshot_query(make_shape(Projection(table, table.columns, False), None))
    return f"copy ({query}) to stdout (format csv, delimiter '{DELIMITER}', quote '{QUOTE}')"


def _psql(stack: Stack, statement: str) -> Cost:
    postgres = tree_cpu_seconds(stack.postgres_pid)
    began = time.monotonic()
    subprocess.run(
        [str(stack.postgres.bin / "psql"), "-X", "-q", "-d", stack.database_url, "-f", "-"],
        input=(statement + ";").encode(),
        stdout=subprocess.DEVNULL,
        # The node does without parallel plans as well.
        env={**os.environ, "PGOPTIONS": "-c max_parallel_workers_per_gather=0"},
        check=True,
    )
    wall = time.monotonic() - began
    return Cost(wall, 0.0, tree_cpu_seconds(stack.postgres_pid) - postgres, 0)


def _read_shape(stack: Stack) -> Cost:
    """All chunks, one after the other over one connection, until the node says up-to-date."""
    before = stack.cpu()
    began = time.monotonic()
    total = 0
    query = "offset=-1"
    buffer = bytearray(BUFFER_BYTES)
    with closing(socket.create_connection(("127.0.0.1", stack.port))) as connection:
        while True:
            head, size = _get(connection, f"/v1/shape?table=items&{query}", buffer)
            total += size
            if b"\r\nelectric-up-to-date:" in head:
                break
            handle, offset = _HANDLE.search(head), _OFFSET.search(head)
            if handle is None or offset is None:
                raise BenchError(f"no position in {head!r}")
            query = f"handle={handle[1].decode()}&offset={offset[1].decode()}"
    wall = time.monotonic() - began
    after = stack.cpu()
    return Cost(wall, after["node"] - before["node"], after["postgres"] - before["postgres"], total)


def _get(connection: socket.socket, path: str, buffer: bytearray) -> tuple[bytes, int]:
    """The head of an answer and the length of its body, which is thrown away."""
    connection.sendall(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(65536)
    head, _, rest = head.partition(b"\r\n\r\n")
    length = _LENGTH.search(head + b"\r\n")
    if not head.startswith(b"HTTP/1.1 200") or length is None:
        raise BenchError(f"unexpected answer {head!r} {rest[:300]!r}")
    left = size = int(length[1])
    left -= len(rest)
    while left > 0:
        left -= connection.recv_into(buffer)
    return head, size


def _delete_shape(stack: Stack) -> None:
    with closing(socket.create_connection(("127.0.0.1", stack.port))) as connection:
        connection.sendall(b"DELETE /v1/shape?table=items HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        answer = connection.recv(65536)
    if not answer.startswith(b"HTTP/1.1 202"):
        raise BenchError(f"the shape could not be deleted: {answer!r}")


def main() -> None:
    command("snapshot", __doc__, SIZES, measure)


if __name__ == "__main__":
    main()
