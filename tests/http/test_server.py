"""What is not about shapes: routes, health, CORS, request ids."""

from __future__ import annotations

import http.client
import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from follower import ask
from serving import Serving
from tables import Tables

EXPOSED = {
    "electric-cursor",
    "electric-handle",
    "electric-has-data",
    "electric-offset",
    "electric-schema",
    "electric-up-to-date",
    "electric-internal-known-error",
    "retry-after",
}


@pytest.fixture(scope="module")
def items(tables: Tables) -> str:
    return tables.make("id int primary key")


def raw(server: Serving, method: str, path: str) -> http.client.HTTPResponse:
    """A request whose path goes out as it is."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=20)
    connection.request(method, path)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response


def test_health(server: Serving) -> None:
    answer = httpx.get(f"{server.url}/v1/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "active"})
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache, no-store, must-revalidate"
    head = httpx.head(f"{server.url}/v1/health")
    assert (head.status_code, head.text) == (200, "")


def test_before_postgres_is_there(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    serving = Serving("postgresql://nobody@127.0.0.1:1/nothing", tmp_path / "pgtide", port=port)
    url = f"http://127.0.0.1:{port}"
    serving.launch()
    try:
        serving.until(lambda: health_of(url) == (202, {"status": "starting"}), "does not listen")
        answer = ask(url, table="items", offset=-1)
        assert answer.status == 503
        assert answer.headers["retry-after"] == "5"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.error["message"]
    finally:
        serving.stop()
    serving.check_log()


def health_of(url: str) -> tuple[int, object]:
    try:
        answer = httpx.get(f"{url}/v1/health")
    except httpx.HTTPError as error:
        return 0, str(error)
    return answer.status_code, answer.json()


def test_root(server: Serving) -> None:
    answer = httpx.get(server.url)
    assert (answer.status_code, answer.text) == (200, "")
    assert answer.headers["cache-control"] == "max-age=0, private, must-revalidate"
    assert httpx.head(server.url).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nowhere"),
        ("GET", "/v1"),
        ("GET", "/v1/shapes"),
        ("GET", "/v1/shape/more"),
        ("POST", "/"),
        ("POST", "/v1/health"),
        ("PUT", "/nowhere"),
        ("GET", "/V1/SHAPE"),
        ("GET", "/demo/page/page.js"),
        ("GET", "/v1/../etc/passwd"),
    ],
)
def test_nothing_there(server: Serving, method: str, path: str) -> None:
    answer = httpx.request(method, f"{server.url}{path}")
    assert (answer.status_code, answer.text) == (404, "Not found")
    assert answer.headers["cache-control"] == "max-age=0, private, must-revalidate"
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("path", ["/v1/shape", "/v1/shape/", "//v1//shape", "/v1/%73hape"])
def test_spellings_of_the_path(server: Serving, items: str, path: str) -> None:
    assert raw(server, "GET", f"{path}?table={items}&offset=-1").status == 200
    assert raw(server, "GET", f"{path}?offset=-1").status == 400


@pytest.mark.parametrize("origin", [None, "https://example.org"])
def test_cors(server: Serving, items: str, origin: str | None) -> None:
    sent = {} if origin is None else {"origin": origin}
    answers = [
        ask(server.url, headers=sent, table=items, offset=-1),
        ask(server.url, headers=sent, table=items, offset="0_0", handle="1-1"),
        ask(server.url, headers=sent, table=items, offset="x"),
        ask(server.url, headers=sent, method="DELETE", table=items),
    ]
    assert [answer.status for answer in answers] == [200, 409, 400, 405]
    for answer in answers:
        headers = answer.headers
        assert headers["access-control-allow-origin"] == (origin or "*")
        assert set(headers["access-control-expose-headers"].split(",")) == EXPOSED
        assert headers["access-control-allow-methods"] == "GET, POST, HEAD, DELETE, OPTIONS"
        assert "access-control-allow-credentials" not in headers
    health = httpx.get(f"{server.url}/v1/health", headers=sent)
    assert health.headers["access-control-allow-origin"] == (origin or "*")
    assert health.headers["access-control-allow-methods"] == "GET, HEAD"


def test_preflight(server: Serving) -> None:
    wanted = "authorization, content-type,if-none-match, x-mine_1, last-event-id"
    answer = ask(
        server.url,
        method="OPTIONS",
        headers={
            "origin": "https://example.org",
            "access-control-request-method": "GET",
            "access-control-request-headers": f"{wanted}, no token",
        },
    )
    assert (answer.status, answer.text) == (204, "")
    assert "cache-control" not in answer.headers
    assert answer.headers["access-control-allow-origin"] == "https://example.org"
    assert answer.headers["access-control-max-age"] == "86400"
    assert answer.headers["access-control-allow-methods"] == "GET, POST, HEAD, DELETE, OPTIONS"
    allowed = {name.strip() for name in answer.headers["access-control-allow-headers"].split(",")}
    assert allowed == {name.strip() for name in wanted.split(",")}
    plain = ask(server.url, method="OPTIONS")
    assert plain.status == 204
    assert "access-control-allow-headers" not in plain.headers


def test_request_id(server: Serving, items: str) -> None:
    def given(sent: str | None) -> str:
        headers = {} if sent is None else {"x-request-id": sent}
        answer = ask(server.url, headers=headers, table=items, offset=-1)
        return answer.headers["x-request-id"]

    mine = "mine-" + "0123456789" * 3
    assert given(mine) == mine
    made = [given(None), given(None), given("too-short"), given("x" * 201), given("a blank" * 5)]
    assert len(set(made)) == 5
    for one in made:
        assert re.fullmatch(r"[!-~]{20,200}", one)


def test_server_header(server: Serving) -> None:
    for path in ("/", "/v1/health", "/v1/shape", "/nowhere"):
        answer = httpx.get(f"{server.url}{path}")
        assert answer.headers["electric-server"]
        assert answer.headers["x-request-id"]


def test_many_requests_on_one_connection(server: Serving, items: str) -> None:
    with httpx.Client(limits=httpx.Limits(max_connections=1)) as client:
        for _ in range(200):
            assert ask(server.url, http=client, table=items, offset=-1).status == 200


def test_long_query(server: Serving, items: str) -> None:
    where = " or ".join(f"id = {number}" for number in range(700))
    assert 8000 < len(where) < 10000
    assert ask(server.url, table=items, offset=-1, where=where).status == 200


@pytest.mark.parametrize(
    "request_line",
    [b"GET\r\n\r\n", b"\x00\x01\x02\r\n\r\n", b"GET /%zz?%=% HTTP/1.1\r\nhost: x\r\n\r\n"],
)
def test_what_is_no_request(server: Serving, items: str, request_line: bytes) -> None:
    address = (urlsplit(server.url).hostname, urlsplit(server.url).port)
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(request_line)
        first = connection.recv(100)
        assert first.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")) or first == b""
    assert ask(server.url, table=items, offset=-1).status == 200
