"""examples/progress-bar: its page, its server and the worker, in a headless Chromium."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from browser import Browser
from node_packages import install
from runs_server import RunsServer

EXAMPLES = Path(__file__).parents[2] / "examples"
EXAMPLE = EXAMPLES / "progress-bar"
STOP_SECONDS = 20.0


@contextmanager
def running(*command: str, **environ: str) -> Generator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command, cwd=EXAMPLE, env=os.environ | environ, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=STOP_SECONDS)


@pytest.fixture(scope="module")
def example_url(node: str, runs_server: RunsServer) -> Generator[str]:
    """Where the page is, with a worker at work."""
    install(EXAMPLE)
    worker = [sys.executable, str(EXAMPLES / "worker.py")]
    with (
        running(*worker, DATABASE_URL=runs_server.database_url),
        running(node, "server.mjs", PORT="0", **runs_server.environ) as server,
    ):
        assert server.stdout is not None
        match = re.search(r"http://\S+", server.stdout.readline())
        assert match
        yield match[0]


def test_the_bar_moves_to_its_end(example_url: str, browser: Browser, tmp_path: Path) -> None:
    browser.open(example_url)
    browser.until("document.querySelector('.empty')")
    browser.until("document.querySelector('select').value = '3'")
    select = "document.querySelector('select')"
    browser.run(f"{select}.dispatchEvent(new Event('change', {{bubbles: true}}))")
    browser.run("document.querySelector('form button').click()")
    value = "document.querySelector('.current progress')?.value"
    first = browser.until(f"{value} > 0 && {value} < 1 && {value}")
    browser.until(f"{value} > {first} && {value} < 1")
    browser.picture(tmp_path / "light.png", "light")
    browser.picture(tmp_path / "dark.png", "dark")
    browser.until(f"{value} === 1")
    text = "document.querySelector('.current').textContent"
    browser.until(f"{text}.includes('100 %') && {text}.includes('completed')")
    # In the list, too, and there it still is when the page is opened again.
    listed = "[...document.querySelectorAll('li .status')].map((one) => one.textContent).join()"
    browser.until(f"{listed} === 'completed'")
    browser.reload()
    browser.until(f"{listed} === 'completed'")
    assert browser.close() == []


def test_no_secret_is_in_the_browser(example_url: str, runs_server: RunsServer) -> None:
    for path in ("", "/page.js", "/page.css"):
        with urllib.request.urlopen(example_url + path) as answer:
            assert runs_server.root_key.encode() not in answer.read()
    request = urllib.request.Request(f"{example_url}/session", method="POST")
    with urllib.request.urlopen(request) as answer:
        session = json.load(answer)
    assert runs_server.root_key not in json.dumps(session)
    assert session.keys() == {"apiUrl", "task", "tag", "triggerToken", "readToken"}
