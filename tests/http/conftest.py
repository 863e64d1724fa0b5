"""Servers and databases that the tests of this folder share; each test makes tables of its own."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

import pytest
from serving import Serving, fresh_database
from tables import Tables


@pytest.fixture(scope="session")
def database_of_server(server_url: str) -> Generator[str]:
    with fresh_database(server_url) as url:
        yield url


@pytest.fixture(scope="session")
def server(database_of_server: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Serving]:
    """Two nodes with the settings that users get. A connection may reach either of them."""
    with Serving(database_of_server, tmp_path_factory.mktemp("pgtide")) as serving:
        yield serving


@pytest.fixture(scope="session")
def tables(database_of_server: str, server: Serving) -> Generator[Tables]:
    """The database of `server`."""
    assert server.url
    with closing(Tables(database_of_server)) as made:
        yield made


@pytest.fixture(scope="session")
def database_of_brief(server_url: str) -> Generator[str]:
    with fresh_database(server_url) as url:
        yield url


@pytest.fixture(scope="session")
def brief(database_of_brief: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Serving]:
    """One node that waits briefly, sends little at a time, and lets shapes be deleted."""
    with Serving(
        database_of_brief,
        tmp_path_factory.mktemp("pgtide-brief"),
        nodes=1,
        long_poll_timeout=0.4,
        sse_timeout=1.5,
        sse_keepalive=0.4,
        chunk_bytes=10000,
        enable_delete=True,
    ) as serving:
        yield serving


@pytest.fixture(scope="session")
def brief_tables(database_of_brief: str, brief: Serving) -> Generator[Tables]:
    """The database of `brief`."""
    assert brief.url
    with closing(Tables(database_of_brief)) as made:
        yield made
