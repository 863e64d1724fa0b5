"""One server for all tests of this folder. What they have sent must be nowhere to be seen."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from credentials import issuers_jwk
from decided_routes import restricted_groups
from guarded_server import Guarded, settings_file
from keyed_serving import keyed_serving
from traces import traces_of


@pytest.fixture(scope="session")
def settings_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("guarded-settings") / "pgtide.toml"
    path.write_text(settings_file(restricted_groups(), issuers_jwk()))
    return path


@pytest.fixture(scope="session")
def guarded(
    server_url: str, settings_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Guarded]:
    """Two nodes that log all they can; everything that `Guarded.prepare` makes is there."""
    with keyed_serving(
        server_url,
        tmp_path_factory.mktemp("pgtide-guarded"),
        config_file=settings_path,
        log_level="debug",
        prometheus_port=0,
        long_poll_timeout=2,
        enable_delete=True,
    ) as keyed:
        made = Guarded(*keyed)
        made.prepare()
        yield made
        made.close()
        found = traces_of(made)
        assert not found, found[:5]
