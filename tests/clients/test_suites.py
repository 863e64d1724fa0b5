"""The packages from npm in node, unmodified, against a running pgtide: the cases of suites/*.mjs.

PGTIDE_CASES is a pattern for the names of cases: only those.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from serving import Serving

FOLDER = Path(__file__).parent / "suites"
RUNNER = FOLDER / "run.mjs"
SUITES = sorted(set(FOLDER.glob("*.mjs")) - {RUNNER, FOLDER / "world.mjs"})
SECONDS = 120.0
"""For a whole suite."""


@pytest.mark.parametrize("suite", [pytest.param(path, id=path.stem) for path in SUITES])
def test_suite(node: str, server: Serving, runs_database: str, suite: Path) -> None:
    environ = os.environ | {
        "PGTIDE_URL": server.url,
        "DATABASE_URL": runs_database,
        "PGTIDE_TEST_SCHEMA": "clients",
        "NODE_ENV": "test",
    }
    process = subprocess.Popen(
        [node, str(RUNNER), str(suite), os.environ.get("PGTIDE_CASES", "")],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    try:
        output, errors = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
    *cases, last = [json.loads(line) for line in output.splitlines()] or [{}]
    failed = [f"{case['name']}: {case['error']}" for case in cases if case["error"] is not None]
    if process.returncode != 0 or "complaints" not in last:
        failed.append(f"it ended with {process.returncode}: {errors}")
    failed += last.get("complaints", [])
    if failed:
        pytest.fail("\n\n".join(failed), pytrace=False)
    assert cases or "PGTIDE_CASES" in os.environ
