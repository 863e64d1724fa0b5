"""The unmodified TypeScript client in a process of its own: reader.mjs."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

PROGRAM = Path(__file__).with_name("reader.mjs")
WAIT_SECONDS = 60.0

Rows = dict[str, dict[str, Any]]


class Summary(NamedTuple):
    """What one stream did. `shape` are the rows of the client's own `Shape`, in any order."""

    rows: Rows
    requests: list[dict[str, Any]]
    refetches: int
    problems: list[str]
    shape: list[dict[str, Any]]

    @property
    def fetches(self) -> int:
        """How often the client started from the beginning."""
        return sum(request["offset"] == "-1" for request in self.requests)

    @property
    def history(self) -> str:
        """The requests, for people."""
        return "\n".join(json.dumps(request) for request in self.requests)


class ElectricReader:
    """Follows shapes by name; `until` waits for what a stream holds."""

    def __init__(self, node: str) -> None:
        self._process = subprocess.Popen(
            [node, str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._reports: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._latest: dict[str, dict[str, Any]] = {}
        self._summaries: dict[str, Summary] = {}
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._thread.join()
        self._process.stdin.close()
        self._process.stdout.close()

    def follow(self, name: str, url: str, **options: Any) -> None:
        """Options are those of ShapeStream; `rows` is what a stream that resumes holds already."""
        self._say({"follow": name, "options": {"url": f"{url}/v1/shape", **options}})

    def until(self, name: str, rows: Rows) -> dict[str, Any]:
        """Wait until the stream holds these rows after an up-to-date; that report."""
        deadline = time.monotonic() + WAIT_SECONDS
        while self._latest.get(name, {}).get("rows") != rows:
            self._take(deadline, lambda: f"{name} holds {self._latest.get(name)}, not {rows}")
        return self._latest[name]

    def until_something(self, name: str) -> dict[str, Any]:
        """Wait until the stream is up to date for the first time."""
        deadline = time.monotonic() + WAIT_SECONDS
        while name not in self._latest:
            self._take(deadline, lambda: f"{name} is not up to date")
        return self._latest[name]

    def stop(self, name: str) -> Summary:
        self._say({"stop": name})
        deadline = time.monotonic() + WAIT_SECONDS
        while name not in self._summaries:
            self._take(deadline, lambda: f"{name} does not stop")
        return self._summaries[name]

    def _say(self, command: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._reports.put(json.loads(line))
        self._reports.put(None)

    def _take(self, deadline: float, state: Any) -> None:
        try:
            report = self._reports.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise AssertionError(state()) from None
        assert report is not None, "the client's process has ended"
        assert "failed" not in report, report
        name = report.pop("name")
        if report.pop("stopped", False):
            self._summaries[name] = Summary(**report)
        else:
            self._latest[name] = report
