"""Subscriptions over HTTP: workers that are woken, by two nodes that may die."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
import pytest
from back_ends import KEY, OTHER_KEY, SETTINGS
from keyed_serving import keyed_serving
from metrics_page import scrape
from serving import Serving, Setting
from tables import Tables
from webhook_receiver import PATIENCE, Receiver, Woken, receiving

T = TypeVar("T")
ROOT = "/v1/stream/__ds"


@dataclass
class Back:
    """A back end, its server and its database."""

    serving: Serving
    db: Tables
    http: httpx.Client

    def ask(
        self, method: str, path: str, body: Any = None, key: str | None = KEY
    ) -> httpx.Response:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        url = path if path.startswith("http") else f"{self.serving.url}{path}"
        return self.http.request(method, url, json=body, headers=headers)

    def subscribe(self, name: str, **body: Any) -> dict[str, Any]:
        answer = self.ask("PUT", f"{ROOT}/subscriptions/{name}", body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def show(self, name: str) -> dict[str, Any]:
        return self.ask("GET", f"{ROOT}/subscriptions/{name}").json()

    def act(self, name: str, action: str, body: Any, key: str | None = KEY) -> httpx.Response:
        return self.ask("POST", f"{ROOT}/subscriptions/{name}/{action}", body, key)

    def grown(self, before: dict[str, float], metric: str, **label: str) -> float:
        """A metric, less what it was before."""
        labels = ",".join(f'{key}="{value}"' for key, value in label.items())
        place = f"{metric}{{{labels}}}" if label else metric
        return scrape(self.serving)[place] - before.get(place, 0.0)

    def append(self, path: str, environment: str = "default") -> None:
        """In plain SQL, as an application does."""
        self.db.run("select pgtide.append(%s, '{}'::jsonb, environment => %s)", path, environment)

    def acked(self, name: str) -> dict[str, str]:
        return {one["path"]: one["acked_offset"] for one in self.show(name)["streams"]}

    def call_back(self, woken: Woken, *, done: bool = True, **more: Any) -> httpx.Response:
        body = {
            "wake_id": woken.body["wake_id"],
            "generation": woken.body["generation"],
            "acks": [{"stream": path, "offset": tail} for path, tail in woken.tails.items()],
            "done": done,
            **more,
        }
        return self.ask("POST", woken.body["callback_url"], body, woken.body["callback_token"])


def until(what: Callable[[], T]) -> T:
    """What it gives once that is true."""
    deadline = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < deadline, "that takes too long"
        time.sleep(0.02)
    return found


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


@pytest.fixture(scope="module")
def back(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Back]:
    folder = tmp_path_factory.mktemp("pgtide-subscriptions")
    settings = folder / "pgtide.toml"
    settings.write_text(SETTINGS)
    given: dict[str, Setting] = {"config_file": settings, "webhook_hosts": "127.0.0.1"}
    given |= {"prometheus_port": 0, "log_level": "debug"}
    with (
        keyed_serving(server_url, folder / "pgtide", **given) as keyed,
        closing(Tables(keyed.database_url)) as tables,
        # No connection is used twice: its node may have been killed.
        httpx.Client(timeout=PATIENCE, limits=httpx.Limits(max_keepalive_connections=0)) as http,
    ):
        yield Back(keyed.serving, tables, http)


@pytest.fixture
def receiver(back: Back) -> Generator[Receiver]:
    with receiving(f"{back.serving.url}{ROOT}/jwks.json") as made:
        yield made


@pytest.fixture
def name(back: Back) -> Generator[str]:
    """Of a subscription, and of a folder of streams for it alone."""
    made = f"s{secrets.token_hex(4)}"
    yield made
    assert back.ask("DELETE", f"{ROOT}/subscriptions/{made}").status_code == 204


def hook(receiver: Receiver, name: str, **more: Any) -> dict[str, Any]:
    return {"type": "webhook", "pattern": f"{name}/**", "webhook": {"url": receiver.url}, **more}


def test_done_in_the_answer(back: Back, receiver: Receiver, name: str) -> None:
    shown = back.subscribe(name, **hook(receiver, name, description="d"))
    assert shown["webhook"]["signing"]["jwks_url"] == f"{back.serving.url}{ROOT}/jwks.json"
    back.append(f"{name}/a")
    woken = receiver.next()
    assert woken.body["callback_url"] == f"{back.serving.url}{ROOT}/subscriptions/{name}/callback"
    assert woken.body["generation"] == 1
    (stream,) = woken.body["streams"]
    assert stream == {
        "path": f"{name}/a",
        "link_type": "glob",
        "acked_offset": "-1",
        "has_pending": True,
        "tail_offset": "0000000000000000_0000000000000001",
    }
    until(lambda: back.acked(name) == woken.tails)
    assert receiver.quiet()
    back.append(f"{name}/b/c")
    assert receiver.next().body["generation"] == 2


def test_what_comes_meanwhile_wakes_again(back: Back, receiver: Receiver, name: str) -> None:
    def answer(told: dict[str, Any]) -> tuple[int, Any]:
        if told["generation"] == 1:
            back.append(f"{name}/a")
        return 200, {"done": True}

    receiver.answer = answer
    back.subscribe(name, **hook(receiver, name))
    back.append(f"{name}/a")
    first, second = receiver.next(), receiver.next()
    assert first.tails != second.tails
    until(lambda: back.acked(name) == second.tails)


def test_a_transaction_that_is_rolled_back_wakes_nobody(
    back: Back, receiver: Receiver, name: str
) -> None:
    back.subscribe(name, **hook(receiver, name))
    with back.db.transaction() as connection:
        connection.execute("select pgtide.append(%s, 'x'::text)", (f"{name}/a",))
        connection.rollback()
    assert receiver.quiet()
    back.append(f"{name}/b")
    assert list(receiver.next().tails) == [f"{name}/b"]


def test_callbacks(back: Back, receiver: Receiver, name: str) -> None:
    receiver.answer = lambda _: (202, {})
    back.subscribe(name, **hook(receiver, name))
    back.append(f"{name}/a")
    woken = receiver.next()
    assert back.call_back(woken, done=False).json() == {"ok": True, "next_wake": False}
    assert back.acked(name) == woken.tails
    back.append(f"{name}/a")
    # It is still the worker's.
    assert receiver.quiet()
    assert back.call_back(woken, acks=None).json() == {"ok": True, "next_wake": True}
    assert code(back.call_back(woken)) == (409, "FENCED")
    again = receiver.next()
    assert again.body["generation"] == 2
    for token in (woken.body["callback_token"] + "x", "x", KEY):
        body = again.body | {"callback_token": token}
        assert code(back.call_back(again._replace(body=body))) == (401, "TOKEN_INVALID")
    other = again.body | {"callback_token": woken.body["callback_token"]}
    assert code(back.call_back(again._replace(body=other))) == (409, "FENCED")
    assert back.call_back(again).json() == {"ok": True, "next_wake": False}


def test_a_lease_that_ends_wakes_again(back: Back, receiver: Receiver, name: str) -> None:
    receiver.answer = lambda _: (200, {})
    back.subscribe(name, **hook(receiver, name, lease_ttl_ms=1000))
    back.append(f"{name}/a")
    first, second = receiver.next(), receiver.next()
    assert second.body["generation"] == 2
    assert second.body["wake_id"] != first.body["wake_id"]
    assert 0.8 < second.at - first.at < 5
    assert code(back.call_back(first)) == (409, "FENCED")
    assert back.call_back(second).status_code == 200


def test_retries(back: Back, receiver: Receiver, name: str) -> None:
    answers: list[tuple[int, Any]] = [(500, {"done": True}), (302, {}), (200, {"done": True})]
    receiver.answer = lambda _: answers.pop(0)
    before = scrape(back.serving)
    back.subscribe(name, **hook(receiver, name))
    back.append(f"{name}/a")
    woken = [receiver.next(), receiver.next()]
    until(lambda: back.grown({}, "pgtide_subscriptions", state="failed") == 1)
    woken.append(receiver.next())
    assert len({one.body["wake_id"] for one in woken}) == 1
    assert 0.7 < woken[1].at - woken[0].at < 5
    assert 1.5 < woken[2].at - woken[1].at < 6
    until(lambda: back.show(name)["status"] == "active")
    assert back.acked(name) == woken[0].tails
    assert back.grown(before, "pgtide_webhooks_total", outcome="refused") == 2
    assert back.grown(before, "pgtide_webhooks_total", outcome="done") == 1
    assert back.grown(before, "pgtide_webhook_seconds_count") == 3


def test_appends_and_reads_are_counted(back: Back) -> None:
    name = f"s{secrets.token_hex(4)}"
    text = {"content-type": "text/plain", "authorization": f"Bearer {KEY}"}
    before = scrape(back.serving)
    url = f"{back.serving.url}/v1/stream/{name}/a"
    assert back.http.post(url, content=b"x", headers=text).status_code == 404
    assert back.http.put(url, headers=text).status_code == 201
    with back.http.stream("GET", f"{url}?offset=-1&live=sse", headers=text) as reader:
        lines = reader.iter_lines()
        assert back.http.post(url, content=b"first", headers=text).status_code == 204
        until(lambda: "first" in next(lines))
        until(lambda: back.grown({}, "pgtide_readers", mode="stream_sse") >= 1)
        until(lambda: back.grown({}, "pgtide_streams_followed") >= 1)
        until(lambda: back.grown({}, "pgtide_stream_remembered_bytes") >= len("first"))
    until(lambda: back.grown(before, "pgtide_stream_reads_total", source="memory") >= 1)
    assert back.http.get(url, headers=text).text == "first"
    until(lambda: back.grown(before, "pgtide_stream_reads_total", source="table") >= 1)
    appends = "pgtide_stream_appends_total"
    assert back.grown(before, appends, outcome="appended") == 1
    assert back.grown(before, appends, outcome="missing") == 1
    assert back.grown(before, "pgtide_stream_appended_messages_total") == 1
    assert back.grown(before, "pgtide_stream_appended_bytes_total") == len("first")
    assert back.grown(before, "pgtide_stream_batch_appends_sum") == 2
    assert 1 <= back.grown(before, "pgtide_stream_batch_seconds_count") <= 2


def test_a_retry_outlives_the_server(back: Back, receiver: Receiver, name: str) -> None:
    receiver.answer = lambda _: (503, {})
    back.subscribe(name, **hook(receiver, name))
    back.append(f"{name}/a")
    first = receiver.next()
    until(lambda: back.show(name)["status"] == "failed")
    back.serving.kill()
    receiver.answer = lambda _: (200, {"done": True})
    back.serving.start()
    again = receiver.next()
    assert again.body["wake_id"] == first.body["wake_id"]
    until(lambda: back.show(name)["status"] == "active")


def test_nodes_that_die_are_replaced(back: Back, receiver: Receiver, name: str) -> None:
    """Whichever of them drives: it dies while a worker is being told."""
    told, go_on = threading.Event(), threading.Event()

    def answer(_: dict[str, Any]) -> tuple[int, Any]:
        told.set()
        assert go_on.wait(PATIENCE)
        return 200, {"done": True}

    receiver.answer = answer
    back.subscribe(name, **hook(receiver, name))
    back.append(f"{name}/a")
    first = receiver.next()
    assert told.wait(PATIENCE)
    began = time.monotonic()
    for pid in back.serving.node_pids():
        back.serving.kill_node(pid)
    receiver.answer = lambda _: (200, {"done": True})
    again = receiver.next()
    go_on.set()
    assert again.body["wake_id"] == first.body["wake_id"]
    assert again.at - began < 15
    back.serving.until(lambda: back.serving.health() == '{"status":"active"}', "is not active")
    until(lambda: back.acked(name) == again.tails)


def test_nothing_is_lost_while_nodes_die(back: Back, receiver: Receiver, name: str) -> None:
    """Streams come up and grow while one worker after the other is told, and nodes are killed."""
    paths = [f"{name}/{number}" for number in range(12)]
    back.subscribe(name, **hook(receiver, name, lease_ttl_ms=1000))

    def write() -> None:
        with closing(Tables(back.db.url)) as tables:
            for _ in range(25):
                for path in paths:
                    tables.run("select pgtide.append(%s, '{}'::jsonb)", path)

    writer = threading.Thread(target=write)
    writer.start()
    receiver.next()
    for pid in back.serving.node_pids():
        back.serving.kill_node(pid)
    writer.join()
    back.serving.until(lambda: back.serving.health() == '{"status":"active"}', "is not active")
    end = "0000000000000000_0000000000000025"
    until(lambda: back.acked(name) == dict.fromkeys(paths, end))


def test_pull_wake(back: Back, name: str) -> None:
    assert back.ask("PUT", f"/v1/stream/wakes/{name}", []).status_code == 201
    asked = {"type": "pull-wake", "pattern": f"{name}/*", "wake_stream": f"wakes/{name}"}
    back.subscribe(name, **asked)
    assert code(back.act(name, "claim", {"worker": "one"})) == (409, "NO_PENDING_WORK")
    back.append(f"{name}/a")
    (event,) = until(lambda: back.ask("GET", f"/v1/stream/wakes/{name}").json())
    assert event.pop("ts") == pytest.approx(time.time() * 1000, abs=60_000)
    assert event == {
        "type": "wake",
        "subscription_id": name,
        "stream": f"{name}/a",
        "generation": 1,
    }
    claimed = back.act(name, "claim", {"worker": "one"}).json()
    busy = back.act(name, "claim", {"worker": "two"})
    assert busy.status_code == 409
    error = busy.json()["error"]
    assert error.pop("message")
    assert error == {"code": "ALREADY_CLAIMED", "current_holder": "one", "generation": 1}
    mine = {"wake_id": claimed["wake_id"], "generation": claimed["generation"]}
    assert back.act(name, "release", mine, claimed["token"]).status_code == 204
    # It goes to somebody else, since nothing was done.
    again = back.act(name, "claim", {"worker": "two"}).json()
    assert again["generation"] == 2
    assert code(back.act(name, "ack", mine, claimed["token"])) == (409, "FENCED")
    (stream,) = again["streams"]
    body = {
        "wake_id": again["wake_id"],
        "generation": 2,
        "done": True,
        "acks": [{"stream": stream["path"], "offset": stream["tail_offset"]}],
    }
    assert back.act(name, "ack", body, again["token"]).json() == {"ok": True, "next_wake": False}
    back.append(f"{name}/a")
    events = until(
        lambda: [
            one
            for one in back.ask("GET", f"/v1/stream/wakes/{name}").json()
            if one["generation"] == 3
        ]
    )
    assert len(events) == 1


def test_a_wake_stream_is_made_and_made_again(back: Back, name: str) -> None:
    wakes = f"/v1/stream/wakes/{name}"
    asked = {"type": "pull-wake", "streams": [f"{name}/a"], "wake_stream": f"wakes/{name}"}
    back.subscribe(name, **asked)
    made = back.ask("GET", wakes)
    assert (made.headers["content-type"], made.json()) == ("application/json", [])
    # An application that makes it for itself, before or after, is told that it is there.
    assert back.ask("PUT", wakes, []).status_code == 200
    assert back.ask("DELETE", wakes).status_code == 204
    back.append(f"{name}/a")
    until(lambda: back.show(name)["status"] == "failed")
    assert back.ask("PUT", f"{ROOT}/subscriptions/{name}", asked).status_code == 200
    until(lambda: back.ask("GET", wakes).json())
    assert back.show(name)["status"] == "active"
    back.db.run("select pgtide.close(%s)", f"wakes/{name}")
    answer = back.ask("PUT", f"{ROOT}/subscriptions/{name}", asked)
    assert code(answer) == (400, "INVALID_REQUEST")
    assert "wake_stream is closed" in answer.text


def test_whoever_may_ask(back: Back, receiver: Receiver, name: str) -> None:
    receiver.answer = lambda _: (200, {})
    body = hook(receiver, name)
    path = f"{ROOT}/subscriptions/{name}"
    for key in (None, "tr_prod_nobodys-key-0123456789"):
        for method, one in (("PUT", path), ("GET", path), ("DELETE", path)):
            assert back.ask(method, one, body, key).status_code == 401
        assert back.act(name, "claim", {"worker": "w"}, key).status_code == 401
        assert back.act(name, "streams", {"streams": ["a"]}, key).status_code == 401
    back.subscribe(name, **body)
    # Another environment has none of that name, and streams of its own.
    assert code(back.ask("GET", path, key=OTHER_KEY)) == (404, "SUBSCRIPTION_NOT_FOUND")
    assert back.ask("DELETE", path, key=OTHER_KEY).status_code == 204
    back.append(f"{name}/a", "other")
    assert receiver.quiet()
    back.append(f"{name}/a")
    woken = receiver.next()
    assert code(
        back.ask("POST", f"{path}x/callback", woken.body, woken.body["callback_token"])
    ) == (*(401, "TOKEN_INVALID"),)
    assert back.ask("GET", f"{ROOT}/jwks.json", key=None).status_code == 200
    text = back.ask("GET", path).text + back.serving.log
    assert woken.body["callback_token"] not in text
    ((seed,),) = back.db.run("select seed from pgtide.webhook_seed")
    assert seed not in text


def test_what_is_refused(back: Back, receiver: Receiver, name: str) -> None:
    def put(**body: Any) -> tuple[int, str]:
        return code(back.ask("PUT", f"{ROOT}/subscriptions/{name}", body))

    assert put(type="webhook") == (400, "INVALID_REQUEST")
    for url in ("http://10.0.0.1/hook", "http://localhost/", "https://169.254.169.254/"):
        rejected = put(type="webhook", pattern="a", webhook={"url": url})
        assert rejected == (400, "WEBHOOK_URL_REJECTED")
    path = f"{ROOT}/subscriptions/{name}"
    headers = {"authorization": f"Bearer {KEY}"}
    url = f"{back.serving.url}{path}"
    assert code(back.http.put(url, content=b"{", headers=headers)) == (400, "INVALID_REQUEST")
    assert code(back.ask("POST", f"{path}/streams", {"streams": ["a"]})) == (
        *(404, "SUBSCRIPTION_NOT_FOUND"),
    )
    back.subscribe(name, **hook(receiver, name))
    assert put(**hook(receiver, name, description="x")) == (409, "SUBSCRIPTION_ALREADY_EXISTS")
    assert back.ask("PUT", path, hook(receiver, name)).status_code == 200
    assert code(back.act(name, "claim", {"worker": "w"})) == (400, "INVALID_REQUEST")
    assert code(back.act(name, "streams", {"streams": []})) == (400, "INVALID_REQUEST")
    assert back.act(name, "streams", {"streams": ["x/y", "z"]}).status_code == 204
    for one in ("x%2Fy", "x/y", "z"):
        assert back.ask("DELETE", f"{path}/streams/{one}").status_code == 204
    assert back.show(name)["streams"] == []
    for other in (
        "",
        "/",
        "/subscriptions",
        "/subscriptions/a/b",
        "/a/b/c",
        f"/subscriptions/{name}/x",
    ):
        for method in ("GET", "PUT", "POST", "DELETE"):
            assert back.ask(method, f"{ROOT}{other}").status_code == 404, (method, other)
    assert back.ask("PATCH", path).status_code == 405


def test_no_secret_is_in_a_log_line_or_an_answer(back: Back, receiver: Receiver, name: str) -> None:
    """At level debug each request is a line, and what goes wrong with webhooks is always one. URLs of
    webhooks often have a secret in them: only who may see the subscription sees it."""
    receiver.answer = lambda _: (202, {})
    secret_url = f"{receiver.url}/s3cret-path?token=s3cret-token&sig=s3cret-sig"
    back.subscribe(name, **hook(receiver, name) | {"webhook": {"url": secret_url}})
    back.append(f"{name}/a")
    woken = receiver.next()
    refused = [
        back.ask("PUT", f"{ROOT}/subscriptions/{name}", hook(receiver, name, webhook={"url": url}))
        for url in (
            "https://user:s3cret-password@hooks.example/",
            "https://s3cret-user@hooks.example/",
            "http://10.0.0.1/s3cret-path",
            f"{secret_url}&s3cret-more",
        )
    ]
    tokens = (woken.body["callback_token"] + "s3cret", "s3cret-token", "a.s3cret.b")
    for token in tokens:
        forged = woken._replace(body=woken.body | {"callback_token": token})
        refused.append(back.call_back(forged))
        refused.append(back.act(name, "ack", {}, token))
        refused.append(back.ask("GET", f"/v1/stream/{name}/a", key=token))
        refused.append(back.ask("GET", f"/realtime/v1/sessions/{name}/out/records", key=token))
        refused.append(back.ask("POST", f"/realtime/v1/streams/{name}/self/a", [], key=token))
    producer = {"producer-id": "s3cret-producer", "producer-epoch": "0", "producer-seq": "7"}
    ingest = {"x-client-id": "s3cret-client", "x-resume-from-chunk": "s3cret"}
    part = {"x-part-id": "s3cret-part" * 100}
    key = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    for path, headers in (
        (f"/v1/stream/{name}/a?access_token=s3cret-token", producer),
        (f"/realtime/v1/streams/{name}/self/a?secret=s3cret-key", ingest),
        (f"/realtime/v1/sessions/{name}/neither/append?apikey=s3cret-key", part),
    ):
        url = f"{back.serving.url}{path}"
        refused.append(back.http.post(url, content=b'{"s3cret": ', headers={**key, **headers}))
        refused.append(back.http.post(url, content=b"[1]", headers={**key, **headers}))
    assert min(answer.status_code for answer in refused) >= 400
    for answer in refused:
        assert "s3cret" not in answer.text + str(answer.headers), answer.url
    # It fails from now on, in whatever way.
    receiver.answer = lambda _: (500, {"s3cret-answer": True})
    assert back.call_back(woken, acks=[]).json()["next_wake"]
    until(lambda: f"{name!r} is to be tried again" in back.serving.log)
    log = back.serving.log
    assert f"/v1/stream/{name}/a?access_token=***" in log
    assert "s3cret" not in log
    for secret in (woken.body["callback_token"], KEY):
        assert secret not in log
