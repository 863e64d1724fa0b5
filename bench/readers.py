"""Starts the process with the clients and asks it what they got; see `bench.reader_process`."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TypedDict, Unpack
from urllib.parse import quote

import orjson

from bench.reader_process import Mode, Plan
from bench.stack import PATIENCE, BenchError

Receipts = list[tuple[int, int]]


class More(TypedDict, total=False):
    """Those fields of `Plan` that have defaults."""

    history: bool
    path: str
    tokens: list[str]
    sequence: str


def shape(where: str = "", table: str = "items") -> str:
    """The query parameters of a shape."""
    return f"table={table}&where={quote(where)}" if where else f"table={table}"


class Readers:
    """The clients of one plan. `pid` is the process's, for its CPU time."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid

    def take(self) -> Receipts:
        """What came since the last call: (sequence number, monotonic nanoseconds)."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"take\n")
        self._process.stdin.flush()
        flat: list[int] = orjson.loads(self._line())
        return list(zip(flat[::2], flat[1::2], strict=True))

    def take_until(self, count: int, seconds: float = PATIENCE) -> Receipts:
        """Take until there are `count` receipts in total. Raises BenchError after `seconds`."""
        receipts: Receipts = []
        deadline = time.monotonic() + seconds
        while len(receipts) < count:
            receipts += self.take()
            if time.monotonic() > deadline:
                raise BenchError(f"{len(receipts)} of {count} deliveries came in {seconds:.0f} s")
            time.sleep(0.02)
        return receipts

    def wait_ready(self) -> None:
        if self._line() != b"ready\n":
            raise BenchError("the clients did not get ready")

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchError("the clients' process has ended; its last words are above")
        return line


@contextmanager
def start_readers(
    port: int, mode: Mode, queries: Sequence[str], **more: Unpack[More]
) -> Generator[Readers]:
    """Clients that have sent their live requests (or, with `open`, have opened all shapes). `more`
    are fields of the plan."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.reader_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    try:
        plan = asdict(Plan(port, mode, list(queries), **more))
        process.stdin.write(orjson.dumps(plan) + b"\n")
        process.stdin.flush()
        readers = Readers(process)
        readers.wait_ready()
        yield readers
    finally:
        process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
