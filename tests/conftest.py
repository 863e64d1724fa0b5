"""Postgres for the tests: one server per run, one database per test."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import hypothesis
import psycopg
import pytest
from psycopg import sql

from engine.configuration.settings import Settings
from engine.embedded import EmbeddedPostgres

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
    "synchronous_commit": "on",
    "max_connections": "300",
    "max_wal_senders": "100",
    "max_replication_slots": "100",
}


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """The run's own server, of version PGTIDE_TEST_POSTGRES. Do not stop it; make one for that."""
    default = str(Settings().postgres_version)
    version = int(os.environ.get("PGTIDE_TEST_POSTGRES") or default)
    # Not pytest's folder, which Postgres's own account could not enter.
    with tempfile.TemporaryDirectory(prefix="pgtide-test-") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedPostgres(Path(folder) / "postgres", version=version, options=TEST_OPTIONS)
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


@pytest.fixture
def database(server_url: str) -> Iterator[str]:
    """URL of a fresh, empty database, dropped afterwards with its slots and connections."""
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(sql.SQL("create database {} template template0").format(sql.Identifier(name)))
        yield urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
        _drop_slots(admin, name)
        admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def _drop_slots(admin: psycopg.Connection, name: str) -> None:
    # The function returns once the walsender has ended: only then may its slot be dropped.
    admin.execute(
        "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
        " where datname = %s and pid <> pg_backend_pid()",
        (name,),
    )
    admin.execute(
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = %s",
        (name,),
    )
