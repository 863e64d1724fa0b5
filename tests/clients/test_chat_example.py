"""examples/chat: its page, its server and its worker, in a headless Chromium."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType

import psycopg
import pytest
from browser import Browser
from node_packages import install
from runs_server import RunsServer

EXAMPLE = Path(__file__).parents[2] / "examples" / "chat"
WORKER = EXAMPLE / "worker.py"
STOP_SECONDS = 20.0
SECONDS_TO_STOP = 8.0
PROMPT = "Why do the tides come back?"
TEXT = "(document.querySelector('.text')?.textContent ?? '')"
STATUS = "document.querySelector('.status')?.textContent"


def speech() -> ModuleType:
    found = importlib.util.spec_from_file_location("speech", EXAMPLE / "speech.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


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


def worker(
    server: RunsServer, word_seconds: float
) -> AbstractContextManager[subprocess.Popen[str]]:
    return running(
        sys.executable,
        str(WORKER),
        WORD_SECONDS=str(word_seconds),
        SILENT_SECONDS="1",
        **server.environ,
    )


@pytest.fixture(scope="module")
def page_url(node: str, runs_server: RunsServer) -> Generator[str]:
    """Where the page is; there is no worker yet."""
    install(EXAMPLE)
    with running(node, "server.mjs", PORT="0", **runs_server.environ) as server:
        assert server.stdout is not None
        match = re.search(r"http://\S+", server.stdout.readline())
        assert match
        yield match[0]


def ask(browser: Browser, page_url: str) -> None:
    browser.open(page_url)
    browser.until(f"document.querySelector('.questions button')?.textContent === '{PROMPT}'")
    browser.run("document.querySelector('.questions button').click()")


def spoken(browser: Browser) -> str:
    """The whole text that the run's answer has to be."""
    run = browser.until("document.querySelector('aside code')?.title")
    return "".join(speech().answer(PROMPT, seed=run))


def test_an_answer_survives_reloads_and_a_killed_worker(
    page_url: str, runs_server: RunsServer, browser: Browser, tmp_path: Path
) -> None:
    ask(browser, page_url)
    browser.until(f"{STATUS} === 'queued'")
    whole = spoken(browser)
    with worker(runs_server, 0.02) as first:
        browser.until(f"{STATUS} === 'executing' && {TEXT}.length > 100")
        browser.until("document.querySelector('aside progress').value > 0")
        browser.picture(tmp_path / "light.png", "light")
        browser.reload()
        seen = browser.until(f"{TEXT}.length > 200 && {TEXT}")
        assert whole.startswith(seen)
        first.kill()
    with worker(runs_server, 0.005):
        browser.until(f"{STATUS} === 'completed'")
        browser.until(f"{TEXT}.length >= {len(whole.encode('utf-16-le')) // 2}")
        assert browser.run(TEXT) == whole
        browser.until("document.querySelector('aside').textContent.includes('100 %')")
        browser.reload()
        browser.until(f"{TEXT}.length >= {len(whole.encode('utf-16-le')) // 2}")
        assert browser.run(TEXT) == whole
        browser.picture(tmp_path / "dark.png", "dark")
    assert browser.close() == []


def test_the_button_stops_the_worker(
    page_url: str, runs_server: RunsServer, browser: Browser, runs_db: psycopg.Connection
) -> None:
    with worker(runs_server, 0.1):
        ask(browser, page_url)
        browser.until(f"{TEXT}.length > 40")
        whole = spoken(browser)
        began = time.monotonic()
        browser.run("document.querySelector('aside button').click()")
        browser.until(f"{STATUS} === 'stopped'")
        assert time.monotonic() - began < SECONDS_TO_STOP
        said = browser.run(TEXT)
    assert whole.startswith(said)
    assert len(said) < len(whole)
    run = browser.run("document.querySelector('aside code').title")
    output = runs_db.execute(
        "select output::jsonb ->> 'stopped', (output::jsonb ->> 'words')::int"
        " from pgtide.runs where id = %s",
        (run,),
    ).fetchone()
    assert output is not None
    stopped, words = output
    assert stopped == "true"
    assert said == "".join(speech().answer(PROMPT, seed=run)[:words])
    assert browser.close() == []


def test_no_secret_is_in_the_browser(page_url: str, runs_server: RunsServer) -> None:
    for path in ("", "/page.js", "/page.css"):
        with urllib.request.urlopen(page_url + path) as answer:
            assert runs_server.root_key.encode() not in answer.read()
    request = urllib.request.Request(f"{page_url}/session", method="POST")
    with urllib.request.urlopen(request) as answer:
        session = json.load(answer)
    assert runs_server.root_key not in json.dumps(session)
    assert session.keys() == {"apiUrl", "task", "triggerToken"}
