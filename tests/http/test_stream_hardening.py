"""Requests about streams that are wrong, slow, cut off, too large or meant to confuse: refused, without
a trace in any stream and without harm for the node."""

from __future__ import annotations

import gzip
import json
import secrets
import select
import socket
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, suppress
from typing import Any

import httpx
import psutil
import pytest
from back_ends import KEY, OTHER_KEY, BackEnd
from keyed_serving import keyed_serving
from raw import RawAnswer, RawConnection, connected
from serving import Serving

TEXT = {"content-type": "text/plain"}
JSON = {"content-type": "application/json"}
START = f"{0:016}_{0:016}"
MEGABYTE = 1 << 20
REQUESTS = 100
"""That `lone` serves at a time."""


@pytest.fixture
def path(back_end: BackEnd) -> str:
    """Of a stream of text that has one message."""
    path = f"/v1/stream/hard/{secrets.token_hex(6)}"
    assert back_end.ask("PUT", path, "first", TEXT).status_code == 201
    return path


def tail(back_end: BackEnd, path: str) -> int:
    answer = back_end.ask("HEAD", path)
    assert answer.status_code == 200
    return int(answer.headers["stream-next-offset"][17:])


def head(back_end: BackEnd, method: str, path: str, *fields: bytes) -> bytes:
    """The head of a request, with header fields as they are."""
    key = f"authorization: Bearer {back_end.key}"
    lines = [f"{method} {path} HTTP/1.1".encode(), b"host: x", key.encode(), *fields]
    return b"\r\n".join([*lines, b"", b""])


def raw(back_end: BackEnd, method: str, path: str, *fields: bytes, body: bytes = b"") -> RawAnswer:
    with connected(back_end.url) as connection:
        length = b"content-length: %d" % len(body)
        connection.send(head(back_end, method, path, *fields, length) + body)
        return connection.answer(bodyless=method == "HEAD")


# -- headers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        b"text/pl\xc3\xa4in",
        b"text/plain; x=\xff",
        b"text/plain; x=" + b"a" * 60_000,
        b"text/html, text/plain",
        b"text",
        b"\xd9\xa3/plain",
    ],
)
def test_types_that_are_none_are_not_kept(back_end: BackEnd, path: str, kind: bytes) -> None:
    made = raw(back_end, "PUT", f"{path}/t", b"content-type: " + kind)
    assert made.status == 201
    assert made.headers["content-type"] == "application/octet-stream"
    assert raw(back_end, "POST", path, b"content-type: " + kind, body=b"more").status == 400
    assert tail(back_end, path) == 1


@pytest.mark.parametrize(
    ("kind", "runs"),
    [("text/html", True), ("Image/SVG+xml; x=y", True), ("text/plain", False), ("a/b", False)],
)
def test_what_is_written_does_not_run_as_a_page(
    back_end: BackEnd, path: str, kind: str, runs: bool
) -> None:
    assert back_end.ask("PUT", f"{path}/t", "<script>", {"content-type": kind}).status_code == 201
    answer = back_end.ask("GET", f"{path}/t")
    assert answer.headers["content-type"] == kind
    assert answer.headers.get("content-security-policy") == ("sandbox" if runs else None)
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n ", b"\0"])
def test_a_type_cannot_begin_another_line(back_end: BackEnd, path: str, end: bytes) -> None:
    kind = b"content-type: text/plain; a=%bset-cookie: x=y" % end
    answer = raw(back_end, "PUT", f"{path}/t", kind)
    assert answer.status in (201, 400)
    assert "set-cookie" not in answer.headers
    described = raw(back_end, "HEAD", f"{path}/t")
    assert described.status in (200, 404)
    assert "set-cookie" not in described.headers


@pytest.mark.parametrize(
    "number",
    ["+1", " 1 1", "1_0", "1.0", "1e3", "-1", "", "٣", "²", "9007199254740992", "9" * 5000],
)
def test_numbers_that_are_none(back_end: BackEnd, path: str, number: str) -> None:
    value = number.encode()
    epoch = (b"producer-id: p", b"producer-epoch: " + value, b"producer-seq: 0")
    sequence = (b"producer-id: p", b"producer-epoch: 0", b"producer-seq: " + value)
    for fields in (epoch, sequence):
        answer = raw(back_end, "POST", path, b"content-type: text/plain", *fields, body=b"more")
        assert answer.status == 400, fields
    lives = raw(back_end, "PUT", f"{path}/t", b"stream-ttl: " + (value if number != "²" else b"x"))
    assert lives.status == 400
    fork = f"stream-forked-from: {path}".encode()
    forked = raw(back_end, "PUT", f"{path}/f", fork, b"stream-fork-sub-offset: " + value)
    assert forked.status == 400
    assert tail(back_end, path) == 1


@pytest.mark.parametrize(
    "offset",
    [
        *("0", "1", "00000000000000001", f"{START}0", f"0{START}", START.replace("_", "-")),
        *(f"{START}%00", f"{START}%0a", f"%20{START}", "%d9%a3" * 16 + "_" + "0" * 16),
        *("NOW", "-2", "-1%00", "9" * 60_000, "%ff", "now&offset=now"),
    ],
)
def test_offsets_that_are_none(back_end: BackEnd, path: str, offset: str) -> None:
    for live in ("", "&live=long-poll", "&live=sse"):
        answer = raw(back_end, "GET", f"{path}?offset={offset}{live}")
        assert answer.status in (400, 414), live


def test_beyond_every_end(back_end: BackEnd, path: str) -> None:
    answer = back_end.ask("GET", f"{path}?offset={'9' * 16}_{'9' * 16}")
    assert (answer.status_code, answer.content) == (200, b"")
    fields = {"stream-forked-from": path, "stream-fork-offset": f"{'9' * 16}_{'9' * 16}"}
    assert back_end.ask("PUT", f"{path}/f", None, fields).status_code == 400
    fields = {"stream-forked-from": path, "stream-fork-offset": START}
    fields["stream-fork-sub-offset"] = str(2**53 - 1)
    assert back_end.ask("PUT", f"{path}/f", None, fields).status_code == 400


def test_sequences_of_any_bytes(back_end: BackEnd, path: str) -> None:
    def post(sequence: bytes) -> int:
        fields = (b"content-type: text/plain", b"stream-seq: " + sequence)
        return raw(back_end, "POST", path, *fields, body=b"x").status

    assert [post(one) for one in (b"\x80", b"\x7f~", b"\xff\xfe", b"\x80\xff", b"\xff\xff")] == [
        *(204, 400 if post(b"\x7f") == 400 else 409, 204, 409, 204)
    ]
    assert post(b"\xff" * 5000) == 400


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "deflate", "br, gzip"])
def test_compressed_bodies_are_not_taken(back_end: BackEnd, path: str, encoding: str) -> None:
    """Nobody would tell readers that they are, and nothing here is blown up by them."""
    bomb = gzip.compress(b"\0" * (20 * MEGABYTE))
    fields = {**TEXT, "content-encoding": encoding}
    assert back_end.ask("POST", path, bomb, fields).status_code == 415
    assert back_end.ask("PUT", f"{path}/t", bomb, fields).status_code == 415
    assert tail(back_end, path) == 1
    fields["content-encoding"] = "identity"
    assert back_end.ask("POST", path, "plain", fields).status_code == 204


# -- bodies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rest",
    [
        b"content-length: 10\r\n\r\nhalf",
        b"transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
        b"transfer-encoding: chunked\r\n\r\n9\r\nhalf",
    ],
)
@pytest.mark.parametrize("more", [b"", b"stream-closed: true\r\n"])
def test_nothing_is_appended_of_a_body_that_is_cut_off(
    back_end: BackEnd, path: str, rest: bytes, more: bytes
) -> None:
    with connected(back_end.url) as connection:
        begin = head(back_end, "POST", path, b"content-type: text/plain")
        connection.send(begin.removesuffix(b"\r\n") + more + rest)
        connection.socket.shutdown(socket.SHUT_WR)
        assert connection.answer().status in (0, 400)
    assert back_end.ask("POST", path, "whole", TEXT).status_code == 204
    assert back_end.ask("GET", path).text == "firstwhole"


@pytest.mark.parametrize("text", ["[" * 100_000 + "]" * 100_000, '{"a":' * 100_000, "[" * 10**7])
def test_json_of_many_levels(back_end: BackEnd, path: str, text: str) -> None:
    assert back_end.ask("PUT", f"{path}/j", text, JSON).status_code == 400
    assert back_end.ask("PUT", f"{path}/j", None, JSON).status_code == 201
    assert back_end.ask("POST", f"{path}/j", text, JSON).status_code == 400
    assert tail(back_end, f"{path}/j") == 0


def test_too_many_messages_at_once(back_end: BackEnd, path: str) -> None:
    """Those who read them one by one would hold up everybody else."""
    assert back_end.ask("PUT", f"{path}/j", "[" + "0," * 100_000 + "0]", JSON).status_code == 413
    assert back_end.ask("PUT", f"{path}/j", None, JSON).status_code == 201
    assert back_end.ask("POST", f"{path}/j", "[" + "0," * 100_000 + "0]", JSON).status_code == 413
    assert back_end.ask("POST", f"{path}/j", "[" + "0," * 99_999 + "0]", JSON).status_code == 204
    assert tail(back_end, f"{path}/j") == 100_000


def test_a_line_of_16_mib(back_end: BackEnd) -> None:
    run = back_end.run()
    url = f"/realtime/v1/streams/{run}/self/lines"
    fields = {"x-client-id": "c", "x-resume-from-chunk": "0"}
    lines = b'"small"\n' + b'"' + b"x" * (16 * MEGABYTE) + b'"\n'
    # It may be refused before all of it was sent.
    with suppress(httpx.TransportError):
        assert back_end.ask("POST", url, lines, fields).status_code == 413
    last = back_end.ask("HEAD", url, None, fields).headers["x-last-chunk-index"]
    assert last in ("-1", "0")


def test_lines_that_are_cut_off(back_end: BackEnd) -> None:
    """Whole lines count, half ones do not."""
    run = back_end.run()
    fields = {"x-client-id": "c", "x-resume-from-chunk": "0"}
    with connected(back_end.url) as connection:
        url = f"/realtime/v1/streams/{run}/self/lines"
        sent = [f"{name}: {value}".encode() for name, value in fields.items()]
        connection.send(head(back_end, "POST", url, *sent, b"transfer-encoding: chunked"))
        connection.send(b'a\r\n{"a": 1}\n{\r\n')
        wait(lambda: last_index(back_end, url, fields) == 0)
        connection.socket.shutdown(socket.SHUT_WR)
        assert connection.answer().status in (0, 400)
    assert last_index(back_end, url, fields) == 0


def last_index(back_end: BackEnd, url: str, fields: Mapping[str, str]) -> int:
    return int(back_end.ask("HEAD", url, None, fields).headers["x-last-chunk-index"])


def wait(condition: Any, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# -- too much of everything ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lone(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Serving]:
    """One node."""
    folder = tmp_path_factory.mktemp("pgtide-lone-streams")
    requests = f'{{"initial": 2, "existing": {REQUESTS}}}'
    with keyed_serving(
        server_url, folder, nodes=1, insecure=True, max_concurrent_requests=requests
    ) as keyed:
        yield keyed.serving


@pytest.fixture
def stream(lone: Serving) -> Generator[str]:
    """URL of a stream of text at it."""
    url = f"{lone.url}/v1/stream/hard/{secrets.token_hex(6)}"
    assert httpx.put(url, headers=TEXT).status_code == 201
    yield url
    assert httpx.delete(url).status_code == 204


def answered(connections: list[RawConnection]) -> list[RawConnection]:
    """Those that have got something, or were closed."""
    sockets = [connection.socket for connection in connections]
    readable, _, _ = select.select(sockets, [], [], 0)
    return [connection for connection in connections if connection.socket in readable]


def resident(server: Serving) -> tuple[int, int]:
    """Bytes of the node and of the engine."""
    pids = (server.node_pids()[0], server.engine_pids()[0])
    node, engine = (psutil.Process(pid).memory_info().rss for pid in pids)
    return node, engine


def test_bodies_that_stop_short_take_little_room(lone: Serving, stream: str) -> None:
    node, engine = resident(lone)
    path = stream.removeprefix(lone.url)
    with ExitStack() as stack:
        connections: list[RawConnection] = []
        for _ in range(24):
            connection = stack.enter_context(connected(lone.url))
            connections.append(connection)
            connection.send(
                f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\n"
                f"content-length: {16 * MEGABYTE}\r\n\r\n".encode()
            )
            # It may be refused before all of it was sent.
            with suppress(OSError):
                connection.send(b"x" * (15 * MEGABYTE))
        # There is room for 17.
        wait(lambda: len(answered(connections)) == 7)
        for connection in answered(connections):
            status, fields = connection.head()
            assert (status, fields.get("retry-after")) in ((503, "5"), (0, None))
        # Small ones are taken all the same.
        assert httpx.post(stream, content="small", headers=TEXT).status_code == 204
        grown = [now - before for now, before in zip(resident(lone), (node, engine), strict=True)]
        assert grown[0] < 450 * MEGABYTE
        assert grown[1] < 40 * MEGABYTE
    wait(lambda: httpx.post(stream, content="x" * MEGABYTE, headers=TEXT).status_code == 204)
    assert httpx.head(stream).headers["stream-next-offset"] == f"{0:016}_{2:016}"


def test_readers_that_read_nothing_take_little_room(lone: Serving, stream: str) -> None:
    """However much is appended: what they have not taken is in the table."""
    path = stream.removeprefix(lone.url)
    node, engine = resident(lone)
    with ExitStack() as stack:
        for query in ("?offset=-1&live=sse", "?offset=-1"):
            for _ in range(15):
                connection = stack.enter_context(connected(lone.url))
                connection.send(f"GET {path}{query} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        with httpx.Client() as http:
            for _ in range(30):
                assert http.post(stream, content=b"y" * MEGABYTE, headers=TEXT).status_code == 204
                for _ in range(2):
                    connection = stack.enter_context(connected(lone.url))
                    connection.send(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            grown = [
                now - before for now, before in zip(resident(lone), (node, engine), strict=True)
            ]
            assert grown[0] < 150 * MEGABYTE
            assert grown[1] < 60 * MEGABYTE
            answer = http.get(f"{stream}?offset={START[:-2]}29")
            assert answer.content == b"y" * MEGABYTE


def test_those_who_wait_do_not_keep_others_out(lone: Serving, stream: str) -> None:
    path = stream.removeprefix(lone.url)
    with ExitStack() as stack:
        connections = [stack.enter_context(connected(lone.url)) for _ in range(2 * REQUESTS + 40)]
        http = stack.enter_context(httpx.Client())
        for number, connection in enumerate(connections):
            # Half of them are answered on their own, since their cursors differ.
            kind = f"long-poll&cursor={number}" if number % 2 else "sse"
            query = f"?offset={START}&live={kind}".encode()
            connection.send(b"GET %b%b HTTP/1.1\r\nhost: x\r\n\r\n" % (path.encode(), query))
            # More than so many cannot begin at a time.
            if number % 2 == 0:
                connection.until(b"upToDate")
            elif number % 20 == 1:
                assert http.head(stream).status_code == 200
        assert httpx.post(stream, content="for all", headers=TEXT).status_code == 204
        assert httpx.get(stream).text == "for all"
        for connection in connections:
            connection.until(b"for all")


# -- what must not be seen -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "alike"),
    [
        (
            "secret/a",
            ["secret/a/b", "secret/ab", "secret/", "Secret/a", "secret/a.", "secret/a%20"],
        ),
        ("secret/a/", ["secret/a", "secret/ab", "secret/b", "SECRET/a/b", "secret/a%2Fb"]),
        ("secret/ä", ["secret/a%CC%88", "secret/%C3%84", "secret/a", "secret/%E4"]),
        ("secret/ﬁ", ["secret/fi", "secret/FI"]),
        ("secret/x:y", ["secret/x", "secret/x:y:z", "x:y"]),
    ],
)
def test_paths_that_look_alike_are_others(back_end: BackEnd, path: str, alike: list[str]) -> None:
    reader = back_end.token(f"read:streams:{path}")
    writer = back_end.token(f"write:streams:{path}")
    for other in alike:
        back_end.ask("PUT", f"/v1/stream/{other}", "hidden", TEXT)
        for query in ("", "?offset=-1&live=long-poll", "?offset=-1&live=sse"):
            answer = reader.ask("GET", f"/v1/stream/{other}{query}")
            assert answer.status_code in (403, 404), other
            assert "hidden" not in answer.text
        refused = writer.ask("PUT", f"/v1/stream/{other}", None, TEXT)
        assert refused.status_code in (403, 404), other
        assert writer.ask("POST", f"/v1/stream/{other}", "x", TEXT).status_code in (403, 404)
        assert writer.ask("DELETE", f"/v1/stream/{other}").status_code in (403, 404)


@pytest.mark.parametrize(
    "source",
    [
        "{path}",
        "{path}?x",
        "http://elsewhere{path}",
        "/v1/stream/own/../{name}",
        "/v1/stream/own/%2e%2e/{name}",
        "/v1/stream/own%2F..%2F{name}",
        "//v1/stream/{name}",
        "{name}",
        "/{name}",
        "own/x, {path}",
    ],
)
def test_no_fork_shows_what_the_token_may_not_read(
    back_end: BackEnd, path: str, source: str
) -> None:
    name = path.removeprefix("/v1/stream/")
    token = back_end.token("write:streams:own/", "read:streams:own/", f"write:streams:{name}")
    fork = f"/v1/stream/own/{secrets.token_hex(4)}"
    value = source.format(path=path, name=name)
    answer = token.ask("PUT", fork, None, {"stream-forked-from": value})
    assert answer.status_code in (400, 403, 404)
    assert token.ask("GET", fork).status_code == 404
    # Nor does another environment's key.
    other = back_end.with_key(OTHER_KEY)
    answer = other.ask("PUT", fork, None, {"stream-forked-from": value})
    assert answer.status_code in (400, 404)
    assert other.ask("GET", fork).status_code == 404


def test_refusals_do_not_tell_what_there_is(back_end: BackEnd, path: str) -> None:
    """To those who may not know, what is there looks like what is not."""
    token = back_end.token("read:streams:own/", "write:streams:own/")
    gone = f"{path}/deleted"
    assert back_end.ask("PUT", gone, "x", TEXT).status_code == 201
    assert back_end.ask("PUT", f"{gone}/f", None, {"stream-forked-from": gone}).status_code == 201
    assert back_end.ask("DELETE", gone).status_code == 204
    asked: list[tuple[str, dict[str, str]]] = [
        *(("GET", {}), ("HEAD", {}), ("DELETE", {}), ("POST", TEXT), ("PUT", TEXT)),
        ("POST", {**TEXT, "producer-id": "p", "producer-epoch": "0", "producer-seq": "0"}),
    ]
    for method, fields in asked:
        answers = [token.ask(method, one, "x", fields) for one in (path, f"{path}/none", gone)]
        assert len({(one.status_code, one.text) for one in answers}) == 1, method
        assert answers[0].status_code in (401, 403)
    for one in (path, f"{path}/none", gone):
        fork = token.ask("PUT", "/v1/stream/own/f", None, {"stream-forked-from": one})
        assert (fork.status_code, fork.text) == (403, "the credential does not allow this")


def test_a_run_s_token_does_not_write_its_streams(back_end: BackEnd) -> None:
    run, other = back_end.run(), back_end.run()
    stream = f"/v1/stream/runs/{run}/out"
    assert back_end.ask("PUT", stream, "[1]", JSON).status_code == 201
    reader = back_end.token(f"read:runs:{run}", f"write:runs:{run}", f"write:inputStreams:{run}")
    assert reader.ask("GET", stream).json() == [1]
    for path in (stream, f"/v1/stream/runs/{run}/$trigger.input:x", f"/v1/stream/runs/{other}/out"):
        assert reader.ask("PUT", path, "[2]", JSON).status_code == 403
        assert reader.ask("POST", path, "[2]", JSON).status_code == 403
        assert reader.ask("DELETE", path).status_code == 403
    send = f"/realtime/v1/streams/{other}/input/x"
    assert reader.ask("POST", send, {"data": 1}).status_code == 403
    writer = back_end.token("write:streams:chats/")
    send = f"/realtime/v1/streams/{run}/input/x"
    assert writer.ask("POST", send, {"data": 1}).status_code == 403
    for path in ("sessions/s/in", "sessions/s/out", f"runs/{run}/$trigger.input:x"):
        assert writer.ask("PUT", f"/v1/stream/{path}", "[2]", JSON).status_code == 403


def test_runs_whose_ids_have_slashes_are_not_mixed_up(back_end: BackEnd) -> None:
    name = secrets.token_hex(4)
    outer, inner = back_end.run(id=name), back_end.run(id=f"{name}/inner")
    back_end.db.run("select pgtide.append_to_run(%s, 'k', '\"hidden\"'::jsonb)", inner)
    token = back_end.token(f"read:runs:{outer}")
    for path in (f"{name}/inner/k", f"{name}%2Finner/k", f"{name}%252Finner/k"):
        answer = token.ask("GET", f"/v1/stream/runs/{path}")
        assert answer.status_code in (403, 404)
    answer = back_end.token(f"read:runs:{inner}").ask("GET", f"/v1/stream/runs/{name}%252Finner/k")
    assert answer.json() == ["hidden"]


def test_nothing_comes_after_a_token_s_end(back_end: BackEnd, path: str) -> None:
    """While it waits for news, however long its reader would have waited."""
    name = path.removeprefix("/v1/stream/")
    token = back_end.token(f"read:streams:{name}", expirationTime=int(time.time()) + 2)
    position = f"{START[:-1]}1"
    with (
        connected(back_end.url) as polling,
        connected(back_end.url) as following,
        connected(back_end.url) as running,
    ):
        for connection, query in (
            (polling, f"offset={position}&live=long-poll"),
            (following, f"offset={position}&live=sse"),
            (running, f"offset={position}&live=sse"),
        ):
            connection.send(head(token, "GET", f"{path}?{query}"))
        following.until(b"upToDate")
        running.until(b"upToDate")
        wait(lambda: token.ask("GET", path).status_code == 401)
        time.sleep(0.6)
        assert back_end.ask("POST", path, "hidden", TEXT).status_code == 204
        answer = polling.answer()
        assert answer.status in (204, 401)
        for connection in (following, running):
            assert b"hidden" not in connection.until(b"\r\n0\r\n\r\n")


def test_secrets_are_in_no_answer(back_end: BackEnd, path: str) -> None:
    token = back_end.token("read:streams:own/")
    for one in (token, back_end, back_end.with_key("tr_prod_of-nobody-0123456789")):
        for method, fields in (
            ("PUT", {"stream-ttl": one.key}),
            ("POST", {"producer-id": one.key}),
        ):
            answer = one.ask(method, path, one.key if one is token else "x", {**TEXT, **fields})
            if answer.status_code >= 400:
                assert one.key not in answer.text + json.dumps(dict(answer.headers))
    assert KEY not in back_end.ask("GET", f"{path}?offset={KEY}").text
