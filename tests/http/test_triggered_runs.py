"""Runs looked at, listed and changed over HTTP."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from back_ends import OTHER_KEY, BackEnd
from psycopg.types.json import Jsonb

DATE = "2020-01-01T00:00:00.000Z"
TYPED = (
    f'{{"json":{{"d":"{DATE}","b":"1","u":null,"x.y":{{"v":null}}}},"meta":{{"values":'
    r'{"d":["Date"],"b":["bigint"],"u":["undefined"],"x\\.y.v":["undefined"]}}}'
)
"""A super-JSON document with a date, a big integer and two values that are undefined."""


def fresh(name: str) -> str:
    return f"{name}-{secrets.token_hex(4)}"


def retrieve(back_end: BackEnd, run: str) -> dict[str, Any]:
    answer = back_end.ask("GET", f"/api/v3/runs/{run}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def change(back_end: BackEnd, run: str, what: str, body: Any = None) -> httpx.Response:
    version = "v2" if what == "cancel" else "v1"
    return back_end.ask("POST", f"/api/{version}/runs/{run}/{what}", body)


def listed(back_end: BackEnd, **query: str) -> list[str]:
    answer = back_end.ask("GET", "/api/v1/runs", query=query)
    assert answer.status_code == 200, answer.text
    return [run["id"] for run in answer.json()["data"]]


# -- one run ---------------------------------------------------------------------------------------


def test_all_that_must_be_there_and_nothing_that_is_null(back_end: BackEnd) -> None:
    run = back_end.run(task="a/b")
    found = retrieve(back_end, run)
    times = {name: found.pop(name) for name in ("createdAt", "updatedAt")}
    assert found == {
        "id": run,
        "status": "QUEUED",
        "taskIdentifier": "a/b",
        "isQueued": True,
        "isExecuting": False,
        "isWaiting": False,
        "isCompleted": False,
        "isSuccess": False,
        "isFailed": False,
        "isCancelled": False,
        "isTest": False,
        "tags": [],
        "costInCents": 0,
        "baseCostInCents": 0,
        "durationMs": 0,
        "metadata": {},
        "depth": 0,
        "triggerFunction": "trigger",
        "attemptCount": 0,
        "relatedRuns": {},
    }
    for time in times.values():
        age = datetime.now(UTC) - datetime.fromisoformat(time)
        assert timedelta(seconds=-5) < age < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("status", "flags"),
    [
        ("DELAYED", {"isQueued"}),
        ("PENDING_VERSION", {"isQueued"}),
        ("DEQUEUED", {"isExecuting"}),
        ("EXECUTING", {"isExecuting"}),
        ("WAITING", {"isWaiting"}),
        ("COMPLETED", {"isCompleted", "isSuccess"}),
        ("FAILED", {"isCompleted", "isFailed"}),
        ("TIMED_OUT", {"isCompleted", "isFailed"}),
        ("CANCELED", {"isCompleted", "isFailed", "isCancelled"}),
    ],
)
def test_statuses(back_end: BackEnd, status: str, flags: set[str]) -> None:
    found = retrieve(back_end, back_end.run(status=status))
    names = [name for name in found if name.startswith("is") and name != "isTest"]
    assert len(names) == 7
    assert {name for name in names if found[name]} == flags
    assert found["status"] == status
    assert ("finishedAt" in found) == ("isCompleted" in flags)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ('{"a":[1]}', "application/json", {"a": [1]}),
        ("null", "application/json", None),
        ("broken", "application/json", "broken"),
        ("text", "text/plain", "text"),
        (TYPED, "application/super+json", {"d": DATE, "b": "1", "x.y": {}}),
        ('{"json":null}', "application/super+json", None),
        (f'{{"json":"{DATE}","meta":{{"values":["Date"]}}}}', "application/super+json", DATE),
    ],
)
def test_packets(back_end: BackEnd, text: str, kind: str, value: Any) -> None:
    columns = {"payload": text, "payload_type": kind, "output": text, "output_type": kind}
    found = retrieve(back_end, back_end.run(**columns))
    assert (found["payload"], found["output"]) == (value, value)


def test_packets_that_are_not_there(back_end: BackEnd) -> None:
    undefined = '{"json":null,"meta":{"values":["undefined"]}}'
    kind = "application/super+json"
    assert "payload" not in retrieve(back_end, back_end.run(payload=undefined, payload_type=kind))
    found = retrieve(back_end, back_end.run(output="x/y", output_type="application/store"))
    assert "output" not in found
    assert found["outputPresignedUrl"].startswith("http")


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        ({"type": "STRING_ERROR", "raw": "no"}, {"message": "no"}),
        (
            {"type": "BUILT_IN_ERROR", "name": "E", "message": "m", "stackTrace": "s"},
            {"name": "E", "message": "m", "stackTrace": "s"},
        ),
        (
            {"type": "INTERNAL_ERROR", "code": "TASK_RUN_CRASHED"},
            {"name": "TASK_RUN_CRASHED", "message": "TASK_RUN_CRASHED"},
        ),
        ("plain", {"message": "plain"}),
        ({"reason": 1}, {"message": '{"reason": 1}'}),
    ],
)
def test_errors(back_end: BackEnd, error: Any, shown: dict[str, str]) -> None:
    assert retrieve(back_end, back_end.run(status="FAILED", error=Jsonb(error)))["error"] == shown


def test_what_a_worker_has_done(back_end: BackEnd) -> None:
    run = back_end.run(idempotency_key=fresh("k"), ttl="10m", cost_in_cents=0.25)
    back_end.db.run(
        "update pgtide.runs set status = 'EXECUTING', attempt_number = 2 where id = %s", run
    )
    back_end.db.run("update pgtide.runs set status = 'COMPLETED', output = '7' where id = %s", run)
    found = retrieve(back_end, run)
    assert (found["output"], found["attemptCount"], found["costInCents"]) == (7, 2, 0.25)
    assert found["ttl"] == "10m"
    assert found["createdAt"] <= found["startedAt"] <= found["finishedAt"]


def test_families(back_end: BackEnd) -> None:
    root, parent = back_end.run(task="root"), back_end.run(task="parent")
    run = back_end.run(parent_id=parent, root_id=root, depth=2)
    family = retrieve(back_end, run)["relatedRuns"]
    assert {name: one["taskIdentifier"] for name, one in family.items()} == {
        "root": "root",
        "parent": "parent",
    }
    # Who was given one run sees no other.
    assert retrieve(back_end.token(f"read:runs:{run}"), run)["relatedRuns"] == {}


def test_who_may_read(back_end: BackEnd) -> None:
    task, tag, batch = fresh("task"), fresh("tag"), fresh("batch")
    run = back_end.run(task=task, tags=[tag], batch_id=batch)
    for scope in (f"runs:{run}", f"tasks:{task}", f"tags:{tag}", f"batch:{batch}", "runs"):
        assert retrieve(back_end.token(f"read:{scope}"), run)["id"] == run
    for scope in ("read:runs:other", "read:tasks:t", f"write:runs:{run}"):
        answer = back_end.token(scope).ask("GET", f"/api/v3/runs/{run}")
        assert (answer.status_code, answer.json()["error"]) == (403, "Unauthorized")
    for key in (back_end, back_end.with_key(OTHER_KEY)):
        run = run if key is not back_end else "run_nobody"
        answer = key.ask("GET", f"/api/v3/runs/{run}")
        assert (answer.status_code, answer.json()) == (404, {"error": "Not found"})
        assert answer.headers["x-should-retry"] == "false"


# -- lists -----------------------------------------------------------------------------------------


def test_pages(back_end: BackEnd) -> None:
    task = fresh("t")
    # Some were created at the same time.
    runs = [
        back_end.run(task=task, created_at=datetime(2026, 1, 1 + number // 3, tzinfo=UTC))
        for number in range(7)
    ]
    query = {"filter[taskIdentifier]": task, "page[size]": "3"}

    def page(**more: str) -> dict[str, Any]:
        return back_end.ask("GET", "/api/v1/runs", query={**query, **more}).json()

    def ids(one: dict[str, Any]) -> list[str]:
        return [run["id"] for run in one["data"]]

    first = page()
    assert set(first["pagination"]) == {"next"}
    second = page(**{"page[after]": first["pagination"]["next"]})
    third = page(**{"page[after]": second["pagination"]["next"]})
    assert set(third["pagination"]) == {"previous"}
    everything = ids(first) + ids(second) + ids(third)
    assert [len(ids(one)) for one in (first, second, third)] == [3, 3, 1]
    assert sorted(everything) == sorted(runs)
    # The SDK sends the cursor by which it came along with the one to go back, and so on.
    back = page(
        **{
            "page[after]": second["pagination"]["next"],
            "page[before]": third["pagination"]["previous"],
        }
    )
    assert ids(back) == ids(second)
    assert set(back["pagination"]) == {"next", "previous"}
    forth = page(
        **{
            "page[after]": back["pagination"]["next"],
            "page[before]": third["pagination"]["previous"],
        }
    )
    assert ids(forth) == ids(third)
    assert ids(page(**{"page[before]": second["pagination"]["previous"]})) == ids(first)


def test_filters(back_end: BackEnd) -> None:
    task, tag, batch = fresh("t"), fresh("tag"), fresh("batch")
    queued = back_end.run(task=task, tags=[tag, "other"])
    test = back_end.run(task=task, is_test=True, status="COMPLETED", batch_id=batch)
    old = back_end.run(task=task, created_at=datetime.now(UTC) - timedelta(days=3), tags=["x", tag])
    of_task = {"filter[taskIdentifier]": f"{task},nobody"}
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    millis = str(int(hour_ago.timestamp() * 1000))

    def found(**more: str) -> list[str]:
        return listed(back_end, **of_task, **{f"filter[{name}]": one for name, one in more.items()})

    assert found() == [test, queued, old]
    assert found(status="COMPLETED,CANCELED") == [test]
    assert found(status="QUEUED") == [queued, old]
    assert found(tag=tag) == [queued, old]
    assert found(tag="other,nobody") == [queued]
    assert found(batch=batch) == [test]
    assert found(isTest="true") == [test]
    assert found(isTest="false") == [queued, old]
    assert found(**{"createdAt][from": millis}) == [test, queued]
    assert found(**{"createdAt][to": hour_ago.isoformat()}) == [old]
    assert found(**{"createdAt][period": "1d"}) == [test, queued]
    assert listed(back_end.with_key(OTHER_KEY), **of_task) == []


@pytest.mark.parametrize(
    "query",
    [
        {"page[size]": "0"},
        {"page[size]": "101"},
        {"page[size]": "000000001999"},
        {"page[size]": "x"},
        {"page[after]": "nonsense"},
        {"page[after]": "MSAyMDI2"},
        {"filter[createdAt][from]": "once"},
        {"filter[createdAt][period]": "1x"},
        {"filter[queue]": "q"},
    ],
)
def test_refused_lists(back_end: BackEnd, query: dict[str, str]) -> None:
    answer = back_end.ask("GET", "/api/v1/runs", query=query)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_who_may_list(back_end: BackEnd) -> None:
    task = fresh("t")
    run = back_end.run(task=task)
    query = {"filter[taskIdentifier]": task}
    assert listed(back_end.token(f"read:tasks:{task}"), **query) == [run]
    assert listed(back_end.token("read:runs"), **query) == [run]
    narrow = back_end.token(f"read:tasks:{task}", f"read:runs:{run}")
    for more in ({}, {"filter[taskIdentifier]": f"{task},other"}):
        assert narrow.ask("GET", "/api/v1/runs", query=more).status_code == 403


def test_nothing_in_a_query_is_sql(back_end: BackEnd) -> None:
    back_end.run(task="t")
    for text in ("' or true --", '"', "\\", "$1", "%s", "{a}", "null"):
        for name in ("filter[taskIdentifier]", "filter[tag]", "filter[batch]", "filter[status]"):
            assert listed(back_end, **{name: text}) == []
        assert back_end.ask("GET", f"/api/v3/runs/{text}").status_code == 404


# -- changes ---------------------------------------------------------------------------------------


def test_cancelling(back_end: BackEnd) -> None:
    run = back_end.run(status="EXECUTING")
    assert change(back_end, run, "cancel").json() == {"id": run}
    first = retrieve(back_end, run)
    assert (first["status"], first["isCancelled"]) == ("CANCELED", True)
    # It is over, and stays as it is.
    assert change(back_end, run, "cancel").json() == {"id": run}
    assert retrieve(back_end, run) == first
    done = back_end.run(status="COMPLETED")
    assert back_end.ask("POST", f"/api/v1/runs/{done}/cancel").json() == {"id": done}
    assert retrieve(back_end, done)["status"] == "COMPLETED"


def test_who_may_cancel(back_end: BackEnd) -> None:
    task = fresh("t")
    run = back_end.run(task=task)
    for scope in (f"read:runs:{run}", "write:runs:other", f"trigger:tasks:{task}"):
        assert change(back_end.token(scope), run, "cancel").status_code == 403
        assert change(back_end.token(scope), "run_nobody", "cancel").status_code == 403
    assert change(back_end, "run_nobody", "cancel").status_code == 404
    assert change(back_end.with_key(OTHER_KEY), run, "cancel").status_code == 404
    assert retrieve(back_end, run)["status"] == "QUEUED"
    assert change(back_end.token(f"write:tasks:{task}"), run, "cancel").status_code == 200
    other = back_end.run(task=task)
    assert change(back_end.token(f"write:runs:{other}"), other, "cancel").status_code == 200


def test_tags(back_end: BackEnd) -> None:
    run = back_end.run(tags=["a"])
    answer = change(back_end, run, "tags", {"tags": ["b", "a", "b"]})
    assert (answer.status_code, answer.json()["message"]) == (200, "Successfully set 1 new tags.")
    assert change(back_end, run, "tags", {"tags": "a"}).json() == {"message": "No new tags to add"}
    many = change(back_end, run, "tags", {"tags": [str(number) for number in range(9)]})
    assert many.status_code == 422
    assert "only have 10 tags" in many.json()["error"]
    assert retrieve(back_end, run)["tags"] == ["a", "b"]
    for body in ({}, {"tags": [1]}, {"tags": "x" * 129}):
        assert change(back_end, run, "tags", body).status_code == 400
    assert change(back_end, "run_nobody", "tags", {"tags": "a"}).status_code == 404
    assert (
        change(back_end.token(f"write:runs:{run}"), run, "tags", {"tags": "c"}).status_code == 401
    )


def test_simultaneous_tags(back_end: BackEnd) -> None:
    run = back_end.run()
    with ThreadPoolExecutor(8) as pool:
        waiting = [
            pool.submit(change, back_end, run, "tags", {"tags": [f"t{number}"]})
            for number in range(12)
        ]
        statuses = sorted(one.result().status_code for one in waiting)
    assert statuses == [200] * 10 + [422] * 2
    assert len(set(retrieve(back_end, run)["tags"])) == 10


def test_rescheduling(back_end: BackEnd) -> None:
    run = back_end.run(status="DELAYED", delay_until=datetime.now(UTC) + timedelta(hours=1))
    later = datetime.now(UTC) + timedelta(hours=5)
    answer = change(back_end, run, "reschedule", {"delay": later.isoformat()})
    assert datetime.fromisoformat(answer.json()["delayedUntil"]) == later
    now = change(back_end, run, "reschedule", {"delay": "0s"}).json()
    assert now["status"] == "QUEUED"
    again = change(back_end, run, "reschedule", {"delay": "1h"})
    assert (again.status_code, "not delayed" in again.json()["error"]) == (422, True)
    assert change(back_end, run, "reschedule", {}).status_code == 400


def test_replaying(back_end: BackEnd) -> None:
    columns: dict[str, object] = {
        "payload": '{"json":1}',
        "payload_type": "application/super+json",
        "is_test": True,
        "tags": ["a"],
        "metadata": Jsonb({"m": 1}),
        "status": "FAILED",
        "idempotency_key": "k",
    }
    run = back_end.run(task=fresh("t"), **columns)
    same = change(back_end, run, "replay").json()["id"]
    query = (
        "select task, payload, payload_type, is_test, tags, metadata, status from pgtide.runs"
        " where id = %s"
    )
    old, new = back_end.db.run(query, run)[0], back_end.db.run(query, same)[0]
    assert new == (*old[:-1], "QUEUED")
    other = change(back_end, run, "replay", {"payload": {"p": 2}, "tags": "b", "delay": "1h"})
    found = retrieve(back_end, other.json()["id"])
    assert (found["payload"], found["tags"], found["status"]) == ({"p": 2}, ["b"], "DELAYED")
    assert change(back_end, "run_nobody", "replay").status_code == 404
