"""Starting runs over HTTP: what is stored, and that each request, key and token starts one."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import orjson
import pytest
from back_ends import OTHER_KEY, BackEnd

REQUEST = "x-trigger-request-idempotency-key"
USED = "Cannot trigger {} with a one-time use token as it has already been used."


def fresh(name: str) -> str:
    return f"{name}-{secrets.token_hex(4)}"


def trigger(
    back_end: BackEnd, task: str, body: Any = None, request: str | None = None
) -> httpx.Response:
    headers = {} if request is None else {REQUEST: request}
    path = f"/api/v1/tasks/{task}/trigger"
    return back_end.ask("POST", path, {} if body is None else body, headers)


def started(answer: httpx.Response, *, cached: bool = False) -> str:
    """The id of the run that was triggered."""
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"id": answer.json()["id"], "isCached": cached}
    return answer.json()["id"]


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]


def row(back_end: BackEnd, run_id: str, *columns: str) -> tuple[Any, ...]:
    query = f"select {', '.join(columns)} from pgtide.runs where id = %s"
    [found] = back_end.db.run(query, run_id)
    return found


def count(back_end: BackEnd, task: str) -> int:
    return back_end.db.run("select count(*) from pgtide.runs where task = %s", task)[0][0]


def test_what_is_stored(back_end: BackEnd) -> None:
    options = {
        "payloadType": "application/super+json",
        "payloadSize": 20,
        "tags": ["user:1", "b", "user:1"],
        "metadata": {"p": [1, {"ü": None}]},
        "ttl": 90,
        "test": True,
        "queue": {"name": "q"},
        "maxAttempts": 3,
        "machine": "large-1x",
        "nobody": {"knows": "this"},
    }
    answer = trigger(back_end, "my%2Ftask", {"payload": '{"json":{"x":1}}', "options": options})
    run = started(answer)
    stored = row(
        *(back_end, run, "task", "status", "environment_id", "payload", "payload_type"),
        *("tags", "metadata", "ttl", "is_test", "queued_at = created_at", "delay_until"),
        *("batch_id", "parent_id", "depth", "trigger_function", "idempotency_key"),
    )
    assert stored[:5] == (
        *("my/task", "QUEUED", "default", '{"json":{"x":1}}', "application/super+json"),
    )
    assert stored[5:11] == (["user:1", "b"], {"p": [1, {"ü": None}]}, "90s", True, True, None)
    assert stored[11:] == (None, None, 0, "trigger", None)


@pytest.mark.parametrize(
    ("payload", "kind", "stored"),
    [
        ('{"a":1}', "application/json", '{"a":1}'),
        ({"a": [1, None]}, None, '{"a":[1,null]}'),
        ("no JSON", None, '"no JSON"'),
        ("no JSON", "text/plain", "no JSON"),
        (7, "application/json", "7"),
        (None, None, None),
        ("packet_1/payload.json", "application/store", "packet_1/payload.json"),
    ],
)
def test_payloads(back_end: BackEnd, payload: Any, kind: str | None, stored: str | None) -> None:
    options = {} if kind is None else {"payloadType": kind}
    run = started(trigger(back_end, "t", {"payload": payload, "options": options}))
    assert row(back_end, run, "payload", "payload_type") == (stored, kind or "application/json")


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [("90s", 90), ("1h30m", 5400), ("1w2d", 777600), (timedelta(hours=2), 7200)],
)
def test_delays(back_end: BackEnd, delay: str | timedelta, seconds: float) -> None:
    if isinstance(delay, timedelta):
        delay = (datetime.now(UTC) + delay).isoformat().replace("+00:00", "Z")
    run = started(trigger(back_end, "t", {"options": {"delay": delay}}))
    status, wait, queued = row(
        back_end, run, "status", "extract(epoch from delay_until - now())", "queued_at"
    )
    assert (status, queued) == ("DELAYED", None)
    assert seconds - 30 < wait <= seconds


@pytest.mark.parametrize("delay", ["0s", "2020-01-01", "2020-01-01T00:00:00+02:00"])
def test_a_delay_that_is_over(back_end: BackEnd, delay: str) -> None:
    run = started(trigger(back_end, "t", {"options": {"delay": delay}}))
    assert row(back_end, run, "status", "delay_until") == ("QUEUED", None)


@pytest.mark.parametrize(
    ("body", "status", "part"),
    [
        (b"", 400, "Request body is empty"),
        (b"{", 400, "Invalid JSON"),
        ([], 400, "JSON object"),
        ({"options": []}, 400, "options"),
        ({"options": {"tags": ["x" * 129]}}, 400, "128 characters"),
        ({"options": {"tags": [""]}}, 400, "1 to 128"),
        ({"options": {"tags": [str(number) for number in range(11)]}}, 422, "only have 10 tags"),
        ({"options": {"metadata": [1]}}, 400, "metadata must be a JSON object"),
        ({"options": {"metadata": {"x": "x" * (256 << 10)}}}, 413, "256 KiB"),
        ({"options": {"metadata": {"x": "\0"}}}, 422, "NUL"),
        ({"payload": "\0"}, 400, "NUL"),
        ({"payload": "{", "options": {"payloadType": "application/super+json"}}, 400, "not valid"),
        ({"options": {"payloadType": "image/png"}}, 400, "payloadType"),
        ({"options": {"payloadType": "application/store"}}, 400, "path"),
        ({"options": {"delay": "soon"}}, 422, "Invalid delay soon"),
        ({"options": {"delay": "9" * 400}}, 422, "Invalid delay"),
        ({"options": {"ttl": "1x"}}, 400, "ttl"),
        ({"options": {"idempotencyKey": "k" * 2049}}, 400, "2048"),
        ({"options": {"idempotencyKey": "k", "idempotencyKeyTTL": "1y"}}, 400, "TTL"),
        (b"[" * 100_000, 400, "Invalid JSON"),
        (b'{"payload":"' + b"x" * (3 << 20) + b'"}', 413, "too large"),
    ],
)
def test_refusals(back_end: BackEnd, body: Any, status: int, part: str) -> None:
    task = fresh("t")
    answer = trigger(back_end, task, body)
    assert answer.status_code == status
    assert part in answer.json()["error"]
    assert count(back_end, task) == 0


def test_parents(back_end: BackEnd) -> None:
    def child(parent: str, **more: Any) -> str:
        return started(trigger(back_end, "t", {"options": {"parentRunId": parent, **more}}))

    root = started(trigger(back_end, "t"))
    first = child(root)
    second = child(first, resumeParentOnCompletion=True)
    family = ("parent_id", "root_id", "depth", "trigger_function")
    assert row(back_end, first, *family) == (root, root, 1, "trigger")
    assert row(back_end, second, *family) == (first, root, 2, "triggerAndWait")
    # Another environment's run is nobody's parent.
    stranger = started(trigger(back_end.with_key(OTHER_KEY), "t"))
    assert row(back_end, child(stranger), *family) == (None, None, 0, "trigger")


def test_the_token_of_the_answer(back_end: BackEnd) -> None:
    browser = back_end.token("trigger:tasks:shop", realtime={"skipColumns": ["payload"]})
    answer = trigger(browser, "shop", {"payload": "secret"})
    run = started(answer)
    token = answer.headers["x-trigger-jwt"]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["scopes"] == [f"read:runs:{run}", f"write:inputStreams:{run}"]
    assert claims["realtime"] == {"skipColumns": ["payload"]}
    assert claims["exp"] - claims["iat"] == 3600
    assert orjson.loads(answer.headers["x-trigger-jwt-claims"]) == {"sub": "default", "pub": True}
    exposed = answer.headers["access-control-expose-headers"]
    assert "x-trigger-jwt" in exposed.split(",")
    # It may be used at once, at any node.
    follower = back_end.with_key(token)
    for _ in range(4):
        seen = follower.ask("GET", f"/realtime/v1/runs/{run}", query={"offset": "-1"})
        assert seen.status_code == 200
        assert seen.json()[0]["value"]["friendlyId"] == run
        assert "payload" not in seen.json()[0]["value"]
    assert follower.ask("GET", f"/api/v3/runs/{run}").json()["status"] == "QUEUED"
    assert "payload" not in follower.ask("GET", f"/api/v3/runs/{run}").json()


def test_who_may_trigger(back_end: BackEnd) -> None:
    task = fresh("t")
    assert refused(trigger(back_end.with_key("nobody's key at all"), task))[0] == 401
    for scopes in (["read:runs"], ["trigger:tasks:other"], ["trigger:runs"], ["write:tasks"]):
        assert refused(trigger(back_end.token(*scopes), task)) == (403, "Unauthorized")
    # Not even a body is looked at, or a request that was answered.
    run = started(trigger(back_end, task, request="once"))
    other = back_end.token("trigger:tasks:other")
    assert refused(trigger(other, task, {"options": 1}, request="once"))[0] == 403
    assert count(back_end, task) == 1
    started(trigger(back_end.token("trigger:tasks"), task))
    assert row(back_end, run, "environment_id") == ("default",)
    run = started(trigger(back_end.with_key(OTHER_KEY), task))
    assert row(back_end, run, "environment_id") == ("other",)


def test_idempotency_keys(back_end: BackEnd) -> None:
    task, other = fresh("t"), fresh("t")
    key = {"options": {"idempotencyKey": "k"}}
    run = started(trigger(back_end, task, key))
    assert started(trigger(back_end, task, key), cached=True) == run
    assert started(trigger(back_end, other, key)) != run
    assert started(trigger(back_end.with_key(OTHER_KEY), task, key)) != run
    # A run that is over keeps its key, unless it failed.
    back_end.db.run("update pgtide.runs set status = 'COMPLETED' where id = %s", run)
    assert started(trigger(back_end, task, key), cached=True) == run
    back_end.db.run("update pgtide.runs set status = 'FAILED' where id = %s", run)
    again = started(trigger(back_end, task, key))
    assert again != run
    assert row(back_end, run, "idempotency_key") == (None,)
    # Until it is reset.
    path = "/api/v1/idempotencyKeys/k/reset"
    answer = back_end.ask("POST", path, {"taskIdentifier": task})
    assert (answer.status_code, answer.json()) == (200, {"id": "k"})
    assert back_end.ask("POST", path, {"taskIdentifier": task}).status_code == 404
    assert started(trigger(back_end, task, key)) not in (run, again)


def test_an_idempotency_key_that_expires(back_end: BackEnd) -> None:
    task = fresh("t")
    options = {"idempotencyKey": "k", "idempotencyKeyTTL": "10m"}
    run = started(trigger(back_end, task, {"options": options}))
    [life] = row(back_end, run, "extract(epoch from idempotency_key_expires_at - created_at)")
    assert 590 < life < 610
    assert started(trigger(back_end, task, {"options": options}), cached=True) == run
    back_end.db.run("update pgtide.runs set idempotency_key_expires_at = now() where id = %s", run)
    assert started(trigger(back_end, task, {"options": options})) != run
    # Rows from before there was an expiry hold their keys for ever.
    old = back_end.run(task=task, idempotency_key="old")
    assert (
        started(trigger(back_end, task, {"options": {"idempotencyKey": "old"}}), cached=True) == old
    )


def test_a_request_that_comes_again(back_end: BackEnd) -> None:
    task, request = fresh("t"), secrets.token_hex(8)
    run = started(trigger(back_end, task, {"payload": 1}, request))
    for _ in range(4):
        assert started(trigger(back_end, task, {"payload": 1}, request)) == run
    assert started(trigger(back_end, fresh("t"), {"payload": 1}, request)) != run
    assert started(trigger(back_end.with_key(OTHER_KEY), task, {}, request)) != run
    back_end.db.run("update pgtide.trigger_keys set expires_at = now()")
    assert started(trigger(back_end, task, {"payload": 1}, request)) != run


def test_a_refused_request_may_come_again(back_end: BackEnd) -> None:
    task, request = fresh("t"), secrets.token_hex(8)
    assert (
        refused(trigger(back_end, task, {"options": {"metadata": {"x": "\0"}}}, request))[0] == 422
    )
    started(trigger(back_end, task, {}, request))


def test_simultaneous_requests(back_end: BackEnd) -> None:
    """All at once, at both nodes: one run each, and everybody is told which."""
    request, key = secrets.token_hex(8), {"options": {"idempotencyKey": "k"}}
    tasks = [fresh("request"), fresh("key"), fresh("both")]
    with ThreadPoolExecutor(24) as pool:
        waiting = [
            [pool.submit(trigger, back_end, tasks[0], {}, request) for _ in range(8)],
            [pool.submit(trigger, back_end, tasks[1], key) for _ in range(8)],
            [pool.submit(trigger, back_end, tasks[2], key, request) for _ in range(8)],
        ]
        answers = [[one.result() for one in group] for group in waiting]
    for task, group in zip(tasks, answers, strict=True):
        assert {answer.status_code for answer in group} == {200}
        assert len({answer.json()["id"] for answer in group}) == 1
        assert count(back_end, task) == 1
    cached = [answer.json()["isCached"] for answer in answers[1]]
    assert sorted(cached) == [False] + [True] * 7


def test_a_one_time_token(back_end: BackEnd) -> None:
    task, request = fresh("t"), secrets.token_hex(8)
    browser = back_end.token(f"trigger:tasks:{task}", oneTimeUse=True)
    # What is refused does not use it up.
    assert refused(trigger(browser, task, {"options": {"delay": "soon"}}))[0] == 422
    run = started(trigger(browser, task, {}, request))
    # The client did not hear of it and asks again: that is not a second use.
    assert started(trigger(browser, task, {}, request)) == run
    assert refused(trigger(browser, task)) == (422, USED.format(task))
    assert refused(trigger(browser, task, {}, secrets.token_hex(8))) == (422, USED.format(task))
    # Nobody else gets the answer with the same key, and a deleted run does not make it good again.
    another = back_end.token(f"trigger:tasks:{task}", oneTimeUse=True)
    assert started(trigger(another, task, {}, request)) != run
    back_end.db.run("delete from pgtide.runs where id = %s", run)
    assert refused(trigger(browser, task)) == (422, USED.format(task))


def test_a_one_time_token_that_is_used_twice_at_once(back_end: BackEnd) -> None:
    task = fresh("t")
    browser = back_end.token(f"trigger:tasks:{task}", oneTimeUse=True)
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(trigger, browser, task) for _ in range(8)]
        answers = [one.result() for one in waiting]
    assert sorted(answer.status_code for answer in answers) == [200] + [422] * 7
    assert count(back_end, task) == 1


def test_the_token_itself_is_nowhere_in_the_database(back_end: BackEnd) -> None:
    task = fresh("t")
    browser = back_end.token(f"trigger:tasks:{task}", oneTimeUse=True)
    run = started(trigger(browser, task))
    [stored] = row(back_end, run, "one_time_use_token")
    assert stored not in browser.key
    assert len(stored) == 64


def test_followers_of_the_table_see_it(back_end: BackEnd) -> None:
    """A run that was triggered is a row like any other."""
    tag = fresh("tag")
    started(trigger(back_end, "t", {"options": {"tags": tag}}))
    seen = back_end.ask("GET", "/realtime/v1/runs", query={"tags": tag, "offset": "-1"})
    rows = [message["value"] for message in seen.json() if "value" in message]
    assert [row["runTags"] for row in rows] == [f"{{{tag}}}"]
