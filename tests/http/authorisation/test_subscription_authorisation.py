"""Who may do what with subscriptions: each route with every kind of credential."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple, cast

import pytest
from credentials import bearers, local, refused
from decided_routes import NO_USE
from guarded_server import KEY, STAGING, Guarded, restricted_key

from shapes.http.api.routes import SecretKey, Unchecked
from shapes.http.streams.subscription_routes import subscription_routes

ROOT = "/v1/stream/__ds"
ONE = f"{ROOT}/subscriptions/matrix"
BODY = {"type": "pull-wake", "streams": ["matrix/a"], "wake_stream": "matrix/wake"}
TABLES = ("subscriptions", "subscription_streams")


class Row(NamedTuple):
    """A request for back ends; `status` is what the environment's key gets, `foreign` what another
    one's does."""

    method: str
    path: str
    body: Any
    status: int
    foreign: int


ROWS = (
    Row("PUT", ONE, BODY, 200, 201),
    Row("GET", ONE, None, 200, 404),
    Row("HEAD", ONE, None, 200, 404),
    Row("POST", f"{ONE}/streams", {"streams": ["matrix/b"]}, 204, 404),
    Row("DELETE", f"{ONE}/streams/matrix%2Fb", None, 204, 404),
    Row("DELETE", f"{ONE}/streams/matrix/b", None, 204, 404),
    Row("POST", f"{ONE}/claim", {"worker": "w"}, 409, 404),
    Row("DELETE", ONE, None, 204, 204),
)
OWN = (f"{ONE}/callback", f"{ONE}/ack", f"{ONE}/release")
"""For whoever has the token of a wake, and for nobody else."""

rows = pytest.mark.parametrize("row", ROWS, ids=[f"{row.method} {row.path}" for row in ROWS])


@pytest.fixture(autouse=True)
def subscription(guarded: Guarded) -> Generator[None]:
    key = f"Bearer {KEY}"
    assert guarded.ask("PUT", ONE, key, BODY).status == 201
    yield
    for one in (key, f"Bearer {STAGING}"):
        assert guarded.ask("DELETE", ONE, one).status == 204


def content(guarded: Guarded) -> list[Any]:
    """Without what a node forgets by itself a while after the last change."""
    rows = "select (to_jsonb(t) - 'changed_at')::text from pgtide.{} as t order by 1"
    return [guarded.execute(rows.format(name)) for name in TABLES]


def test_every_route_is_decided() -> None:
    nothing = cast("Any", None)
    routes = subscription_routes(nothing, nothing, nothing, None)
    access = {(method, one.pattern): one.access for one in routes for method in one.methods}
    one = f"{ROOT}/subscriptions/{{id}}"
    keys = {
        *(("PUT", one), ("GET", one), ("HEAD", one), ("DELETE", one), ("POST", f"{one}/claim")),
        *(("POST", f"{one}/streams"), ("DELETE", f"{one}/streams/{{path}}")),
        ("DELETE", f"{one}/streams/{{path*}}"),
    }
    open_to_all = {
        *(("POST", f"{one}/callback"), ("POST", f"{one}/ack"), ("POST", f"{one}/release")),
        *(("GET", f"{ROOT}/jwks.json"), ("HEAD", f"{ROOT}/jwks.json")),
    }
    # There is nothing behind these.
    rest = {key for key in access if key[1] in (ROOT, f"{ROOT}/{{rest*}}")}
    assert {key for key, kind in access.items() if kind == SecretKey()} == keys
    assert {key for key, kind in access.items() if kind == Unchecked()} == open_to_all | rest
    assert set(access) == keys | open_to_all | rest


@rows
def test_what_is_no_credential_is_refused(guarded: Guarded, row: Row) -> None:
    before = content(guarded)
    for credential in refused():
        reply = guarded.ask(row.method, row.path, credential.header, row.body)
        assert reply.status == 401, credential.name
    # Whatever tokens say, subscriptions are for back ends; and keys with scopes do not reach them.
    for scopes in (("admin",), ("write:streams",), ("*:all",)):
        reply = guarded.ask(row.method, row.path, f"Bearer {local(*scopes)}", row.body)
        assert reply.status == 401, scopes
    reply = guarded.ask(row.method, row.path, f"Bearer {restricted_key(*NO_USE)}", row.body)
    assert reply.status == 403
    assert content(guarded) == before


@rows
def test_the_environments_keys_are_served(guarded: Guarded, row: Row) -> None:
    for good in bearers():
        if not good.public:
            reply = guarded.ask(row.method, row.path, good.header, row.body)
            assert reply.status == row.status, good.name
    assert guarded.ask(row.method, row.path, f"Bearer {STAGING}", row.body).status == row.foreign


def test_no_credential_does_for_the_token_of_a_wake(guarded: Guarded) -> None:
    before = content(guarded)
    body: dict[str, Any] = {"wake_id": None, "generation": 0, "acks": [], "done": True}
    headers = [one.header for one in (*refused(), *bearers())]
    for path in OWN:
        for header in headers:
            reply = guarded.ask("POST", path, header, body)
            assert (reply.status, reply.json["error"]["code"]) == (401, "TOKEN_INVALID")
    assert content(guarded) == before


def test_everybody_may_have_the_public_keys(guarded: Guarded) -> None:
    reply = guarded.ask("GET", f"{ROOT}/jwks.json")
    assert reply.status == 200
    assert all(set(key) == {"kty", "crv", "x", "kid", "use", "alg"} for key in reply.json["keys"])
    # One of each environment, and none for a key that has ended.
    assert len(reply.json["keys"]) >= 2
