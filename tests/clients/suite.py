"""Runs the cases of a suite (suites/run.mjs) in node, and fails with what went wrong in them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

RUNNER = Path(__file__).parent / "suites" / "run.mjs"
SECONDS = 150.0
"""For a whole suite."""


def run_suite(node: str, suite: Path, environ: dict[str, str]) -> None:
    """`environ` is added to this process's own. PGTIDE_CASES is a pattern for names: only those."""
    process = subprocess.Popen(
        [node, str(RUNNER), str(suite), os.environ.get("PGTIDE_CASES", "")],
        env=os.environ | {"PGTIDE_TEST_SCHEMA": "clients", "NODE_ENV": "test"} | environ,
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
