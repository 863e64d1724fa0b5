"""@durable-streams/server-conformance-tests, unmodified: every test of it passes."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Generator
from pathlib import Path

import pytest
from keyed_serving import keyed_serving
from serving import Serving

FOLDER = Path(__file__).parent
TESTS = 338
SECONDS = 120.0

_LONG = ("Property-Based Tests", "TTL Expiration Behavior|Fork - TTL and Expiry")
PARTS = (*_LONG, f"^(?!.*({'|'.join(_LONG)}))")
"""Patterns for names; the suite takes its time, so its parts run side by side."""


@pytest.fixture
def open_server(server_url: str, tmp_path: Path) -> Generator[Serving]:
    """For whoever comes, since the suite has no credentials; long polls wait briefly, since some of its
    tests wait for their end."""
    with keyed_serving(
        server_url, tmp_path / "pgtide", insecure=True, long_poll_timeout=0.5
    ) as keyed:
        yield keyed.serving


async def test_the_suite_passes(node: str, open_server: Serving, tmp_path: Path) -> None:
    reports = [tmp_path / f"report-{number}.json" for number in range(len(PARTS))]
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
        for pattern, report in zip(PARTS, reports, strict=True):
            tasks.create_task(run_part(node, open_server.url, pattern, report))
    results = [
        one
        for report in reports
        for file in json.loads(report.read_text())["testResults"]
        for one in file["assertionResults"]
    ]
    failed = [
        f"{one['fullName']}: {one['failureMessages']}"
        for one in results
        if one["status"] == "failed"
    ]
    assert not failed, "\n\n".join(failed)
    assert len({one["fullName"] for one in results if one["status"] == "passed"}) == TESTS


async def run_part(node: str, url: str, pattern: str, report: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(node, "node_modules/vitest/vitest.mjs", "run", "streams/conformance.test.mjs"),
        *("-t", pattern, "--reporter=json", f"--outputFile={report}"),
        *("--testTimeout=20000", "--no-coverage"),
        cwd=FOLDER,
        env=os.environ | {"PGTIDE_URL": url},
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
