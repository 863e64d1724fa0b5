"""The page that `pgtide dev` serves, in a real browser."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Generator
from pathlib import Path

import psycopg
import pytest
from browser import Browser
from serving import Serving


@pytest.fixture(scope="module")
def dev() -> Generator[Serving]:
    # Not pytest's folder, which Postgres's own account could not enter.
    with tempfile.TemporaryDirectory(prefix="pgtide-dev-") as folder:
        Path(folder).chmod(0o755)
        with Serving(None, Path(folder, "pgtide")) as serving:
            yield serving


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
