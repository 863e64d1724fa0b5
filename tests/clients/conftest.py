"""node, the packages from npm, and a server with pgtide's own tables."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Generator
from pathlib import Path

import psycopg
import pytest
from browser import Browser
from electric_reader import ElectricReader
from keyed_serving import keyed_serving
from node_packages import install
from runs_server import RunsServer
from serving import Serving, fresh_database

from engine.postgres.migrate import migrate

FOLDER = Path(__file__).parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
NO_BROWSER = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def node() -> str:
    """The program, with the packages that package-lock.json names in place. Never skips."""
    program = shutil.which("node")
    assert program, (
        "these tests need node on the PATH; `make test` installs one where there is none"
    )
    install(FOLDER)
    return program


@pytest.fixture(scope="session")
def chromium(pytestconfig: pytest.Config) -> str:
    """A Chromium or Chrome: PGTIDE_TEST_CHROMIUM, or one on the PATH; without one it says so."""
    given = os.environ.get("PGTIDE_TEST_CHROMIUM")
    found = given or next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytestconfig.stash[NO_BROWSER] = True
        pytest.skip("no Chromium on the PATH")
    return found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if terminalreporter.config.stash.get(NO_BROWSER, False):
        text = "The page was NOT tested: install Chromium, or name one in PGTIDE_TEST_CHROMIUM."
        terminalreporter.write_line(text, yellow=True)


@pytest.fixture(scope="session")
def chromium_process(node: str, chromium: str) -> Generator[Browser]:
    with Browser(node, chromium) as process:
        yield process


@pytest.fixture
def browser(chromium_process: Browser) -> Generator[Browser]:
    """Ends the page that a test leaves open."""
    yield chromium_process
    chromium_process.close()


@pytest.fixture
def reader(node: str) -> Generator[ElectricReader]:
    with ElectricReader(node) as process:
        yield process


@pytest.fixture(scope="session")
def runs_database(server_url: str) -> Generator[str]:
    with fresh_database(server_url) as url:
        yield url


@pytest.fixture(scope="session")
def server(runs_database: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Serving]:
    """Two nodes; streams end after three seconds, so that clients have to come back."""
    serving = Serving(
        runs_database,
        tmp_path_factory.mktemp("pgtide-clients"),
        long_poll_timeout=2,
        sse_timeout=3,
        chunk_bytes=10000,
        enable_delete=True,
    )
    asyncio.run(migrate(runs_database, stream_id=serving.stream_id))
    with serving:
        yield serving


@pytest.fixture
def db(runs_database: str, server: Serving) -> Generator[psycopg.Connection]:
    """The database of `server`, each statement a transaction of its own."""
    assert server.url
    with psycopg.connect(runs_database, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def runs_server(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[RunsServer]:
    """Two nodes that let runs age out second by second."""
    keys = f"{RunsServer.root_key},{RunsServer.listed_key}"
    folder = tmp_path_factory.mktemp("pgtide-runs")
    with keyed_serving(
        server_url, folder, secret_keys=keys, long_poll_timeout=3, window_step=1
    ) as keyed:
        yield RunsServer(*keyed)


@pytest.fixture
def runs_db(runs_server: RunsServer) -> Generator[psycopg.Connection]:
    """The database of `runs_server`, each statement a transaction of its own."""
    with psycopg.connect(runs_server.database_url, autocommit=True) as connection:
        yield connection
