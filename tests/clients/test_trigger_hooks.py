"""The hooks of @trigger.dev/react-hooks in a headless Chromium, on a page of another origin."""

from __future__ import annotations

import json
import secrets
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest
from browser import Browser
from hook_page import Hooks
from psycopg.types.json import Jsonb
from runs_server import RunsServer
from static_page import served


def name(word: str) -> str:
    return f"{word}-{secrets.token_hex(4)}"


@pytest.fixture(scope="module")
def strict_url(node: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The same in development, under React's strict mode."""
    with served(node, "runs_page", tmp_path_factory.mktemp("strict"), "development") as url:
        yield url


@pytest.fixture(scope="module")
def hooks_url(node: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    with served(node, "runs_page", tmp_path_factory.mktemp("hooks")) as url:
        yield url


@pytest.fixture
def hooks(
    browser: Browser, runs_server: RunsServer, runs_db: psycopg.Connection, hooks_url: str
) -> Hooks:
    browser.open(hooks_url)
    browser.until("window.page")
    return Hooks(browser, runs_server, runs_db, hooks_url)


@pytest.mark.parametrize("mode", ["production", "strict"])
def test_a_run_from_queued_to_completed(hooks: Hooks, mode: str, strict_url: str) -> None:
    if mode == "strict":
        hooks.browser.open(strict_url)
    run = hooks.run(task="resize", tags=["a"], payload='{"width":8}')
    hooks.show(one=hooks.hook("useRealtimeRun", run, token=hooks.token(f"read:runs:{run}")))
    hooks.until("state('one').run?.status === 'QUEUED'")
    assert hooks.state()["run"]["payload"] == {"width": 8}
    hooks.change(run, "status = 'EXECUTING'")
    for progress in (0.25, 0.5, 1):
        hooks.progress(run, progress)
        hooks.until(f"state('one').run.metadata.progress === {progress}")
    assert hooks.browser.run("completed('one')") == []
    hooks.finish(run)
    hooks.until("state('one').run.isCompleted")
    hooks.until("completed('one').length")
    assert hooks.browser.run("statuses('one')") == ["QUEUED", "EXECUTING", "COMPLETED"]
    state = hooks.state()["run"]
    assert (state["output"], state["tags"]) == (7, ["a"])
    # It is over: nothing is asked any more, and onComplete has been called once.
    asked = len(hooks.browser.asked("/realtime/"))
    hooks.change(run, "status = 'EXECUTING'")
    hooks.wait()
    assert len(hooks.browser.asked("/realtime/")) == asked
    assert hooks.browser.run("completed('one')") == [run]
    assert hooks.browser.close() == []


def test_a_run_that_goes_on_behind_its_end(hooks: Hooks) -> None:
    run, token = hooks.run(), hooks.token("read:runs")
    hooks.show(one=hooks.hook("useRealtimeRun", run, token=token, stopOnCompletion=False))
    hooks.until("state('one').run")
    hooks.finish(run)
    hooks.until("state('one').run.isCompleted && completed('one').length")
    hooks.change(run, "status = 'EXECUTING'")
    hooks.until("state('one').run.isExecuting")
    assert hooks.browser.close() == []


def test_with_streams_the_run_itself(hooks: Hooks) -> None:
    run = hooks.run()
    token = hooks.token(f"read:runs:{run}")
    hooks.show(one=hooks.hook("useRealtimeRunWithStreams", run, token=token))
    hooks.until("state('one').run?.isQueued")
    hooks.finish(run)
    hooks.until("state('one').run.isCompleted && completed('one').length === 1")
    assert hooks.state()["streams"] == {}
    assert hooks.browser.close() == []


def test_columns_that_are_skipped(hooks: Hooks) -> None:
    run = hooks.run(payload='"much"', metadata=Jsonb({"a": 1}))
    token = hooks.token(f"read:runs:{run}")
    narrow = hooks.token(f"read:runs:{run}", realtime={"skipColumns": ["metadata"]})
    hooks.show(
        one=hooks.hook("useRealtimeRun", run, token=token, skipColumns=["payload"]),
        two=hooks.hook("useRealtimeRun", run, token=narrow, skipColumns=["payload"]),
    )
    hooks.until("state('one').run && state('two').run")
    one, two = hooks.state("one")["run"], hooks.state("two")["run"]
    assert ("payload" in one, one["metadata"]) == (False, {"a": 1})
    assert ("metadata" in two, two["payload"]) == (False, "much")


def test_the_runs_of_a_tag(hooks: Hooks) -> None:
    tag, other = name("user"), name("other")
    token = hooks.token(f"read:tags:{tag}")
    now = datetime.now(UTC)
    times = [now - timedelta(seconds=ago) for ago in (5, 4, 3, 2, 1)]
    runs = [hooks.run(tags=[tag], created_at=at) for at in times]
    late = hooks.run(tags=[other], payload='"whole"')
    options = {"createdAt": "1h", "skipColumns": ["output"]}
    hooks.show(
        one=hooks.hook("useRealtimeRunsWithTag", tag, token=token, **options),
        both=hooks.hook("useRealtimeRunsWithTag", [tag, other], token=token),
    )
    ids = "state('one').runs.map((run) => run.id)"
    hooks.until(f"{ids}.length === 5")
    assert hooks.browser.run(ids) == runs, "in the order of their creation"
    hooks.change(late, "tags = tags || array[%s]", tag)
    hooks.until(f"{ids}.length === 6 && state('both').runs.length === 1")
    assert hooks.state("both")["runs"][0]["payload"] == "whole"
    for run in runs:
        hooks.finish(run)
    hooks.until("state('one').runs.filter((run) => run.isCompleted).length === 5")
    assert hooks.browser.close() == []


def test_the_runs_of_a_batch(hooks: Hooks) -> None:
    batch = f"batch_{secrets.token_hex(8)}"
    hooks.sql("insert into pgtide.batches (id) values (%s)", batch)
    runs = [hooks.run(batch_id=batch) for _ in range(3)]
    token = hooks.token(f"read:batch:{batch}")
    hooks.show(one=hooks.hook("useRealtimeBatch", batch, token=token))
    hooks.until("state('one').runs?.length === 3")
    runs.append(hooks.run(batch_id=batch))
    hooks.until("state('one').runs.length === 4")
    for run in runs:
        hooks.finish(run)
    hooks.until("state('one').runs.every((run) => run.isCompleted)")
    assert hooks.browser.close() == []


def test_two_browsers_see_the_same(hooks: Hooks) -> None:
    run = hooks.run()
    shown = hooks.hook("useRealtimeRun", run, token=hooks.token(f"read:runs:{run}"))
    hooks.show(one=shown)
    hooks.browser.open_beside(hooks.page_url)
    hooks.until("window.page")
    hooks.show(one=shown)
    hooks.until("state('one').run")
    hooks.browser.back()
    hooks.until("state('one').run")
    hooks.change(run, "status = 'EXECUTING'")
    hooks.progress(run, 0.5)
    hooks.finish(run)
    states: list[dict[str, Any]] = []
    for _ in range(2):
        hooks.until("state('one').run.isCompleted")
        states.append(hooks.state()["run"])
        hooks.browser.back()
    assert states[0] == states[1]
    assert states[0]["metadata"] == {"progress": 0.5}
    assert hooks.browser.close() == []


def test_trigger(hooks: Hooks) -> None:
    task = name("web/task")
    token = hooks.token(f"trigger:tasks:{task}", otu=True)
    hooks.show(one=hooks.hook("useTaskTrigger", task, token=token))
    hooks.until("state('one').isLoading === false")
    options = {"tags": ["from-a-browser"], "metadata": {"a": 1}, "idempotencyKey": name("key")}
    hooks.browser.run(f"page.call('one', 'submit', {{when: new Date(0)}}, {json.dumps(options)})")
    run = hooks.until("state('one').handle?.id")
    row = hooks.sql("select task, tags, metadata from pgtide.runs where id = %s", run)
    assert row == (task, ["from-a-browser"], {"a": 1})
    # A second time it does not work, and the page is told.
    hooks.browser.run("page.call('one', 'submit', {}, {})")
    error = hooks.until("state('one').error")
    assert "one-time use token" in error


def test_trigger_and_follow(hooks: Hooks) -> None:
    task = name("task")
    token = hooks.token(f"trigger:tasks:{task}")
    hooks.show(
        one=hooks.hook("useRealtimeTaskTrigger", task, token=token),
        two=hooks.hook("useRealtimeTaskTriggerWithStreams", task + "2", token=token),
    )
    hooks.until("state('one').isLoading === false")
    hooks.browser.run("page.call('one', 'submit', {width: 8})")
    run = hooks.until("state('one').run?.id")
    assert hooks.state()["handle"]["id"] == run
    hooks.change(run, "status = 'EXECUTING'")
    hooks.until("state('one').run.isExecuting")
    hooks.finish(run)
    hooks.until("state('one').run.output === 7")
    assert hooks.state()["run"]["payload"] == {"width": 8}
    # What the token does not allow is an error.
    hooks.browser.run("page.call('two', 'submit', {})")
    assert "Unauthorized" in hooks.until("state('two').error")


def test_trigger_and_follow_with_streams(hooks: Hooks) -> None:
    task = name("task")
    token = hooks.token(f"trigger:tasks:{task}")
    hooks.show(one=hooks.hook("useRealtimeTaskTriggerWithStreams", task, token=token))
    hooks.until("state('one').isLoading === false")
    hooks.browser.run("page.call('one', 'submit', {})")
    run = hooks.until("state('one').run?.id")
    hooks.finish(run)
    hooks.until("state('one').run.isCompleted")
    assert hooks.browser.close() == []


def test_a_wait_token(hooks: Hooks) -> None:
    made = hooks.ask("POST", "/api/v1/waitpoints/tokens", {"timeout": "1h"})
    waitpoint, token = made.json()["id"], made.headers["x-trigger-jwt"]
    hooks.show(one=hooks.hook("useWaitToken", waitpoint, token=token))
    hooks.until("state('one').isReady")
    hooks.browser.run("page.call('one', 'complete', {approved: true})")
    hooks.until("state('one').isCompleted")
    found = hooks.ask("GET", f"/api/v1/waitpoints/tokens/{waitpoint}").json()
    assert (found["status"], json.loads(found["output"])) == ("COMPLETED", {"approved": True})
    assert hooks.browser.close() == []


def test_a_run_that_is_asked_for_again_and_again(hooks: Hooks) -> None:
    run = hooks.run(payload='{"a":1}')
    token = hooks.token(f"read:runs:{run}")
    hooks.show(one=hooks.hook("useRun", run, token=token, refreshInterval=50))
    hooks.until("state('one').run?.isQueued")
    hooks.finish(run)
    hooks.until("state('one').run.output === 7")
    asked = len(hooks.browser.asked("/api/v3/"))
    hooks.wait()
    assert len(hooks.browser.asked("/api/v3/")) <= asked + 1
    assert hooks.browser.close() == []


def test_a_large_payload_is_fetched(hooks: Hooks) -> None:
    """From an address of its own, with the token that may read the run."""
    slot = hooks.ask("PUT", f"/api/v2/packets/{name('packet')}%2Fpayload.json").json()
    text = "ü" * 100_000
    headers = {"content-type": "application/json"}
    httpx.put(slot["presignedUrl"], content=json.dumps(text).encode(), headers=headers)
    run = hooks.run(payload=slot["storagePath"], payload_type="application/store")
    token = hooks.token(f"read:runs:{run}")
    hooks.show(one=hooks.hook("useRealtimeRun", run, token=token))
    hooks.until("state('one').run")
    assert hooks.state()["run"]["payload"] == text
    assert hooks.browser.close() == []


def test_credentials_from_the_context(hooks: Hooks, runs_server: RunsServer) -> None:
    run = hooks.run()
    context = {"baseURL": runs_server.url, "accessToken": hooks.token("read:runs")}
    shown = {"hook": "useRealtimeRun", "args": [run], "context": context}
    off = {"hook": "useRealtimeRun", "args": [run], "options": {"enabled": False}}
    hooks.show(one=shown, off=off)
    hooks.until("state('one').run?.isQueued")
    assert "run" not in hooks.state("off")
    assert hooks.browser.close() == []


def test_a_hidden_page_waits(hooks: Hooks) -> None:
    run = hooks.run()
    hooks.show(one=hooks.hook("useRealtimeRun", run, token=hooks.token("read:runs")))
    hooks.until("state('one').run")
    hooks.until_polling()
    hooks.hide(hidden=True)
    hooks.progress(run, 0.5)
    hooks.change(run, "status = 'EXECUTING'")
    hooks.wait()
    assert hooks.state()["run"]["status"] == "QUEUED"
    before = len(hooks.browser.asked("/realtime/"))
    hooks.hide(hidden=False)
    hooks.until("state('one').run.isExecuting")
    assert hooks.state()["run"]["metadata"] == {"progress": 0.5}
    back = hooks.browser.asked("/realtime/")[before]["url"]
    assert "live=true" not in back
    assert "handle=" in back
    assert "offset=-1" not in back
    hooks.finish(run)
    hooks.until("completed('one').length === 1")


def test_what_is_taken_away_ends_its_request(hooks: Hooks) -> None:
    run = hooks.run()
    hooks.show(one=hooks.hook("useRealtimeRun", run, token=hooks.token("read:runs")))
    hooks.until_polling()
    hooks.show()
    hooks.until("!document.querySelector('#one')")
    hooks.until_quiet()
    asked = len(hooks.browser.asked("/realtime/"))
    hooks.finish(run)
    hooks.wait()
    assert len(hooks.browser.asked("/realtime/")) == asked
    assert hooks.browser.close() == []


def test_stop(hooks: Hooks) -> None:
    run = hooks.run()
    hooks.show(one=hooks.hook("useRealtimeRun", run, token=hooks.token("read:runs")))
    hooks.until_polling()
    hooks.browser.run("page.call('one', 'stop')")
    hooks.finish(run)
    hooks.wait()
    assert hooks.state()["run"]["status"] == "QUEUED"
    assert hooks.browser.run("completed('one')") == []


@pytest.mark.parametrize(
    ("hook", "argument"),
    [("useRealtimeRun", "RUN"), ("useRealtimeRunsWithTag", "tag"), ("useRun", "RUN")],
)
def test_refusals_are_shown(hooks: Hooks, hook: str, argument: str) -> None:
    run = hooks.run()
    argument = argument.replace("RUN", run)
    shown = {
        "expired": hooks.hook(hook, argument, token=hooks.token("read:runs", seconds=-1)),
        "foreign": hooks.hook(hook, argument, token=hooks.token("read:runs:run_other")),
        "forged": hooks.hook(hook, argument, token=hooks.token("read:runs") + "A"),
    }
    if argument == run:
        shown["missing"] = hooks.hook(hook, "run_nothing", token=hooks.token("read:runs"))
    hooks.show(**shown)
    # useRun keeps one answer per run id, so there the three share an error.
    for each in shown:
        error = hooks.until(f"state({each!r}).error")
        if hook != "useRun":
            status = {"foreign": 403, "missing": 404}.get(each, 401)
            assert f"HTTP Error {status}" in error
    hooks.wait()
    refused = hooks.browser.asked("/realtime/")
    assert len(refused) == (0 if hook == "useRun" else len(shown))
    assert all(one["status"] >= 400 for one in refused)


def test_a_token_that_expires_while_it_is_used(hooks: Hooks) -> None:
    run = hooks.run()
    hooks.show(one=hooks.hook("useRealtimeRun", run, token=hooks.token("read:runs", seconds=3)))
    hooks.until("state('one').run")
    error = hooks.until("state('one').error")
    assert "HTTP Error 401" in error
    # What was there stays there.
    assert hooks.state()["run"]["id"] == run


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_fails_for_a_moment_is_tried_again(hooks: Hooks, status: int) -> None:
    run = hooks.run()
    hooks.browser.answer("/realtime/", status, 3)
    hooks.show(one=hooks.hook("useRealtimeRun", run, token=hooks.token("read:runs")))
    hooks.until("state('one').run")
    hooks.until_polling()
    hooks.browser.answer("/realtime/", status, 3)
    hooks.change(run, "status = 'EXECUTING'")
    hooks.until("state('one').run.isExecuting")
    hooks.finish(run)
    hooks.until("state('one').run.isCompleted")
    assert "error" not in hooks.state()


def test_a_shape_that_ends_begins_anew(hooks: Hooks) -> None:
    """The handle of the next one, in a 409's header, must be readable across origins."""
    run = hooks.run()
    hooks.show(one=hooks.hook("useRealtimeRun", run, token=hooks.token("read:runs")))
    hooks.until_polling()
    hooks.sql(
        "begin; create temp table kept on commit drop as select * from pgtide.runs;"
        " truncate pgtide.runs; insert into pgtide.runs select * from kept; commit"
    )
    hooks.change(run, "status = 'EXECUTING'")
    hooks.until("state('one').run.isExecuting")
    hooks.finish(run)
    hooks.until("state('one').run.isCompleted")
