"""Postgres for the tests: one server per run, one database per test."""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import hypothesis
import pytest
from postgres_choice import new_server
from serving import fresh_database

from engine.embedded import EmbeddedPostgres
from engine.postgres.migrate import migrate

# The same examples each time, so that a change is judged by what it changed; what others would find
# is searched for with `--hypothesis-profile=explore`. How long one takes says nothing here.
hypothesis.settings.register_profile(
    "tests",
    derandomize=True,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile(
    "explore",
    hypothesis.settings.get_profile("tests"),
    derandomize=False,
    max_examples=2000,
    print_blob=True,
)
hypothesis.settings.load_profile("tests")

# Speed over durability, and room for many replication clients at once.
TEST_OPTIONS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "on",
    "max_connections": "300",
    "max_wal_senders": "100",
    "max_replication_slots": "100",
}


# What decides how a random test goes.
SEED, *BUDGETS = "PGTIDE_SEED", "PGTIDE_ORACLE_SECONDS", "PGTIDE_FAULT_SECONDS"


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> str:
    """For the test's random numbers: PGTIDE_SEED or a new one. Prints how to have the same again."""
    chosen = os.environ.get(SEED) or secrets.token_hex(4)
    given = {SEED: chosen} | {name: os.environ[name] for name in BUDGETS if name in os.environ}
    settings = shlex.join(f"{name}={value}" for name, value in given.items())
    test = shlex.quote(f"-n 0 {request.node.nodeid}")
    print(f"The same again: {settings} make test ARGS={test}")
    return chosen


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """The run's own server, of the chosen version. Do not stop it; make one for that."""
    # Not pytest's folder, which Postgres's own account could not enter.
    with tempfile.TemporaryDirectory(prefix="pgtide-test-") as folder:
        Path(folder).chmod(0o755)
        server = new_server(Path(folder) / "postgres", options=TEST_OPTIONS)
        server.start()
        try:
            yield server
        finally:
            server.remove()


@pytest.fixture(scope="session")
def server_url(request: pytest.FixtureRequest) -> str:
    """Superuser's URL of the server: PGTIDE_TEST_DATABASE_URL, or of `postgres` if unset."""
    given = os.environ.get("PGTIDE_TEST_DATABASE_URL")
    if given:
        return given
    server: EmbeddedPostgres = request.getfixturevalue("postgres")
    return server.database_url


@pytest.fixture(scope="session")
def migrated_template(server_url: str) -> Iterator[str]:
    """Name of a database with pgtide's own tables, for copying: `pgtide migrate` takes longer."""
    with fresh_database(server_url) as url:
        asyncio.run(migrate(url, publish=False))
        yield urlsplit(url).path.removeprefix("/")


@pytest.fixture
def database(request: pytest.FixtureRequest, server_url: str) -> Iterator[str]:
    """URL of a fresh database, dropped afterwards with its slots and connections. Empty; with the
    mark `migrated` it has pgtide's own tables, and `migrated(False)` takes that of a module back."""
    mark = request.node.get_closest_marker("migrated")
    migrated = mark is not None and mark.args != (False,)
    template: str = request.getfixturevalue("migrated_template") if migrated else "template0"
    with fresh_database(server_url, template) as url:
        yield url
