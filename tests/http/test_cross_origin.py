"""What browsers of other origins may see and send, and which path leads where."""

from __future__ import annotations

import http.client
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from follower import ask
from serving import Serving
from tables import Tables

ORIGIN = "https://app.example"
EXPOSED = {
    *("electric-cursor", "electric-handle", "electric-has-data", "electric-offset"),
    *("electric-schema", "electric-up-to-date", "electric-internal-known-error", "retry-after"),
}


@pytest.fixture(scope="module")
def items(cached_tables: Tables) -> str:
    return cached_tables.make("id int primary key, label text")


def exchange(
    server: Serving, method: str, target: str, headers: dict[str, str] | None = None, body: str = ""
) -> tuple[int, dict[str, str], str]:
    """Status, headers and body of a request whose path goes out as it is."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=20)
    connection.request(method, target, body=body or None, headers=headers or {})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    names = {name.lower(): value for name, value in response.getheaders()}
    return response.status, names, text


@pytest.fixture(scope="module")
def secret_of(secret: str) -> str:
    """As it goes into a URL."""
    return quote(secret, safe="")


@pytest.mark.parametrize("origin", [None, ORIGIN, "null"])
@pytest.mark.parametrize(
    ("method", "target", "status", "body"),
    [
        ("GET", "/v1/shape?table={t}&offset=-1&secret={s}", 200, ""),
        ("GET", "/v1/shape?table={t}&offset=now&secret={s}&subset__where=true", 200, ""),
        ("POST", "/v1/shape?table={t}&offset=-1&secret={s}", 200, "{}"),
        ("OPTIONS", "/v1/shape?table={t}&offset=-1", 204, ""),
        ("GET", "/v1/shape?offset=-1&secret={s}", 400, ""),
        ("POST", "/v1/shape?table={t}&offset=-1&secret={s}", 400, "no JSON"),
        ("GET", "/v1/shape?table={t}&offset=-1", 401, ""),
        ("HEAD", "/v1/shape?table={t}&offset=-1", 401, ""),
        ("DELETE", "/v1/shape?table={t}", 401, ""),
        ("DELETE", "/v1/shape?table={t}&where=id=0&secret={s}", 404, ""),
        ("GET", "/v1/shape?table={t}&offset=0_0&handle=1-1&secret={s}", 409, ""),
        ("GET", "/nowhere", 404, ""),
        ("GET", "/v1/health", 200, ""),
        ("GET", "/", 200, ""),
    ],
)
def test_every_answer_may_be_read(
    cached: Serving,
    items: str,
    secret_of: str,
    origin: str | None,
    method: str,
    target: str,
    status: int,
    body: str,
) -> None:
    sent = {} if origin is None else {"origin": origin}
    target = target.format(t=items, s=secret_of)
    found, headers, _ = exchange(cached, method, target, sent, body)
    assert found == status
    assert headers["access-control-allow-origin"] == (origin or "*")
    assert set(headers["access-control-expose-headers"].split(",")) == EXPOSED
    shape = "GET, POST, HEAD, DELETE, OPTIONS"
    methods = shape if "/v1/shape" in target else "GET, HEAD"
    assert headers["access-control-allow-methods"] == methods
    assert "access-control-allow-credentials" not in headers
    assert headers["electric-server"]
    assert len(headers["x-request-id"]) >= 20


def test_what_may_not_be_asked_may_be_read_too(server: Serving, tables: Tables) -> None:
    """405, which only a server that lets nobody delete has."""
    name = tables.make("id int primary key")
    answer = ask(server.url, method="DELETE", table=name, headers={"origin": ORIGIN})
    assert answer.status == 405
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["cache-control"] == "no-cache"


def test_preflight_needs_no_secret_and_is_for_shapes_only(cached: Serving) -> None:
    wanted = {
        "origin": ORIGIN,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,traceparent,if-none-match,authorization",
    }
    status, headers, text = exchange(cached, "OPTIONS", "/v1/shape", wanted)
    assert (status, text) == (204, "")
    allowed = headers["access-control-allow-headers"].split(",")
    assert sorted(one.strip() for one in allowed) == [
        *("authorization", "content-type", "if-none-match", "traceparent")
    ]
    assert headers["access-control-max-age"] == "86400"
    assert "cache-control" not in headers
    for path in ("/", "/v1/health", "/nowhere"):
        assert exchange(cached, "OPTIONS", path, wanted)[0] == 404
    for names in ("no token", "b\xe4d", '"quoted"', ","):
        odd = wanted | {"access-control-request-headers": names}
        headers = exchange(cached, "OPTIONS", "/v1/shape", odd)[1]
        assert "access-control-allow-headers" not in headers, names


SHAPE_PATHS = [
    "/v1/shape",
    "/v1/shape/",
    "/v1//shape",
    "//v1/shape",
    "/v1/shape//",
    "/v1/%73hape",
    "/%76%31/sh%61pe",
]
OTHER_PATHS = [
    "/v1/./shape",
    "/v1/x/../shape",
    "/v1/%2e/shape",
    "/v1/%2e%2e/v1/shape",
    "/v1/shape/.",
    "/v1/shape;x",
    "/v1/shape%00",
    "/v1/shape/x",
    "/v1/SHAPE",
    "/v1/shap%C3%A9",
    "/v1/sh%ffape",
]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
@pytest.mark.parametrize("path", SHAPE_PATHS)
def test_the_secret_is_wanted_wherever_shapes_are(
    cached: Serving, items: str, path: str, method: str
) -> None:
    target = f"{path}?table={items}&offset=-1"
    assert exchange(cached, method, target)[0] == 401
    assert exchange(cached, method, f"{target}&secret=wrong")[0] == 401
    in_body = '{"secret": "open sesame/&"}'
    assert exchange(cached, method, target, body=in_body)[0] == 401


@pytest.mark.parametrize("path", SHAPE_PATHS)
def test_ways_to_shapes(cached: Serving, items: str, secret_of: str, path: str) -> None:
    status, headers, _ = exchange(
        cached, "GET", f"{path}?table={items}&offset=-1&secret={secret_of}"
    )
    assert status == 200
    assert headers["electric-handle"]


@pytest.mark.parametrize("path", OTHER_PATHS)
def test_ways_to_nothing(cached: Serving, items: str, secret_of: str, path: str) -> None:
    for query in ("", f"?table={items}&offset=-1", f"?table={items}&offset=-1&secret={secret_of}"):
        status, headers, text = exchange(cached, "GET", path + query)
        assert (status, text) == (404, "Not found")
        assert headers["cache-control"] == "max-age=0, private, must-revalidate"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE"])
def test_other_methods_lead_nowhere(
    cached: Serving, items: str, secret_of: str, method: str
) -> None:
    target = f"/v1/shape?table={items}&offset=-1&secret={secret_of}"
    assert exchange(cached, method, target)[::2] == (404, "Not found")


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("secret={}", 200),
        ("api_secret={}", 200),
        ("api_secret=x&secret={}", 200),
        ("%73ecret={}", 200),
        ("secret=x&secret={}", 200),
        ("secret={}&secret=x", 401),
        ("secret=x&api_secret={}", 401),
        ("secret={}x", 401),
        ("Secret={}", 401),
        ("secret%00={}", 401),
        ("secret[]={}", 401),
        ("subset__secret={}", 401),
    ],
)
def test_ways_to_give_the_secret(
    cached: Serving, items: str, secret_of: str, query: str, status: int
) -> None:
    target = f"/v1/shape?table={items}&offset=-1&{query.format(secret_of)}"
    found, headers, text = exchange(cached, "GET", target)
    assert found == status
    if status == 401:
        assert text == '{"message":"Unauthorized - Invalid API secret"}'
        assert headers["cache-control"] == "max-age=0, private, must-revalidate"


def test_a_wrong_secret_says_nothing_else(cached: Serving) -> None:
    """Neither whether a table is there nor what is wrong with a request."""
    given: list[dict[str, Any]] = [
        {"table": "nowhere", "offset": -1},
        {"offset": "x"},
        {"table": "nowhere", "offset": "0_0", "handle": "1-1", "live": True},
    ]
    answers = {ask(cached.url, **one).text for one in given}
    assert answers == {'{"message":"Unauthorized - Invalid API secret"}'}
