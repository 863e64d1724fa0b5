"""Shapes compared with SELECT under random tables, rows, filters and transactions.

PGTIDE_ORACLE_SECONDS is how long it goes on, PGTIDE_SEED repeats one run (each prints how).
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from random import Random

import psycopg
import pytest
from history import History, prepare
from postgres_choice import stream_in_progress
from serving import Serving

SECONDS = float(os.environ.get("PGTIDE_ORACLE_SECONDS") or 12)
HISTORY_SECONDS = 2.5


@pytest.mark.timeout(SECONDS * 3 + 120)
@pytest.mark.parametrize("streaming", [False, True], ids=["at-commit", "in-progress"])
async def test_clients_hold_what_select_returns(
    streaming: bool, seed: str, database: str, tmp_path: Path
) -> None:
    random = Random(seed)
    await prepare(database)
    if streaming:
        with psycopg.connect(database, autocommit=True) as connection:
            stream_in_progress(connection)
    with Serving(
        database,
        tmp_path / "pgtide",
        long_poll_timeout=2,
        sse_timeout=3,
        sse_keepalive=1,
        chunk_bytes=random.choice((5_000, 50_000, 10_000_000)),
    ) as server:
        ends = time.monotonic() + SECONDS * 0.25
        number = 0
        while time.monotonic() < ends:
            history = History(f"{seed}/{number}", database, server.url, server.folder / "data")
            report = await history.run(HISTORY_SECONDS)
            print(f"history {number}: {report}")
            assert not report.failures + report.refused, (
                f"history {number} of seed {seed}:\n"
                + "\n\n".join(report.failures + report.refused)
                + f"\n\n{history.describe()}"
            )
            number += 1
