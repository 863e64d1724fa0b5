"""Fixtures of the tests that need neither Postgres nor network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from log_builder import Elsewhere
from routed_log import LogBox


@pytest.fixture(scope="session")
def elsewhere() -> Iterator[Elsewhere]:
    """Another process, which may write to a log that this one reads."""
    process = Elsewhere()
    yield process
    process.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a test's log goes."""
    return tmp_path / "log"


@pytest.fixture
def log(folder: Path) -> Iterator[LogBox]:
    """A log for a routing, which the test says what to put into."""
    box = LogBox(folder)
    yield box
    box.close()
