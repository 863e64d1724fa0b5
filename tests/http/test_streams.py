"""Durable Streams over HTTP, beyond what the protocol's own suite asks: pages, caches, limits, live
reads that are answered together, and what the reference gets wrong."""

from __future__ import annotations

import gzip
import json
import secrets
import time
from base64 import b64decode
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from back_ends import KEY, BackEnd
from raw import connected

from shapes.streams.stream import offset_of

TEXT = {"content-type": "text/plain"}
JSON = {"content-type": "application/json"}
BYTES = {"content-type": "application/octet-stream"}
NEXT = "stream-next-offset"
MEGABYTE = 1 << 20


@pytest.fixture
def path() -> str:
    """Of a stream that is not there yet."""
    return f"/v1/stream/http/{secrets.token_hex(6)}"


def create(back_end: BackEnd, path: str, headers: dict[str, str], body: Any = None) -> None:
    assert back_end.ask("PUT", path, body, headers).status_code == 201


def append(back_end: BackEnd, path: str, headers: dict[str, str], body: Any) -> str:
    """The offset behind it."""
    answer = back_end.ask("POST", path, body, headers)
    assert answer.status_code in (200, 204), answer.text
    return answer.headers[NEXT]


# -- what every answer has -------------------------------------------------------------------------


def test_all_answers_have_the_headers_of_browsers(back_end: BackEnd, path: str) -> None:
    missing = back_end.ask("GET", path)
    create(back_end, path, TEXT, "x")
    answers = [
        missing,
        back_end.ask("PUT", path, headers=TEXT),
        back_end.ask("POST", path, "y", TEXT),
        back_end.ask("GET", path),
        back_end.ask("GET", f"{path}?offset=x"),
        back_end.ask("HEAD", path),
        back_end.ask("PATCH", path),
        back_end.ask("GET", f"{back_end.url}{path}"),
        back_end.ask("OPTIONS", path),
        back_end.ask("POST", path, b"z" * (17 * MEGABYTE), TEXT),
        back_end.ask("GET", "/v1/stream/a//b"),
    ]
    statuses = [answer.status_code for answer in answers]
    assert statuses == [404, 200, 204, 200, 400, 200, 405, 401, 204, 413, 404]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
        if answer.status_code in (400, 401, 404, 405):
            assert answer.headers["content-type"] == "text/plain"
            assert answer.headers["cache-control"] == "no-store"
    for name in ("stream-sse-data-encoding", "etag", "location", "producer-expected-seq"):
        assert name in answers[3].headers["access-control-expose-headers"].lower()
    assert answers[6].headers["allow"] == "DELETE, GET, HEAD, POST, PUT"


def test_browsers_may_send_the_headers_of_the_protocol_and_their_own(
    back_end: BackEnd, path: str
) -> None:
    asked = {"origin": "https://x.example", "access-control-request-headers": "X-Mine, traceparent"}
    answer = back_end.ask("OPTIONS", path, headers=asked)
    allowed = answer.headers["access-control-allow-headers"].lower().split(", ")
    assert {"if-none-match", "producer-seq", "stream-forked-from", "x-mine", "traceparent"} <= {
        *allowed
    }
    assert "PUT" in answer.headers["access-control-allow-methods"]


# -- PUT and POST ----------------------------------------------------------------------------------


def test_the_address_of_a_new_stream(back_end: BackEnd) -> None:
    path = f"/v1/stream/{secrets.token_hex(4)}/a%20b/%C3%A4"
    made = back_end.ask("PUT", path, headers=TEXT)
    assert made.headers["location"] == f"{back_end.url}{path}"
    again = back_end.ask("PUT", path, headers=TEXT)
    assert (again.status_code, again.headers.get("location")) == (200, None)
    # The same path, spelled in another way.
    assert back_end.ask("HEAD", path.replace("a%20b", "%61%20b")).status_code == 200


def test_paths_that_no_stream_can_have(back_end: BackEnd) -> None:
    for bad in ("a%0Ab", "a%7F", "x" * 1025):
        assert back_end.ask("PUT", f"/v1/stream/{bad}", headers=TEXT).status_code == 400, bad
        assert back_end.ask("GET", f"/v1/stream/{bad}").status_code == 404, bad
        assert back_end.ask("POST", f"/v1/stream/{bad}", "x", TEXT).status_code == 404, bad


def test_bodies_up_to_16_mib_are_taken_and_larger_ones_are_not(
    back_end: BackEnd, path: str
) -> None:
    create(back_end, path, BYTES)
    body = secrets.token_bytes(MEGABYTE) * 16
    assert append(back_end, path, BYTES, body) == offset_of(1)
    assert back_end.ask("POST", path, body + b"x", BYTES).status_code == 413
    assert back_end.ask("PUT", f"{path}/x", body + b"x", BYTES).status_code == 413
    assert back_end.ask("GET", path).content == body
    assert back_end.ask("HEAD", f"{path}/x").status_code == 404


def test_bodies_come_in_chunks_too(back_end: BackEnd, path: str) -> None:
    create(back_end, path, TEXT)
    address = urlsplit(back_end.url)
    with connected(back_end.url) as connection:
        connection.send(
            f"POST {path} HTTP/1.1\r\nhost: {address.netloc}\r\nauthorization: Bearer {KEY}\r\n"
            "content-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"
            "3\r\nabc\r\n".encode()
        )
        connection.send(b"4\r\ndefg\r\n0\r\n\r\n")
        assert connection.answer().status == 204
        # Too long, without having said so.
        connection.send(
            f"POST {path} HTTP/1.1\r\nhost: {address.netloc}\r\nauthorization: Bearer {KEY}\r\n"
            "content-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n".encode()
        )
        piece = b"100000\r\n" + b"x" * MEGABYTE + b"\r\n"
        for _ in range(17):
            connection.send(piece)
        assert connection.answer().status == 413
    assert back_end.ask("GET", path).text == "abcdefg"


def test_messages_of_json_keep_their_bytes(back_end: BackEnd, path: str) -> None:
    create(back_end, path, {"content-type": "application/json; charset=utf-8"})
    number = '{"n": 12345678901234567890123, "f": 1.0, "n": 1e400, "half": "\\ud83d"}'
    append(back_end, path, JSON, number)
    append(back_end, path, JSON, ' [ [1, 2] ,\n "x,[" ] ')
    for bad in ("NaN", "[1,]", "[", "'x'", b'"\xff"', "[1] 2", "[]", " "):
        assert back_end.ask("POST", path, bad, JSON).status_code == 400, bad
    answer = back_end.ask("GET", path)
    assert answer.text == f'[{number},[1, 2] ,\n "x,["]'
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.headers[NEXT] == offset_of(3)


def test_what_is_wrong_with_the_stream_counts_first(back_end: BackEnd, path: str) -> None:
    assert back_end.ask("POST", path, "[", JSON).status_code == 404
    create(back_end, path, {**JSON, "stream-closed": "true"}, "[1]")
    for body, headers in (("[", JSON), ("[]", JSON), (b"", JSON), ("x", {})):
        answer = back_end.ask("POST", path, body, headers)
        assert (answer.status_code, answer.headers["stream-closed"]) == (409, "true"), body
        assert answer.headers[NEXT] == offset_of(1)
    stamp = {"producer-id": "p", "producer-epoch": "0", "producer-seq": "7"}
    answer = back_end.ask("POST", path, "[", {**JSON, **stamp})
    assert (answer.status_code, answer.headers["producer-expected-seq"]) == (409, "7")


def test_where_a_producer_is(back_end: BackEnd, path: str) -> None:
    create(back_end, path, TEXT)
    stamp = {**TEXT, "producer-id": "p", "producer-epoch": "0", "producer-seq": str(2**53 - 1)}
    for expected in range(3):
        answer = back_end.ask("POST", path, "x", stamp)
        assert answer.status_code == 409
        assert answer.headers["producer-expected-seq"] == str(expected)
        assert answer.headers["producer-received-seq"] == str(2**53 - 1)
        append(back_end, path, {**stamp, "producer-seq": str(expected)}, "x")
    assert back_end.ask("GET", path).text == "xxx"


def test_closing_in_capitals(back_end: BackEnd, path: str) -> None:
    create(back_end, path, TEXT, "x")
    assert back_end.ask("POST", path, headers={"stream-closed": "TRUE"}).status_code == 204
    assert back_end.ask("HEAD", path).headers["stream-closed"] == "true"


def test_a_fork_that_is_asked_for_again_as_it_was(back_end: BackEnd, path: str) -> None:
    create(back_end, path, {**JSON, "stream-ttl": "600"}, "[1,2]")
    headers = {"stream-forked-from": path, "stream-fork-sub-offset": "1"}
    headers["stream-fork-offset"] = offset_of(0)
    assert [back_end.ask("PUT", f"{path}/fork", headers=headers).status_code for _ in range(2)] == [
        201,
        200,
    ]
    append(back_end, f"{path}/fork", JSON, "[3]")
    assert back_end.ask("GET", f"{path}/fork").json() == [1, 3]
    assert back_end.ask("HEAD", f"{path}/fork").headers["stream-ttl"] == "600"
    for source in (f"{path}/none", "/v1/stream/__ds/x"):
        headers = {"stream-forked-from": source}
        assert back_end.ask("PUT", f"{path}/x", headers=headers).status_code == 404


def test_what_expires_at_once(back_end: BackEnd, path: str) -> None:
    assert back_end.ask("PUT", path, "x", {**TEXT, "stream-ttl": "0"}).status_code == 201
    assert back_end.ask("HEAD", path).status_code == 404


# -- pages -----------------------------------------------------------------------------------------


def pages(back_end: BackEnd, path: str, **headers: str) -> Generator[httpx.Response]:
    offset = "-1"
    while True:
        answer = back_end.ask("GET", f"{path}?offset={offset}", headers=headers)
        assert answer.status_code == 200
        yield answer
        offset = answer.headers[NEXT]
        if "stream-up-to-date" in answer.headers:
            return


def test_a_large_stream_comes_in_pages(back_end: BackEnd, path: str) -> None:
    create(back_end, path, BYTES)
    data = [secrets.token_bytes(100_000) for _ in range(120)]
    for one in data:
        append(back_end, path, BYTES, one)
    append(back_end, path, {"stream-closed": "true"}, b"")
    first, *middle, last = pages(back_end, path)
    # The first one is small, so that there is something soon.
    assert len(first.content) <= 600_000
    assert middle
    for page in (first, *middle):
        assert len(page.content) <= 4 * MEGABYTE + 100_000
        assert "stream-closed" not in page.headers
        assert "max-age=60" in page.headers["cache-control"]
    assert last.headers["stream-closed"] == "true"
    assert b"".join(page.content for page in (first, *middle, last)) == b"".join(data)


def test_answers_are_compressed_for_those_who_want_it(back_end: BackEnd, path: str) -> None:
    create(back_end, path, JSON)
    append(back_end, path, JSON, json.dumps(["word " * 3000] * 10))
    plain = back_end.ask("GET", path, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    with httpx.stream(
        "GET",
        f"{back_end.url}{path}",
        headers={"authorization": f"Bearer {KEY}", "accept-encoding": "gzip"},
    ) as answer:
        raw = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "gzip"
    assert int(answer.headers["content-length"]) == len(raw) < len(plain.content) // 10
    assert gzip.decompress(raw) == plain.content
    for one in (plain, answer):
        assert "accept-encoding" in one.headers["vary"]
    # Neither what is small nor events.
    small = back_end.ask("GET", f"{path}?offset=now", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in small.headers


def test_what_the_client_has_is_not_sent_again(back_end: BackEnd, path: str) -> None:
    create(back_end, path, TEXT, "x")
    first = back_end.ask("GET", path)
    tag = first.headers["etag"]
    query = f"?offset={offset_of(0)}"
    for url, known in (
        *((path, one) for one in (tag, f'W/{tag}, "y"', f'"y",{tag}', "*")),
        (f"{path}{query}", back_end.ask("GET", f"{path}{query}").headers["etag"]),
    ):
        same = back_end.ask("GET", url, headers={"if-none-match": known})
        assert (same.status_code, same.content) == (304, b""), known
        assert same.headers["etag"] == tag
        assert same.headers[NEXT] == first.headers[NEXT]
        assert same.headers["stream-up-to-date"] == "true"
        assert same.headers["cache-control"] == first.headers["cache-control"]
    for known in ('"y"', "x", '"' + tag, f'{tag[:-1]}x"'):
        assert back_end.ask("GET", path, headers={"if-none-match": known}).status_code == 200
    # Its end is something else, and so is another stream under the same path.
    append(back_end, path, {"stream-closed": "true"}, b"")
    closed = back_end.ask("GET", path, headers={"if-none-match": tag})
    assert (closed.status_code, closed.headers["stream-closed"]) == (200, "true")
    assert back_end.ask("DELETE", path).status_code == 204
    create(back_end, path, TEXT, "y")
    fresh = back_end.ask("GET", path, headers={"if-none-match": tag})
    assert (fresh.status_code, fresh.text) == (200, "y")


def test_only_the_holder_s_own_cache_keeps_what_a_credential_opens(
    back_end: BackEnd, path: str
) -> None:
    create(back_end, path, {**TEXT, "stream-closed": "true"}, "x")
    answer = back_end.ask("GET", path)
    assert answer.headers["cache-control"].startswith("private, max-age=60")
    assert "authorization" in answer.headers["vary"]
    for query in ("?offset=now", "?offset=now&live=long-poll"):
        assert back_end.ask("GET", f"{path}{query}").headers["cache-control"] == "no-store"
    assert back_end.ask("HEAD", path).headers["cache-control"] == "no-store"


def test_beyond_the_end_is_the_end(back_end: BackEnd, path: str) -> None:
    create(back_end, path, JSON, "[1]")
    for offset in (offset_of(5), "9999999999999999_9999999999999999"):
        answer = back_end.ask("GET", f"{path}?offset={offset}")
        assert (answer.status_code, answer.text) == (200, "[]")
        assert answer.headers[NEXT] == offset_of(1)


# -- live ------------------------------------------------------------------------------------------


def test_equal_long_polls_are_answered_together(back_end: BackEnd, path: str) -> None:
    create(back_end, path, TEXT)
    query = f"{path}?cursor=1&live=long-poll&offset={offset_of(0)}"
    with ThreadPoolExecutor(20) as threads:
        waiting = [threads.submit(back_end.ask, "GET", query) for _ in range(20)]
        others = threads.submit(back_end.ask, "GET", query, headers={"accept-encoding": "identity"})
        append(back_end, path, TEXT, "x" * 2000)
        answers = [one.result() for one in (*waiting, others)]
    assert {(one.status_code, one.text) for one in answers} == {(200, "x" * 2000)}
    assert len({one.headers["x-request-id"] for one in answers}) == 21
    assert "content-encoding" not in answers[-1].headers


def test_equal_long_polls_end_together(back_end: BackEnd, path: str) -> None:
    create(back_end, path, TEXT)
    query = f"{path}?live=long-poll&offset={offset_of(0)}"
    begin = time.monotonic()
    with ThreadPoolExecutor(10) as threads:
        waiting = [threads.submit(back_end.ask, "GET", query) for _ in range(10)]
        answers = [one.result() for one in waiting]
    # After two seconds, and nobody after twice that.
    assert 1.5 < time.monotonic() - begin < 3.9
    for answer in answers:
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers[NEXT] == offset_of(0)
        assert answer.headers["stream-up-to-date"] == "true"
        assert int(answer.headers["stream-cursor"]) > 0


@pytest.mark.parametrize("close", [True, False])
def test_a_long_poll_hears_of_the_end(back_end: BackEnd, path: str, close: bool) -> None:
    create(back_end, path, TEXT)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(back_end.ask, "GET", f"{path}?live=long-poll&offset=now")
        time.sleep(0.3)
        if close:
            append(back_end, path, {"stream-closed": "true"}, b"")
        else:
            back_end.ask("DELETE", path)
        answer = waiting.result()
    if close:
        assert (answer.status_code, answer.headers["stream-closed"]) == (204, "true")
        assert "stream-cursor" not in answer.headers
    else:
        assert answer.status_code == 404


def test_events_come_at_once_and_end_with_the_stream(back_end: BackEnd, path: str) -> None:
    create(back_end, path, BYTES)
    url = f"{back_end.url}{path}?offset=-1&live=sse"
    headers = {"authorization": f"Bearer {KEY}", "accept-encoding": "gzip"}
    with httpx.stream("GET", url, headers=headers, timeout=20) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["stream-sse-data-encoding"] == "base64"
        assert "content-encoding" not in answer.headers
        lines = answer.iter_lines()
        assert next(lines) == "event: control"
        assert json.loads(next(lines)[5:])["streamNextOffset"] == offset_of(0)
        for number in range(3):
            append(back_end, path, BYTES, b"\0\n" * (number + 1))
            assert [next(lines) for _ in range(2)] == ["", "event: data"]
            told = [next(lines) for _ in range(4)]
            assert b64decode(told[0][5:]) == b"\0\n" * (number + 1)
            assert told[1:3] == ["", "event: control"]
            assert json.loads(told[3][5:])["streamNextOffset"] == offset_of(number + 1)
        append(back_end, path, {"stream-closed": "true"}, b"")
        rest = list(lines)
    assert '"streamClosed":true' in rest[-2]


def test_a_token_s_end_ends_its_events(back_end: BackEnd, path: str) -> None:
    create(back_end, path, TEXT, "x")
    name = path.removeprefix("/v1/stream/")
    browser = back_end.token(f"read:streams:{name}", expirationTime=int(time.time()) + 2)
    url = f"{back_end.url}{path}?offset=-1&live=sse"
    headers = {"authorization": f"Bearer {browser.key}"}
    begin = time.monotonic()
    with httpx.stream("GET", url, headers=headers, timeout=20) as answer:
        assert answer.status_code == 200
        answer.read()
    assert time.monotonic() - begin < 10
    assert browser.ask("GET", path).status_code == 401


def test_readers_see_what_was_appended_before_on_every_node(back_end: BackEnd, path: str) -> None:
    create(back_end, path, JSON)
    for number in range(20):
        append(back_end, path, JSON, [number])
        # A connection of its own may reach either node.
        url = f"{back_end.url}{path}"
        answer = httpx.get(url, headers={"authorization": f"Bearer {KEY}"})
        assert answer.json() == list(range(number + 1))
