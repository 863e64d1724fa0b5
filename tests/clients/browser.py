"""A headless Chromium: browser.mjs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PROGRAM = Path(__file__).with_name("browser.mjs")


class Browser:
    """One page, or several; each that is opened has a storage and a cache of its own."""

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
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def open(self, url: str) -> None:
        self._ask({"open": url})

    def open_beside(self, url: str) -> None:
        """In a second window, with a storage of its own; `back` changes between the two."""
        self._ask({"beside": url})

    def back(self) -> None:
        self._ask({"back": True})

    def reload(self) -> None:
        self._ask({"reload": True})

    def until(self, expression: str) -> Any:
        """The expression's value in the page, once it is truthy."""
        return self._ask({"until": expression})["value"]

    def run(self, expression: str) -> Any:
        """The expression's value, awaited if it is a promise."""
        return self._ask({"run": expression}).get("value")

    def answer(self, url: str, status: int, times: int) -> None:
        """The next so many requests to URLs that contain `url` get this status, without a server."""
        self._ask({"answer": {"url": url, "status": status, "times": times}})

    def asked(self, url: str) -> list[dict[str, Any]]:
        """The requests to URLs that contain `url`: url, method, and status or failure if ended."""
        return self._ask({"asked": url})["value"]

    def picture(self, path: Path, scheme: str) -> None:
        """A PNG of the page, "light" or "dark"."""
        self._ask({"picture": str(path), "scheme": scheme})

    def close(self) -> list[str]:
        """End the page, and others beside it; what went wrong in them."""
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
