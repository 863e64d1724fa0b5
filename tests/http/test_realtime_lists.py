"""Following runs by their tags and by their batch."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor

import pytest
from access_tokens import public_token
from back_ends import KEY, OTHER_KEY, BackEnd
from run_reader import RunReader, get, make_run, update_run

RUNS = "/realtime/v1/runs"
BATCHES = "/realtime/v1/batches"


def tagged(back_end: BackEnd, tags: str, **how: str) -> RunReader:
    return RunReader(back_end.url, RUNS, tags=tags, **how)


@pytest.fixture
def tag() -> str:
    """Of this test alone."""
    return f"test:{secrets.token_hex(6)}"


# -- tags ------------------------------------------------------------------------------------------


def test_all_tags_have_to_be_there(back_end: BackEnd, tag: str) -> None:
    both = make_run(back_end, tags=[tag, "a b"])
    make_run(back_end, tags=[tag])
    make_run(back_end, tags=["a b"])
    reader = tagged(back_end, f"{tag},a b").sync()
    assert set(reader.runs) == {both}
    assert set(tagged(back_end, f" a b , {tag}").sync().runs) == {both}


def test_a_run_that_gains_a_tag_comes_whole(back_end: BackEnd, tag: str) -> None:
    reader = tagged(back_end, tag).sync()
    assert reader.rows == {}
    run_id = make_run(back_end, payload="here from the beginning")
    update_run(back_end, run_id, f"tags = '{{{tag}}}'")
    assert reader.live()
    (change,) = reader.changes
    assert change["headers"]["operation"] == "insert"
    assert reader.runs[run_id]["payload"] == "here from the beginning"
    update_run(back_end, run_id, "tags = '{}'")
    assert reader.live()
    assert reader.deleted == [run_id]


def test_new_runs_come(back_end: BackEnd, tag: str) -> None:
    reader = tagged(back_end, tag).sync()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(reader.live)
        run_id = make_run(back_end, tags=[tag])
        assert waiting.result()
    assert set(reader.runs) == {run_id}
    assert reader.last is not None
    assert reader.last.headers["cache-control"] == "no-store"


def test_no_tag_is_every_run_of_the_environment(back_end: BackEnd) -> None:
    ours = make_run(back_end, environment_id="other")
    theirs = make_run(back_end)
    reader = RunReader(back_end.url, RUNS, key=OTHER_KEY).sync()
    assert ours in reader.runs
    assert theirs not in reader.runs


@pytest.mark.parametrize("tags", ["", "a,,b", "a\x01", 'a"b', "a\\b", "a\x7f", " , "], ids=repr)
def test_tags_that_are_refused(back_end: BackEnd, tags: str) -> None:
    answer = get(back_end.url, RUNS, tags=tags)
    assert answer.status_code == 400
    assert answer.json()["error"] == "Query Error"
    assert answer.headers["access-control-allow-origin"] == "*"


def test_tags_with_anything_else_in_them(back_end: BackEnd, tag: str) -> None:
    odd = f"{tag} {{ü}} 'x' $1 %"
    run_id = make_run(back_end, tags=[odd])
    assert set(tagged(back_end, odd).sync().runs) == {run_id}


def test_the_window(back_end: BackEnd, tag: str) -> None:
    young = make_run(back_end, tags=[tag])
    old = make_run(back_end, tags=[tag], created_at="2026-01-01")
    back_end.db.run(
        "update pgtide.runs set created_at = now() - interval '3 hours' where id = %s", old
    )
    ancient = make_run(back_end, tags=[tag], created_at="2001-01-01")
    for look_back, expected in (
        ("1h", {young}),
        ("1h30m", {young}),
        ("4h", {young, old}),
        ("24h", {young, old}),
        ("nonsense", {young, old}),
        ("2000000h " * 20, {young, old}),
        ("2600w", {young, old, ancient}),
    ):
        reader = tagged(back_end, tag, createdAt=look_back).sync()
        assert set(reader.runs) == expected, look_back
    assert set(tagged(back_end, tag).sync().runs) == {young, old}


def test_equal_requests_share_a_shape(back_end: BackEnd, tag: str) -> None:
    make_run(back_end, tags=[tag, "z"])
    handles = {
        get(back_end.url, RUNS, query).headers["electric-handle"]
        for query in (
            {"tags": f"{tag},z", "createdAt": "24h"},
            {"tags": f"z,{tag}"},
            {"tags": f"{tag},z,z", "createdAt": "1d", "skipColumns": "nonsense"},
        )
    }
    assert len(handles) == 1


def test_who_may_read_a_list(back_end: BackEnd, tag: str) -> None:
    run_id = make_run(back_end, tags=[tag, "x"])
    for scope in ("runs", "tags", f"tags:{tag}", "all"):
        token = public_token(KEY, [f"read:{scope}"])
        assert set(tagged(back_end, f"{tag},x", key=token).sync().runs) == {run_id}, scope
    for scope in (f"runs:{run_id}", "tags:other", "tasks:resize", "batch"):
        token = public_token(KEY, [f"read:{scope}"])
        answer = get(back_end.url, RUNS, key=token, tags=f"{tag},x")
        assert answer.status_code == 403, scope
    token = public_token(KEY, [f"read:tags:{tag}"])
    assert get(back_end.url, RUNS, key=token).status_code == 403


# -- batches ---------------------------------------------------------------------------------------


def test_the_runs_of_a_batch(back_end: BackEnd) -> None:
    ((batch_id,),) = back_end.db.run("insert into pgtide.batches default values returning id")
    reader = RunReader(back_end.url, f"{BATCHES}/{batch_id}").sync()
    assert reader.rows == {}
    ours = {make_run(back_end, batch_id=batch_id) for _ in range(3)}
    make_run(back_end, batch_id="another")
    while len(reader.runs) < 3:
        assert reader.live()
    assert set(reader.runs) == ours
    for run_id in ours:
        update_run(back_end, run_id, "status = 'COMPLETED'")
    while any(row["completedAt"] is None for row in reader.runs.values()):
        assert reader.live()


def test_a_batch_that_only_its_runs_know(back_end: BackEnd) -> None:
    batch_id = f"batch_{secrets.token_hex(6)}"
    path = f"{BATCHES}/{batch_id}"
    answer = get(back_end.url, path)
    assert (answer.status_code, answer.headers["x-should-retry"]) == (404, "true")
    run_id = make_run(back_end, batch_id=batch_id)
    token = public_token(KEY, [f"read:batch:{batch_id}"])
    for key in (KEY, token, public_token(KEY, ["read:runs"])):
        assert set(RunReader(back_end.url, path, key=key).sync().runs) == {run_id}
    assert get(back_end.url, path, key=OTHER_KEY).status_code == 404
    token = public_token(KEY, ["read:batch:other", f"read:runs:{run_id}"])
    assert get(back_end.url, path, key=token).status_code == 403
