"""@durable-streams/server-conformance-tests, unmodified: every test of it passes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest
from keyed_serving import keyed_serving
from serving import Serving

FOLDER = Path(__file__).parent
TESTS = 338
SECONDS = 120.0


@pytest.fixture
def open_server(server_url: str, tmp_path: Path) -> Generator[Serving]:
    """For whoever comes, since the suite has no credentials; long polls wait briefly, since some of its
    tests wait for their end."""
    with keyed_serving(
        server_url, tmp_path / "pgtide", insecure=True, long_poll_timeout=0.5
    ) as keyed:
        yield keyed.serving


def test_the_suite_passes(node: str, open_server: Serving, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    subprocess.run(
        [
            *(node, "node_modules/vitest/vitest.mjs", "run", "streams/conformance.test.mjs"),
            *("--reporter=json", f"--outputFile={report}", "--testTimeout=20000", "--no-coverage"),
        ],
        cwd=FOLDER,
        env=os.environ | {"PGTIDE_URL": open_server.url},
        stdout=subprocess.DEVNULL,
        timeout=SECONDS,
        check=False,
    )
    result = json.loads(report.read_text())
    failed = [
        f"{one['fullName']}: {one['failureMessages']}"
        for file in result["testResults"]
        for one in file["assertionResults"]
        if one["status"] == "failed"
    ]
    assert not failed, "\n\n".join(failed)
    assert result["numPassedTests"] == TESTS
