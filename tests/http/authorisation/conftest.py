"""One server for all tests of this folder. What they have sent must be nowhere to be seen."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from pathlib import Path

import pytest
from credentials import issuers_jwk
from decided_routes import restricted_groups
from guarded_server import Guarded, settings_file
from serving import Serving, fresh_database
from traces import traces_of

from engine.migrate import migrate


@pytest.fixture(scope="session")
def guarded_database(server_url: str) -> Generator[str]:
    with fresh_database(server_url) as url:
        yield url


@pytest.fixture(scope="session")
def settings_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("guarded-settings") / "pgtide.toml"
    path.write_text(settings_file(restricted_groups(), issuers_jwk()))
    return path


@pytest.fixture(scope="session")
def guarded(
    guarded_database: str, settings_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Guarded]:
    """Two nodes that log all they can; everything that `Guarded.prepare` makes is there."""
    asyncio.run(migrate(guarded_database))
    with Serving(
        guarded_database,
        tmp_path_factory.mktemp("pgtide-guarded"),
        insecure=False,
        config_file=settings_path,
        log_level="debug",
        prometheus_port=0,
        long_poll_timeout=2,
        enable_delete=True,
    ) as serving:
        made = Guarded(serving, guarded_database)
        made.prepare()
        yield made
        made.close()
        found = traces_of(made)
        assert not found, found[:5]
