"""A headless Chromium: browser.mjs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PROGRAM = Path(__file__).with_name("browser.mjs")


class Browser:
    """One page at a time; each that is opened has a storage and a cache of its own."""

    def __init__(self, node: str, chromium: str) -> None:
        self._process = subprocess.Popen(
            [node, str(PROGRAM), chromium],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

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
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def open(self, url: str) -> None:
        self._ask({"open": url})

    def reload(self) -> None:
        self._ask({"reload": True})

    def until(self, expression: str) -> Any:
        """The expression's value in the page, once it is truthy."""
        return self._ask({"until": expression})["value"]

    def run(self, expression: str) -> Any:
        """The expression's value, awaited if it is a promise."""
        return self._ask({"run": expression}).get("value")

    def close(self) -> list[str]:
        """End the page; what went wrong in it."""
        return self._ask({"close": True})["problems"]

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the browser's process has ended"
        answer = json.loads(line)
        assert "failed" not in answer, answer
        return answer
