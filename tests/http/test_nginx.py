"""deploy/nginx.conf in front of pgtide: what it keeps, what it passes on, what it hides."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
from access_tokens import SECRET_KEY, public_token
from follower import Answer, Follower, ask, changes_of, events
from guarded import Guarded
from serving import Serving
from tables import Tables

from bench.nginx import SITE, Nginx, open_nginx


@pytest.fixture
def items(cached_tables: Tables) -> str:
    """A table with one row."""
    name = cached_tables.make("id int primary key, label text")
    cached_tables.run(f"insert into {name} values (1, 'one')")
    return name


def cache(answer: Answer) -> str:
    """What nginx says about where the answer came from."""
    return answer.headers.get("x-proxy-cache", "")


def asked_for(nginx: Nginx, table: str, answered: int) -> list[tuple[str, str]]:
    """Method and offset of the requests about a table that pgtide got, once so many are answered."""
    found = nginx.wait_for(answered, lambda line: line.fields["table"] == table)
    return [(line.method, line.fields["offset"]) for line in found if line.origin]


def test_compose_can_change_the_address() -> None:
    text = SITE.read_text()
    assert text.count("127.0.0.1:3000") == 1
    compose = (SITE.parents[1] / "docker-compose.yml").read_text()
    assert "sed 's/127.0.0.1:3000/pgtide:3000/' /pgtide.conf" in compose
    assert "./deploy/nginx.conf:/pgtide.conf:ro" in compose


# -- what it keeps ---------------------------------------------------------------------------------


def test_first_chunk_is_kept(nginx: Nginx, items: str) -> None:
    first, second = (ask(nginx.url, table=items, offset=-1) for _ in range(2))
    assert (first.status, cache(first)) == (200, "MISS")
    assert (second.status, cache(second)) == (200, "HIT")
    assert second.text == first.text
    for name in (
        *("electric-handle", "electric-offset", "electric-schema", "electric-has-data"),
        *("etag", "cache-control", "content-type"),
    ):
        assert second.headers[name] == first.headers[name]
    head = ask(nginx.url, method="HEAD", table=items, offset=-1)
    assert (cache(head), head.text, head.handle) == ("HIT", "", first.handle)
    assert asked_for(nginx, items, 3) == [("GET", "-1")]


def test_many_first_requests_are_one(nginx: Nginx, items: str) -> None:
    with ThreadPoolExecutor(20) as threads:
        asked = [threads.submit(ask, nginx.url, table=items, offset=-1) for _ in range(20)]
        answers = [one.result() for one in asked]
    assert {answer.status for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert asked_for(nginx, items, 20) == [("GET", "-1")]


def test_all_chunks_are_kept(nginx: Nginx, cached_tables: Tables) -> None:
    name = cached_tables.make("id int primary key, label text")
    cached_tables.run(
        f"insert into {name} select i, repeat('x', 150) from generate_series(1, 200) i"
    )
    readers = [Follower(nginx.url, name) for _ in range(3)]
    answered = 0
    for reader in readers:
        while not reader.live:
            reader.step()
            answered += 1
        assert len(reader.rows) == 200
        assert reader.rows == readers[0].rows
    requests = asked_for(nginx, name, answered)
    assert len(requests) == len(set(requests)) == answered // 3 > 4


def test_live_answer_is_kept(nginx: Nginx, cached_tables: Tables, items: str) -> None:
    reader = Follower(nginx.url, items).sync()
    cached_tables.run(f"insert into {items} values (2, 'two')")
    first, second = (reader.request(live=True, cursor="") for _ in range(2))
    assert (cache(first), cache(second)) == ("MISS", "HIT")
    assert [one["value"]["id"] for one in changes_of(second.messages)] == ["2"]
    assert second.headers["electric-cursor"] == first.headers["electric-cursor"]


def test_errors_are_not_kept(nginx: Nginx, items: str) -> None:
    for _ in range(2):
        answer = ask(nginx.url, table=items, offset=-1, where="nothing = 1")
        assert (answer.status, cache(answer)) == (400, "MISS")
        assert answer.headers["cache-control"] == "no-store"
        assert list(answer.error["errors"]) == ["where"]


def test_equal_bad_requests_at_once(nginx: Nginx, items: str) -> None:
    """One after the other, since there is nothing to be shared; all are told."""
    with ThreadPoolExecutor(4) as threads:
        bad: dict[str, Any] = {"table": items, "offset": -1, "where": "nothing = 2"}
        asked = [threads.submit(ask, nginx.url, **bad) for _ in range(4)]
        assert {one.result().status for one in asked} == {400}
    assert asked_for(nginx, items, 4) == [("GET", "-1")] * 4


def test_redirect_is_kept(nginx: Nginx, items: str) -> None:
    answers = [ask(nginx.url, table=items, offset="0_0", handle="1-1") for _ in range(2)]
    assert [(one.status, cache(one)) for one in answers] == [(409, "MISS"), (409, "HIT")]
    assert answers[0].handle == answers[1].handle


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_revalidation(nginx: Nginx, items: str, encoding: str) -> None:
    accept = {"accept-encoding": encoding}
    first = ask(nginx.url, table=items, offset=-1, headers=accept)
    etag = {"if-none-match": first.headers["etag"]} | accept
    again = ask(nginx.url, table=items, offset=-1, headers=etag)
    assert (again.status, again.text) == (304, "")
    assert again.headers["etag"].removeprefix("W/") == first.headers["etag"].removeprefix("W/")
    other = {"if-none-match": '"other"'} | accept
    assert ask(nginx.url, table=items, offset=-1, headers=other).status == 200
    assert asked_for(nginx, items, 3) == [("GET", "-1")]


# -- what it passes on -----------------------------------------------------------------------------


def test_posts_are_passed_on(nginx: Nginx, items: str) -> None:
    for _ in range(2):
        answer = ask(nginx.url, method="POST", table=items, offset=-1)
        assert cache(answer) == ""
        assert answer.headers["cache-control"] == "no-cache"
    assert asked_for(nginx, items, 2) == [("POST", "-1")] * 2


def test_deletes_are_passed_on(nginx: Nginx, cached: Serving, items: str, secret: str) -> None:
    handle = ask(nginx.url, table=items, offset=-1).handle
    assert ask(nginx.url, method="DELETE", table=items).status == 202
    gone = ask(cached.url, table=items, offset="0_0", handle=handle, secret=secret)
    assert gone.status == 409


def test_preflights_are_passed_on(nginx: Nginx) -> None:
    wanted = {
        "origin": "https://example.org",
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,if-none-match",
    }
    answer = ask(nginx.url, method="OPTIONS", headers=wanted)
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "content-type" in answer.headers["access-control-allow-headers"]


def test_subsets_neither_are_kept_nor_wait_for_each_other(nginx: Nginx, items: str) -> None:
    subset: dict[str, Any] = {"table": items, "offset": "now", "subset__where": "id = 1"}
    for _ in range(2):
        answer = ask(nginx.url, **subset)
        assert cache(answer) == "BYPASS"


def test_health_is_never_kept(nginx: Nginx) -> None:
    for _ in range(2):
        assert httpx.get(f"{nginx.url}/v1/health").json() == {"status": "active"}
    found = nginx.wait_for(2, lambda line: line.path == "/v1/health")
    assert [line.origin for line in found] == ["200", "200"]


def test_events_are_passed_on_at_once(nginx: Nginx, cached_tables: Tables, items: str) -> None:
    reader = Follower(nginx.url, items).sync()
    place = {**reader.parameters, "offset": reader.offset, "handle": reader.handle}
    with events(nginx.url, **place) as one, events(nginx.url, **place) as other:
        for number in (2, 3):
            cached_tables.run(f"insert into {items} values ({number}, 'x')")
            for stream in (one, other):
                assert stream.answer.headers["content-type"] == "text/event-stream"
                batch = stream.next_batch()
                assert [change["value"]["id"] for change in changes_of(batch)] == [str(number)]


def test_other_paths(nginx: Nginx) -> None:
    assert httpx.get(nginx.url).status_code == 200
    nothing = httpx.get(f"{nginx.url}/nowhere")
    assert (nothing.status_code, nothing.text) == (404, "Not found")


def test_long_urls_and_wide_tables(nginx: Nginx, cached_tables: Tables) -> None:
    names = [f"{'a_rather_long_name_of_a_column_' * 2}{number:03}"[:63] for number in range(400)]
    names = [f"{name[:55]}_{number}" for number, name in enumerate(names)]
    table = cached_tables.make("id int primary key, " + ", ".join(f"{one} int" for one in names))
    answer = ask(nginx.url, table=table, offset=-1)
    assert answer.status == 200
    assert len(answer.headers["electric-schema"]) > 30_000
    where = " or ".join(f"id = {number}" for number in range(2000))
    assert len(where) > 20_000
    assert ask(nginx.url, table=table, offset=-1, where=where).status == 200


# -- what browsers and clients see of it -----------------------------------------------------------


def test_one_answer_serves_all_origins(nginx: Nginx, items: str) -> None:
    """Were the first one's origin kept with the answer, browsers would refuse it to all others."""
    for origin in ("https://one.example", "https://other.example", None):
        headers = {} if origin is None else {"origin": origin}
        answer = ask(nginx.url, table=items, offset=-1, headers=headers)
        assert answer.headers["access-control-allow-origin"] == "*"
        exposed = answer.headers["access-control-expose-headers"].split(",")
        assert {"electric-handle", "electric-offset", "electric-schema"} <= set(exposed)
    assert cache(answer) == "HIT"


def test_request_ids(nginx: Nginx, items: str) -> None:
    mine = "mine-0123456789012345678901234567"
    ids = [
        ask(nginx.url, table=items, offset=-1, headers=headers).headers["x-request-id"]
        for headers in ({"x-request-id": mine}, {}, {"x-request-id": "short"})
    ]
    assert ids[0] == mine
    assert len(set(ids)) == 3, "an answer from the cache had the id of another request"
    assert "short" not in ids


def test_the_secret_is_added(nginx: Nginx, cached: Serving, items: str, secret: str) -> None:
    assert ask(cached.url, table=items, offset=-1).status == 401
    wrongs: list[dict[str, Any]] = [{}, {"secret": "x"}, {"api_secret": "x"}, {"secret": ""}]
    for wrong in wrongs:
        answer = ask(nginx.url, table=items, offset=-1, **wrong)
        assert answer.status == 200
        assert secret not in str(answer.headers) + answer.text
    # Only for shapes, however the path is written.
    for path in ("/v1/shape/", "/x/../v1/shape/"):
        assert httpx.get(f"{nginx.url}{path}?table={items}&offset=-1").status_code == 401


def test_compression(nginx: Nginx, cached_tables: Tables) -> None:
    name = cached_tables.make("id int primary key, label text")
    cached_tables.run(f"insert into {name} select i, 'x' from generate_series(1, 50) i")
    answers = {
        encoding: ask(nginx.url, table=name, offset=-1, headers={"accept-encoding": encoding})
        for encoding in ("gzip", "identity")
    }
    assert answers["gzip"].headers["content-encoding"] == "gzip"
    assert "content-encoding" not in answers["identity"].headers
    assert answers["gzip"].text == answers["identity"].text
    assert cache(answers["identity"]) == "HIT"
    for answer in answers.values():
        assert answer.headers["vary"].lower() == "accept-encoding"


@pytest.mark.usefixtures("nginx_program")
def test_without_compression(cached: Serving, items: str, secret: str, tmp_path: Path) -> None:
    port = urlsplit(cached.url).port
    assert port is not None
    with open_nginx(tmp_path, port, secret=quote(secret, safe=""), gzip="gzip off;") as plain:
        first = ask(plain.url, table=items, offset=-1, headers={"accept-encoding": "gzip"})
        assert "content-encoding" not in first.headers
        assert first.headers["etag"].startswith('"')
        wanted = {"if-none-match": first.headers["etag"]}
        assert ask(plain.url, table=items, offset=-1, headers=wanted).status == 304
        assert asked_for(plain, items, 2) == [("GET", "-1")]


@pytest.mark.usefixtures("nginx_program")
def test_readers_with_tokens_share_nothing(guarded: Guarded, tmp_path: Path) -> None:
    table = guarded.tables.make("id int primary key")
    port = urlsplit(guarded.url).port
    assert port is not None
    tokens = [
        public_token(SECRET_KEY, None, shapes=[{"table": f"public.{table}", "where": where}])
        for where in ("id < 10", "id >= 10")
    ]
    guarded.tables.run(f"insert into {table} values (1), (11)")
    with open_nginx(tmp_path, port) as bare:
        for _ in range(2):
            for number, token in zip(("1", "11"), tokens, strict=True):
                headers = {"authorization": f"Bearer {token}"}
                answer = ask(bare.url, table=table, offset=-1, headers=headers)
                assert (answer.status, cache(answer)) == (200, "BYPASS")
                assert [row["value"]["id"] for row in changes_of(answer.messages)] == [number]
        assert ask(bare.url, table=table, offset=-1).status == 401


class _Mirror(http.server.BaseHTTPRequestHandler):
    """Answers with the headers that it was sent."""

    def do_GET(self) -> None:
        body = "\n".join(f"{name.lower()}: {value}" for name, value in self.headers.items())
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


@contextmanager
def mirror() -> Generator[int]:
    """The port of a server that shows what it is sent."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Mirror)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.usefixtures("nginx_program")
def test_what_is_sent_on_and_what_is_said_without_pgtide(tmp_path: Path) -> None:
    mine = "mine-0123456789012345678901234567"
    with mirror() as port, open_nginx(tmp_path, port) as nginx:
        headers = {
            "x-request-id": mine,
            "origin": "https://example.org",
            "accept-encoding": "gzip",
            "x-forwarded-for": "192.0.2.1",
            "authorization": "Bearer x",
        }
        answer = httpx.get(f"{nginx.url}/v1/shape?offset=-1", headers=headers)
        sent = dict(line.split(": ", 1) for line in answer.text.split("\n"))
        assert sent["x-request-id"] == mine
        assert sent["x-forwarded-for"] == "192.0.2.1, 127.0.0.1"
        assert sent["x-real-ip"] == "127.0.0.1"
        assert sent["host"] == urlsplit(nginx.url).netloc
        assert sent["authorization"] == "Bearer x"
        assert not sent.keys() & {"origin", "accept-encoding"}
    with open_nginx(tmp_path / "down", port) as nginx:
        answer = ask(nginx.url, table="items", offset=-1)
        assert answer.status == 503
        assert "message" in answer.text
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["retry-after"] == "2"
