"""What serves Durable Streams while it is measured: pgtide, or the reference server from npm."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from bench.processes import cpu_seconds, memory
from bench.stack import BenchError, Stack

_SCRIPT = Path(__file__).with_name("reference_streams.mjs")


class Server(Protocol):
    """Something at `http://127.0.0.1:{port}/v1/stream/…`."""

    name: str
    port: int

    def cpu(self) -> dict[str, float]:
        """CPU seconds used until now, by process."""
        ...

    def memory(self) -> int:
        """Bytes of memory of the process that answers requests."""
        ...


class Pgtide:
    """pgtide with one node, and the Postgres that belongs to it."""

    name = "pgtide"

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.port = stack.port

    def cpu(self) -> dict[str, float]:
        return self._stack.cpu()

    def memory(self) -> int:
        return memory(self._stack.node_pids[0]).rss


class Reference:
    """The npm package `@durable-streams/server`."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], port: int) -> None:
        self.name = name
        self.port = port
        self._pid = process.pid

    def cpu(self) -> dict[str, float]:
        return {"server": cpu_seconds([self._pid])}

    def memory(self) -> int:
        return memory(self._pid).rss


@contextmanager
def start_reference(folder: Path | None) -> Generator[Reference]:
    """The reference server, in memory or with files below `folder`. Needs node and the npm packages of
    tests/clients."""
    node = shutil.which("node")
    if node is None:
        raise BenchError("there is no node: install it, or put .venv/bin on the path")
    command = [node, str(_SCRIPT), *([] if folder is None else [str(folder)])]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        # With files it has more to say.
        line = next((one for one in process.stdout if one.strip().isdigit()), b"")
        if not line:
            raise BenchError("the reference server has not started: run `make install` first")
        name = "reference, memory" if folder is None else "reference, files"
        yield Reference(name, process, int(line))
    finally:
        process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
