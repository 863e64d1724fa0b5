"""Following one run: what is shown, how it goes on and ends, who is told that it is not there."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from access_tokens import bearer, public_token
from back_ends import KEY, OTHER_KEY, BackEnd
from follower import UNUSED_TLS
from run_reader import VERSIONS, RunReader, get, make_run, update_run

RUNS = "/realtime/v1/runs"


def follow(back_end: BackEnd, run_id: str, **how: str) -> RunReader:
    return RunReader(back_end.url, f"{RUNS}/{run_id}", **how)


# -- the way of a run ------------------------------------------------------------------------------


def test_a_run_from_its_beginning_to_its_end(back_end: BackEnd) -> None:
    run_id = make_run(back_end, tags=["user:1"], payload='{"a": 1}')
    reader = follow(back_end, run_id).sync()
    assert reader.last is not None
    assert reader.last.headers["cache-control"] == "no-store"
    row = reader.row
    assert (row["id"], row["friendlyId"], row["taskIdentifier"]) == (run_id, run_id, "resize")
    assert (row["status"], row["completedAt"], row["runTags"]) == ("PENDING", None, "{user:1}")
    assert row["payload"] == '{"a": 1}'
    assert row["createdAt"][10] == "T"
    assert "+" not in row["createdAt"]
    assert reader.cursor == ""

    update_run(back_end, run_id, "status = 'EXECUTING', metadata = '{\"progress\": 40}'")
    assert reader.live()
    assert reader.row["status"] == "EXECUTING"
    assert reader.row["metadata"] == '{"progress": 40}'
    (change,) = reader.changes
    assert set(change["value"]) == {
        *("id", "friendlyId", "status", "metadata", "startedAt", "updatedAt"),
    }

    update_run(back_end, run_id, "status = 'COMPLETED', output = '{\"ok\": true}'")
    assert reader.live()
    assert reader.row["status"] == "COMPLETED_SUCCESSFULLY"
    assert reader.row["completedAt"] is not None
    assert reader.last.headers["cache-control"] == "no-store"


def test_one_answer_suffices_to_be_up_to_date(back_end: BackEnd) -> None:
    reader = follow(back_end, make_run(back_end))
    assert reader.step()
    assert reader.row["status"] == "PENDING"


def test_a_waiting_reader_hears_at_once(back_end: BackEnd) -> None:
    run_id = make_run(back_end)
    reader = follow(back_end, run_id).sync()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(reader.live)
        time.sleep(0.3)
        began = time.monotonic()
        update_run(back_end, run_id, "status = 'CANCELED'")
        assert waiting.result()
    assert time.monotonic() - began < 1.5
    assert reader.row["status"] == "CANCELED"


def test_a_quiet_poll_is_held_and_then_answered(back_end: BackEnd) -> None:
    reader = follow(back_end, make_run(back_end)).sync()
    before = reader.cursor
    began = time.monotonic()
    assert reader.live()
    assert time.monotonic() - began >= 1.9
    assert reader.changes == []
    assert reader.cursor != before


def test_after_a_pause_a_reader_goes_on_without_waiting(back_end: BackEnd) -> None:
    run_id = make_run(back_end)
    reader = follow(back_end, run_id).sync()
    update_run(back_end, run_id, "status = 'EXECUTING'")
    # Not live, with cursor, handle and offset; `RunReader` checks that there is a schema.
    while reader.row["status"] != "EXECUTING":
        assert reader.step()
    began = time.monotonic()
    assert reader.step()
    assert time.monotonic() - began < 1.5


# -- the end ---------------------------------------------------------------------------------------


def test_the_answer_of_a_run_that_is_over_can_be_kept(back_end: BackEnd) -> None:
    run_id = make_run(back_end)
    update_run(back_end, run_id, "status = 'FAILED', error = '{\"message\": \"boom\"}'")
    reader = follow(back_end, run_id).sync()
    assert json.loads(reader.row["error"])["type"] in ("BUILT_IN_ERROR", "STRING_ERROR")
    assert reader.last is not None
    headers = reader.last.headers
    assert headers["cache-control"] == "private, no-cache"
    assert "authorization" in headers["vary"].lower()
    again = get(
        back_end.url,
        f"{RUNS}/{run_id}",
        headers={**VERSIONS, "if-none-match": headers["etag"]},
    )
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["cache-control"] == "private, no-cache"


def test_a_run_that_is_tried_again_is_seen_at_once(back_end: BackEnd) -> None:
    run_id = make_run(back_end)
    update_run(back_end, run_id, "status = 'FAILED'")
    first = follow(back_end, run_id).sync()
    assert first.last is not None
    update_run(back_end, run_id, "status = 'QUEUED'")
    tag = {**VERSIONS, "if-none-match": first.last.headers["etag"]}
    deadline = time.monotonic() + 20
    while get(back_end.url, f"{RUNS}/{run_id}", headers=tag).status_code == 304:
        assert time.monotonic() < deadline
    second = follow(back_end, run_id).sync()
    assert (second.row["status"], second.row["completedAt"]) == ("PENDING", None)
    assert second.last is not None
    assert second.last.headers["cache-control"] == "no-store"


def test_who_stays_after_the_end_is_held(back_end: BackEnd) -> None:
    run_id = make_run(back_end)
    update_run(back_end, run_id, "status = 'COMPLETED'")
    reader = follow(back_end, run_id).sync()
    began = time.monotonic()
    assert reader.live()
    assert time.monotonic() - began >= 1.9
    update_run(back_end, run_id, "metadata = '{\"late\": true}'")
    assert reader.live()
    assert reader.row["metadata"] == '{"late": true}'


# -- what is not there -----------------------------------------------------------------------------


def test_a_run_that_is_not_there(back_end: BackEnd) -> None:
    answer = get(back_end.url, f"{RUNS}/run_nowhere")
    assert answer.status_code == 404
    assert answer.json() == {"error": "Not found"}
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "x-should-retry" in answer.headers["access-control-expose-headers"]


def test_a_run_is_found_as_soon_as_it_is_committed(back_end: BackEnd) -> None:
    for _ in range(10):
        assert follow(back_end, make_run(back_end)).sync().row["status"] == "PENDING"


def test_a_run_of_another_environment_is_not_there(back_end: BackEnd) -> None:
    run_id = make_run(back_end, environment_id="other")
    assert get(back_end.url, f"{RUNS}/{run_id}").status_code == 404
    assert follow(back_end, run_id, key=OTHER_KEY).sync().row["friendlyId"] == run_id


def test_who_goes_on_is_never_told_that_it_is_gone(back_end: BackEnd) -> None:
    run_id = make_run(back_end)
    reader = follow(back_end, run_id).sync()
    back_end.db.run("delete from pgtide.runs where id = %s", run_id)
    assert reader.live()
    assert reader.deleted == [run_id]
    assert reader.live()
    assert reader.last is not None
    handle = reader.last.headers["electric-handle"]
    # Told to start over, as after a 409.
    again = get(back_end.url, f"{RUNS}/{run_id}", handle=handle, expired_handle=handle)
    assert again.status_code == 200
    assert get(back_end.url, f"{RUNS}/{run_id}").status_code == 404


# -- handles and offsets that nobody knows ---------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        {"offset": "0_0", "handle": "h-1"},
        {"offset": "999999999999_0", "handle": "3-4"},
        {"offset": "0_0"},
        {"offset": "last", "handle": "h-1"},
        {"offset": "99999999999999999999999_0", "handle": "h-1"},
        {"offset": "0_0", "handle": "h-1", "live": "true", "cursor": ""},
    ],
    ids=str,
)
def test_unknown_positions_start_over(back_end: BackEnd, query: dict[str, str]) -> None:
    run_id = make_run(back_end)
    answer = get(back_end.url, f"{RUNS}/{run_id}", query)
    assert answer.status_code == 409
    assert answer.json() == [{"headers": {"control": "must-refetch"}}]
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["cache-control"] == "no-store"
    handle = answer.headers["electric-handle"]
    assert handle != query.get("handle")
    assert answer.headers["access-control-allow-origin"] == "*"
    reader = follow(back_end, run_id, expired_handle=query.get("handle", "")).sync()
    assert reader.row["friendlyId"] == run_id


def test_an_offset_ahead_of_everything_starts_over(back_end: BackEnd) -> None:
    run_id = make_run(back_end)
    reader = follow(back_end, run_id).sync()
    assert reader.last is not None
    handle = reader.last.headers["electric-handle"]
    answer = get(back_end.url, f"{RUNS}/{run_id}", handle=handle, offset="9999999999999_0")
    assert answer.status_code == 409
    assert answer.json() == [{"headers": {"control": "must-refetch"}}]
    assert answer.headers["electric-handle"] != handle


# -- what a request may say, and what it may not ---------------------------------------------------


def test_nothing_of_the_shape_is_taken_from_the_query(back_end: BackEnd) -> None:
    run_id = make_run(back_end)
    reader = follow(
        back_end,
        run_id,
        table="pgtide.batches",
        where="1=1",
        columns="id",
        replica="full",
        live_sse="true",
        experimental_live_sse="true",
        subset__limit="1",
        secret="nothing",
        tasks="x",
        whatever="y",
    ).sync()
    assert reader.row["status"] == "PENDING"
    update_run(back_end, run_id, "status = 'EXECUTING'")
    assert reader.live()
    assert "taskIdentifier" not in reader.changes[0]["value"]


def test_skipped_columns(back_end: BackEnd) -> None:
    run_id = make_run(back_end, payload='{"a": 1}')
    skipped = "payload, output,nonsense,id,status,updatedAt,createdAt,friendlyId,taskIdentifier"
    reader = follow(back_end, run_id, skipColumns=skipped).sync()
    assert not {"payload", "output"} & reader.schema.keys()
    assert {"id", "friendlyId", "status", "updatedAt", "createdAt"} <= reader.row.keys()
    update_run(back_end, run_id, "output = '1', status = 'EXECUTING'")
    assert reader.live()
    assert "output" not in reader.changes[0]["value"]
    assert reader.row["status"] == "EXECUTING"


def test_a_tokens_columns_take_the_place_of_the_querys(back_end: BackEnd) -> None:
    run_id = make_run(back_end, payload="secret")
    token = public_token(
        KEY, [f"read:runs:{run_id}"], realtime={"skipColumns": ["payload", "metadata"]}
    )
    reader = follow(back_end, run_id, key=token, skipColumns="runTags").sync()
    assert not {"payload", "metadata"} & reader.schema.keys()
    assert "runTags" in reader.schema
    update_run(back_end, run_id, "payload = 'more', status = 'EXECUTING'")
    assert reader.live()
    assert "payload" not in reader.changes[0]["value"]


def test_clients_from_before_there_were_dequeued_runs(back_end: BackEnd) -> None:
    run_id = make_run(back_end, status="DEQUEUED")
    assert follow(back_end, run_id).sync().row["status"] == "DEQUEUED"
    version = {"x-trigger-electric-version": "1.0.0-beta.1"}
    answer = get(back_end.url, f"{RUNS}/{run_id}", headers=version)
    assert answer.json()[0]["value"]["status"] == "EXECUTING"


def test_clients_that_know_the_older_names(back_end: BackEnd) -> None:
    run_id = make_run(back_end)
    path = f"{RUNS}/{run_id}"
    first = get(back_end.url, path, headers={})
    assert first.status_code == 200
    assert {"electric-shape-id", "electric-chunk-last-offset"} <= first.headers.keys()
    assert not {"electric-handle", "electric-offset"} & first.headers.keys()
    update_run(back_end, run_id, "status = 'EXECUTING'")
    second = get(
        back_end.url,
        path,
        headers={},
        shape_id=first.headers["electric-shape-id"],
        offset=first.headers["electric-chunk-last-offset"],
        live="true",
    )
    assert second.json()[0]["value"]["status"] == "EXECUTING"
    refused = get(back_end.url, path, headers={}, shape_id="x", offset="0_0")
    assert refused.status_code == 409
    assert "electric-shape-id" in refused.headers


# -- who may read ----------------------------------------------------------------------------------


def test_a_grant_for_something_that_the_run_has(back_end: BackEnd) -> None:
    run_id = make_run(back_end, tags=["a", "b,c"], batch_id="batch_x", task="my/task")
    for scope in ("tags:a", "tags:b,c", "batch:batch_x", "tasks:my/task", f"runs:{run_id}"):
        token = public_token(KEY, [f"read:{scope}"])
        reader = follow(back_end, run_id, key=token).sync()
        assert reader.row["friendlyId"] == run_id, scope
    for scope in ("tags:c", "batch:batch_y", "tasks:other", "runs:run_other", "waitpoints"):
        token = public_token(KEY, [f"read:{scope}"])
        answer = get(back_end.url, f"{RUNS}/{run_id}", key=token)
        assert answer.status_code == 403, scope


def test_a_run_that_leaves_the_grant_is_not_shown_any_more(back_end: BackEnd) -> None:
    run_id = make_run(back_end, tags=["team:1"])
    token = public_token(KEY, ["read:tags:team:1"])
    reader = follow(back_end, run_id, key=token).sync()
    assert reader.row["status"] == "PENDING"
    update_run(back_end, run_id, "tags = '{team:2}', payload = 'for team 2'")
    assert reader.live()
    assert reader.deleted == [run_id]
    assert reader.last is not None
    assert "team 2" not in reader.last.text
    update_run(back_end, run_id, "metadata = '{\"secret\": 1}'")
    assert reader.live()
    assert reader.changes == []
    assert get(back_end.url, f"{RUNS}/{run_id}", key=token).status_code == 403
    update_run(back_end, run_id, "tags = '{team:1,team:2}'")
    assert reader.live()
    # It is back, whole.
    assert reader.changes[0]["headers"]["operation"] == "insert"
    assert reader.row["metadata"] == '{"secret": 1}'


def test_a_handle_opens_nothing_beyond_the_grant(back_end: BackEnd) -> None:
    run_id = make_run(back_end, tags=["mine"])
    owner = follow(back_end, run_id).sync()
    assert owner.last is not None
    handle = owner.last.headers["electric-handle"]
    token = public_token(KEY, ["read:tags:theirs"])
    answer = get(back_end.url, f"{RUNS}/{run_id}", key=token, handle=handle, offset="0_0")
    assert answer.status_code == 409
    assert answer.headers["electric-handle"] != handle
    narrowed = get(
        back_end.url,
        f"{RUNS}/{run_id}",
        key=token,
        handle=answer.headers["electric-handle"],
        offset="-1",
    )
    assert narrowed.status_code == 200
    assert [one for one in narrowed.json() if "value" in one] == []


def test_polls_ask_postgres_nothing(back_end: BackEnd) -> None:
    token = public_token(KEY, ["read:tags:quiet"])
    run_id = make_run(back_end, tags=["quiet"])
    reader = follow(back_end, run_id, key=token).sync()
    # The primary refuses to look into the table: a question would be noticed.
    with back_end.db.transaction() as connection:
        connection.execute("lock table pgtide.runs in access exclusive mode")
        began = time.monotonic()
        assert reader.live()
        assert reader.step()
        assert time.monotonic() - began < 4


def test_a_head_request(back_end: BackEnd) -> None:
    run_id = make_run(back_end)
    with httpx.Client(verify=UNUSED_TLS) as http:
        answer = http.head(
            f"{back_end.url}{RUNS}/{run_id}?offset=-1", headers=bearer(KEY) | VERSIONS
        )
    assert (answer.status_code, answer.content) == (200, b"")
    assert "electric-handle" in answer.headers
