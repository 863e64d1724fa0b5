"""Batches over HTTP: made in one request, filled by others, which may come again."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import orjson
import pytest
from back_ends import OTHER_KEY, BackEnd

NDJSON = {"content-type": "application/x-ndjson"}
REQUEST = "x-trigger-request-idempotency-key"


def make(back_end: BackEnd, count: int, **more: Any) -> str:
    answer = back_end.ask("POST", "/api/v3/batches", {"runCount": count, **more})
    assert answer.status_code == 202, answer.text
    assert answer.json()["isCached"] is False
    assert answer.json()["runCount"] == count
    return answer.json()["id"]


def items(*indexes: int, task: str = "t", **options: Any) -> bytes:
    return b"".join(
        orjson.dumps({"index": index, "task": task, "payload": str(index), "options": options})
        + b"\n"
        for index in indexes
    )


def fill(
    back_end: BackEnd, batch: str, body: Any, headers: dict[str, str] = NDJSON
) -> httpx.Response:
    return back_end.ask("POST", f"/api/v3/batches/{batch}/items", body, headers)


def rows(back_end: BackEnd, batch: str) -> list[tuple[Any, ...]]:
    query = "select payload, trigger_function from pgtide.runs where batch_id = %s order by payload"
    return back_end.db.run(query, batch)


def test_the_life_of_a_batch(back_end: BackEnd) -> None:
    batch = make(back_end, 3, taskIdentifiers=["t"])
    path = f"/api/v2/batches/{batch}"
    empty = back_end.ask("GET", path).json()
    assert (empty["status"], empty["runCount"], empty["runs"]) == ("PENDING", 3, [])
    assert empty["processing"] == {"errors": []}
    answer = fill(back_end, batch, items(0, 1, 2))
    assert answer.json() == {
        "id": batch,
        "itemsAccepted": 3,
        "itemsDeduplicated": 0,
        "sealed": True,
    }
    assert rows(back_end, batch) == [(str(index), "batchTrigger") for index in range(3)]
    filled = back_end.ask("GET", path).json()
    assert filled["status"] == "PROCESSING"
    assert "completedAt" in filled["processing"]
    ids = [back_end.ask("GET", f"/api/v3/runs/{run}").json()["payload"] for run in filled["runs"]]
    assert ids == [0, 1, 2]
    back_end.db.run("update pgtide.runs set status = 'COMPLETED' where batch_id = %s", batch)
    assert back_end.ask("GET", path).json()["status"] == "COMPLETED"


def test_items_that_come_again(back_end: BackEnd) -> None:
    batch = make(back_end, 3)
    first = fill(back_end, batch, items(0, 2, 2)).json()
    assert first == {
        "id": batch,
        "itemsAccepted": 2,
        "itemsDeduplicated": 1,
        "sealed": False,
        "enqueuedCount": 2,
        "expectedCount": 3,
    }
    second = fill(back_end, batch, items(0, 1, 2)).json()
    assert (second["itemsAccepted"], second["itemsDeduplicated"]) == (1, 2)
    assert second["sealed"] is True
    third = fill(back_end, batch, items(0, 1, 2)).json()
    assert (third["itemsAccepted"], third["itemsDeduplicated"]) == (0, 3)
    assert third["sealed"] is True
    assert len(rows(back_end, batch)) == 3


def test_the_same_items_at_once(back_end: BackEnd) -> None:
    batch = make(back_end, 20)
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(fill, back_end, batch, items(*range(20))) for _ in range(4)]
        answers = [one.result().json() for one in waiting]
    assert sorted(answer["itemsAccepted"] for answer in answers) == [0, 0, 0, 20]
    assert len(rows(back_end, batch)) == 20


def test_a_thousand_items_in_pieces(back_end: BackEnd) -> None:
    """As clients send them: chunked, and cut anywhere."""
    batch = make(back_end, 1000)
    text = items(*range(1000)).rstrip(b"\n")

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(text), 777):
            yield text[start : start + 777]

    answer = back_end.http.post(
        f"{back_end.url}/api/v3/batches/{batch}/items",
        content=pieces(),
        headers={"authorization": f"Bearer {back_end.key}", **NDJSON},
    )
    assert (answer.status_code, answer.json()["itemsAccepted"]) == (200, 1000)
    assert len(back_end.ask("GET", f"/api/v2/batches/{batch}").json()["runs"]) == 1000


def test_more_than_fits_into_one_group(back_end: BackEnd) -> None:
    """18 MB: more than other requests may have, and inserted in several statements."""
    batch = make(back_end, 9)
    large = b"".join(
        b'{"index":%d,"task":"t","payload":"%s"}\n' % (index, b"x" * 2_000_000)
        for index in range(9)
    )
    answer = fill(back_end, batch, large)
    assert (answer.status_code, answer.json()["itemsAccepted"]) == (200, 9)
    lengths = back_end.db.run("select length(payload) from pgtide.runs where batch_id = %s", batch)
    assert lengths == [(2_000_002,)] * 9
    back_end.db.run("delete from pgtide.runs where batch_id = %s", batch)


def test_a_broken_line_keeps_a_group_out(back_end: BackEnd) -> None:
    batch = make(back_end, 2)
    answer = fill(back_end, batch, items(0) + b'{"index":1,')
    assert (answer.status_code, answer.json()) == (400, {"error": "Invalid JSON at line 2"})
    assert rows(back_end, batch) == []
    assert fill(back_end, batch, items(0, 1)).json()["sealed"] is True


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (items(0), {"content-type": "application/json"}, 415),
        (items(0), {}, 415),
        (items(2), NDJSON, 400),
        (b"[]\n", NDJSON, 400),
        (b'{"index":-1,"task":"t"}\n', NDJSON, 400),
        (b'{"index":true,"task":"t"}\n', NDJSON, 400),
        (b'{"index":0}\n', NDJSON, 400),
        (b'{"index":0,"task":""}\n', NDJSON, 400),
        (items(0, delay="soon"), NDJSON, 422),
        (items(*range(1001)), NDJSON, 400),
        (b'{"index":0,"task":"t","payload":"' + b"x" * (3 << 20) + b'"}', NDJSON, 413),
        (b"\n \n", NDJSON, 200),
    ],
)
def test_refused_items(
    back_end: BackEnd, body: bytes, headers: dict[str, str], status: int
) -> None:
    batch = make(back_end, 2)
    assert fill(back_end, batch, body, headers).status_code == status
    assert rows(back_end, batch) == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"runCount": 0},
        {"runCount": 1001},
        {"runCount": True},
        {"runCount": "1"},
        {"runCount": 1, "taskIdentifiers": []},
        {"runCount": 1, "taskIdentifiers": [1]},
        {"runCount": 1, "idempotencyKey": "k" * 2049},
    ],
)
def test_refused_batches(back_end: BackEnd, body: dict[str, Any]) -> None:
    answer = back_end.ask("POST", "/api/v3/batches", body)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_idempotency(back_end: BackEnd) -> None:
    key, request = secrets.token_hex(8), secrets.token_hex(8)
    body = {"runCount": 2, "idempotencyKey": key}
    first = back_end.ask("POST", "/api/v3/batches", body).json()
    assert first == {"id": first["id"], "runCount": 2, "isCached": False, "idempotencyKey": key}
    cached = back_end.ask("POST", "/api/v3/batches", {**body, "runCount": 5}).json()
    assert cached == {**first, "isCached": True}
    other = back_end.with_key(OTHER_KEY).ask("POST", "/api/v3/batches", body).json()
    assert other["id"] != first["id"]
    ids = {
        back_end.ask("POST", "/api/v3/batches", {"runCount": 1}, {REQUEST: request}).text
        for _ in range(4)
    }
    assert len(ids) == 1
    assert '"isCached":false' in ids.pop()


def test_items_with_idempotency_keys(back_end: BackEnd) -> None:
    """Runs that were there keep their batch; the batch names them all the same."""
    key = secrets.token_hex(8)
    options = {"options": {"idempotencyKey": key}}
    old = back_end.ask("POST", "/api/v1/tasks/t/trigger", options).json()["id"]
    batch = make(back_end, 3)
    twice = secrets.token_hex(8)
    fill(back_end, batch, items(0, idempotencyKey=key) + items(1, 2, idempotencyKey=twice))
    runs = back_end.ask("GET", f"/api/v2/batches/{batch}").json()["runs"]
    assert runs[0] == old
    assert runs[1] == runs[2] != old
    assert rows(back_end, batch) == [("1", "batchTrigger")]


def test_many_idempotency_keys_at_once(back_end: BackEnd) -> None:
    """Two batches and single runs compete for them; each key starts one run."""
    task, count = f"t-{secrets.token_hex(4)}", 120
    batches = [make(back_end, count), make(back_end, count)]
    body = b"".join(items(index, task=task, idempotencyKey=str(index)) for index in range(count))
    with ThreadPoolExecutor(12) as pool:
        waiting = [pool.submit(fill, back_end, batch, body) for batch in batches]
        waiting += [
            pool.submit(
                *(back_end.ask, "POST", f"/api/v1/tasks/{task}/trigger"),
                {"options": {"idempotencyKey": str(index)}},
            )
            for index in range(0, count, 5)
        ]
        assert {one.result().status_code for one in waiting} == {200}
    [(found,)] = back_end.db.run("select count(*) from pgtide.runs where task = %s", task)
    assert found == count
    named = [back_end.ask("GET", f"/api/v2/batches/{batch}").json()["runs"] for batch in batches]
    assert named[0] == named[1]


def test_parents(back_end: BackEnd) -> None:
    parent = back_end.run()
    batch = make(back_end, 1, parentRunId=parent, resumeParentOnCompletion=True)
    fill(back_end, batch, items(0))
    query = "select parent_id, depth, trigger_function from pgtide.runs where batch_id = %s"
    assert back_end.db.run(query, batch) == [(parent, 1, "batchTriggerAndWait")]


def test_who_may_make_one(back_end: BackEnd) -> None:
    def status(scopes: list[str], tasks: list[str] | None) -> int:
        body = {"runCount": 1} | ({} if tasks is None else {"taskIdentifiers": tasks})
        return back_end.token(*scopes).ask("POST", "/api/v3/batches", body).status_code

    one, two = "batchTrigger:tasks:one", "batchTrigger:tasks:two"
    assert status([one, two], ["one", "two"]) == 202
    assert status([one], ["one", "two"]) == 403
    assert status([one], None) == 403
    assert status(["batchTrigger:tasks"], None) == 202
    assert status(["batchTrigger:batch"], None) == 202
    assert status(["batchTrigger:batch"], ["one"]) == 202
    assert status(["trigger:tasks:one"], ["one"]) == 403
    assert status(["write:batch"], ["one"]) == 403


def test_who_may_fill_one(back_end: BackEnd) -> None:
    batch = make(back_end, 2)
    browser = back_end.token("batchTrigger:tasks:one")
    assert fill(browser, batch, items(0, task="one") + items(1, task="two")).status_code == 403
    assert rows(back_end, batch) == []
    assert fill(browser, batch, b"").status_code == 403
    assert fill(back_end.token(f"read:batch:{batch}"), batch, items(0)).status_code == 403
    assert fill(back_end.with_key("nobody's key at all"), batch, items(0)).status_code == 401
    assert fill(back_end.with_key(OTHER_KEY), batch, items(0)).status_code == 404
    assert fill(browser, batch, items(0, task="one")).json()["itemsAccepted"] == 1
    writer = back_end.token(f"write:batch:{batch}")
    assert fill(writer, batch, items(1, task="two")).json()["sealed"] is True


def test_a_one_time_token(back_end: BackEnd) -> None:
    browser = back_end.token("batchTrigger:tasks:t", oneTimeUse=True)
    batch = make(browser, 1, taskIdentifiers=["t"])
    body = {"runCount": 1, "taskIdentifiers": ["t"]}
    again = browser.ask("POST", "/api/v3/batches", body)
    assert again.status_code == 422
    assert "already been used" in again.json()["error"]
    # It fills the batch that it made, and no other.
    assert fill(browser, make(back_end, 1), items(0)).status_code == 422
    assert fill(browser, batch, items(0)).json()["sealed"] is True


def test_the_token_of_the_answer(back_end: BackEnd) -> None:
    browser = back_end.token("batchTrigger:tasks:t")
    answer = browser.ask("POST", "/api/v3/batches", {"runCount": 1, "taskIdentifiers": ["t"]})
    batch = answer.json()["id"]
    follower = back_end.with_key(answer.headers["x-trigger-jwt"])
    assert fill(follower, batch, items(0)).json()["sealed"] is True
    seen = follower.ask("GET", f"/realtime/v1/batches/{batch}", query={"offset": "-1"})
    assert sum("value" in message for message in seen.json()) == 1
    [run] = follower.ask("GET", f"/api/v2/batches/{batch}").json()["runs"]
    assert follower.ask("GET", f"/api/v3/runs/{run}").json()["batchId"] == batch
    # A back end's is for following only.
    answer = back_end.ask("POST", "/api/v3/batches", {"runCount": 1})
    reader = back_end.with_key(answer.headers["x-trigger-jwt"])
    assert fill(reader, answer.json()["id"], items(0)).status_code == 403


def test_a_batch_that_was_written_with_sql(back_end: BackEnd) -> None:
    [(batch,)] = back_end.db.run(
        "insert into pgtide.batches (run_count, expected_count, sealed) values (2, 2, true)"
        " returning id"
    )
    runs = {back_end.run(batch_id=batch) for _ in range(2)}
    found = back_end.ask("GET", f"/api/v2/batches/{batch}").json()
    assert (set(found["runs"]), found["runCount"]) == (runs, 2)
    other = back_end.with_key(OTHER_KEY).ask("GET", f"/api/v2/batches/{batch}")
    assert (other.status_code, other.headers["x-should-retry"]) == (404, "false")


def test_both_steps_at_once(back_end: BackEnd) -> None:
    """What clients before 4.2 send."""
    body = {"items": [{"task": "t", "payload": "1"}, {"task": "u", "options": {"tags": "x"}}]}
    answer = back_end.ask("POST", "/api/v2/tasks/batch", body)
    assert answer.status_code == 202
    assert answer.json()["runCount"] == len(answer.json()["runs"]) == 2
    assert "x-trigger-jwt" in answer.headers
    assert len(rows(back_end, answer.json()["id"])) == 2
    narrow = back_end.token("batchTrigger:tasks:t")
    assert narrow.ask("POST", "/api/v2/tasks/batch", body).status_code == 403
