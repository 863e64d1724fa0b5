"""Follows runs with @trigger.dev/sdk in a process of its own: run_follower.mjs."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PROGRAM = Path(__file__).with_name("run_follower.mjs")
SECONDS = 40.0
"""As long as anything may take: clients wait up to ten seconds before they try again."""


class RunFollower:
    """`rows(of)` are those seen so far of a run, a tag or a batch, as {id, status, metadata}."""

    def __init__(self, node: str, environ: dict[str, str], **wanted: list[str]) -> None:
        self._process = subprocess.Popen(
            [node, str(PROGRAM), json.dumps(wanted)],
            env=os.environ | environ,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lines: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def rows(self, of: str) -> list[dict[str, Any]]:
        lines = [line for line in self._lines if line["of"] == of]
        failures = [line["error"] for line in lines if "error" in line]
        assert not failures, failures
        return [line for line in lines if "id" in line]

    def last(self, of: str, run: str) -> dict[str, Any]:
        """The latest row of a run; empty if there is none yet."""
        found = [row for row in self.rows(of) if row["id"] == run]
        return found[-1] if found else {}

    def ended(self, of: str) -> bool:
        return any(line["of"] == of and "ended" in line for line in self._lines)

    def refusals(self) -> list[int]:
        """The statuses of requests that were answered with an error."""
        return [line["status"] for line in self._lines if line["of"] is None]

    def until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert self._process.poll() is None or condition(), f"it ended: {self._lines[-5:]}"
            assert time.monotonic() < deadline, f"never: {what}; {self._lines[-5:]}"
            time.sleep(0.01)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(json.loads(line))
