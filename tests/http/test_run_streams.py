"""Reading the streams of runs."""

from __future__ import annotations

import json
import time

import httpx
import pytest
from back_ends import OTHER_KEY, BackEnd
from raw import connected
from stream_reader import STREAMS, reading


def append(back_end: BackEnd, run: str, key: str, *messages: object) -> None:
    """Each as an append of its own."""
    for message in messages:
        path = f"runs/{run}/{key}"
        back_end.db.run("select pgtide.append(%s, %s::jsonb)", path, json.dumps(message))


def finish(back_end: BackEnd, run: str) -> None:
    back_end.db.run("update pgtide.runs set status = 'COMPLETED' where id = %s", run)


def test_what_there_is_and_what_comes_until_the_run_is_over(back_end: BackEnd) -> None:
    run = back_end.run()
    first = [{"token": "Hel"}, "a\nb", 1.5, None, [1, [2]], "ü\u2028🐌", True]
    append(back_end, run, "ai", *first)
    before = time.time() * 1000
    with reading(back_end, f"{run}/ai") as reader:
        headers = reader.response.headers
        assert (reader.status, headers["x-stream-version"]) == (200, "v2")
        assert headers["content-type"] == "text/event-stream"
        assert "no-cache" in headers["cache-control"] or "no-store" in headers["cache-control"]
        records = reader.take(len(first))
        assert [record.data for record in records] == first
        assert [record.number for record in records] == list(range(len(first)))
        assert len({record.id for record in records}) == len(first)
        assert all(abs(record.timestamp - before) < 60_000 for record in records)
        append(back_end, run, "ai", "live")
        (live,) = reader.take(1)
        assert (live.number, live.data) == (len(first), "live")
        append(back_end, run, "ai", "last")
        finish(back_end, run)
        assert [record.data for record in reader.rest()] == ["last"]
        assert reader.reason == "finished"
    with reading(back_end, f"{run}/ai") as reader:
        assert [record.data for record in reader.rest()] == [*first, "live", "last"]


def test_what_was_rolled_back_is_never_seen(back_end: BackEnd) -> None:
    run = back_end.run()
    with reading(back_end, f"{run}/ai") as reader:
        with back_end.db.transaction() as transaction:
            transaction.execute("select pgtide.append(%s, '1'::jsonb)", (f"runs/{run}/ai",))
            transaction.rollback()
        append(back_end, run, "ai", 2)
        assert [record[:2] for record in reader.take(1)] == [(0, 2)]


def test_resuming(back_end: BackEnd) -> None:
    run = back_end.run()
    append(back_end, run, "ai", *range(5))
    finish(back_end, run)
    for given, expected in (
        ("0", [1, 2, 3, 4]),
        ("3", [4]),
        ("4", []),
        ("1700000000000-0", [0, 1, 2, 3, 4]),
        ("", [0, 1, 2, 3, 4]),
    ):
        with reading(back_end, f"{run}/ai", {"last-event-id": given}) as reader:
            assert [record.data for record in reader.rest()] == expected, given
    for given in ("x", "-1", "1.5", "9" * 30, "1-2-3"):
        with reading(back_end, f"{run}/ai", {"last-event-id": given}) as reader:
            assert reader.status == 400
    with reading(back_end, f"{run}/ai", {"x-trigger-stream-start": "latest"}) as reader:
        assert [record.number for record in reader.rest()] == [4]


def test_from_beyond_the_end_on(back_end: BackEnd) -> None:
    run = back_end.run()
    append(back_end, run, "ai", 0, 1)
    with reading(back_end, f"{run}/ai", {"last-event-id": "3"}) as reader:
        append(back_end, run, "ai", 2, 3, 4)
        assert [record[:2] for record in reader.take(1)] == [(4, 4)]


def test_the_latest_and_what_comes(back_end: BackEnd) -> None:
    run = back_end.run()
    append(back_end, run, "ai", *range(3))
    with (
        reading(back_end, f"{run}/ai", {"x-trigger-stream-start": "latest"}) as reader,
        reading(back_end, f"{run}/none", {"x-trigger-stream-start": "latest"}) as waiting,
    ):
        append(back_end, run, "ai", 3)
        append(back_end, run, "none", "first", "second")
        assert reader.messages(2) == [2, 3]
        assert waiting.messages(2) == ["first", "second"]


def test_several_messages_in_one_append(back_end: BackEnd) -> None:
    """As other clients of streams write them."""
    run = back_end.run()
    messages = [{"a": "x,y"}, "]", [1, 2], "last"]
    answer = back_end.ask(
        "PUT", f"/v1/stream/runs/{run}/ai", messages, {"content-type": "application/json"}
    )
    assert answer.status_code == 201
    finish(back_end, run)
    with reading(back_end, f"{run}/ai") as reader:
        assert [record[:2] for record in reader.rest()] == list(enumerate(messages))
    with reading(back_end, f"{run}/ai", {"last-event-id": "1"}) as reader:
        assert [record[:2] for record in reader.rest()] == [(2, [1, 2]), (3, "last")]


def test_text_that_is_no_json(back_end: BackEnd) -> None:
    run = back_end.run()
    for text in ("com", "piling…\n"):
        back_end.db.run("select pgtide.append(%s, %s::text)", f"runs/{run}/log", text)
    finish(back_end, run)
    with reading(back_end, f"{run}/log") as reader:
        assert [record.data for record in reader.rest()] == ["com", "piling…\n"]


def test_streams_that_nobody_has_written_yet(back_end: BackEnd) -> None:
    run, other = back_end.run(), back_end.run()
    before = back_end.db.run("select count(*) from pgtide.streams")
    with (
        reading(back_end, f"{run}/a") as one,
        reading(back_end, f"{run}/a") as same,
        reading(back_end, f"{run}/b/c") as two,
        reading(back_end, f"{other}/a") as three,
        reading(back_end, f"{run}/never") as never,
        reading(back_end, f"{run}/fork") as fork,
    ):
        assert {reader.status for reader in (one, same, two, three, never)} == {200}
        # Readers make nothing.
        assert back_end.db.run("select count(*) from pgtide.streams") == before
        append(back_end, run, "a", 1)
        append(back_end, run, "b/c", 2)
        append(back_end, other, "a", 3)
        assert [reader.messages(1) for reader in (one, same, two, three)] == [[1], [1], [2], [3]]
        source = {"stream-forked-from": f"/v1/stream/runs/{run}/a"}
        answer = back_end.ask("PUT", f"/v1/stream/runs/{run}/fork", None, source)
        assert answer.status_code == 201
        assert fork.messages(1) == [1]
        append(back_end, run, "fork", "own")
        assert fork.messages(1) == ["own"]
        finish(back_end, run)
        for reader in (one, two, never):
            assert reader.rest() == []
            assert reader.reason == "finished"
    with reading(back_end, f"{run}/never") as reader:
        assert (reader.rest(), reader.reason) == ([], "finished")


def test_silence(back_end: BackEnd) -> None:
    run = back_end.run()
    append(back_end, run, "ai", 1)
    with (
        reading(back_end, f"{run}/ai", {"timeout-seconds": "1"}) as reader,
        reading(back_end, f"{run}/none", {"timeout-seconds": "1"}) as waiting,
    ):
        assert [record.data for record in reader.rest()] == [1]
        assert waiting.rest() == []
        assert (reader.reason, waiting.reason) == ("idle", "idle")
    for given in ("0", "601", "-1", "1.5", "x", "", "1e2"):
        answer = back_end.ask("GET", f"{STREAMS}/{run}/ai", None, {"timeout-seconds": given})
        assert answer.status_code == 400, given
        assert answer.headers["content-type"].startswith("text/plain")


def test_what_has_been_dropped(back_end: BackEnd) -> None:
    run = back_end.run()
    append(back_end, run, "ai", *range(5))
    finish(back_end, run)
    back_end.db.run(
        "with gone as (update pgtide.streams set head = 2 where path = %s returning id)"
        " delete from pgtide.stream_chunks where position < 2 and stream_id = (select id from gone)",
        f"runs/{run}/ai",
    )
    for given, status in (("0", 410), ("1", 200)):
        with reading(back_end, f"{run}/ai", {"last-event-id": given}) as reader:
            assert reader.status == status
    with reading(back_end, f"{run}/ai") as reader:
        assert [record[:2] for record in reader.rest()] == [(2, 2), (3, 3), (4, 4)]


def test_names(back_end: BackEnd) -> None:
    run = back_end.run()
    for key, path in (
        ("a/b/c", "a/b/c"),
        ("ä ö", "%C3%A4%20%C3%B6"),
        ("self-portrait", "self-portrait"),
        ("x/self/y", "x/self/y"),
        ("50%", "50%25"),
    ):
        append(back_end, run, key, key)
        with reading(back_end, f"{run}/{path}") as reader:
            assert reader.messages(1) == [key]
    for path in ("self", "input", "parent", "root", "a%2Fb", "a//b", "../x", "a/.", "%2e", ""):
        with connected(back_end.url) as connection:
            head = f"GET {STREAMS}/{run}/{path} HTTP/1.1\r\n"
            head += f"authorization: Bearer {back_end.key}\r\n\r\n"
            connection.send(head.encode())
            assert connection.answer().status == 404, path
    assert back_end.ask("GET", f"{STREAMS}/{run}/self/x").status_code == 405


def test_runs_that_are_not_there(back_end: BackEnd) -> None:
    run = back_end.run()
    for path, one in (
        ("run_nothing/ai", back_end),
        (f"{run}x/ai", back_end),
        (f"{run}/ai", back_end.with_key(OTHER_KEY)),
        (f"{run}/ai", back_end.with_key(OTHER_KEY).token("read:runs")),
    ):
        with reading(one, path) as reader:
            assert reader.status == 404
    for token in (back_end.token("read:runs:x"), back_end.token(f"write:runs:{run}")):
        for path in (f"{run}/ai", "run_nothing/ai"):
            with reading(token, path) as reader:
                assert reader.status == 403


def test_a_reader_whose_token_ends_is_cut_off(back_end: BackEnd) -> None:
    """The end of the answer would be the end of the stream."""
    run = back_end.run()
    token = back_end.token(f"read:runs:{run}", expirationTime=int(time.time()) + 2)
    append(back_end, run, "ai", 1)
    with reading(token, f"{run}/ai") as reader, reading(token, f"{run}/none") as waiting:
        assert reader.messages(1) == [1]
        for one in (reader, waiting):
            with pytest.raises(httpx.RemoteProtocolError):
                one.rest()


def test_head_requests_do_not_last(back_end: BackEnd) -> None:
    run = back_end.run()
    answer = back_end.ask("HEAD", f"{STREAMS}/{run}/ai")
    assert (answer.status_code, answer.headers["x-stream-version"]) == (200, "v2")
