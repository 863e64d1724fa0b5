"""Other spellings of what the straight path would refuse."""

from __future__ import annotations

import pytest
from credentials import local
from guarded_server import DELAYED, KEY, RUN, TAG, TASK, Guarded
from raw import RawAnswer, connected

FORBIDDEN = (
    b'{"error":"Unauthorized","code":"unauthorized","param":"access_token","type":"authorization"}'
)


def send(guarded: Guarded, first: bytes, *headers: bytes, body: bytes = b"") -> RawAnswer:
    """One request whose first line and headers are written by hand."""
    if body or not first.startswith((b"GET", b"HEAD")):
        headers = (*headers, b"content-length: %d" % len(body))
    lines = [first, b"host: localhost", b"connection: close", *headers, b"", body]
    with connected(guarded.url) as connection:
        connection.send(b"\r\n".join(lines))
        return connection.answer(bodyless=first.startswith(b"HEAD"))


def with_token(guarded: Guarded, first: bytes, *scopes: str) -> RawAnswer:
    token = local(*scopes)
    guarded.note(token)
    return send(guarded, first, b"authorization: Bearer " + token.encode())


OTHER = "run_of_the_token"


@pytest.mark.parametrize(
    "path",
    [
        f"//realtime/v1/runs/{RUN}",
        f"/realtime//v1/runs/{RUN}",
        f"/realtime/v1/runs//{RUN}",
        f"/realtime/v1/runs/{RUN}/",
        f"/realtime/v1/runs/{RUN}//",
        f"/realtime/v1/runs/./{RUN}",
        f"/realtime/v1/runs/{OTHER}/../{RUN}",
        f"/realtime/v1/runs/{OTHER}/%2e%2e/{RUN}",
        f"/realtime/v1/runs/{OTHER}/%2E%2E/{RUN}",
        f"/realtime/v1/runs/{OTHER}/.%2e/{RUN}",
        f"/realtime/v1/runs/{OTHER}%2f..%2f{RUN}",
        f"/realtime/v1/runs/{OTHER}%2F..%2F{RUN}",
        f"/realtime/v1/runs/{OTHER}%252f..%252f{RUN}",
        f"/realtime/v1/runs/..%2fruns%2f{RUN}",
        f"/realtime/v1/x/../runs/{RUN}",
        f"/api/../realtime/v1/runs/{RUN}",
        f"/x/../api/v3/runs/{RUN}",
        f"/realtime/v1/runs/{RUN};x",
        f"/realtime/v1/runs/{RUN};/{OTHER}",
        f"/realtime/v1/runs;x/{RUN}",
        f"/realtime/v1/runs/{RUN}%00",
        f"/realtime/v1/runs/%00{RUN}",
        f"/realtime/v1/runs/{RUN}%ff",
        f"/realtime/v1/runs/{RUN}%c0%af",
        f"/realtime/v1/runs/{RUN}%",
        f"/realtime/v1/runs/{RUN}%zz",
        f"/realtime/v1/runs/{RUN}%20",
        f"/realtime/v1/runs/%20{RUN}",
        f"/realtime/v1/runs/{RUN}%0a",
        f"/realtime/v1/runs/{RUN}%0d%0ax-a:%20b",
        f"/realtime/v1/runs/{RUN}+",
        f"/realtime/v1/runs/{RUN.upper()}",
        f"/realtime/v1/runs/{RUN.replace('_', '%255f')}",
        f"/realtime/v1/runs/{RUN}%27%20or%20%27a%27=%27a",
        f"/realtime/v1/runs/{RUN}%27%20--",
        f"/realtime/v1/runs/{RUN}%22",
        f"/realtime/v1/runs/%7B{RUN}%7D",
        "/realtime/v1/runs/*",
        "/realtime/v1/runs/%25",
        "/realtime/v1/runs/_",
        "/realtime/v1/runs/run_%25",
        f"/realtime/v1/runs/{RUN},{OTHER}",
        f"/realtime/v1/runs/{OTHER},{RUN}",
        "/realtime/v1/runs/null",
        "/realtime/v1/runs/$1",
        f"/REALTIME/v1/runs/{RUN}",
        f"/realtime/V1/runs/{RUN}",
        f"/realtime/v1/Runs/{RUN}",
        f"/realtime/v1%2fruns/{RUN}",
        f"/realtime%2fv1%2fruns%2f{RUN}",
        f"/%2frealtime/v1/runs/{RUN}",
        f"/realtime\\v1\\runs\\{RUN}",
        f"/realtime/v1/runs/%5c{RUN}",
        f"/v1/shape/../../realtime/v1/runs/{RUN}",
        f"/realtime/v1/streams/{OTHER}/../{RUN}/default",
        f"/realtime/v1/streams/{OTHER}%2f..%2f{RUN}/default",
        f"/realtime/v1/streams/{RUN}//default",
        f"/realtime/v1/streams/{RUN}/default/",
        f"/realtime/v1/streams/{RUN}/a%2fb",
        f"/realtime/v1/streams/{RUN}%2Fdefault",
        f"/realtime/v1/streams/{RUN}/input",
        f"/realtime/v1/sessions/{OTHER}/../{RUN}/out",
        f"/realtime/v1/runs/{RUN}/x",
        f"/realtime/v1/runs/{RUN}%2Fx",
    ],
)
def test_another_spelling_of_a_path_shows_nothing(guarded: Guarded, path: str) -> None:
    """With a token for another run it is refused, or means nothing, as it does with a key."""
    for first in (f"GET {path} HTTP/1.1", f"HEAD {path} HTTP/1.1"):
        for credential in (local(f"read:runs:{OTHER}"), KEY):
            guarded.note(credential)
            answer = send(guarded, first.encode(), b"authorization: Bearer " + credential.encode())
            assert answer.status in (400, 403, 404), answer
            assert b"key" not in answer.body
            assert "x-a" not in answer.headers
    anybody = send(guarded, f"GET {path} HTTP/1.1".encode())
    assert anybody.status in (400, 401, 404), anybody


@pytest.mark.parametrize(
    "target",
    [
        f"/realtime/v1/runs/{RUN}",
        f"http://localhost/realtime/v1/runs/{RUN}",
        f"http://elsewhere.example/realtime/v1/runs/{RUN}",
        f"http://localhost/realtime/v1/runs/{RUN}?x=1",
        f"https://user:pass@localhost/realtime/v1/runs/{RUN}",
        f"/%72ealtime/v1/runs/{RUN}",
        f"/realtime/%76%31/runs/{RUN}",
        f"/realtime/v1/runs/{RUN.replace('_', '%5f')}",
        f"/realtime/v1/runs/{RUN}?",
        f"/realtime/v1/runs/{RUN}?offset=now",
        f"/realtime/v1/runs/{RUN}?table=secrets&where=true&columns=id&replica=full",
        f"/realtime/v1/runs/{RUN}?id={OTHER}&runId={OTHER}",
        f"/realtime/v1/runs/{RUN}?tags={TAG}",
    ],
)
def test_what_means_the_run_is_judged_for_the_run(guarded: Guarded, target: str) -> None:
    line = f"GET {target} HTTP/1.1".encode()
    answer = with_token(guarded, line, f"read:runs:{OTHER}", "read:tags:x", "read:tasks:y")
    assert (answer.status, answer.body) in ((403, FORBIDDEN), (400, b"Bad Request")), answer
    assert send(guarded, line).status in (401, 400)


@pytest.mark.parametrize(
    "query", ["handle=1-1&offset=0_0", "shape_id=1-1", "handle=1-1&offset=0_0&live=true"]
)
def test_who_pretends_to_follow_a_run_gets_nothing_of_it(guarded: Guarded, query: str) -> None:
    """Who goes on is not looked up: what its shape has are rows that the token allows."""
    for scopes in (("read:tags:x",), ("read:batch:x", "read:tasks:y"), ("read:runs:z",), ()):
        replies = [
            guarded.ask("GET", f"/realtime/v1/runs/{run}?{query}", f"Bearer {local(*scopes)}")
            for run in (RUN, "run_nothing")
        ]
        for reply in replies:
            assert reply.status == 403 or b'"value"' not in reply.body, (scopes, reply)
        assert replies[0].status == replies[1].status


def test_a_shape_of_runs_is_about_its_path_only(guarded: Guarded) -> None:
    """Parameters that would say something else count for nothing."""
    query = "table=secrets&where=true&columns=id,payload&replica=full&params[1]=x&secret=y"
    query += "&subset__where=true&environment_id=staging&live_sse=true&tasks=x&id=x"
    token = local(f"read:runs:{DELAYED}")
    reply = guarded.ask("GET", f"/realtime/v1/runs/{DELAYED}?{query}", f"Bearer {token}")
    assert reply.status == 200
    values = [one["value"] for one in reply.json if "value" in one]
    assert [value["friendlyId"] for value in values] == [DELAYED]


def test_a_segment_is_one_id(guarded: Guarded) -> None:
    """An encoded slash stays within its segment: tasks are named like that."""
    token = f"Bearer {local(f'trigger:tasks:{TASK}')}"
    path = "/api/v1/tasks/{}/trigger"
    for name, status in (
        ("my%2Ftask", 200),
        ("my%2ftask", 200),
        ("%6dy%2Ftask", 200),
        ("my/task", 404),
        ("my%252Ftask", 403),
        ("my%2Ftask%2F", 403),
        ("my%2Ftask%20", 403),
        ("my%2F%2Ftask", 403),
        ("my%2F.%2Ftask", 403),
        ("my", 403),
        ("%2Fmy%2Ftask", 403),
        ("*", 403),
        ("my%2Ftask,other-task", 403),
    ):
        reply = guarded.ask("POST", path.format(name), token, {"payload": "1"})
        assert reply.status == status, (name, reply)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        (f"tags={TAG}&tags=other", 403),
        (f"tags=other&tags={TAG}", 200),
        (f"tags={TAG},", 400),
        (f"tags=,{TAG}", 400),
        ("tags=", 400),
        ("tags", 400),
        ("tags=%00", 400),
        (f"tags={TAG}%00", 400),
        (f"tags={TAG}%22", 400),
        (f"tags={TAG}%5C", 400),
        (f"tags={TAG}%7D", 403),
        (f"tags=%7B{TAG}%7D", 403),
        (f"tags={TAG}%27%20or%20true", 403),
        ("tags=*", 403),
        ("tags=%25", 403),
        (f"tags={TAG.upper()}", 403),
        (f"tags[]={TAG}", 403),
        (f"Tags={TAG}", 403),
        (f"tags=%20{TAG}%20", 200),
        (f"tags={TAG}%2Cother", 200),
        (f"tags={TAG}&where=true&table=secrets", 200),
    ],
)
def test_tags_are_judged_as_they_are_read(guarded: Guarded, query: str, status: int) -> None:
    """And what is read is what is shown: every run has all of the tags."""
    reply = guarded.ask("GET", f"/realtime/v1/runs?{query}", f"Bearer {local(f'read:tags:{TAG}')}")
    assert reply.status == status, reply
    if status == 200:
        for one in reply.json:
            assert TAG in one.get("value", {}).get("runTags", TAG)
        if "other" in query and "tags=other" not in query:
            assert not [one for one in reply.json if "value" in one]


def test_filters_of_lists_are_judged_as_they_are_read(guarded: Guarded) -> None:
    token = f"Bearer {local('read:tasks:other-task')}"
    name = "filter%5BtaskIdentifier%5D"
    for query, status in (
        (f"{name}=other-task", 200),
        (f"{name}=other-task&{name}=my%2Ftask", 403),
        (f"{name}=my%2Ftask&{name}=other-task", 200),
        (f"{name}=other-task,my%2Ftask", 403),
        (f"{name}=", 403),
        (f"{name}=,", 403),
        (f"{name}=*", 403),
        ("filter%5Btag%5D=user:1", 403),
        ("filter[taskidentifier]=other-task", 403),
        (f"{name}=other-task&page%5Bafter%5D=x", 400),
        (f"{name}=other-task&page%5Bsize%5D=0", 400),
        (f"{name}=other-task%27%20or%20true", 403),
    ):
        reply = guarded.ask("GET", f"/api/v1/runs?{query}", token)
        assert reply.status == status, (query, reply)
        if status == 200:
            assert {run["taskIdentifier"] for run in reply.json["data"]} <= {"other-task"}


@pytest.mark.parametrize(
    "name", ["x-http-method-override", "x-http-method", "x-method-override", "x-original-url"]
)
def test_headers_change_neither_method_nor_path(guarded: Guarded, name: str) -> None:
    token = local(f"read:runs:{RUN}")
    value = f"/api/v2/runs/{RUN}/cancel" if name == "x-original-url" else "DELETE"
    reply = guarded.ask("GET", f"/api/v3/runs/{RUN}", f"Bearer {token}", None, {name: value})
    assert (reply.status, reply.json["id"]) == (200, RUN)
    reply = guarded.ask("POST", f"/api/v3/runs/{RUN}", f"Bearer {token}", {}, {name: "GET"})
    assert reply.status == 405
    reply = guarded.ask("GET", f"/api/v3/runs/{RUN}?_method=DELETE", f"Bearer {token}")
    assert reply.status == 200


@pytest.mark.parametrize("method", ["get", "Get", "TRACE", "CONNECT", "PROPFIND", "X", "PATCH"])
def test_unusual_methods_do_nothing(guarded: Guarded, method: str) -> None:
    answer = send(
        guarded,
        f"{method} /api/v2/runs/{RUN}/cancel HTTP/1.1".encode(),
        b"authorization: Bearer " + KEY.encode(),
    )
    assert answer.status in (400, 405), answer


@pytest.mark.parametrize("path", [f"/api/v3/runs/{RUN}", "/v1/shape?table=letters&offset=-1"])
def test_one_authorization_header_is_enough(guarded: Guarded, path: str) -> None:
    """Which of two counts is nobody's to guess."""
    line = f"GET {path} HTTP/1.1".encode()
    good, bad = b"authorization: Bearer " + KEY.encode(), b"Authorization: Bearer nothing"
    assert send(guarded, line, good).status == 200
    for headers in ((good, bad), (bad, good), (good, good)):
        assert send(guarded, line, *headers).status == 400
    for header in (b"authorization : Bearer " + KEY.encode(), b"authorization:\r\n Bearer x"):
        assert send(guarded, line, header).status in (400, 401)
    joined = good + b", Bearer nothing"
    assert send(guarded, line, joined).status == 401


@pytest.mark.parametrize("size", [8_000, 20_000, 60_000, 200_000])
def test_very_long_credentials_are_refused(guarded: Guarded, size: int) -> None:
    for start in ("", "eyJhbGciOiJIUzI1NiJ9."):
        credential = (start + "a." * size)[:size]
        answer = send(
            guarded, b"GET /api/v3/runs/x HTTP/1.1", b"authorization: Bearer " + credential.encode()
        )
        assert answer.status == (401 if size < 64_000 else 431), answer


@pytest.mark.parametrize(
    "value",
    [b"\xff\xfe", "Bearer schlüssel".encode(), b"Bearer \xff", b"Bearer \x01", b"Bearer a\tb"],
)
def test_credentials_of_strange_bytes_are_refused(guarded: Guarded, value: bytes) -> None:
    for path in (b"/api/v3/runs/x", b"/v1/shape?table=letters&offset=-1"):
        answer = send(guarded, b"GET " + path + b" HTTP/1.1", b"authorization: " + value)
        assert answer.status in (400, 401), answer


@pytest.mark.parametrize(
    "query", ["token=%FF", "token=%00", "secret=%FF", "secret=%00", "token=" + "a" * 9000]
)
def test_parameters_of_strange_bytes_are_refused(guarded: Guarded, query: str) -> None:
    reply = guarded.ask("GET", f"/v1/shape?table=letters&offset=-1&{query}")
    assert reply.status in (400, 401), reply


def test_of_a_repeated_parameter_the_last_one_counts_everywhere(guarded: Guarded) -> None:
    whole, other = local("read:shapes"), local("read:shapes:letters")
    start = "/v1/shape?offset=-1"
    for query, status in (
        (f"table=secrets&table=letters&token={other}", 200),
        (f"table=letters&table=secrets&token={other}", 403),
        (f"table=secrets&token={other}&token={whole}", 200),
        (f"table=secrets&token={whole}&token={other}", 403),
        (f"table=letters&token={other}&t%61ble=secrets", 403),
        (f"table=letters%00&token={other}", 400),
        (f"table=%22letters%22&token={other}", 200),
        (f"table=LETTERS&token={other}", 200),
        (f"table=%22LETTERS%22&token={other}", 403),
        (f"table=public.letters,secrets&token={other}", 400),
        (f"table=letters%3B%20select%201&token={other}", 400),
        (f"table=pgtide.runs&token={other}", 403),
    ):
        reply = guarded.ask("GET", f"{start}&{query}")
        assert reply.status == status, (query, reply)


def test_a_body_does_not_replace_the_credential(guarded: Guarded) -> None:
    narrow = f"Bearer {local('read:shapes:letters')}"
    start = "/v1/shape?offset=-1&table=letters"
    for body in (
        {"table": "secrets"},
        {"token": KEY},
        {"secret": KEY},
        {"where": "true", "table": "secrets"},
    ):
        reply = guarded.ask("POST", start, narrow, body)
        assert reply.status in (200, 400, 403), reply
        assert b"of ann" not in reply.body
    for body in ({"token": KEY}, {"secret": KEY}, {"authorization": f"Bearer {KEY}"}):
        assert guarded.ask("POST", start, None, body).status == 401
        reply = guarded.ask("POST", "/api/v1/auth/public-tokens", None, {**body, "scopes": ["a"]})
        assert reply.status == 401


def test_one_request_does_not_hide_another(guarded: Guarded) -> None:
    """What a proxy could take for one request's body must not be a second one's head."""
    hidden = f"GET /api/v3/runs/{RUN} HTTP/1.1\r\nhost: x\r\n\r\n".encode()
    for headers in (
        (b"content-length: 5", b"content-length: 6"),
        (b"content-length: 0", b"transfer-encoding: chunked"),
        (b"transfer-encoding: chunked, identity",),
        (b"transfer-encoding: xchunked",),
        (b"content-length: +5",),
        (b"content-length: 0x5",),
    ):
        lines = [b"POST /api/v1/auth/jwt/claims HTTP/1.1", b"host: x", *headers]
        lines += [b"authorization: Bearer " + KEY.encode(), b"", hidden]
        with connected(guarded.url) as connection:
            connection.send(b"\r\n".join(lines))
            answer = connection.answer()
            assert answer.status == 400, (headers, answer)
            assert connection.closes_within(5)
