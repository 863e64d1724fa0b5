"""Clients that stop reading their event streams: what each of them costs the node in memory.

The same transactions are written twice, first with one client alone, which reads: what the node needs
for them is not counted. What is: the connections, requests and places of clients that stop reading, and
what they do not take of a few large transactions and many small ones.
"""

from __future__ import annotations

import argparse
import re
import socket
import time
from contextlib import ExitStack
from typing import Any, NamedTuple

import psycopg

from bench.processes import memory
from bench.readers import Readers, shape, start_readers
from bench.report import Report, command, median
from bench.stack import BenchError, Stack, open_stack

SIZES = {
    "clients": (2_000, 100, "clients that stop reading"),
    "rounds": (1, 1, "times that all of it is done"),
}
ROWS = 500
ROW_BYTES = 2_000
TRANSACTIONS = (*[ROWS] * 3, *[10] * 40, *[ROWS] * 3)
"""How many rows each changes: 1 MB or 20 KB."""

GOAL_MEGABYTES = 50
GOAL_CLIENTS = 2_000
WINDOW_BYTES = 4 << 10
"""What the system takes in for a client that does not read: as little as it allows."""

SETTLE_SECONDS = 1.0
PATIENCE = {"sse_timeout": 3600.0, "tcp_send_timeout": 3600.0}
"""Nobody is cut off meanwhile."""

_PLACE = re.compile(rb"\r\nelectric-(handle|offset): ([^\r]+)", re.IGNORECASE)
_SCHEMA = "create table pages (id int primary key, round int, body text)"


class Written(NamedTuple):
    """What happened while the transactions were written."""

    memory: int
    """Most bytes of anonymous memory that the node had."""
    slowest: float
    """Seconds until the client that reads had all of a transaction."""


def measure(report: Report, options: argparse.Namespace) -> None:
    rounds = [_measure_once(report, options.clients) for _ in range(options.rounds)]
    report.results["rounds"] = rounds
    limit = round(GOAL_MEGABYTES * options.clients / GOAL_CLIENTS, 1)
    grown = median([one["megabytes"] for one in rounds])
    report.at_most(f"{options.clients} clients that stop reading", grown, "MB", limit)
    slowest = median([one["slowest_seconds"] for one in rounds])
    alone = median([one["slowest_seconds_alone"] for one in rounds])
    report.at_most("another client waits, by what it waits alone", slowest / alone, "", 10)


def _measure_once(report: Report, clients: int) -> dict[str, Any]:
    with open_stack(**PATIENCE) as stack, stack.connect() as connection, ExitStack() as cleanup:
        report.postgres(stack.scalar("show server_version"))
        connection.execute(_SCHEMA)
        connection.execute(
            "insert into pages select i, 0, '' from generate_series(1, %s) i", (ROWS,)
        )
        stack.start()
        query = shape(table="pages")
        with start_readers(stack.port, "sse", [query], sequence="round") as reader:
            alone = _write(stack, connection, reader, 0)
            time.sleep(SETTLE_SECONDS)
            before = memory(stack.node_pids[0]).anonymous
            for _ in range(clients):
                cleanup.enter_context(_stalled(stack.port, query))
            time.sleep(SETTLE_SECONDS)
            connected = memory(stack.node_pids[0]).anonymous - before
            report.note(f"{clients} clients connected: {connected / 1e6:.1f} MB")
            written = _write(stack, connection, reader, len(TRANSACTIONS))
    grown = written.memory - alone.memory
    report.note(f"they do not take what comes: {grown / 1e6:.1f} MB")
    return {
        "connected_megabytes": round(connected / 1e6, 1),
        "megabytes": round(grown / 1e6, 1),
        "bytes_per_client": round(grown / clients),
        "slowest_seconds": round(written.slowest, 2),
        "slowest_seconds_alone": round(alone.slowest, 2),
    }


def _write(
    stack: Stack, connection: psycopg.Connection, reader: Readers, rounds_before: int
) -> Written:
    """Write the transactions, each when the one before it has been read."""
    most, slowest = 0, 0.0
    for number, rows in enumerate(TRANSACTIONS, rounds_before + 1):
        began = time.monotonic()
        connection.execute(
            "update pages set round = %s, body = %s where id <= %s",
            (number, f"{number} {'x' * ROW_BYTES}", rows),
        )
        reader.take_until(rows)
        slowest = max(slowest, time.monotonic() - began)
        most = max(most, memory(stack.node_pids[0]).anonymous)
    return Written(most, slowest)


def _stalled(port: int, query: str) -> socket.socket:
    """An event stream of which only the head is read."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW_BYTES)
    one.connect(("127.0.0.1", port))
    place = {name.lower(): value.decode() for name, value in _PLACE.findall(_ask(one, query))}
    if len(place) != 2:
        raise BenchError("the answer does not say where to go on")
    at = f"&offset={place[b'offset']}&handle={place[b'handle']}"
    _ask(one, f"{query}{at}&live=true&live_sse=true")
    return one


def _ask(one: socket.socket, query: str) -> bytes:
    """The head of the answer, with what came with it."""
    if "&offset=" not in query:
        query += "&offset=now"
    one.sendall(f"GET /v1/shape?{query} HTTP/1.1\r\nhost: bench\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        part = one.recv(4096)
        head += part
        if not part or not head.startswith(b"HTTP/1.1 200"[: len(head)]):
            raise BenchError(head.decode(errors="replace"))
    return head


def main() -> None:
    command("stalled", __doc__, SIZES, measure)


if __name__ == "__main__":
    main()
