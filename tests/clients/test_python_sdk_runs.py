"""Runs with the Python SDK: started, followed, told about, against a server with a secret key."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from runs_server import RunsServer
from serving import Serving
from tcp_proxy import TcpProxy

import pgtide
import pgtide.sync
from pgtide import Run, RunStatus

KEY = RunsServer.root_key
PATIENCE = 60.0
README = Path(__file__).resolve().parents[2] / "client" / "README.md"


@pytest.fixture
def keyed(runs_server: RunsServer) -> Serving:
    return runs_server.serving


@pytest.fixture
def db(runs_db: psycopg.Connection) -> psycopg.Connection:
    """The database of `keyed`."""
    return runs_db


@pytest.fixture
async def client(keyed: Serving) -> AsyncGenerator[pgtide.Client]:
    async with pgtide.Client(keyed.url, secret_key=KEY) as made, asyncio.timeout(PATIENCE):
        yield made


def change(db: psycopg.Connection, run: str, assignments: str) -> None:
    db.execute(f"update pgtide.runs set {assignments} where id = %s".encode(), (run,))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


def tag() -> str:
    return f"user:{secrets.token_hex(4)}"


# -- following -------------------------------------------------------------------------------------


async def test_a_subscription_ends_with_its_run(
    client: pgtide.Client, db: psycopg.Connection
) -> None:
    handle = await client.runs.trigger(
        "media/render", {"frames": 3}, tags=["a", "b"], metadata={"progress": 0}
    )
    seen: list[Run] = []
    steps = [
        "status = 'EXECUTING'",
        """metadata = '{"progress": 0.5}'""",
        """status = 'COMPLETED', output = '{"ok": true}'""",
    ]
    async for run in client.runs.subscribe(handle):
        seen.append(run)
        if steps:
            change(db, run.id, steps.pop(0))
    assert [run.status for run in seen] == ["QUEUED", "EXECUTING", "EXECUTING", "COMPLETED"]
    assert [run.metadata["progress"] for run in seen] == [0, 0, 0.5, 0.5]
    first, last = seen[0], seen[-1]
    assert (first.id, first.task, first.tags) == (handle.id, "media/render", ("a", "b"))
    assert first.payload == {"frames": 3}
    assert first.is_queued
    assert not first.is_finished
    assert last.output == {"ok": True}
    assert last.status is RunStatus.COMPLETED
    assert (last.is_completed, last.is_success, last.is_failed) == (True, True, False)
    assert last.finished_at is not None
    assert abs(last.finished_at - datetime.now(UTC)) < timedelta(minutes=1)
    # Of a run that is over already there is one state to see.
    assert [run.status async for run in client.runs.subscribe(handle.id)] == ["COMPLETED"]


async def test_failures_and_cancellations(client: pgtide.Client, db: psycopg.Connection) -> None:
    failing, cancelled = [await client.runs.trigger("t") for _ in range(2)]
    error = '{"type": "BUILT_IN_ERROR", "name": "KeyError", "message": "x", "stackTrace": "at y"}'
    change(db, failing.id, f"status = 'FAILED', error = '{error}'")
    run = await client.runs.poll(failing, interval=0.05)
    assert run.is_failed
    assert run.is_completed
    assert run.error == pgtide.RunError("x", "KeyError", "at y")
    (followed,) = [run async for run in client.runs.subscribe(failing)]
    assert followed.error == run.error
    await client.runs.cancel(cancelled)
    (run,) = [run async for run in client.runs.subscribe(cancelled)]
    assert (run.is_cancelled, run.is_completed, run.is_finished) == (True, False, True)


async def test_a_timeout_ends_no_subscription(
    client: pgtide.Client, db: psycopg.Connection
) -> None:
    handle = await client.runs.trigger("t")
    async with client.runs.subscribe(handle) as runs:
        await anext(runs)
        for status in ("EXECUTING", "WAITING"):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(runs), 0.05)
            change(db, handle.id, f"status = '{status}'")
            assert (await anext(runs)).status == status


async def test_what_is_skipped_is_not_there(client: pgtide.Client) -> None:
    handle = await client.runs.trigger("t", {"secret": 1}, tags="a", metadata={"m": 1})
    skipped = ("payload", "tags", "metadata")
    async with client.runs.subscribe(handle, skip_columns=skipped) as runs:
        run = await anext(runs)
    assert (run.payload, run.tags, run.metadata) == (None, (), {})
    assert run.task == "t"


async def test_a_run_that_is_deleted_ends_its_subscription(
    client: pgtide.Client, db: psycopg.Connection
) -> None:
    handle = await client.runs.trigger("t")
    async with client.runs.subscribe(handle) as runs:
        await anext(runs)
        db.execute("delete from pgtide.runs where id = %s", (handle.id,))
        with pytest.raises(pgtide.RunDeletedError, match=handle.id):
            await anext(runs)


async def test_sets_of_runs_show_who_comes_and_leaves(
    client: pgtide.Client, db: psycopg.Connection
) -> None:
    mine, other = tag(), tag()
    first = await client.runs.trigger("t", tags=[mine, other])
    async with client.runs.follow(tags=[mine, other], since="1h") as sets:
        now = await anext(sets)
        assert [run.id for run in now.runs] == [run.id for run in now.entered] == [first.id]
        second = await client.runs.trigger("t", tags=[other, mine, "more"])
        now = await anext(sets)
        assert [run.id for run in now.runs] == [first.id, second.id]
        assert [run.id for run in now.entered] == [second.id]
        change(db, first.id, "status = 'EXECUTING'")
        now = await anext(sets)
        assert [(run.id, run.status) for run in now.changed] == [(first.id, "EXECUTING")]
        change(db, first.id, "tags = array_remove(tags, tags[1])")
        now = await anext(sets)
        assert [run.id for run in now.left] == [first.id]
        assert [run.id for run in now.runs] == [second.id]
        db.execute("delete from pgtide.runs where id = %s", (second.id,))
        now = await anext(sets)
        assert ([run.id for run in now.left], now.runs) == ([second.id], ())


async def test_runs_age_out(client: pgtide.Client, db: psycopg.Connection) -> None:
    mine = tag()
    db.execute(
        "insert into pgtide.runs (task, tags, created_at)"
        " values ('t', %s, now() - interval '59 seconds'), ('t', %s, now())",
        ([mine], [mine]),
    )
    async with client.runs.follow(tags=mine, since=timedelta(minutes=1)) as sets:
        assert len((await anext(sets)).runs) == 2
        now = await anext(sets)
        assert (len(now.runs), len(now.left)) == (1, 1)


async def test_batches(client: pgtide.Client, db: psycopg.Connection) -> None:
    items = [pgtide.BatchItem("one", {"n": 1}, tags="x"), ("two", {"n": 2}), ("two", "text")]
    batch = await client.runs.batch_trigger(items)
    assert batch.run_count == 3
    found: dict[str, Run] = {}
    async with client.runs.subscribe(batch=batch) as runs:
        async for run in runs:
            found[run.id] = run
            if len(found) == 3:
                break
    known = {(run.task, str(run.payload)) for run in found.values()}
    assert known == {("one", "{'n': 1}"), ("two", "{'n': 2}"), ("two", "text")}
    assert set((await client.runs.retrieve_batch(batch)).runs) == set(found)


async def test_values_that_json_does_not_have(client: pgtide.Client) -> None:
    payload = {
        "at": datetime(2026, 3, 1, 10, 20, 30, tzinfo=UTC),
        "kinds": {"a", "b"},
        "big": 2**70,
        "a.b": {1: float("inf")},
        "plain": [1, None, {"x": "é"}],
    }
    handle = await client.runs.trigger("t", payload)
    async with client.runs.subscribe(handle) as runs:
        assert (await anext(runs)).payload == payload


async def test_a_large_payload_is_kept_apart(client: pgtide.Client, db: psycopg.Connection) -> None:
    payload = {"text": "é" * 100_000}
    handle = await client.runs.trigger("my/task", payload)
    row = db.execute("select payload_type from pgtide.runs where id = %s", (handle.id,)).fetchone()
    assert row == ("application/store",)
    async with client.runs.subscribe(handle) as runs:
        assert (await anext(runs)).payload == payload
    assert (await client.runs.retrieve(handle)).payload == payload


# -- starting --------------------------------------------------------------------------------------


async def test_keys_make_triggers_happen_once(client: pgtide.Client) -> None:
    first = await client.runs.trigger("t", {"n": 1}, idempotency_key="order-7")
    again = await client.runs.trigger("t", {"n": 2}, idempotency_key="order-7")
    assert (again.id, first.is_cached, again.is_cached) == (first.id, False, True)
    assert (await client.runs.retrieve(first)).payload == {"n": 1}


async def test_a_trigger_whose_answer_is_lost_happens_once(
    keyed: Serving, db: psycopg.Connection
) -> None:
    port = urlsplit(keyed.url).port
    assert port is not None
    task = tag()
    async with TcpProxy(port).running() as proxy:
        proxy.delay = 0.2
        async with pgtide.Client(f"http://127.0.0.1:{proxy.port}", secret_key=KEY) as client:
            triggering = asyncio.create_task(client.runs.trigger(task))
            await until(lambda: _count(db, task) == 1)
            assert proxy.cut() == 1
            proxy.delay = 0.0
            handle = await triggering
    rows = db.execute("select id from pgtide.runs where task = %s", (task,)).fetchall()
    assert rows == [(handle.id,)]


def _count(db: psycopg.Connection, task: str) -> int:
    row = db.execute("select count(*) from pgtide.runs where task = %s", (task,)).fetchone()
    assert row is not None
    return row[0]


async def test_lists_and_tags(client: pgtide.Client) -> None:
    mine = tag()
    runs = [await client.runs.trigger("t", tags=mine) for _ in range(3)]
    await client.runs.add_tags(runs[0], ["late"])
    page = await client.runs.list(tags=mine, limit=2)
    assert [run.id for run in page.runs] == [runs[2].id, runs[1].id]
    page = await client.runs.list(tags=mine, limit=2, after=page.next)
    assert [(run.id, set(run.tags)) for run in page.runs] == [(runs[0].id, {mine, "late"})]
    assert page.next is None
    page = await client.runs.list(tags=mine, status=RunStatus.EXECUTING)
    assert page.runs == ()


# -- metadata --------------------------------------------------------------------------------------


async def test_metadata_is_exact_whatever_happens_to_connections(
    keyed: Serving, db: psycopg.Connection
) -> None:
    port = urlsplit(keyed.url).port
    assert port is not None
    row = db.execute("insert into pgtide.runs (task) values ('t') returning id").fetchone()
    assert row is not None
    run: str = row[0]
    lost = 0
    async with TcpProxy(port).running() as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        async with pgtide.Client(url, secret_key=KEY) as client:
            async with client.metadata.of(run, interval=0.05) as progress:
                for step in range(1, 6):
                    # The server does it, and the answer is lost on its way back.
                    proxy.delay = 0.1
                    for number in range(100):
                        progress.set("progress", (step * 100 + number) / 600)
                        progress.increment("count")
                        progress.increment("$.count", 2)
                        progress.decrement("left", 1)
                    progress.append("steps", step)
                    await until(lambda step=step: _metadata(db, run).get("count") == step * 300)
                    lost += proxy.cut()
                    proxy.delay = 0.0
                progress.append("steps", "last")
            assert progress.latest == _metadata(db, run)
    assert lost >= 3
    assert _metadata(db, run) == {
        "progress": 599 / 600,
        "count": 1500,
        "left": -500,
        "steps": [1, 2, 3, 4, 5, "last"],
    }


def _metadata(db: psycopg.Connection, run: str) -> dict[str, Any]:
    row = db.execute("select metadata from pgtide.runs where id = %s", (run,)).fetchone()
    assert row is not None
    return row[0]


async def test_metadata_survives_a_server_that_goes_away(
    keyed: Serving, db: psycopg.Connection, client: pgtide.Client
) -> None:
    handle = await client.runs.trigger("t")
    port = urlsplit(keyed.url).port
    assert port is not None
    async with TcpProxy(port).running() as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        async with pgtide.Client(url, secret_key=KEY) as behind:
            proxy.refuse()
            async with behind.metadata.of(handle, interval=0.02) as progress:
                for number in range(1000):
                    progress.set("n", number)
                with pytest.raises(pgtide.ConnectionLostError):
                    async with behind.metadata.of(handle, exit_seconds=0.1) as other:
                        other.set("never", True)
                proxy.accept()
            assert _metadata(db, handle.id) == {"n": 999}


async def test_metadata_of_the_current_run_and_those_above(
    client: pgtide.Client, db: psycopg.Connection
) -> None:
    root = await client.runs.trigger("t")
    child = await client.runs.trigger("t")
    change(db, child.id, f"parent_id = '{root.id}', root_id = '{root.id}'")

    async def deep_inside() -> None:
        client.metadata.set("a", {"b": [1, 2, 2]})
        client.metadata.remove("$.a.b", 2)
        client.metadata.delete("gone")
        client.metadata.parent.increment("children")
        client.metadata.root.append("log", "x")
        # Of a thread, too.
        await asyncio.to_thread(client.metadata.set, "threaded", True)
        await client.metadata.flush()

    with pytest.raises(pgtide.NoCurrentRunError):
        client.metadata.set("a", 1)
    async with client.runs.current(child) as progress:
        await deep_inside()
    with pytest.raises(pgtide.NoCurrentRunError, match="ended"):
        progress.set("late", True)
    assert await client.metadata.get(child) == {"a": {"b": [1]}, "threaded": True}
    await until(lambda: _metadata(db, root.id) == {"children": 1, "log": ["x"]})
    assert await client.metadata.replace(child, {"new": 1}) == {"new": 1}


async def test_refused_metadata_is_not_lost_silently(client: pgtide.Client) -> None:
    handle = await client.runs.trigger("t")
    with pytest.raises(pgtide.InvalidRequestError) as refused:
        async with client.metadata.of(handle) as progress:
            progress.set("large", "x" * 300_000)
    assert refused.value.status == 413
    with pytest.raises(pgtide.NotFoundError):
        async with client.metadata.of("run_nobody", interval=60) as progress:
            progress.set("a", 1)


async def test_what_a_worker_raises_comes_before_what_its_metadata_raises(
    client: pgtide.Client,
) -> None:
    async def work() -> None:
        async with client.metadata.of("run_nobody", interval=60) as progress:
            progress.set("a", 1)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine") as failed:
        await work()
    assert "was not delivered" in failed.value.__notes__[0]


# -- access ----------------------------------------------------------------------------------------


async def test_refusals_raise_at_once_and_name_no_token(
    keyed: Serving, client: pgtide.Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(pgtide.NotFoundError):
        await anext(client.runs.subscribe("run_nobody"))
    mine, other = [await client.runs.trigger("t") for _ in range(2)]
    token = await client.auth.create_public_token(read={"runs": mine.id})
    for wrong in ("wrong-key-of-somebody", token[:-3] + "abc"):
        async with pgtide.Client(keyed.url, access_token=wrong) as stranger:
            for refused in (stranger.runs.subscribe(mine), stranger.runs.follow(tags="a")):
                with pytest.raises(pgtide.AuthenticationError, match="PGTIDE_SECRET_KEY") as caught:
                    await anext(refused)
                assert wrong not in str(caught.value) + repr(caught.value.details)
            with pytest.raises(pgtide.AuthenticationError):
                await stranger.runs.trigger("t")
    async with pgtide.Client(keyed.url, access_token=token) as holder:
        assert (await anext(holder.runs.subscribe(mine))).id == mine.id
        with pytest.raises(pgtide.PermissionDeniedError) as denied:
            await anext(holder.runs.subscribe(other))
        assert token not in str(denied.value)
        assert denied.value.code == "unauthorized"
    async with pgtide.Client(keyed.url, secret_key="") as nobody:
        # A handle brings its own token along.
        assert (await anext(nobody.runs.subscribe(mine))).id == mine.id
    assert token not in caplog.text
    assert KEY not in caplog.text


async def test_a_function_makes_the_next_token(
    keyed: Serving, client: pgtide.Client, db: psycopg.Connection
) -> None:
    handle = await client.runs.trigger("t")
    made: list[str] = []

    async def make() -> str:
        seconds = 1 if not made else 60
        made.append(
            await client.auth.create_public_token(read={"runs": handle.id}, expires_in=seconds)
        )
        return made[-1]

    async with pgtide.Client(keyed.url, access_token=make) as holder:
        subscriptions = [holder.runs.subscribe(handle) for _ in range(3)]
        for runs in subscriptions:
            await anext(runs)
        waiting = [asyncio.ensure_future(anext(runs)) for runs in subscriptions]
        await until(lambda: len(made) == 2)
        change(db, handle.id, "status = 'EXECUTING'")
        assert [(await run).status for run in waiting] == ["EXECUTING"] * 3
        for runs in subscriptions:
            await runs.aclose()
    assert len(made) == 2


async def test_tokens_that_hide_columns_and_start_once(
    keyed: Serving, client: pgtide.Client
) -> None:
    handle = await client.runs.trigger("t", {"hidden": 1})
    token = await client.auth.create_public_token(
        read={"runs": [handle.id]}, skip_columns=["payload"], expires_in=timedelta(minutes=1)
    )
    once = await client.auth.create_trigger_token("only-this")
    async with pgtide.Client(keyed.url) as browser:
        run = await anext(browser.runs.subscribe(handle.id, access_token=token))
        assert run.payload is None
        started = await browser.runs.trigger("only-this", access_token=once)
        assert started.public_access_token
        with pytest.raises(pgtide.InvalidRequestError) as used:
            await browser.runs.trigger("only-this", access_token=once)
        assert used.value.status == 422
        with pytest.raises(pgtide.PermissionDeniedError):
            await browser.runs.trigger("another", access_token=once)


async def test_wait_tokens(client: pgtide.Client, keyed: Serving) -> None:
    made = await client.wait.create_token(timeout="10m", tags=["approval"])
    assert not (await client.wait.retrieve_token(made)).is_completed
    waiting = asyncio.create_task(client.wait.for_token(made, interval=0.05))
    async with pgtide.Client(keyed.url, access_token=made.public_access_token) as browser:
        await browser.wait.complete_token(made.id, {"approved": True})
    found = await waiting
    assert (found.is_completed, found.output, found.tags) == (
        True,
        {"approved": True},
        ("approval",),
    )
    late = await client.wait.create_token()
    with pytest.raises(pgtide.WaitTimeoutError):
        await client.wait.for_token(late, interval=0.01, timeout=0.05)


# -- without a client, without asyncio -------------------------------------------------------------


def test_the_environment_and_a_loop_after_the_other(
    keyed: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIGGER_API_URL", keyed.url + "/")
    monkeypatch.setenv("TRIGGER_SECRET_KEY", "wrong")
    monkeypatch.setenv("PGTIDE_SECRET_KEY", KEY)

    async def main() -> str:
        handle = await pgtide.runs.trigger("t")
        async with pgtide.runs.subscribe(handle) as runs:
            run = await anext(runs)
        await pgtide.close()
        return run.id

    assert asyncio.run(main()) != asyncio.run(main())
    assert pgtide.sync.runs.retrieve(pgtide.sync.runs.trigger("t")).is_queued
    pgtide.sync.close()


def test_the_example_of_the_readme(keyed: Serving, tmp_path: Path) -> None:
    found = re.search(r"```python\n(.+?)```", README.read_text(), re.DOTALL)
    assert found is not None
    (tmp_path / "hello.py").write_text(found[1])
    environ = os.environ | {"TRIGGER_API_URL": keyed.url, "TRIGGER_SECRET_KEY": KEY}
    program = [sys.executable, "-W", "error", str(tmp_path / "hello.py")]
    ended = subprocess.run(program, env=environ, capture_output=True, text=True, timeout=60)
    # No connection was left open either, of which Python would warn.
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert lines[0].startswith("QUEUED {")
    assert lines[-1].startswith("CANCELED {'progress': 1")


def test_the_synchronous_face(keyed: Serving, db: psycopg.Connection) -> None:
    with pgtide.sync.Client(keyed.url, secret_key=KEY) as client:
        mine = tag()
        handle = client.runs.trigger("t", {"n": 1}, tags=mine)
        seen: list[Run] = []
        for run in client.runs.subscribe(handle):
            seen.append(run)
            if len(seen) == 1:
                with client.metadata.of(handle, interval=0.02) as progress:
                    for number in range(500):
                        progress.increment("n")
                        client.metadata.set("last", number)
                    client.metadata.flush()
                change(db, run.id, "status = 'COMPLETED'")
        assert seen[-1].metadata == {"n": 500, "last": 499}
        assert seen[-1].is_success
        with client.runs.follow(tags=mine) as sets:
            assert [run.id for run in next(sets).runs] == [handle.id]
            db.execute("delete from pgtide.runs where id = %s", (handle.id,))
            assert [run.id for run in next(sets).left] == [handle.id]
        made = client.wait.create_token()
        client.wait.complete_token(made, [1])
        assert client.wait.for_token(made).output == [1]
        token = client.auth.create_public_token(read={"tags": mine})
        with pytest.raises(pgtide.PermissionDeniedError):
            client.runs.trigger("t", access_token=token)


async def test_shapes_of_tables_need_the_key_or_a_token_that_names_them(
    keyed: Serving, client: pgtide.Client, db: psycopg.Connection
) -> None:
    db.execute("create table orders (id int primary key, customer int)")
    db.execute("insert into orders values (1, 7), (2, 8)")
    async with client.shape("orders") as shape:
        assert len(await shape.ready()) == 2
    token = await client.auth.create_public_token(
        shapes=[{"table": "orders", "where": "customer = $1", "params": {"1": "7"}}]
    )
    async with pgtide.Client(keyed.url, access_token=token) as browser:
        async with browser.shape("orders") as shape:
            assert [row["id"] for row in (await shape.ready()).values()] == [1]
            db.execute("update orders set customer = 7 where id = 2")
            async for rows in shape.changes():
                if len(rows) == 2:
                    break
        with pytest.raises(pgtide.PermissionDeniedError):
            await browser.shape("pgtide.runs").ready()
