"""Memory of a node while many runs are followed, each by somebody else, and after they have ended.

All runs are opened first and waited at, at the same time; then they end, a few hundred per
transaction. Two rounds with different runs: what is left after the second and not after the first
is what a node would lose with every run. Private memory only: the log and the snapshots are in files
that are mapped.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import orjson
import psutil

from bench.processes import memory
from bench.report import Report, command
from bench.stack import PATIENCE, STREAM_ID, BenchError, Stack, micros_per, open_stack
from engine.postgres.migrate import migrate

SIZES = {
    "runs": (10_000, 100, "runs followed at the same time"),
    "together": (200, 1, "runs that end in one transaction"),
    "rounds": (2, 2, "times that all of it is done"),
}
POLL_SECONDS = 60.0
LET_GO_SECONDS = 2 * POLL_SECONDS + 180
"""By then a node has let go of everything: it looks every 15 s for what ended a minute ago, and for
who has not come for two polls; after that it gives back what was kept because of that. If it keeps more
than it needs even then, a minute later another takes its place."""

WARM_RUNS = 100
LEFT_SHARE = 0.15
"""Of what there was before."""
LEFT_MEGABYTES = 5.0


def measure(report: Report, options: argparse.Namespace) -> None:
    # Renewed after every round; elsewhere not more often than each hour.
    with open_stack(long_poll_timeout=POLL_SECONDS, node_renewal_interval=1.0) as stack:
        report.postgres(stack.scalar("show server_version"))
        asyncio.run(migrate(stack.database_url, stream_id=STREAM_ID))
        stack.start_supervised()
        _round(stack, "warm", WARM_RUNS, options.together)
        time.sleep(1)
        before = _megabytes(stack)
        engine_before = round(memory(stack.engine_pid).anonymous / 1e6, 1)
        report.note(f"before: {before} MB")
        rounds: list[dict[str, Any]] = []
        for number in range(options.rounds):
            figures = _round(stack, f"round-{number}", options.runs, options.together)
            figures |= _settled(stack)
            report.note(f"round {number + 1}: {figures}")
            rounds.append(figures)
        engine = round(memory(stack.engine_pid).anonymous / 1e6, 1)
    report.results |= {"before_mb": before, "rounds": rounds}
    report.results |= {"engine_before_mb": engine_before, "engine_after_mb": engine}
    first, last = rounds[0]["left_mb"], rounds[-1]["left_mb"]
    report.at_most("left after the first round", first - before, "MB", before * LEFT_SHARE)
    report.at_most("left by one more round", last - first, "MB", LEFT_MEGABYTES)


def _round(stack: Stack, name: str, count: int, together: int) -> dict[str, Any]:
    """Follow `count` new runs to their end."""
    runs = [f"run_{name}_{number}" for number in range(count)]
    with stack.connect() as connection:
        connection.execute(
            "insert into pgtide.runs (id, task, tags) select unnest(%s::text[]), 'bench', '{a,b}'",
            (runs,),
        )
        cpu = stack.cpu()
        began = time.monotonic()
        with _followers(stack.port, runs) as process:
            _hear(process, "ready")
            opened = time.monotonic() - began
            opening = micros_per(count, cpu, stack.cpu())
            peak = _megabytes(stack)
            cpu = stack.cpu()
            began = time.monotonic()
            for start in range(0, count, together):
                connection.execute(
                    "update pgtide.runs set status = 'COMPLETED', output = '{\"ok\": true}' "
                    "where id = any(%s)",
                    (runs[start : start + together],),
                )
            _hear(process, "done")
            ended = time.monotonic() - began
            ending = micros_per(count, cpu, stack.cpu())
    return {
        "peak_mb": peak,
        "opening_s": round(opened, 2),
        "opening_cpu_us_per_run": opening,
        "ending_s": round(ended, 2),
        "ending_cpu_us_per_run": ending,
    }


def _settled(stack: Stack) -> dict[str, float]:
    """What a node has when it has let go of what it can, and what the one that it was had last."""
    pids = stack.node_pids
    deadline = time.monotonic() + LET_GO_SECONDS
    kept = _megabytes(stack)
    while time.monotonic() < deadline and stack.node_pids == pids:
        with contextlib.suppress(OSError, psutil.NoSuchProcess):
            kept = _megabytes(stack)
        time.sleep(1)
    while len(stack.node_pids) > 1:
        time.sleep(0.1)
    # A round of a few, as before the first one: what a node makes when it is first needed is no loss.
    renewed = float(stack.node_pids != pids)
    if renewed:
        _round(stack, f"warm-{stack.node_pids[0]}", WARM_RUNS, 1)
        time.sleep(1)
    return {"kept_mb": kept, "renewed": renewed, "left_mb": _megabytes(stack)}


def _megabytes(stack: Stack) -> float:
    return round(memory(stack.node_pids[0]).anonymous / 1e6, 1)


@contextmanager
def _followers(port: int, runs: list[str]) -> Generator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.run_reader_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    try:
        process.stdin.write(orjson.dumps({"port": port, "runs": runs}) + b"\n")
        process.stdin.flush()
        yield process
    finally:
        process.stdin.close()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _hear(process: subprocess.Popen[bytes], word: str) -> None:
    assert process.stdout is not None
    if process.stdout.readline() != word.encode() + b"\n":
        raise BenchError("the clients' process has ended; its last words are above")


def main() -> None:
    command("runs", __doc__, SIZES, measure)


if __name__ == "__main__":
    main()
