"""Who may read and write which stream: every method with every kind of credential."""

from __future__ import annotations

from itertools import cycle
from typing import Any, cast

import pytest
from access_tokens import public_token
from credentials import EXPIRED, bearers, issued, local, own, refused
from decided_routes import NO_USE
from decided_scopes import NOTHING, ones
from guarded_server import (
    BATCH,
    KEY,
    OTHER_TAG,
    OTHER_TASK,
    RUN,
    STAGING,
    TAG,
    TASK,
    Guarded,
    Reply,
    restricted_key,
)
from late_answers import while_locked

from engine.configuration.settings import Settings
from shapes.access.authority import ENDED, Authority
from shapes.http.api.routes import Needs
from shapes.http.streams.stream_api import PATTERN, StreamServices, make_stream_api

MOUNT = "/v1/stream/"
PATH = "matrix/a/b"
OF_RUN = f"runs/{RUN}/ai"
TEXT = {"content-type": "text/plain"}

READS = (
    ("GET", "", 200),
    ("HEAD", "", 200),
    ("GET", "?offset=-1", 200),
    ("GET", "?offset=now", 200),
    ("GET", "?offset=-1&live=long-poll", 200),
    ("GET", "?offset=-1&live=sse", 200),
)
WRITES = (("POST", "", 204), ("PUT", "", 200))

WRITTEN = ones(
    *(
        f"{action}:streams{one}"
        for action in ("write", "*")
        for one in ("", f":{PATH}", ":matrix/")
    ),
    *("write:streams:matrix/a/", "write:all", "*:all", "admin"),
)
READ = tuple(tuple(one.replace("write:", "read:") for one in scopes) for scopes in WRITTEN)
NOT_WRITTEN = (
    *ones(
        *("write:streams:matrix", "write:streams:matrix/a", "write:streams:matrix/a/b/"),
        *("write:streams:matrix/a/bc", "write:streams:atrix/", "write:streams:/", "write:streams:"),
        *("write:streams:Matrix/", "write:streams:matrix/*", "write:streams:matrix%2Fa/"),
        *(
            "write:runs",
            f"write:runs:{RUN}",
            "write:shapes",
            "append:streams",
            f"{PATH}",
            "streams",
        ),
    ),
    *NOTHING,
)
NOT_READ = tuple(tuple(one.replace("write:", "read:") for one in scopes) for scopes in NOT_WRITTEN)
RUN_READ = ones(
    *(f"read:runs:{RUN}", "read:runs", f"read:tasks:{TASK}", "read:tasks", f"read:tags:{TAG}"),
    *(f"read:tags:{OTHER_TAG}", "read:tags", f"read:batch:{BATCH}", "read:batch", "read:all"),
    *(f"read:streams:runs/{RUN}/", "read:streams:runs/", f"read:streams:{OF_RUN}", "*:runs"),
)
RUN_NOT_READ = (
    *ones(
        *(f"write:runs:{RUN}", f"read:runs:{RUN}/ai", "read:runs:runs", f"read:runs:{RUN[:-1]}"),
        *(
            f"read:tasks:{OTHER_TASK}",
            "read:tags:x",
            f"read:streams:runs/{RUN}",
            "read:streams:run",
        ),
    ),
    *NOTHING,
)


@pytest.fixture(autouse=True)
def streams(guarded: Guarded) -> None:
    """One of everybody's, and one of a run that is closed, so that live reads of it end."""
    made = ask(guarded, "PUT", PATH, f"Bearer {KEY}", body="secret text", headers=TEXT)
    assert made.status in (200, 201)
    made = ask(guarded, "PUT", OF_RUN, f"Bearer {KEY}", headers={**TEXT, "stream-closed": "true"})
    assert made.status in (200, 201)


def ask(
    guarded: Guarded,
    method: str,
    path: str,
    credential: str | None,
    query: str = "",
    body: str | None = None,
    headers: dict[str, str] | None = None,
) -> Reply:
    if body is None and method == "POST":
        body = "more"
    return guarded.ask(method, f"{MOUNT}{path}{query}", credential, body, headers or TEXT)


def quick(query: str) -> str:
    """Event streams of open streams would last."""
    return query if "sse" not in query else "?offset=-1&live=long-poll"


def test_every_method_needs_a_scope() -> None:
    nothing = cast(Any, None)
    services = StreamServices(nothing, nothing, nothing, nothing)
    settings = Settings()
    api = make_stream_api(settings, nothing, Authority(settings), nothing, nothing, services)
    actions = {method: route.access for route in api.routes for method in route.methods}
    assert set(actions) == {"GET", "HEAD", "PUT", "POST", "DELETE"}
    for method, access in actions.items():
        assert isinstance(access, Needs), method
        assert access.action == ("read" if method in ("GET", "HEAD") else "write")
    assert {route.pattern for route in api.routes} == {PATTERN}


def test_what_is_no_credential_is_refused(guarded: Guarded) -> None:
    before = guarded.content()
    for method, query, _ in (*READS, *WRITES, ("DELETE", "", 204)):
        for credential in refused():
            reply = ask(guarded, method, PATH, credential.header, query)
            assert reply.status == 401, (method, credential.name)
            assert reply.body.decode() == ("" if method == "HEAD" else credential.message)
            assert reply.headers["x-content-type-options"] == "nosniff"
            assert reply.headers["cache-control"] == "no-store"
        for name in ("token", "secret", "access_token"):
            reply = ask(guarded, method, PATH, None, f"{query or '?'}&{name}={KEY}")
            assert reply.status == 401, (method, name)
    assert guarded.content() == before


def test_what_may_do_everything_is_served(guarded: Guarded) -> None:
    for good in bearers():
        for method, query, status in (*READS, *WRITES):
            reply = ask(guarded, method, PATH, good.header, quick(query))
            assert reply.status == status, (method, query, good.name, reply)
        gone = f"{PATH}/gone"
        assert ask(guarded, "PUT", gone, good.header).status == 201
        assert ask(guarded, "DELETE", gone, good.header).status == 204


def test_scopes_that_suffice_are_served_and_others_are_not(guarded: Guarded) -> None:
    makers = cycle((local, own, issued))
    for scopes, make in zip(WRITTEN, makers, strict=False):
        for method, query, status in WRITES:
            reply = ask(guarded, method, PATH, f"Bearer {make(*scopes)}", query)
            assert reply.status == status, (method, scopes, reply)
    for scopes, make in zip(READ, makers, strict=False):
        for method, query, status in READS[:3]:
            reply = ask(guarded, method, PATH, f"Bearer {make(*scopes)}", query)
            assert reply.status == status, (method, scopes, reply)
    before = guarded.content()
    for denied, asked in (
        ((*NOT_WRITTEN, *ones("read:streams")), (*WRITES, ("DELETE", "", 204))),
        ((*NOT_READ, *ones("write:streams")), READS),
    ):
        for scopes, make in zip(denied, makers, strict=False):
            for method, query, _ in asked:
                reply = ask(guarded, method, PATH, f"Bearer {make(*scopes)}", query)
                assert reply.status == 403, (method, scopes, reply)
                missing = ask(guarded, method, f"{PATH}c", f"Bearer {make(*scopes)}", query)
                if "bc" not in str(scopes):
                    # Whether there is such a stream makes no difference.
                    assert (missing.status, missing.body) == (403, reply.body)
    assert guarded.content() == before
    for method, query, _ in (*READS, *WRITES):
        reply = ask(guarded, method, PATH, f"Bearer {restricted_key(*NO_USE)}", query)
        assert reply.status == 403, method


def test_whoever_may_read_a_run_may_read_its_streams(guarded: Guarded) -> None:
    makers = cycle((local, own, issued))
    for scopes, make in zip(RUN_READ, makers, strict=False):
        for method, query, _ in READS:
            reply = ask(guarded, method, OF_RUN, f"Bearer {make(*scopes)}", query)
            assert reply.status < 300, (method, query, scopes, reply)
        if "streams" not in scopes[0] and scopes[0] != "*:runs":
            for method in ("POST", "PUT", "DELETE"):
                reply = ask(guarded, method, OF_RUN, f"Bearer {make(*scopes)}")
                assert reply.status == 403, (method, scopes, reply)
    for scopes, make in zip(RUN_NOT_READ, makers, strict=False):
        for method, query, _ in READS:
            reply = ask(guarded, method, OF_RUN, f"Bearer {make(*scopes)}", query)
            assert reply.status == 403, (method, scopes, reply)
    # A stream that is only called like it is none of the run.
    reply = ask(guarded, "GET", f"runs/{RUN}", f"Bearer {local(f'read:runs:{RUN}')}")
    assert reply.status == 403
    reply = ask(guarded, "GET", f"x/runs/{RUN}/ai", f"Bearer {local(f'read:runs:{RUN}')}")
    assert reply.status == 403


def test_a_fork_needs_the_right_to_read_its_source(guarded: Guarded) -> None:
    for number, (scopes, status) in enumerate(
        (
            (("write:streams:mine/",), 403),
            (("write:streams:mine/", "read:streams:mine/", "write:streams:matrix/"), 403),
            (("write:streams:mine/", "read:streams:matrix/"), 201),
            (("read:streams",), 403),
            (("write:streams", "read:streams"), 201),
        )
    ):
        for spelling, source in enumerate(
            (f"{MOUNT}{PATH}", PATH, f"/{PATH}", f"{MOUNT}matrix/%61/b")
        ):
            fork = f"mine/{number}/{spelling}"
            headers = {"stream-forked-from": source}
            reply = ask(guarded, "PUT", fork, f"Bearer {local(*scopes)}", headers=headers)
            assert reply.status == status, (scopes, source, reply)
    # Whether there is a source is told to those who may read it.
    headers = {"stream-forked-from": f"{MOUNT}matrix/none"}
    for scopes, status in ((("write:streams",), 403), (("write:streams", "read:streams"), 404)):
        reply = ask(guarded, "PUT", "mine/x", f"Bearer {local(*scopes)}", headers=headers)
        assert reply.status == status


def test_another_environment_has_streams_of_its_own(guarded: Guarded) -> None:
    token = public_token(STAGING, ["admin"], environment="staging")
    for credential in (f"Bearer {STAGING}", f"Bearer {token}"):
        for method, query, _ in READS:
            assert ask(guarded, method, PATH, credential, query).status == 404
        assert ask(guarded, "POST", PATH, credential).status == 404
        assert ask(guarded, "DELETE", PATH, credential).status == 404
        headers = {"stream-forked-from": f"{MOUNT}{PATH}"}
        assert ask(guarded, "PUT", "fork", credential, headers=headers).status == 404
        assert ask(guarded, "PUT", PATH, credential, body="theirs").status == 201
        assert b"theirs" not in ask(guarded, "GET", PATH, f"Bearer {KEY}").body
        assert ask(guarded, "GET", PATH, credential).body == b"theirs"
        assert ask(guarded, "DELETE", PATH, credential).status == 204


def test_a_producer_that_may_not_write_is_not_told_403(guarded: Guarded) -> None:
    """The npm client takes every 403 for a stale epoch, and tries the next one without end."""
    headers = {**TEXT, "producer-id": "p", "producer-epoch": "0", "producer-seq": "0"}
    reply = ask(guarded, "POST", PATH, f"Bearer {local('read:streams')}", headers=headers)
    assert reply.status == 401


@pytest.mark.parametrize(
    "path",
    [
        *("matrix//a/b", "matrix/a/b/", "matrix/./a/b", "other/../matrix/a/b", "matrix/a%2fb"),
        *(
            "matrix%2Fa/b",
            "other/%2e%2e/matrix/a/b",
            "matrix/a/b%00",
            "matrix/a/%ff",
            "",
            "%2e",
            ".",
        ),
    ],
)
def test_other_spellings_of_a_path_are_no_stream(guarded: Guarded, path: str) -> None:
    for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
        for credential in (f"Bearer {KEY}", f"Bearer {local('*:streams:other/')}", None):
            assert ask(guarded, method, path, credential).status == 404, method


def test_a_page_that_had_to_be_waited_for_ends_with_the_credential(guarded: Guarded) -> None:
    path = "matrix/late"
    assert ask(guarded, "PUT", path, f"Bearer {KEY}", body="text").status == 201

    def read(one: Guarded, credential: str) -> Reply:
        return ask(one, "GET", path, credential, query="?offset=-1")

    reply = while_locked(guarded, "pgtide.stream_chunks", "read:streams", read, 0.7)
    if EXPIRED in reply.body.decode():
        # Here it takes longer to be let in.
        reply = while_locked(guarded, "pgtide.stream_chunks", "read:streams", read, 15)
    assert (reply.status, reply.body.decode()) == (401, ENDED)
