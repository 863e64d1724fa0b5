"""Run metadata over HTTP: replaced, changed by operations, also of parents and roots."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from back_ends import OTHER_KEY, BackEnd
from psycopg.types.json import Jsonb

REQUEST = "x-trigger-request-idempotency-key"


def put(
    back_end: BackEnd, run: str, body: Any, headers: dict[str, str] | None = None
) -> httpx.Response:
    return back_end.ask("PUT", f"/api/v1/runs/{run}/metadata", body, headers)


def op(kind: str, key: str, value: Any = None) -> dict[str, Any]:
    return {"type": kind, "key": key, "value": value}


def stored(back_end: BackEnd, run: str) -> tuple[Any, ...]:
    return back_end.db.run("select metadata, metadata_version from pgtide.runs where id = %s", run)[
        0
    ]


def test_replaced_and_read(back_end: BackEnd) -> None:
    run = back_end.run(metadata=Jsonb({"old": 1}))
    answer = put(back_end, run, {"metadata": {"new": [1, {"a": None}]}})
    assert (answer.status_code, answer.json()) == (200, {"metadata": {"new": [1, {"a": None}]}})
    assert back_end.ask("GET", f"/api/v1/runs/{run}/metadata").json() == answer.json()
    assert stored(back_end, run) == ({"new": [1, {"a": None}]}, 1)


def test_operations(back_end: BackEnd) -> None:
    run = back_end.run(metadata=Jsonb({"n": 1, "l": [1], "o": {"x": 1}}))
    before = back_end.db.run("select updated_at from pgtide.runs where id = %s", run)
    answer = put(
        back_end,
        run,
        {
            "operations": [
                op("increment", "n", 1.5),
                op("increment", "n", 0.5),
                op("append", "l", {"a": 1}),
                op("set", "$.o.x", "deep"),
                op("remove", "nothing", 1),
                {"type": "delete", "key": "gone"},
            ]
        },
    )
    assert answer.text == '{"metadata":{"l":[1,{"a":1}],"n":3,"o":{"x":"deep"}}}'
    assert stored(back_end, run) == (answer.json()["metadata"], 1)
    assert back_end.db.run("select updated_at from pgtide.runs where id = %s", run) > before


def test_operations_that_change_nothing_write_nothing(back_end: BackEnd) -> None:
    run = back_end.run(metadata=Jsonb({"n": 1}))
    assert put(back_end, run, {"operations": [op("set", "n", 1)]}).json() == {"metadata": {"n": 1}}
    assert stored(back_end, run) == ({"n": 1}, 0)


def test_parent_and_root(back_end: BackEnd) -> None:
    root = back_end.run()
    parent = back_end.run(parent_id=root, root_id=root)
    child = back_end.run(parent_id=parent, root_id=root)
    body = {
        "operations": [op("set", "own", 1)],
        "parentOperations": [op("set", "up", 1), op("increment", "n", 1)],
        "rootOperations": [op("set", "top", 1)],
    }
    assert put(back_end, child, body).json() == {"metadata": {"own": 1}}
    assert stored(back_end, parent) == ({"up": 1, "n": 1}, 1)
    assert stored(back_end, root) == ({"top": 1}, 1)
    # A run without them, or whose parent is not there, takes their operations itself.
    both = {"own": 1, "up": 1, "n": 1, "top": 1}
    for lone in (back_end.run(), back_end.run(parent_id="run_gone", root_id="run_gone")):
        assert put(back_end, lone, body).json() == {"metadata": both}
    # The same run as both.
    assert put(back_end, parent, body).json()["metadata"] == {"up": 1, "n": 1, "own": 1}
    assert stored(back_end, root)[0] == {"top": 1, "up": 1, "n": 1}


def test_none_is_lost_and_nobody_waits_for_ever(back_end: BackEnd) -> None:
    """Parents, children and cousins at the same time, in every order."""
    root = back_end.run()
    parents = [back_end.run(parent_id=root, root_id=root) for _ in range(3)]
    children = [back_end.run(parent_id=one, root_id=root) for one in parents for _ in range(3)]
    up = [op("increment", "n", 1)]
    body = {"operations": up, "parentOperations": up, "rootOperations": up}
    with ThreadPoolExecutor(8) as pool:
        everybody = [root, *parents, *children] * 3
        asked = [pool.submit(put, back_end, one, body) for one in everybody]
        answers = [one.result() for one in asked]
    assert {answer.status_code for answer in answers} == {200}
    assert stored(back_end, root)[0] == {"n": 3 * (3 + 2 * 3 + 9)}
    assert [stored(back_end, one)[0] for one in parents] == [{"n": 3 * 4}] * 3


@pytest.mark.parametrize("kind", ["increment", "append"])
def test_a_request_that_is_repeated_counts_once(back_end: BackEnd, kind: str) -> None:
    run, other = back_end.run(), back_end.run()
    body = {"operations": [op(kind, "n", 1)]}
    key = {REQUEST: str(uuid4())}
    once = {"n": 1 if kind == "increment" else [1]}
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(put, back_end, run, body, key) for _ in range(4)]
        answers = [one.result() for one in asked]
    assert [answer.json() for answer in answers] == [{"metadata": once}] * 4
    assert put(back_end, other, body, key).json() == {"metadata": once}
    assert put(back_end, run, body, {REQUEST: str(uuid4())}).json() != {"metadata": once}


def test_a_request_that_failed_may_be_repeated(back_end: BackEnd) -> None:
    name, key = f"run_{uuid4().hex}", {REQUEST: str(uuid4())}
    body = {"operations": [op("increment", "n", 1)]}
    assert put(back_end, name, body, key).status_code == 404
    back_end.run(id=name)
    assert put(back_end, name, body, key).json() == {"metadata": {"n": 1}}


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("[]", "JSON object"),
        ("{", "Invalid JSON"),
        ("{}", "must have metadata or"),
        ('{"metadata": []}', "metadata must be a JSON object"),
        ('{"operations": {}}', "operations must be an array"),
        ('{"rootOperations": [{"type": "set", "key": "__proto__", "value": 1}]}', "__proto__"),
        ('{"operations": [{"type": "fly", "key": "a"}]}', "must be one of"),
        ('{"metadata": {"a": "\\u0000"}}', "NUL"),
    ],
)
def test_what_is_refused(back_end: BackEnd, body: str, complaint: str) -> None:
    answer = put(back_end, back_end.run(), body)
    assert answer.status_code == 400, answer.text
    assert complaint in answer.json()["error"]


def test_too_large(back_end: BackEnd) -> None:
    run = back_end.run(metadata=Jsonb({"a": 1}))
    answer = put(back_end, run, {"metadata": {"a": "x" * (256 << 10)}})
    assert answer.status_code == 413
    assert "256 KiB" in answer.json()["error"]
    assert answer.headers["access-control-allow-origin"] == "*"
    fits = put(back_end, run, {"metadata": {"a": "x" * ((256 << 10) - 8)}})
    assert fits.status_code == 200
    assert put(back_end, run, {"operations": [op("set", "b", 1)]}).status_code == 413
    assert put(back_end, run, "x" * ((2 << 20) + 1)).status_code == 413


def test_nested_too_deeply(back_end: BackEnd) -> None:
    body = '{"metadata": {"a": ' + "[" * 300 + "]" * 300 + "}}"
    assert put(back_end, back_end.run(), body).status_code == 413


def test_a_run_that_is_over(back_end: BackEnd) -> None:
    run = back_end.run(status="COMPLETED")
    assert put(back_end, run, {"metadata": {"late": 1}}).status_code == 200
    back_end.db.run(
        "update pgtide.runs set completed_at = now() - interval '61 minutes' where id = %s", run
    )
    answer = put(back_end, run, {"metadata": {"later": 1}})
    assert (answer.status_code, stored(back_end, run)[0]) == (422, {"late": 1})
    assert back_end.ask("GET", f"/api/v1/runs/{run}/metadata").json() == {"metadata": {"late": 1}}


def test_only_back_ends_of_the_environment(back_end: BackEnd) -> None:
    run = back_end.run(metadata=Jsonb({"a": 1}))
    path = f"/api/v1/runs/{run}/metadata"
    missing = {"error": "Not found"}
    bodies: dict[str, Any] = {"GET": None, "PUT": {"metadata": {}}}
    for method, body in bodies.items():
        answer = back_end.with_key(OTHER_KEY).ask(method, path, body)
        assert (answer.status_code, answer.json()) == (404, missing)
        assert back_end.token("read:runs", "write:runs").ask(method, path, body).status_code == 401
    assert stored(back_end, run)[0] == {"a": 1}


def test_somebody_else_holds_the_run(back_end: BackEnd) -> None:
    """A change waits for a transaction of the worker's, and comes after it."""
    run = back_end.run()
    with ThreadPoolExecutor(1) as pool, psycopg.connect(back_end.db.url) as worker:
        worker.execute("select pgtide.increment_metadata(%s, 'n', 1)", (run,))
        answer = pool.submit(put, back_end, run, {"operations": [op("increment", "n", 1)]})
        waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
        while back_end.db.run(waiting) == [(0,)]:
            assert not answer.done()
        worker.commit()
        assert answer.result().json() == {"metadata": {"n": 2}}
