"""Servers of their own for tests that harm them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_ports import own_port
from postgres_choice import new_server
from serving import fresh_database

from engine.embedded import EmbeddedPostgres

# As in production: a crash must not cost what was acknowledged.
DURABLE = {"fsync": "on", "max_wal_senders": "20", "checkpoint_timeout": "30s"}


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that Postgres's own account can enter, unlike pytest's; servers in it must have ended by
    the end of the test."""
    with tempfile.TemporaryDirectory(prefix="pgtide-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def own_postgres(folder: Path) -> Iterator[EmbeddedPostgres]:
    """A server that the test may kill, with fsync on."""
    server = new_server(folder / "postgres", own_port(), DURABLE)
    server.start()
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="module")
def database_of_waiting(server_url: str) -> Iterator[str]:
    with fresh_database(server_url) as url:
        yield url
