"""Runs followed with the unmodified client while they move in and out of what is followed."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
from pathlib import Path
from typing import Any

import psycopg
import pytest
from electric_reader import ElectricReader, Rows, Summary
from psycopg import sql
from serving import Serving

from engine.postgres.migrate import migrate

COLUMNS = ["id", "status", "tags", "batch_id", "metadata", "number"]
MODES = pytest.mark.parametrize("sse", [False, True], ids=["long-poll", "sse"])


class Fleet:
    """Backends that write runs, each test's under names of its own; the same for the same seed."""

    def __init__(self, db: psycopg.Connection, seed: int = 7) -> None:
        self._db = db
        self._random = random.Random(seed)
        self._token = secrets.token_hex(4)
        self.red, self.blue, self.green = (f"{c}-{self._token}" for c in ("red", "blue", "it's"))
        self.batch = f"batch-{self._token}"
        self.ids = [f"run/{number}-{self._token}" for number in range(12)]

    def shapes(self) -> dict[str, tuple[str, list[str] | None]]:
        """What is followed, by name: filter and its parameters."""
        green = self.green.replace("'", "''")
        return {
            "run": ("id = $1", [self.ids[0]]),
            "tag": (f"'{green}' = ANY(tags)", None),
            "tag by parameter": ("$1 = ANY(tags)", [self.red]),
            "tag contained": (f"tags @> ARRAY['{self.blue}']", None),
            "tags": (f"tags @> ARRAY['{self.red}','{self.blue}']", None),
            "tags by parameters": ("tags @> ARRAY[$1,$2]", [self.red, self.green]),
            "any of two tags": ("$1 = ANY(tags) OR $2 = ANY(tags)", [self.red, self.blue]),
            "batch": ("batch_id = $1", [self.batch]),
            "tag in batch": (
                "batch_id = $2 AND $1 = ANY(tags) AND NOT status = 'FAILED'",
                [self.red, self.batch],
            ),
        }

    def work(self, transactions: int) -> None:
        """So many transactions of one to four statements."""
        for _ in range(transactions):
            with self._db.transaction():
                for _ in range(self._random.choice((1, 1, 2, 4))):
                    self._step()

    def rows(self, where: str, params: list[str] | None) -> Rows:
        """What SQL says, in the client's form."""
        query = where
        for number, value in reversed(list(enumerate(params or [], 1))):
            query = query.replace(f"${number}", sql.Literal(value).as_string(self._db))
        text = f"select {', '.join(COLUMNS)} from pgtide.runs where {query}"
        found = self._db.execute(text.encode()).fetchall()
        rows = [dict(zip(COLUMNS, row, strict=True)) for row in found]
        return {f'"pgtide"."runs"/"{row["id"].replace("/", "//")}"': row for row in rows}

    def _step(self) -> None:
        chosen = self._random
        run = chosen.choice(self.ids)
        tags = chosen.sample([self.red, self.blue, self.green, "other"], chosen.randrange(4))
        batch = chosen.choice([self.batch, None, "another batch"])
        match chosen.randrange(9):
            case 0 | 1 | 2:
                self._db.execute(
                    "insert into pgtide.runs (id, task, tags, batch_id) values (%s, 'work', %s, %s)"
                    " on conflict (id) do nothing",
                    (run, tags, batch),
                )
            case 3:
                self._set(run, "tags = array_append(tags, %s)", chosen.choice(self._colours()))
            case 4:
                self._set(run, "tags = array_remove(tags, %s)", chosen.choice(self._colours()))
            case 5:
                self._set(run, "batch_id = %s", batch)
            case 6:
                self._set(run, "metadata = metadata || %s", f'{{"progress": {chosen.random()}}}')
            case 7:
                status = chosen.choice(["QUEUED", "EXECUTING", "COMPLETED", "FAILED"])
                self._set(run, "status = %s, number = number + 1", status)
            case _:
                self._db.execute("delete from pgtide.runs where id = %s", (run,))

    def _set(self, run: str, assignment: str, value: str | None) -> None:
        query = f"update pgtide.runs set {assignment} where id = %s"
        self._db.execute(query.encode(), (value, run))

    def _colours(self) -> list[str]:
        return [self.red, self.blue, self.green]


def follow_all(reader: ElectricReader, url: str, fleet: Fleet, *, sse: bool) -> None:
    for name, (where, params) in fleet.shapes().items():
        reader.follow(name, url, **options(where, params, sse=sse))


def options(where: str, params: list[str] | None, *, sse: bool) -> dict[str, Any]:
    given: dict[str, Any] = {"table": "pgtide.runs", "where": where, "columns": COLUMNS}
    return {"params": given | ({"params": params} if params else {}), "liveSse": sse}


def until_all(reader: ElectricReader, fleet: Fleet) -> None:
    for name, (where, params) in fleet.shapes().items():
        reader.until(name, fleet.rows(where, params))


def stop_all(reader: ElectricReader, fleet: Fleet) -> list[Summary]:
    """Checks that nobody had anything to complain of or had to fetch anything twice."""
    summaries = [reader.stop(name) for name in fleet.shapes()]
    for name, summary in zip(fleet.shapes(), summaries, strict=True):
        assert summary.problems == [], name
        assert (summary.fetches, summary.refetches) == (1, 0), summary.history
        assert sorted(summary.shape, key=by_id) == sorted(summary.rows.values(), key=by_id), name
    return summaries


def by_id(row: dict[str, Any]) -> str:
    return row["id"]


def used(summaries: list[Summary], kind: str) -> bool:
    return any(request[kind] for summary in summaries for request in summary.requests)


@MODES
def test_runs_move_in_and_out(
    server: Serving, db: psycopg.Connection, reader: ElectricReader, sse: bool
) -> None:
    fleet = Fleet(db)
    fleet.work(20)
    follow_all(reader, server.url, fleet, sse=sse)
    fleet.work(150)
    until_all(reader, fleet)
    # Once more from quiet, longer than a poll or a stream lasts: clients come back on their own.
    fleet.work(30)
    until_all(reader, fleet)
    db.execute("select pg_sleep(3.5)")
    fleet.work(10)
    until_all(reader, fleet)
    summaries = stop_all(reader, fleet)
    assert used(summaries, "sse") == sse
    if sse:
        live = [request for one in summaries for request in one.requests if request["live"]]
        assert all(request["sse"] for request in live), "the client gave SSE up"


@MODES
def test_the_server_goes_and_comes_back(
    database: str, tmp_path: Path, reader: ElectricReader, sse: bool
) -> None:
    serving = Serving(database, tmp_path / "pgtide", long_poll_timeout=2)
    asyncio.run(migrate(database, stream_id=serving.stream_id))
    with psycopg.connect(database, autocommit=True) as db, serving:
        fleet = Fleet(db)
        fleet.work(40)
        follow_all(reader, serving.url, fleet, sse=sse)
        until_all(reader, fleet)
        for end in (serving.stop, serving.kill):
            end()
            fleet.work(40)
            serving.start()
            fleet.work(10)
            until_all(reader, fleet)
        serving.kill_engine()
        for pid in serving.node_pids():
            fleet.work(10)
            serving.kill_node(pid)
        fleet.work(10)
        until_all(reader, fleet)
        stop_all(reader, fleet)


@MODES
def test_a_client_goes_and_comes_back(
    server: Serving, db: psycopg.Connection, node: str, sse: bool
) -> None:
    fleet = Fleet(db)
    fleet.work(60)
    where, params = fleet.shapes()["any of two tags"]
    with ElectricReader(node) as first:
        first.follow("runs", server.url, **options(where, params, sse=sse))
        fleet.work(20)
        left = first.until("runs", fleet.rows(where, params))
        assert first.stop("runs").problems == []
    fleet.work(60)
    with ElectricReader(node) as second:
        second.follow("runs", server.url, **left, **options(where, params, sse=sse))
        second.until("runs", fleet.rows(where, params))
        fleet.work(20)
        second.until("runs", fleet.rows(where, params))
        summary = second.stop("runs")
    assert (summary.problems, summary.fetches, summary.refetches) == ([], 0, 0)


def test_all_columns_have_the_types_of_the_schema(
    server: Serving, db: psycopg.Connection, reader: ElectricReader
) -> None:
    run = f"run-{secrets.token_hex(4)}"
    error = {"type": "STRING_ERROR", "raw": "no"}
    db.execute(
        "insert into pgtide.runs (id, task, tags, metadata, is_test, cost_in_cents, error)"
        " values (%s, 'work', array['a b', 'c'], '{\"progress\": 0.5}', true, 1.25, %s)",
        (run, json.dumps(error)),
    )
    reader.follow("run", server.url, params={"table": "pgtide.runs", "where": f"id = '{run}'"})
    row = reader.until_something("run")["rows"][f'"pgtide"."runs"/"{run}"']
    given = {"tags": ["a b", "c"], "metadata": {"progress": 0.5}, "is_test": True, "number": 0}
    given |= {"cost_in_cents": 1.25, "error": error, "output": None, "realtime_streams": []}
    assert {name: row[name] for name in given} == given
    db.execute(
        "update pgtide.runs set is_test = false, number = 5, tags = '{}' where id = %s", (run,)
    )
    changed = row | {"is_test": False, "number": 5, "tags": []}
    updated = db.execute(
        "select updated_at::text from pgtide.runs where id = %s", (run,)
    ).fetchone()
    assert updated is not None
    changed["updated_at"] = updated[0]
    db.execute("set timezone = 'UTC'")
    reader.until("run", {f'"pgtide"."runs"/"{run}"': changed})


@MODES
def test_snapshot_and_log_of_many_chunks(
    server: Serving, db: psycopg.Connection, reader: ElectricReader, sse: bool
) -> None:
    """The client asks for chunks ahead of time, also for such as will never exist."""
    name = f"many_{secrets.token_hex(4)}"
    db.execute(f"create table {name} (id int primary key, label text)".encode())
    insert = f"insert into {name} select i, repeat('x', 150) from generate_series(%s::int, %s) i"
    db.execute(insert.encode(), (1, 400))
    reader.follow("many", server.url, params={"table": name}, liveSse=sse)
    key = f'"public"."{name}"/"{{}}"'
    rows = {key.format(n): {"id": n, "label": "x" * 150} for n in range(1, 401)}
    reader.until("many", rows)
    db.execute(insert.encode(), (401, 800))
    rows |= {key.format(n): {"id": n, "label": "x" * 150} for n in range(401, 801)}
    reader.until("many", rows)
    summary = reader.stop("many")
    assert (summary.problems, summary.fetches, summary.refetches) == ([], 1, 0)


@MODES
def test_a_shape_that_ends_is_fetched_anew(
    server: Serving, db: psycopg.Connection, reader: ElectricReader, sse: bool
) -> None:
    name = f"short_{secrets.token_hex(4)}"
    db.execute(f"create table {name} (id int primary key, label text)".encode())
    db.execute(f"insert into {name} values (1, 'old')".encode())
    key = f'"public"."{name}"/"{{}}"'
    reader.follow("short", server.url, params={"table": name}, liveSse=sse)
    reader.until("short", {key.format(1): {"id": 1, "label": "old"}})
    db.execute(f"truncate {name}; insert into {name} values (2, 'new')".encode())
    reader.until("short", {key.format(2): {"id": 2, "label": "new"}})
    rename = f"alter table {name} rename label to title; update {name} set title = 'x'"
    db.execute(rename.encode())
    reader.until("short", {key.format(2): {"id": 2, "title": "x"}})
    summary = reader.stop("short")
    assert summary.problems == [], summary.history
    assert (summary.refetches, summary.fetches) == (2, 3), summary.history
