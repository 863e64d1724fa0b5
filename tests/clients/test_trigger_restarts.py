"""@trigger.dev/sdk goes on when processes are killed, when everything is, and when a shape ends."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from keyed_serving import keyed_serving
from psycopg.types.json import Jsonb
from run_follower import RunFollower
from runs_server import RunsServer
from serving import Serving


class Writer:
    """Counts up the metadata of a run until it is told to finish it."""

    def __init__(self, db: psycopg.Connection, run: str) -> None:
        self._db = db
        self._run = run
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self.steps = 0

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _write(self) -> None:
        while not self._done.wait(0.01):
            change(self._db, self._run, "metadata = %s", Jsonb({"step": self.steps + 1}))
            self.steps += 1


def change(db: psycopg.Connection, run: str, assignments: str, *values: object) -> None:
    statement = f"update pgtide.runs set {assignments} where id = %s"
    assert db.execute(statement.encode(), [*values, run]).rowcount == 1


def make(db: psycopg.Connection, tag: str, batch: str) -> str:
    statement = "insert into pgtide.runs (task, tags, batch_id) values ('t', %s, %s) returning id"
    found = db.execute(statement, ([tag], batch)).fetchone()
    assert found is not None
    return found[0]


def kill_everything(serving: Serving) -> None:
    serving.kill()
    serving.start()


FAULTS: dict[str, Callable[[Serving], None]] = {
    "a node": Serving.kill_node,
    "the engine": Serving.kill_engine,
    "everything": kill_everything,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_killed_while_runs_change(
    node: str, runs_server: RunsServer, runs_db: psycopg.Connection, fault: str
) -> None:
    tag, batch = f"user:{secrets.token_hex(4)}", f"batch_{secrets.token_hex(8)}"
    runs_db.execute("insert into pgtide.batches (id) values (%s)", (batch,))
    run = make(runs_db, tag, batch)
    names = (run, tag, batch)
    with RunFollower(
        node, runs_server.environ, runs=[run], tags=[tag], batches=[batch]
    ) as follower:
        follower.until(lambda: all(follower.last(of, run) for of in names), "first rows")
        with Writer(runs_db, run) as writer:
            for steps in (10, 30):
                follower.until(lambda steps=steps: writer.steps > steps, "changes")
                FAULTS[fault](runs_server.serving)
        change(runs_db, run, "status = 'COMPLETED'")
        later = make(runs_db, tag, batch)
        for of in names:
            follower.until(lambda of=of: follower.last(of, run)["status"] == "COMPLETED", of)
        for of in (tag, batch):
            follower.until(lambda of=of: follower.last(of, later), "the run made afterwards")
        follower.until(lambda: follower.ended(run), "the subscription's end")
        for of in names:
            steps = [
                row["metadata"].get("step", 0) for row in follower.rows(of) if row["id"] == run
            ]
            assert steps == sorted(steps), "it went backwards"
            assert steps[-1] == writer.steps


def test_a_shape_that_ends(node: str, runs_server: RunsServer, runs_db: psycopg.Connection) -> None:
    tag, batch = f"user:{secrets.token_hex(4)}", f"batch_{secrets.token_hex(8)}"
    runs_db.execute("insert into pgtide.batches (id) values (%s)", (batch,))
    run = make(runs_db, tag, batch)
    names = (run, tag, batch)
    with RunFollower(
        node, runs_server.environ, runs=[run], tags=[tag], batches=[batch]
    ) as follower:
        follower.until(lambda: all(follower.last(of, run) for of in names), "first rows")
        runs_db.execute(
            "begin; create temp table kept on commit drop as select * from pgtide.runs;"
            " truncate pgtide.runs; insert into pgtide.runs select * from kept; commit"
        )
        change(runs_db, run, "status = 'COMPLETED'")
        for of in names:
            follower.until(lambda of=of: follower.last(of, run)["status"] == "COMPLETED", of)


def test_more_wait_than_may(node: str, server_url: str, tmp_path: Path) -> None:
    """Whoever gets 429 comes again, and sees its run's end."""
    with (
        keyed_serving(
            server_url,
            tmp_path / "pgtide",
            secret_keys=RunsServer.root_key,
            nodes=1,
            max_live_requests=1,
            long_poll_timeout=1,
        ) as keyed,
        psycopg.connect(keyed.database_url, autocommit=True) as db,
    ):
        runs = [make(db, "tag", "batch") for _ in range(4)]
        with RunFollower(node, RunsServer(*keyed).environ, runs=runs) as follower:
            follower.until(lambda: all(map(follower.rows, runs)), "first rows")
            follower.until(follower.refusals, "a refusal")
            for run in runs:
                change(db, run, "status = 'COMPLETED'")
            follower.until(lambda: all(map(follower.ended, runs)), "the ends")
            assert set(follower.refusals()) == {429}
    statuses = [follower.rows(run)[-1]["status"] for run in runs]
    assert statuses == ["COMPLETED"] * 4
