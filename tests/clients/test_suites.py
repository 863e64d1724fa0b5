"""The packages from npm in node, unmodified, against a running pgtide: the cases of suites/*.mjs.

PGTIDE_CASES is a pattern for the names of cases: only those.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from serving import Serving
from suite import RUNNER, run_suite

SUITES = sorted(set(RUNNER.parent.glob("*.mjs")) - {RUNNER, RUNNER.parent / "world.mjs"})


@pytest.mark.parametrize("suite", [pytest.param(path, id=path.stem) for path in SUITES])
def test_suite(node: str, server: Serving, runs_database: str, suite: Path) -> None:
    run_suite(node, suite, {"PGTIDE_URL": server.url, "DATABASE_URL": runs_database})
