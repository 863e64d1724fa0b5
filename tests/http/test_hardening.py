"""Requests that are wrong, slow, too large or meant to confuse: answered or cut off, without harm."""

from __future__ import annotations

import socket
import time

import pytest
from follower import Follower, ask
from raw import RawConnection, connected
from serving import Serving
from tables import Tables

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
HEALTH = b"GET /v1/health HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.fixture(scope="module")
def items(strict_tables: Tables) -> str:
    return strict_tables.make("id int primary key")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 414),
        (b"GET /v1/shape?table=" + b"a" * 200_000, 414),
        (b"GET / HTTP/1.1\r\nx: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 101 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"a" * 200_000, 431),
        (b"POST /v1/shape HTTP/1.1\r\ncontent-length: 99000000\r\n\r\n", 413),
        (b"POST /v1/shape HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400),
        # What another server in front might read as two requests, or as one.
        (
            b"POST / HTTP/1.1\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"POST / HTTP/1.1\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcde", 400),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: x\r\n\r\n0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\n folded: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost : x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nhost: x\n\n", 400),
        (b"GET / HTTP/1.1\r\nx: a\x00b\r\n\r\n", 400),
        (b"GET http:///// HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"G\x00T / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
    ],
)
def test_refused(strict: Serving, request_bytes: bytes, status: int) -> None:
    with connected(strict.url) as connection:
        connection.send(request_bytes)
        answer = connection.answer()
        assert answer.status == status
        assert answer.headers["content-type"] == "application/json; charset=utf-8"
        assert answer.headers["cache-control"] == "max-age=0, private, must-revalidate"
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["connection"] == "close"
        assert answer.body.startswith(b'{"')
        # Whatever follows is not looked at.
        connection.socket.settimeout(60)
        assert connection.rest() == b""
    assert_well(strict)


def assert_well(server: Serving) -> None:
    with connected(server.url) as connection:
        connection.send(HEALTH)
        # Under load it may just have lost sight of the engine.
        assert connection.answer().status in (200, 202)


def test_a_chunk_that_says_too_much(strict: Serving, items: str) -> None:
    with connected(strict.url) as connection:
        connection.send(
            f"POST /v1/shape?table={items}&offset=-1 HTTP/1.1\r\nhost: x\r\n".encode()
            + b"transfer-encoding: chunked\r\n\r\nfffffffffffffffffffff\r\n"
        )
        assert connection.answer().status == 400


def test_a_body_without_end(strict: Serving, items: str) -> None:
    """More than 8 MB, in chunks: the answer comes, and can be read, before all is sent."""
    with connected(strict.url) as connection:
        connection.send(
            f"POST /v1/shape?table={items}&offset=-1 HTTP/1.1\r\nhost: x\r\n".encode()
            + b"transfer-encoding: chunked\r\n\r\n"
        )
        chunk = b"%x\r\n%b\r\n" % (1 << 20, b" " * (1 << 20))
        for _ in range(8):
            connection.send(chunk)
        assert connection.answer().status == 413
        connection.socket.settimeout(60)
        assert connection.rest() == b""


def test_long_urls_are_taken(strict: Serving, items: str) -> None:
    numbers = ",".join(str(number) for number in range(10_000))
    assert 40_000 < len(numbers) < 64_000
    with connected(strict.url) as connection:
        where = f"id%20in%20({numbers})"
        connection.send(
            f"GET /v1/shape?table={items}&offset=-1&where={where} HTTP/1.1\r\n\r\n".encode()
        )
        assert connection.answer().status == 200


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"GET /",
        b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: ",
        b"POST /v1/shape?offset=-1 HTTP/1.1\r\ncontent-length: 1000\r\n\r\n{",
    ],
)
def test_slow_requests_run_out_of_time(strict: Serving, beginning: bytes) -> None:
    """However often something more comes, a request has to be there in time."""
    begin = time.monotonic()
    with connected(strict.url) as connection:
        connection.send(beginning)
        if not beginning:
            assert connection.closes_within(10)
            return
        connection.socket.settimeout(0.2)
        answered = b""
        while not answered:
            assert time.monotonic() - begin < 10, "it may take as long as it likes"
            try:
                connection.send(b"a")
                answered = connection.socket.recv(65536)
            except TimeoutError:
                continue
        assert answered.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - begin > 1.0


def test_idle_connections_are_closed(strict: Serving) -> None:
    with connected(strict.url) as connection:
        connection.send(GET)
        assert connection.answer().status == 200
        connection.send(GET)
        assert connection.answer().status == 200
        assert connection.closes_within(10)


def test_pipelining(strict: Serving, strict_tables: Tables, items: str) -> None:
    """Answers come in the order of the requests, also when one of them waits."""
    reader = Follower(strict.url, items).sync()
    live = f"table={items}&handle={reader.handle}&offset={reader.offset}&live=true"
    requests = [
        f"GET /v1/shape?{live} HTTP/1.1\r\nhost: x\r\n\r\n".encode(),
        HEALTH,
        b"HEAD /v1/health HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc",
        f"GET /v1/shape?{live} HTTP/1.1\r\nhost: x\r\n\r\n".encode(),
        b"GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        GET,
    ]
    with connected(strict.url) as connection:
        connection.send(b"".join(requests))
        strict_tables.run(f"insert into {items} values (4711)")
        statuses: list[int] = []
        for number in range(6):
            answer = connection.answer(bodyless=number == 2)
            statuses.append(answer.status)
            if number in (0, 4):
                assert b'"4711"' in answer.body
        assert statuses == [200, 200, 200, 404, 200, 404]
        assert connection.rest() == b""


def test_a_very_long_pipeline(strict: Serving) -> None:
    """What came first is answered; the rest would only take memory."""
    with connected(strict.url) as connection:
        connection.send(GET * 5000)
        answered = 0
        while connection.answer().status == 200:
            answered += 1
        assert 0 < answered < 5000
    assert_well(strict)


def test_head_has_the_headers_of_get(strict: Serving, items: str) -> None:
    reader = Follower(strict.url, items).sync()
    targets = [
        "/v1/health",
        f"/v1/shape?table={items}&offset=-1",
        f"/v1/shape?table={items}&handle={reader.handle}&offset={reader.offset}",
        "/v1/shape?offset=-1",
        "/nowhere",
    ]
    with connected(strict.url) as connection:
        for target in targets:
            answers: list[dict[str, str]] = []
            for method in ("GET", "HEAD"):
                connection.send(f"{method} {target} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
                answer = connection.answer(bodyless=method == "HEAD")
                headers = dict(answer.headers, status=str(answer.status))
                del headers["x-request-id"]
                answers.append(headers)
            assert answers[0] == answers[1]
            assert "content-length" in answers[0]


def test_head_of_a_stream_ends(strict: Serving, items: str) -> None:
    reader = Follower(strict.url, items).sync()
    live = f"table={items}&handle={reader.handle}&offset={reader.offset}&live=true&live_sse=true"
    with connected(strict.url) as connection:
        connection.send(f"HEAD /v1/shape?{live} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        answer = connection.answer(bodyless=True)
        assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
        connection.send(HEALTH)
        assert connection.answer().body == b'{"status":"active"}'


def test_http_1_0(strict: Serving, strict_tables: Tables, items: str) -> None:
    """Without chunks, and closed afterwards."""
    reader = Follower(strict.url, items).sync()
    with connected(strict.url) as connection:
        connection.send(f"GET /v1/shape?table={items}&offset=-1 HTTP/1.0\r\n\r\n".encode())
        answer = connection.answer()
        assert answer.status == 200
        assert answer.headers["connection"] == "close"
        assert connection.rest() == b""
    live = f"table={items}&handle={reader.handle}&offset={reader.offset}&live=true&live_sse=true"
    with connected(strict.url) as connection:
        connection.send(f"GET /v1/shape?{live} HTTP/1.0\r\n\r\n".encode())
        status, headers = connection.head()
        assert status == 200
        assert "transfer-encoding" not in headers
        strict_tables.run(f"insert into {items} values (1010)")
        assert connection.until(b'"id":"1010"}').startswith(b"data: {")


def test_expect_100_continue(strict: Serving, items: str) -> None:
    with connected(strict.url) as connection:
        connection.send(
            f"POST /v1/shape?table={items}&offset=-1 HTTP/1.1\r\nhost: x\r\n".encode()
            + b"content-length: 2\r\nexpect: 100-continue\r\n\r\n"
        )
        assert connection.head() == (100, {})
        connection.send(b"{}")
        assert connection.answer().status == 200
        connection.send(HEALTH)
        assert connection.answer().status == 200


def test_an_offer_to_upgrade_is_not_taken(strict: Serving) -> None:
    with connected(strict.url) as connection:
        connection.send(
            b"GET /v1/health HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, HTTP2-Settings\r\n"
            b"upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n"
        )
        assert connection.answer().body == b'{"status":"active"}'
        assert connection.rest() == b""


def test_letters_that_are_not_escaped(strict: Serving, strict_tables: Tables) -> None:
    name = strict_tables.make("id int primary key, label text")
    strict_tables.run(f"insert into {name} values (1, 'größe'), (2, 'x')")
    with connected(strict.url) as connection:
        query = f"table={name}&offset=-1&where=label='größe'"
        connection.send(f"GET /v1/shape?{query} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        answer = connection.answer()
        assert answer.status == 200
        assert answer.body.count(b'"key"') == 1
        for path in ("/ü".encode(), b"/\xff"):
            connection.send(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % path)
            assert connection.answer().status == 404


def test_absolute_urls(strict: Serving) -> None:
    with connected(strict.url) as connection:
        connection.send(b"GET http://elsewhere/v1/health?a=b#c HTTP/1.1\r\nhost: x\r\n\r\n")
        assert connection.answer().body == b'{"status":"active"}'


def test_an_answer_before_the_body_is_there(strict: Serving) -> None:
    """The connection goes on after the rest of the body, or ends if that does not come."""
    head = b"PUT /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\n\r\nabc"
    with connected(strict.url) as connection:
        connection.send(head)
        assert connection.answer().status == 404
        connection.send(b"def" + HEALTH)
        assert connection.answer().status == 200
        connection.send(head)
        assert connection.answer().status == 404
        assert connection.closes_within(10)


def test_clients_that_leave_early(strict: Serving, items: str) -> None:
    reader = Follower(strict.url, items).sync()
    live = f"table={items}&handle={reader.handle}&offset={reader.offset}&live=true"
    whole = f"GET /v1/shape?{live} HTTP/1.1\r\nhost: x\r\n\r\n".encode()
    for end in (1, 20, len(whole) - 1, len(whole)):
        with connected(strict.url) as connection:
            connection.send(whole[:end])
            linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    assert_well(strict)


def test_a_client_that_does_not_read_is_cut_off(strict: Serving, strict_tables: Tables) -> None:
    """One that reads, however slowly, is not."""
    name = strict_tables.make("id int primary key, body text")
    strict_tables.run(
        f"insert into {name} select i, repeat('x', 10000) from generate_series(1, 2000) i"
    )
    assert ask(strict.url, table=name, offset=-1).status == 200
    request = f"GET /v1/shape?table={name}&offset=-1 HTTP/1.1\r\nhost: x\r\n\r\n".encode()
    with _small_window(strict) as stalled, _small_window(strict) as slow:
        for connection in (stalled, slow):
            connection.sendall(request)
        deadline = time.monotonic() + 3.5
        taken = 0
        # Longer than the time in which nothing may be taken.
        while time.monotonic() < deadline:
            taken += len(slow.recv(30_000))
            time.sleep(0.05)
        whole = RawConnection(slow).rest()
        assert taken + len(whole) > 10_000_000
        assert len(RawConnection(stalled).rest()) < 10_000_000


def _small_window(server: Serving) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 20_000)
    connection.settimeout(20)
    connection.connect((host, int(port)))
    return connection
