"""Writing to the streams of runs as Trigger.dev's packages do, and sending something to runs."""

from __future__ import annotations

import json
import secrets
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from back_ends import OTHER_KEY, BackEnd
from raw import RawConnection, connected
from stream_reader import STREAMS, reading

from bench.nginx import open_nginx

LINE_BYTES = 1 << 20


def stored(back_end: BackEnd, run: str, key: str) -> list[Any]:
    """What was appended, message by message (here each is one append)."""
    rows = back_end.db.run(
        "select convert_from(data, 'utf8'), messages from pgtide.stream_chunks"
        " where stream_id = (select id from pgtide.streams where path = %s) order by position",
        f"runs/{run}/{key}",
    )
    return [message for data, _ in rows for message in json.loads(f"[{data}]")]


def send(
    back_end: BackEnd,
    path: str,
    lines: Iterable[object],
    client: str | None,
    start: int | None = None,
    **headers: str,
) -> httpx.Response:
    """NDJSON in one piece."""
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if client is not None:
        sent["x-client-id"] = client
    if start is not None:
        sent["x-resume-from-chunk"] = str(start)
    return back_end.ask("POST", f"{STREAMS}/{path}", text, sent)


def last_index(back_end: BackEnd, path: str, client: str) -> int:
    answer = back_end.ask("HEAD", f"{STREAMS}/{path}", None, {"x-client-id": client})
    assert answer.status_code == 200
    return int(answer.headers["x-last-chunk-index"])


@contextmanager
def ingesting(back_end: BackEnd, path: str, client: str) -> Generator[RawConnection]:
    """A request whose body is sent in chunks."""
    with connected(back_end.url) as connection:
        connection.send(
            (
                f"POST {STREAMS}/{path} HTTP/1.1\r\nhost: pgtide\r\n"
                f"authorization: Bearer {back_end.key}\r\n"
                f"x-client-id: {client}\r\nx-resume-from-chunk: 0\r\n"
                "transfer-encoding: chunked\r\n\r\n"
            ).encode()
        )
        yield connection


def chunk(text: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(text), text)


def client_id() -> str:
    return secrets.token_hex(4)


def test_a_stream_is_named_by_its_run_once(back_end: BackEnd) -> None:
    run = back_end.run(realtime_streams=["other"])

    def put(key: str) -> httpx.Response:
        return back_end.ask("PUT", f"{STREAMS}/{run}/self/{key}")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(put, ["ai", "a/b"] * 8))
    assert {answer.status_code for answer in answers} == {202}
    assert {answer.text for answer in answers} == {'{"version":"v1"}'}
    send(back_end, f"{run}/self/written", [1], client_id())
    back_end.ask("POST", f"{STREAMS}/{run}/self/appended/append", b"x")
    found = back_end.db.run("select realtime_streams from pgtide.runs where id = %s", run)
    assert sorted(found[0][0]) == ["a/b", "ai", "appended", "other", "written"]
    updated = "select updated_at from pgtide.runs where id = %s"
    before = back_end.db.run(updated, run)
    back_end.ask("PUT", f"{STREAMS}/{run}/self/ai")
    assert back_end.db.run(updated, run) == before


def test_lines_are_stored_as_they_come(back_end: BackEnd) -> None:
    run, client = back_end.run(), client_id()
    with (
        reading(back_end, f"{run}/ai") as reader,
        ingesting(back_end, f"{run}/self/ai", client) as writer,
    ):
        for pieces, expected in (
            ((b'"one"\n',), ["one"]),
            ((b'{"a":', b'"', "ü".encode()[:1], "ü".encode()[1:] + b'"}', b"\n"), [{"a": "ü"}]),
            ((b"1\n2\n\n  \n3\n[4", b",5]\r\n"), [1, 2, 3, [4, 5]]),
            ((b'undefined\n{"x":1},2\n{\n',), ["undefined", '{"x":1},2', "{"]),
        ):
            for piece in pieces:
                writer.send(chunk(piece))
            assert reader.messages(len(expected)) == expected
        assert last_index(back_end, f"{run}/self/ai", client) == 8
        # The last line needs no end.
        writer.send(chunk(b'"last"') + b"0\r\n\r\n")
        answer = writer.answer()
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["x-last-chunk-index"] == "9"
        assert reader.messages(1) == ["last"]


def test_nginx_passes_lines_on_as_they_come(
    back_end: BackEnd, nginx_program: str, tmp_path: Path
) -> None:
    run, port = back_end.run(), urlsplit(back_end.url).port
    assert port is not None
    with open_nginx(tmp_path, port) as nginx:
        front = replace(back_end, url=nginx.url)
        with (
            reading(front, f"{run}/ai") as reader,
            ingesting(front, f"{run}/self/ai", client_id()) as writer,
        ):
            for number in range(3):
                writer.send(chunk(b"%d\n" % number))
                assert reader.messages(1) == [number]
            writer.send(b"0\r\n\r\n")
            assert writer.head()[0] == 200


def test_lines_that_come_again_are_left_out(back_end: BackEnd) -> None:
    run, one, other = back_end.run(), client_id(), client_id()
    path = f"{run}/self/ai"
    assert last_index(back_end, path, one) == -1
    assert send(back_end, path, ["a0", "a1", "a2"], one).status_code == 200
    assert last_index(back_end, path, one) == 2
    assert send(back_end, path, ["b0"], other, 0).status_code == 200
    for start in (0, 1, 3):
        again = ["a0", "a1", "a2", "a3", "a4"][start:]
        answer = send(back_end, path, again, one, start)
        assert (answer.status_code, answer.headers["x-last-chunk-index"]) == (200, "4")
    assert last_index(back_end, path, other) == 0
    assert stored(back_end, run, "ai") == ["a0", "a1", "a2", "b0", "a3", "a4"]
    # Who tells no name is not recognised.
    for _ in range(2):
        assert send(back_end, path, ["c"], None).status_code == 200
    assert stored(back_end, run, "ai")[-2:] == ["c", "c"]


def test_what_is_missing_in_between(back_end: BackEnd) -> None:
    """The packages ask where they are after a 503, and go on from there."""
    run, client = back_end.run(), client_id()
    path = f"{run}/self/ai"
    send(back_end, path, [0], client)
    answer = send(back_end, path, [5], client, 5)
    assert (answer.status_code, answer.headers["x-last-chunk-index"]) == (503, "0")
    answer = send(back_end, path, [5], client, 5, x_producer_epoch="0")
    assert (answer.status_code, answer.headers["x-last-chunk-index"]) == (409, "0")
    assert stored(back_end, run, "ai") == [0]


def test_whoever_has_a_higher_epoch_takes_over(back_end: BackEnd) -> None:
    run, client = back_end.run(), client_id()
    path = f"{run}/self/ai"
    send(back_end, path, [0, 1], client, x_producer_epoch="1")
    claim = send(back_end, path, [], client, x_producer_epoch="2")
    assert (claim.status_code, claim.headers["x-last-chunk-index"]) == (200, "1")
    for epoch in ("0", "1"):
        late = send(back_end, path, [2], client, 2, x_producer_epoch=epoch)
        assert (late.status_code, late.headers["x-producer-epoch"]) == (409, "2")
    assert send(back_end, path, [2], client, 2).status_code == 409
    assert send(back_end, path, [1, "two"], client, 1, x_producer_epoch="2").status_code == 200
    assert stored(back_end, run, "ai") == [0, 1, "two"]


def test_writers_side_by_side(back_end: BackEnd) -> None:
    run = back_end.run()
    clients = [client_id() for _ in range(6)]

    def write(client: str) -> None:
        for start in range(0, 60, 20):
            lines = [[client, index] for index in range(start, start + 20)]
            for _ in range(2):
                assert send(back_end, f"{run}/self/ai", lines, client, start).status_code == 200

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, clients))
    back_end.db.run("update pgtide.runs set status = 'COMPLETED' where id = %s", run)
    with reading(back_end, f"{run}/ai") as reader:
        records = reader.rest()
    assert [record.number for record in records] == list(range(360))
    for client in clients:
        assert [data[1] for _, data, *_ in records if data[0] == client] == list(range(60))


def test_long_lines(back_end: BackEnd) -> None:
    run = back_end.run()
    longest = "x" * (LINE_BYTES - 2)
    assert send(back_end, f"{run}/self/ai", [longest, 1], client_id()).status_code == 200
    answer = send(back_end, f"{run}/self/ai", [longest + "x"], client_id())
    assert answer.status_code == 413
    assert stored(back_end, run, "ai") == [longest, 1]
    with reading(back_end, f"{run}/ai") as reader:
        assert reader.messages(2) == [longest, 1]


def test_bodies_that_are_longer_than_others_may_be(back_end: BackEnd) -> None:
    run, client = back_end.run(), client_id()
    line = b'"%b"\n' % (b"x" * 99_997)
    with ingesting(back_end, f"{run}/self/ai", client) as writer:
        for _ in range(140):
            writer.send(chunk(line))
        writer.send(b"0\r\n\r\n")
        assert writer.answer().status == 200
    assert last_index(back_end, f"{run}/self/ai", client) == 139


def test_appending_texts(back_end: BackEnd) -> None:
    run = back_end.run()
    path = f"{STREAMS}/{run}/self/a/b/append"
    for text in ("hello", '{"a": 1}', "", "ü\n", '"'):
        answer = back_end.ask("POST", path, text.encode(), {"content-type": "application/json"})
        assert (answer.status_code, answer.json()) == (200, {"ok": True})
    for header in ("x-part-id", "x-trigger-request-idempotency-key"):
        for _ in range(3):
            answer = back_end.ask("POST", path, header.encode(), {header: "the same"})
            assert answer.json() == {"ok": True}
    assert stored(back_end, run, "a/b") == ["hello", '{"a": 1}', "", "ü\n", '"', "x-part-id"]
    assert back_end.ask("POST", path, b"x" * (LINE_BYTES + 1)).status_code == 413


def test_streams_above_a_run(back_end: BackEnd) -> None:
    root = back_end.run()
    parent = back_end.run(parent_id=root, root_id=root)
    run = back_end.run(parent_id=parent, root_id=root)
    for target in ("self", "parent", "root"):
        assert back_end.ask("PUT", f"{STREAMS}/{run}/{target}/ai").status_code == 202
        assert send(back_end, f"{run}/{target}/ai", [target], "c").status_code == 200
        assert last_index(back_end, f"{run}/{target}/ai", "c") == 0
    assert [stored(back_end, one, "ai") for one in (run, parent, root)] == [
        ["self"],
        ["parent"],
        ["root"],
    ]
    answer = back_end.ask("PUT", f"{STREAMS}/{root}/parent/ai")
    assert (answer.status_code, answer.text) == (404, "Target not found")


def test_runs_that_take_nothing(back_end: BackEnd) -> None:
    over = back_end.run(status="COMPLETED")
    open_run = back_end.run()
    for run, one, status, text in (
        (over, back_end, 400, "The run is over: its streams take nothing more"),
        ("run_nothing", back_end, 404, "Run not found"),
        (open_run, back_end.with_key(OTHER_KEY), 404, "Run not found"),
    ):
        for method, path in (
            ("PUT", f"{run}/self/ai"),
            ("POST", f"{run}/self/ai"),
            ("POST", f"{run}/self/ai/append"),
        ):
            answer = one.ask(method, f"{STREAMS}/{path}", b"1\n" if method == "POST" else None)
            assert (answer.status_code, answer.text) == (status, text)
        answer = one.ask("POST", f"{STREAMS}/{run}/input/ai", {"data": 1})
        assert (answer.status_code, answer.json()) == (status, {"ok": False, "error": text})
    assert back_end.ask("HEAD", f"{STREAMS}/run_nothing/self/ai").status_code == 404
    assert last_index(back_end, f"{over}/self/ai", "c") == -1


@pytest.mark.parametrize("name", ["x" * 1024, "a%01b", "a/append"])
def test_names_that_no_stream_can_have(back_end: BackEnd, name: str) -> None:
    run = back_end.run()
    assert back_end.ask("PUT", f"{STREAMS}/{run}/self/{name}").status_code == 400
    if "append" not in name:
        assert send(back_end, f"{run}/self/{name}", [1], "c").status_code == 400
        assert back_end.ask("POST", f"{STREAMS}/{run}/input/{name}", {}).status_code == 400
    found = back_end.db.run("select realtime_streams from pgtide.runs where id = %s", run)
    assert not found[0][0]


def test_what_writers_say_wrongly(back_end: BackEnd) -> None:
    run = back_end.run()
    for headers in (
        {"x-client-id": "c", "x-resume-from-chunk": "-1"},
        {"x-client-id": "c", "x-resume-from-chunk": "one"},
        {"x-client-id": "c", "x-producer-epoch": "1.5"},
    ):
        answer = back_end.ask("POST", f"{STREAMS}/{run}/self/ai", b"1\n", headers)
        assert answer.status_code == 400
    assert send(back_end, f"{run}/self/ai", [1], "c" * 600).status_code == 400
    back_end.db.run("select pgtide.append(%s, 'text'::text)", f"runs/{run}/text")
    assert send(back_end, f"{run}/self/text", [1], "c").status_code == 409
    send(back_end, f"{run}/self/closed", [1], "c")
    back_end.db.run("select pgtide.close(%s)", f"runs/{run}/closed")
    assert send(back_end, f"{run}/self/closed", [2], "c", 1).status_code == 409
    with reading(back_end, f"{run}/closed") as reader:
        assert [record.data for record in reader.rest()] == [1]
        assert reader.reason == "closed"


def test_messages_to_a_run(back_end: BackEnd) -> None:
    run = back_end.run()
    browser = back_end.token(f"write:inputStreams:{run}", f"read:runs:{run}")
    path = f"{STREAMS}/{run}/input/a/b"
    with reading(browser, f"{run}/input/a/b", {"timeout-seconds": "600"}) as reader:
        for data in ({"text": "hi"}, "x", None, [1]):
            answer = browser.ask("POST", path, {"data": data})
            assert (answer.status_code, answer.json()) == (200, {"ok": True})
        assert list(map(json.loads, reader.messages(4))) == [{"text": "hi"}, "x", None, [1]]
        for _ in range(2):
            browser.ask("POST", path, {"data": 5}, {"x-trigger-request-idempotency-key": "k"})
        assert browser.ask("POST", path, b"{}").status_code == 200
        assert reader.messages(2) == ["5", "null"]
    for body, status in (
        (b"", 400),
        (b"[1]", 400),
        (b"{", 400),
        (b'"%b"' % (b"x" * LINE_BYTES), 413),
    ):
        answer = browser.ask("POST", path, body)
        assert (answer.status_code, answer.json()["ok"]) == (status, False)
    assert stored(back_end, run, "$trigger.input:a/b")[:1] == ['{"text":"hi"}']
    names = back_end.db.run("select realtime_streams from pgtide.runs where id = %s", run)
    assert not names[0][0]
