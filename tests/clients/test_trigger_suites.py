"""@trigger.dev/sdk in node, unmodified, as a back end uses it: the cases of runs/*.mjs.

PGTIDE_CASES is a pattern for the names of cases: only those.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from runs_server import RunsServer
from suite import run_suite

FOLDER = Path(__file__).parent / "runs"
SUITES = sorted(set(FOLDER.glob("*.mjs")) - {FOLDER / "world.mjs"})


@pytest.mark.parametrize("suite", [pytest.param(path, id=path.stem) for path in SUITES])
def test_suite(node: str, runs_server: RunsServer, suite: Path) -> None:
    run_suite(node, suite, runs_server.environ)
