"""The hooks of @trigger.dev/react-hooks in a headless Chromium, on a page of another origin."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import psycopg
import pytest
from browser import Browser
from psycopg.types.json import Jsonb
from runs_server import RunsServer
from static_page import served

HIDE = """Object.defineProperty(document, 'hidden', {value: %s, configurable: true}),
    document.dispatchEvent(new Event('visibilitychange'))"""


@pytest.fixture(scope="module")
def hooks_url(node: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    with served(node, "runs_page", tmp_path_factory.mktemp("hooks")) as url:
        yield url


class Hooks:
    """The page that shows hooks, and the runs that they show."""

    def __init__(
        self, browser: Browser, server: RunsServer, db: psycopg.Connection, page_url: str
    ) -> None:
        self.browser = browser
        self.page_url = page_url
        self._server = server
        self._db = db

    def show(self, **shown: dict[str, Any]) -> None:
        """Show these hooks, by name: {hook, args, options, context}."""
        self.browser.run(f"page.show({json.dumps(shown)})")

    def hook(self, hook: str, *args: object, token: str = "", **options: Any) -> dict[str, Any]:
        options = {"baseURL": self._server.url, "accessToken": token, **options}
        return {"hook": hook, "args": args, "options": options}

    def token(self, *scopes: str, seconds: float = 3600, **claims: Any) -> str:
        """As the SDK signs it in a back end."""
        now = int(time.time())
        given = {
            "iss": "https://id.trigger.dev",
            "aud": "https://api.trigger.dev",
            "iat": now,
            "exp": now + seconds,
            "sub": "default",
            "pub": True,
            "scopes": scopes,
            **claims,
        }
        return jwt.encode(given, self._server.root_key, "HS256", {"typ": None})

    def until(self, expression: str) -> Any:
        return self.browser.until(expression)

    def state(self, name: str = "one") -> dict[str, Any]:
        return self.browser.run(f"state({name!r})")

    def run(self, **columns: Any) -> str:
        """A new run's id."""
        row = {"task": "made-by-sql", **columns}
        names, places = ", ".join(row), ", ".join(["%s"] * len(row))
        statement = f"insert into pgtide.runs ({names}) values ({places}) returning id"
        found = self._db.execute(statement.encode(), list(row.values())).fetchone()
        assert found is not None
        return found[0]

    def change(self, run: str, assignments: str, *values: object) -> None:
        statement = f"update pgtide.runs set {assignments} where id = %s"
        self._db.execute(statement.encode(), [*values, run])

    def sql(self, statement: str, *values: object) -> tuple[Any, ...] | None:
        """Its first row, if it gives any."""
        cursor = self._db.execute(statement.encode(), values)
        return cursor.fetchone() if cursor.description else None

    def ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        """One request as a back end."""
        headers = {"authorization": f"Bearer {self._server.root_key}"}
        return httpx.request(method, self._server.url + path, headers=headers, json=body)

    def progress(self, run: str, value: float) -> None:
        self.change(run, "metadata = metadata || %s", Jsonb({"progress": value}))

    def finish(self, run: str) -> None:
        self.change(run, "status = 'COMPLETED', output = '7'")


@pytest.fixture
def hooks(
    browser: Browser, runs_server: RunsServer, runs_db: psycopg.Connection, hooks_url: str
) -> Hooks:
    browser.open(hooks_url)
    browser.until("window.page")
    return Hooks(browser, runs_server, runs_db, hooks_url)


def name(word: str) -> str:
    return f"{word}-{secrets.token_hex(4)}"


def polls(hooks: Hooks, text: str = "/realtime/") -> list[dict[str, Any]]:
    return [one for one in hooks.browser.asked(text) if "live=true" in one["url"]]


def until_polling(hooks: Hooks, text: str = "/realtime/") -> None:
    """Until a long poll is under way."""
    deadline = time.monotonic() + 15
    while all("status" in one or "failure" in one for one in polls(hooks, text)):
        assert time.monotonic() < deadline, hooks.browser.asked(text)
        time.sleep(0.02)


@pytest.mark.parametrize("mode", ["", "?strict"])
def test_a_run_from_queued_to_completed(hooks: Hooks, mode: str) -> None:
    if mode:
        hooks.browser.open(hooks.page_url + mode)
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
    hooks.browser.run("new Promise((done) => setTimeout(done, 300))")
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
    hooks.browser.run("new Promise((done) => setTimeout(done, 300))")
    assert len(hooks.browser.asked("/api/v3/")) <= asked + 1
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
    until_polling(hooks)
    hooks.browser.run(HIDE % "true")
    hooks.progress(run, 0.5)
    hooks.change(run, "status = 'EXECUTING'")
    hooks.browser.run("new Promise((done) => setTimeout(done, 300))")
    assert hooks.state()["run"]["status"] == "QUEUED"
    before = len(hooks.browser.asked("/realtime/"))
    hooks.browser.run(HIDE % "false")
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
    until_polling(hooks)
    hooks.show()
    hooks.until("!document.querySelector('#one')")
    deadline = time.monotonic() + 10
    while any("status" not in one and "failure" not in one for one in polls(hooks)):
        assert time.monotonic() < deadline
    asked = len(hooks.browser.asked("/realtime/"))
    hooks.finish(run)
    hooks.browser.run("new Promise((done) => setTimeout(done, 300))")
    assert len(hooks.browser.asked("/realtime/")) == asked
    assert hooks.browser.close() == []


def test_stop(hooks: Hooks) -> None:
    run = hooks.run()
    hooks.show(one=hooks.hook("useRealtimeRun", run, token=hooks.token("read:runs")))
    until_polling(hooks)
    hooks.browser.run("page.call('one', 'stop')")
    hooks.finish(run)
    hooks.browser.run("new Promise((done) => setTimeout(done, 300))")
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
    hooks.browser.run("new Promise((done) => setTimeout(done, 300))")
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
    until_polling(hooks)
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
    until_polling(hooks)
    hooks.sql(
        "begin; create temp table kept on commit drop as select * from pgtide.runs;"
        " truncate pgtide.runs; insert into pgtide.runs select * from kept; commit"
    )
    hooks.change(run, "status = 'EXECUTING'")
    hooks.until("state('one').run.isExecuting")
    hooks.finish(run)
    hooks.until("state('one').run.isCompleted")
