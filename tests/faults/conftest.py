"""Servers of their own for tests that harm them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_ports import own_port
from serving import fresh_database

from engine.embedded import EmbeddedPostgres

# As in production: a crash must not cost what was acknowledged.
DURABLE = {"fsync": "on", "max_wal_senders": "20", "checkpoint_timeout": "30s"}


@pytest.fixture
def own_postgres() -> Iterator[EmbeddedPostgres]:
    """A server that the test may kill, with fsync on."""
    # Not pytest's folder, which Postgres's own account could not enter.
    with tempfile.TemporaryDirectory(prefix="pgtide-test-") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedPostgres(Path(folder) / "postgres", own_port(), options=DURABLE)
        server.start()
        try:
            yield server
        finally:
            server.remove()


@pytest.fixture(scope="module")
def database_of_waiting(server_url: str) -> Iterator[str]:
    with fresh_database(server_url) as url:
        yield url
