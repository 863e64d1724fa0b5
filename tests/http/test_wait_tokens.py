"""Wait tokens over HTTP: made by back ends, completed by browsers, back ends and callbacks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import jwt
import orjson
import pytest
from back_ends import OTHER_KEY, BackEnd

TOKENS = "/api/v1/waitpoints/tokens"


def create(back_end: BackEnd, **body: Any) -> dict[str, Any]:
    answer = back_end.ask("POST", TOKENS, body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def retrieve(back_end: BackEnd, token: str) -> dict[str, Any]:
    answer = back_end.ask("GET", f"{TOKENS}/{token}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def complete(back_end: BackEnd, token: str, body: Any) -> Any:
    answer = back_end.ask("POST", f"{TOKENS}/{token}/complete", body)
    return answer.status_code, answer.json()


DONE = (200, {"success": True})


def test_the_life_of_a_token(back_end: BackEnd) -> None:
    before = datetime.now(UTC)
    made = create(back_end, timeout="1h", tags=["a", "b"])
    assert made["id"].startswith("waitpoint_")
    assert made["isCached"] is False
    waiting = retrieve(back_end, made["id"])
    timeout = datetime.fromisoformat(waiting.pop("timeoutAt"))
    assert timedelta(minutes=59) < timeout - before < timedelta(minutes=61)
    assert abs(datetime.fromisoformat(waiting.pop("createdAt")) - before) < timedelta(minutes=1)
    assert waiting == {
        "id": made["id"],
        "url": made["url"],
        "status": "WAITING",
        "tags": ["a", "b"],
    }
    assert complete(back_end, made["id"], {"data": {"ok": [1, None]}}) == DONE
    assert complete(back_end, made["id"], {"data": "late"}) == DONE
    done = retrieve(back_end, made["id"])
    assert (done["status"], done["output"], done["outputType"], done["outputIsError"]) == (
        "COMPLETED",
        '{"ok":[1,null]}',
        "application/json",
        False,
    )
    assert done["completedAt"] >= done["createdAt"]


def test_only_the_first_counts(back_end: BackEnd) -> None:
    token = create(back_end)["id"]
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(complete, back_end, token, {"data": n}) for n in range(16)]
        assert [one.result() for one in asked] == [DONE] * 16
    first = retrieve(back_end, token)["output"]
    assert complete(back_end, token, {"data": 99}) == DONE
    assert retrieve(back_end, token)["output"] == first != "99"


def test_nothing_as_the_output(back_end: BackEnd) -> None:
    bodies: tuple[Any, ...] = (None, {})
    for body in bodies:
        token = create(back_end)["id"]
        assert complete(back_end, token, body) == DONE
        done = retrieve(back_end, token)
        assert (done["status"], "output" in done) == ("COMPLETED", False)


@pytest.mark.parametrize("timeout", ["0s", "2020-01-01T00:00:00.000Z"])
def test_timed_out_by_the_clock(back_end: BackEnd, timeout: str) -> None:
    token = create(back_end, timeout=timeout)["id"]
    assert complete(back_end, token, {"data": 1}) == DONE
    over = retrieve(back_end, token)
    assert (over["status"], over["outputIsError"]) == ("TIMED_OUT", True)
    assert orjson.loads(over["output"])["code"] == "TRIGGER_WAITPOINT_TIMEOUT"
    assert over["timeoutAt"] in orjson.loads(over["output"])["message"]


def test_a_browser_completes_its_own_token_alone(back_end: BackEnd) -> None:
    made = back_end.ask("POST", TOKENS, {})
    mine, other = made.json()["id"], create(back_end)["id"]
    text = made.headers["x-trigger-jwt"]
    claims = jwt.decode(text, options={"verify_signature": False})
    assert claims["scopes"] == [f"write:waitpoints:{mine}"]
    assert claims["exp"] - claims["iat"] == 86400
    assert orjson.loads(made.headers["x-trigger-jwt-claims"]) == {"sub": "default", "pub": True}
    browser = back_end.with_key(text)
    assert complete(browser, other, {"data": 1})[0] == 403
    assert complete(browser, "waitpoint_none", {"data": 1})[0] == 403
    assert complete(back_end.token("read:waitpoints"), mine, {"data": 1})[0] == 403
    assert retrieve(back_end, mine)["status"] == "WAITING"
    assert complete(browser, mine, {"data": 1}) == DONE
    for path in (TOKENS, f"{TOKENS}/{mine}"):
        assert browser.ask("GET", path).status_code == 401
    assert browser.ask("POST", TOKENS, {}).status_code == 401


def test_cross_origin(back_end: BackEnd) -> None:
    token = create(back_end)["id"]
    path = f"{TOKENS}/{token}/complete"
    asked = {
        "origin": "https://app",
        "access-control-request-headers": "authorization,x-trigger-source",
    }
    preflight = back_end.ask("OPTIONS", path, headers=asked)
    assert preflight.is_success
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    answer = back_end.ask("POST", path, {"data": 1}, {"origin": "https://app"})
    assert answer.headers["access-control-allow-origin"] in ("*", "https://app")
    assert "x-trigger-jwt" in answer.headers["access-control-expose-headers"].lower() or (
        answer.headers["access-control-expose-headers"] == "*"
    )


def test_other_environments_have_other_tokens(back_end: BackEnd) -> None:
    other = back_end.with_key(OTHER_KEY)
    token = create(back_end, idempotencyKey=(key := str(uuid4())))["id"]
    assert complete(other, token, {"data": 1}) == (404, {"error": "Not found"})
    assert other.ask("GET", f"{TOKENS}/{token}").status_code == 404
    assert create(other, idempotencyKey=key)["id"] != token
    assert retrieve(back_end, token)["status"] == "WAITING"


def test_idempotency_keys(back_end: BackEnd) -> None:
    key = str(uuid4())
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(create, back_end, idempotencyKey=key) for _ in range(8)]
        made = [one.result() for one in asked]
    assert len({one["id"] for one in made}) == 1
    assert sorted(one["isCached"] for one in made) == [False] + [True] * 7
    # Until it expires.
    brief = {"idempotencyKey": str(uuid4()), "idempotencyKeyTTL": "0s"}
    once, again = create(back_end, **brief), create(back_end, **brief)
    assert once["id"] != again["id"]
    assert again["isCached"] is False


def test_a_request_that_is_repeated_makes_one_token(back_end: BackEnd) -> None:
    key = {"x-trigger-request-idempotency-key": str(uuid4())}
    once, again = (back_end.ask("POST", TOKENS, {}, key).json() for _ in range(2))
    assert (once["id"], again["isCached"]) == (again["id"], False)
    assert create(back_end)["id"] != once["id"]


@pytest.mark.parametrize(
    ("body", "output", "kind"),
    [
        (b'{"from": "a webhook"}', '{"from": "a webhook"}', "application/json"),
        (b"approved=yes&by=me", "approved=yes&by=me", "text/plain"),
        (b"", None, None),
    ],
)
def test_the_callback(back_end: BackEnd, body: bytes, output: str | None, kind: str | None) -> None:
    made = create(back_end)
    assert made["url"].startswith(f"{back_end.url}{TOKENS}/{made['id']}/callback/")
    answer = back_end.ask("POST", made["url"], body)
    assert (answer.status_code, answer.json()) == DONE
    done = retrieve(back_end, made["id"])
    assert (done["status"], done.get("output"), done.get("outputType")) == (
        "COMPLETED",
        output,
        kind,
    )
    assert back_end.ask("POST", made["url"], b'"late"').status_code == 200
    assert retrieve(back_end, made["id"]).get("output") == output


def test_a_callback_cannot_be_guessed(back_end: BackEnd) -> None:
    mine, victim = create(back_end), create(back_end)
    forged = mine["url"].replace(mine["id"], victim["id"])
    for url in (forged, victim["url"][:-1], f"{victim['url']}x", victim["url"] + "é"):
        assert back_end.ask("POST", url, b"1").status_code == 404, url
    assert back_end.ask("GET", victim["url"]).status_code == 405
    assert back_end.ask("POST", victim["url"], b"\xff\xfe").status_code == 400
    assert back_end.ask("POST", victim["url"], b"a\0b").status_code == 400
    assert retrieve(back_end, victim["id"])["status"] == "WAITING"


def test_addresses_behind_a_proxy(back_end: BackEnd) -> None:
    proxied = {"host": "tide.example.com", "x-forwarded-proto": "https"}
    made = back_end.ask("POST", TOKENS, {}, proxied).json()
    assert made["url"].startswith(f"https://tide.example.com{TOKENS}/")
    nonsense = back_end.ask("POST", TOKENS, {}, {"host": "a b/<c>"})
    assert nonsense.status_code == 400


def test_pages_and_filters(back_end: BackEnd) -> None:
    tag = str(uuid4())
    ids = [create(back_end, tags=[tag, f"n{n}"])["id"] for n in range(5)]
    complete(back_end, ids[0], {"data": 1})
    mine = {"filter[tags]": tag}

    def page(**query: str) -> dict[str, Any]:
        answer = back_end.ask("GET", TOKENS, query={**mine, **query})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def names(found: dict[str, Any]) -> list[str]:
        return [one["id"] for one in found["data"]]

    latest = ids[::-1]
    first = page(**{"page[size]": "2"})
    second = page(**{"page[size]": "2", "page[after]": first["pagination"]["next"]})
    third = page(**{"page[size]": "2", "page[after]": second["pagination"]["next"]})
    assert [names(one) for one in (first, second, third)] == [latest[:2], latest[2:4], latest[4:]]
    assert "previous" not in first["pagination"]
    assert "next" not in third["pagination"]
    back = page(**{"page[size]": "2", "page[before]": third["pagination"]["previous"]})
    assert names(back) == latest[2:4]
    assert names(page(**{"filter[status]": "COMPLETED"})) == ids[:1]
    assert names(page(**{"filter[status]": "WAITING,TIMED_OUT"})) == latest[:4]
    assert names(page(**{"filter[createdAt][period]": "1h"})) == latest
    assert names(page(**{"filter[createdAt][to]": "1000"})) == []
    assert "output" not in page()["data"][-1]


@pytest.mark.parametrize(
    "query",
    [
        {"page[size]": "0"},
        {"page[size]": "000000001999"},
        {"page[size]": "x"},
        {"page[after]": "%"},
        {"filter[status]": "DONE"},
        {"filter[createdAt][period]": "soon"},
        {"filter[createdAt][from]": "9" * 30},
    ],
)
def test_pages_that_are_none(back_end: BackEnd, query: dict[str, str]) -> None:
    assert back_end.ask("GET", TOKENS, query=query).status_code == 400


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"timeout": "soon"}, 400),
        ({"timeout": 5}, 400),
        ({"idempotencyKey": "x" * 2049}, 400),
        ({"idempotencyKey": 5}, 400),
        ({"idempotencyKey": "x", "idempotencyKeyTTL": "?"}, 400),
        ({"tags": [1]}, 400),
        ({"tags": ["x" * 129]}, 400),
        ({"tags": [str(n) for n in range(11)]}, 422),
        ([], 400),
    ],
)
def test_what_is_refused(back_end: BackEnd, body: Any, status: int) -> None:
    assert back_end.ask("POST", TOKENS, body).status_code == status
