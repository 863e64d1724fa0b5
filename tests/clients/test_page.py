"""The page that `pgtide dev` serves, in a real browser."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from serving import Serving

PROGRAM = Path(__file__).with_name("browser.mjs")


class Browser:
    """One page in a headless Chromium."""

    def __init__(self, node: str, chromium: str) -> None:
        self._process = subprocess.Popen(
            [node, str(PROGRAM), chromium],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def open(self, url: str) -> None:
        self._ask({"open": url})

    def until(self, expression: str) -> Any:
        """The expression's value in the page, once it is truthy."""
        return self._ask({"until": expression})["value"]

    def close(self) -> list[str]:
        """What went wrong in the page."""
        problems = self._ask({"close": True})["problems"]
        self.end()
        return problems

    def end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

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


@pytest.fixture(scope="module")
def dev() -> Generator[Serving]:
    # Not pytest's folder, which Postgres's own account could not enter.
    with tempfile.TemporaryDirectory(prefix="pgtide-dev-") as folder:
        Path(folder).chmod(0o755)
        with Serving(None, Path(folder, "pgtide")) as serving:
            yield serving


@pytest.fixture
def browser(node: str, chromium: str) -> Generator[Browser]:
    opened = Browser(node, chromium)
    yield opened
    opened.end()


def row(run: str, what: str) -> str:
    """An expression for something in the row of a run; undefined if there is no such row."""
    found = "[...document.querySelectorAll('li')]"
    found += f".find((li) => li.querySelector('.id')?.textContent === '{run}')"
    return f"{found}?.{what}"


def test_the_demo_moves(dev: Serving, browser: Browser) -> None:
    browser.open(dev.url)
    browser.until("document.querySelector('#state').dataset.state === 'live'")
    browser.until("document.querySelectorAll('#active li progress').length > 0")
    progress = "[...document.querySelectorAll('#active progress')].map((bar) => bar.value).join()"
    first = browser.until(f"{progress} || false")
    browser.until(f"{progress} !== {json.dumps(first)}")
    browser.until("document.querySelectorAll('#finished li').length > 0")
    assert browser.close() == []


@pytest.mark.parametrize("transport", ["long-poll", "sse"])
def test_a_run_written_with_sql(dev: Serving, browser: Browser, transport: str) -> None:
    run, tag = f"run-{transport}", f"mine-{transport}"
    with psycopg.connect(dev.postgres_url, autocommit=True) as db:
        browser.open(f"{dev.url}/?tag={tag}&transport={transport}")
        browser.until("document.querySelector('#state').dataset.state === 'live'")
        browser.until("document.querySelectorAll('#active li, #finished li').length === 0")
        db.execute(
            "insert into pgtide.runs (id, task, tags) values (%s, 'by hand', array[%s])", (run, tag)
        )
        browser.until(row(run, "closest('#active')"))
        for progress in (0.25, 0.75):
            db.execute(
                "update pgtide.runs set status = 'EXECUTING',"
                " metadata = jsonb_build_object('progress', %s::float) where id = %s",
                (progress, run),
            )
            browser.until(row(run, f"querySelector('progress').value === {progress}"))
        db.execute("update pgtide.runs set status = 'COMPLETED' where id = %s", (run,))
        browser.until(row(run, "closest('#finished')"))
        # It loses the tag that the page follows.
        db.execute("update pgtide.runs set tags = '{}' where id = %s", (run,))
        browser.until(f"!{row(run, 'isConnected')}")
    assert browser.close() == []
