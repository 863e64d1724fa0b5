"""Every route with every kind of credential: no cell is undecided."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import Any, cast

import pytest
from access_tokens import public_token
from credentials import UNKNOWN, bearers, issued, local, own, refused
from decided_route import LIMITED_KEYS, SCOPES, Decided
from decided_routes import DECIDED, NO_USE, SEALED
from decided_streams import TOLD
from guarded_server import BELOW, FOREIGN, KEY, RUN, STAGING, Guarded, Reply, restricted_key

from engine.configuration.settings import Settings
from shapes.access.authority import Authority
from shapes.access.leases import Leases
from shapes.http.api.assembly import make_api
from shapes.http.api.routes import AnyCredential, Needs, SecretKey, Unchecked
from shapes.http.api.trigger_streams import TriggerStreams
from shapes.http.streams.stream_api import StreamServices
from shapes.streams.live.event_streams import EventStreams
from shapes.streams.live.hub import StreamHub

FORBIDDEN = {
    "error": "Unauthorized",
    "code": "unauthorized",
    "param": "access_token",
    "type": "authorization",
}
SIGNED: tuple[Callable[..., str], ...] = (local, own, issued)

rows = pytest.mark.parametrize("row", DECIDED, ids=[row.name for row in DECIDED])


def test_every_route_is_decided() -> None:
    """A route that is added to the code has to be added to the table."""
    nothing = cast(Any, None)
    authority = Authority(Settings())
    hub, leases = StreamHub(nothing, nothing), Leases(authority)
    services = StreamServices(nothing, nothing, hub, EventStreams(hub, nothing, leases))
    streams = TriggerStreams(Settings(), nothing, leases, services)
    routes = make_api(
        *(Settings(), nothing, nothing, authority, nothing, nothing, streams.routes)
    ).routes
    there = {(method, route.pattern) for route in routes for method in route.methods}
    decided = {(row.method, row.pattern) for row in DECIDED} | set(SEALED)
    decided |= {("HEAD", pattern) for method, pattern in decided if method == "GET"} | set(TOLD)
    assert there == decided
    access = {(method, one.pattern): one.access for one in routes for method in one.methods}
    for row in DECIDED:
        kind = access[row.method, row.pattern]
        match row.access:
            case "secret keys":
                assert kind == SecretKey(), row.name
            case "secret keys, also with scopes":
                assert kind == SecretKey(restricted=True), row.name
            case _:
                assert isinstance(kind, Needs | AnyCredential), row.name
    assert all(access[one] == SecretKey() for one in TOLD)
    assert {key for key, one in access.items() if isinstance(one, Unchecked)} == set(SEALED) | {
        ("HEAD", pattern) for method, pattern in SEALED if method == "GET"
    }


@rows
def test_what_is_no_credential_is_refused(guarded: Guarded, row: Decided) -> None:
    before = guarded.content()
    for credential in refused():
        reply = ask(guarded, row, credential.header)
        assert (reply.status, reply.json) == (401, {"error": credential.message}), credential.name
    for name in ("token", "access_token", "secret", "api_secret", "authorization", "apiKey"):
        path = f"{row.path}{'&' if '?' in row.path else '?'}{name}={KEY}"
        reply = guarded.ask(row.method, path, None, row.body, row.headers)
        assert (reply.status, reply.json) == (401, {"error": "Invalid or Missing API key"}), name
    for header in ("x-api-key", "x-authorization", "cookie", "proxy-authorization"):
        reply = guarded.ask(
            row.method, row.path, None, row.body, {**(row.headers or {}), header: f"Bearer {KEY}"}
        )
        assert reply.status == 401, header
    assert guarded.content() == before


@rows
def test_what_may_do_everything_is_served(guarded: Guarded, row: Decided) -> None:
    for good in bearers():
        if row.before:
            guarded.execute(row.before)
        reply = ask(guarded, row, good.header)
        if good.public and row.access != SCOPES:
            # Like any key that nobody knows.
            assert (reply.status, reply.json) == (401, {"error": UNKNOWN}), good.name
        else:
            assert reply.status == row.status, (good.name, reply)


@rows
def test_scopes_that_suffice_are_served_and_others_are_not(guarded: Guarded, row: Decided) -> None:
    if row.access == SCOPES:
        made = zip(row.granted, cycle(SIGNED), strict=False)
        replies = ask_with_each(guarded, row, [f"Bearer {make(*scopes)}" for scopes, make in made])
        for scopes, reply in zip(row.granted, replies, strict=True):
            assert reply.status == row.status, (scopes, reply)
    before = guarded.content()
    for scopes, make in zip(row.denied, cycle(SIGNED), strict=False):
        if row.access == SCOPES:
            reply = ask(guarded, row, f"Bearer {make(*scopes)}")
            assert (reply.status, reply.json) == (403, FORBIDDEN), scopes
    assert guarded.content() == before


@rows
def test_keys_with_scopes_are_held_to_them(guarded: Guarded, row: Decided) -> None:
    before = guarded.content()
    for scopes in (NO_USE, *(row.denied if row.access == LIMITED_KEYS else ())):
        if not all(scopes):
            continue
        reply = ask(guarded, row, f"Bearer {restricted_key(*scopes)}")
        assert reply.status == 403, (scopes, reply)
        if row.access == LIMITED_KEYS:
            assert reply.json == {
                "error": "The key does not have the scopes read:runs:x",
                "code": "scopes_exceed_key_access",
                "deniedScopes": ["read:runs:x"],
            }
        else:
            assert reply.json == FORBIDDEN
    assert guarded.content() == before
    for scopes in row.granted if row.access == LIMITED_KEYS else row.granted[:1]:
        reply = ask(guarded, row, f"Bearer {restricted_key(*scopes)}")
        assert reply.status == row.status, (scopes, reply)


@rows
def test_another_environment_does_not_see_this_one(guarded: Guarded, row: Decided) -> None:
    credentials = [f"Bearer {STAGING}"]
    if row.access == SCOPES:
        token = public_token(STAGING, ["admin"], environment="staging")
        credentials.append(f"Bearer {token}")
    for credential in credentials:
        reply = ask(guarded, row, credential)
        status, body = row.foreign
        assert reply.status == status, reply
        assert body is ... or reply.json == {**reply.json, **body}
        assert RUN.encode() not in reply.body
    if row.method == "GET" and row.status == 200:
        # And this one does not see that one.
        assert FOREIGN.encode() not in ask(guarded, row, f"Bearer {KEY}").body


@pytest.mark.parametrize("row", [row for row in DECIDED if row.method == "GET"], ids=str)
def test_a_head_request_is_judged_like_its_get(guarded: Guarded, row: Decided) -> None:
    credentials = [f"Bearer {KEY}", f"Bearer {local(*row.denied[0])}" if row.denied else None]
    for credential in (*credentials, *(one.header for one in refused()[:12])):
        get = ask(guarded, row, credential)
        head = guarded.ask("HEAD", row.path, credential)
        assert (head.status, head.body) == (get.status, b"")


def test_only_keys_are_told_how_far_a_writer_has_come(guarded: Guarded) -> None:
    for target in ("self", "parent", "root"):
        path = f"/realtime/v1/streams/{BELOW}/{target}/ai"
        for good in bearers():
            assert guarded.ask("HEAD", path, good.header).status == (401 if good.public else 200)
        for bad in refused():
            assert guarded.ask("HEAD", path, bad.header).status == 401, bad.name
        assert guarded.ask("HEAD", path, f"Bearer {restricted_key(*NO_USE)}").status == 403
        assert guarded.ask("HEAD", path, f"Bearer {STAGING}").status == 404


@pytest.mark.parametrize("row", DECIDED, ids=[row.name for row in DECIDED])
def test_other_methods_are_refused_without_looking_at_the_credential(
    guarded: Guarded, row: Decided
) -> None:
    there = {one.method for one in DECIDED if one.pattern == row.pattern}
    for method in sorted({"GET", "POST", "PUT", "PATCH", "DELETE"} - there):
        for credential in (None, f"Bearer {KEY}"):
            reply = guarded.ask(method, row.path, credential, row.body, row.headers)
            assert (reply.status, reply.json) == (405, {"error": "Method not allowed"}), method


@pytest.mark.parametrize("credential", [None, "Bearer x", f"Bearer {KEY}", f"Bearer {STAGING}"])
def test_without_its_seal_an_address_opens_nothing(
    guarded: Guarded, credential: str | None
) -> None:
    for path in (
        "/api/v1/waitpoints/tokens/waitpoint_matrix/callback/x",
        "/api/v1/waitpoints/tokens/waitpoint_none/callback/x",
    ):
        reply = guarded.ask("POST", path, credential, {"a": 1})
        assert (reply.status, reply.json) == (404, {"error": "Not found"})
    data = "/api/v1/packet-data/default/0123%2Fpacket.json"
    for query in ("", "?expires=9999999999", "?expires=9999999999&seal=x", "?seal="):
        for method in ("GET", "PUT"):
            reply = guarded.ask(method, data + query, credential)
            assert (reply.status, reply.json) == (
                403,
                {"error": "this address was not given out here"},
            )


def ask(guarded: Guarded, row: Decided, credential: str | None) -> Reply:
    return guarded.ask(row.method, row.path, credential, row.body, row.headers)


def ask_with_each(guarded: Guarded, row: Decided, credentials: list[str]) -> list[Reply]:
    """Side by side if each takes its time."""

    def ask_alone(credential: str) -> Reply:
        return guarded.ask_alone(row.method, row.path, credential, row.body, row.headers)

    if not row.lasts:
        return [ask(guarded, row, one) for one in credentials]
    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(ask_alone, credentials))
