"""/v1/shape in all its forms with every kind of credential."""

from __future__ import annotations

import threading
import time
from typing import Any
from urllib.parse import urlencode

import pytest
from access_tokens import public_token
from credentials import EVERYTHING, EXPIRED, INVALID, bearers, issued, local, own, refused
from decided_routes import NO_USE
from decided_scopes import Scopes
from guarded_server import BATCH, KEY, ROTATED, RUN, STAGING, Guarded, Reply, restricted_key
from late_answers import while_locked

NO_SECRET = "Unauthorized - Invalid API secret"
NOT_THIS_TABLE = {
    "message": "Forbidden - the token does not allow to read this table",
    "code": "unauthorized",
}
NOT_HERE = {
    "message": "Forbidden - tables are open to the environment default only",
    "code": "unauthorized",
}

START = {"offset": "-1"}
NOW = {"offset": "now"}
GOES_ON = {"offset": "0_0", "handle": "1-1"}
LIVE = {**GOES_ON, "live": "true"}
SSE = {**LIVE, "live_sse": "true"}
SUBSET = {"offset": "-1", "subset__where": "id = 1"}
FORMS: tuple[tuple[str, dict[str, str]], ...] = (
    ("GET", START),
    ("GET", NOW),
    ("GET", GOES_ON),
    ("GET", LIVE),
    ("GET", SSE),
    ("GET", SUBSET),
    ("HEAD", START),
    ("HEAD", LIVE),
    ("POST", SUBSET),
    ("POST", START),
)
forms = pytest.mark.parametrize(("method", "form"), FORMS, ids=str)


def shape(
    guarded: Guarded,
    form: dict[str, str],
    credential: str | None = None,
    *,
    method: str = "GET",
    table: str | None = "secrets",
    **more: str,
) -> Reply:
    given = {**form, **more} | ({} if table is None else {"table": table})
    body: dict[str, Any] | None = None
    if method == "POST":
        body = {}
        if "subset__where" in given:
            body["where"] = given.pop("subset__where")
    return guarded.ask(method, f"/v1/shape?{urlencode(given)}", credential, body)


@forms
def test_what_is_no_credential_is_refused(
    guarded: Guarded, method: str, form: dict[str, str]
) -> None:
    for one in refused():
        for table in ("secrets", "there_is_none", "pgtide.runs", "pg_catalog.pg_authid"):
            reply = shape(guarded, form, one.header, method=method, table=table)
            told = (
                f"Unauthorized - {one.message}" if one.message in (INVALID, EXPIRED) else NO_SECRET
            )
            assert reply.status == 401, one.name
            assert method == "HEAD" or reply.json == {"message": told}, one.name
            if one is not refused()[0]:
                break


@forms
def test_a_query_is_no_place_for_a_key(guarded: Guarded, method: str, form: dict[str, str]) -> None:
    """But for `secret`, which is not set here, and `token`."""
    for name in ("secret", "api_secret", "access_token", "authorization", "key", "Token"):
        assert shape(guarded, form, method=method, **{name: KEY}).status == 401, name
    for text, status in ((KEY, 200), (local("read:shapes"), 200), (local("read:runs"), 403)):
        if form in (START, SUBSET):
            assert shape(guarded, form, method=method, token=text).status == status
    # It counts before the header.
    assert shape(guarded, form, f"Bearer {KEY}", method=method, token="x").status == 401


def test_what_opens_a_table_opens_it(guarded: Guarded) -> None:
    for good in bearers():
        # A key, or a token that says `read:shapes`.
        for method, form in FORMS:
            if form in (START, SUBSET, NOW):
                assert shape(guarded, form, good.header, method=method).status == 200, good.name
    named = (
        "read:shapes:secrets",
        "read:shapes:public.secrets",
        "*:shapes",
        'read:shapes:"secrets"',
    )
    for scope in (*named, "*:shapes:public.secrets"):
        for make in (local, own, issued):
            credential = f"Bearer {make('read:runs', scope)}"
            assert shape(guarded, START, credential).status == 200, scope
            if scope in named and scope != "*:shapes":
                reply = shape(guarded, START, credential, table="letters")
                assert (reply.status, reply.json) == (403, NOT_THIS_TABLE)


USELESS: tuple[Scopes, ...] = (
    (),
    ("admin",),
    ("*:all",),
    ("read:all",),
    ("read:runs", "read:tags", "write:shapes"),
    ("read:shapes:",),
    ("read:shapes:secret",),
    ("read:shapes:secrets2",),
    ("read:shapes:*",),
    ("read:shapes:secrets:x",),
    ("read:shapes:private.secrets",),
    ("read:shape",),
    ('read:shapes:"Secrets"',),
    ("read:Shapes",),
    ("READ:shapes",),
    ("shapes",),
    ("read:shapes:secrets,letters",),
    ("read:shapes:public.*",),
    ("read:shapes:'secrets'",),
)


@forms
def test_what_opens_no_table_opens_none(
    guarded: Guarded, method: str, form: dict[str, str]
) -> None:
    """Nor does it tell whether there is one."""
    for scopes in USELESS:
        for table in ("secrets", "there_is_none"):
            for make in (local, own):
                credential = f"Bearer {make(*scopes)}"
                reply = shape(guarded, form, credential, method=method, table=table)
                assert reply.status == 403, (scopes, reply)
                assert method == "HEAD" or reply.json == NOT_THIS_TABLE
    useless_keys: tuple[Scopes, ...] = (NO_USE, ("admin",), ("read:all",))
    for scopes in useless_keys:
        reply = shape(guarded, form, f"Bearer {restricted_key(*scopes)}", method=method)
        assert reply.status == 403, scopes
    for credential in (STAGING, public_token(STAGING, ["read:shapes"], environment="staging")):
        reply = shape(guarded, form, f"Bearer {credential}", method=method)
        assert reply.status == 403
        assert method == "HEAD" or reply.json == NOT_HERE


def test_deleting_is_for_keys(guarded: Guarded) -> None:
    handle = shape(guarded, START, f"Bearer {KEY}").headers["electric-handle"]
    by_table, by_handle = {"table": "secrets"}, {"handle": handle}
    for given in (by_table, by_handle, by_table | by_handle):
        path = f"/v1/shape?{urlencode(given)}"
        for one in refused():
            assert guarded.ask("DELETE", path, one.header).status == 401, one.name
        for text in (local(*EVERYTHING), own("read:shapes"), restricted_key(*NO_USE), STAGING):
            assert guarded.ask("DELETE", path, f"Bearer {text}").status == 403
    assert shape(guarded, START, f"Bearer {KEY}").headers["electric-handle"] == handle
    assert guarded.ask("DELETE", f"/v1/shape?handle={handle}", f"Bearer {ROTATED}").status == 202


def grant(**members: Any) -> str:
    return f"Bearer {local(shapes=[{'table': 'secrets', **members}])}"


ANNS = {"where": "owner = $1", "params": {"1": "ann"}}


COSTLY = "lower(upper(lower(upper(lower(owner))))) = 'nobody'"
"""No row; Postgres evaluates what is cheaper first."""


def test_a_token_for_some_rows_shows_no_others(guarded: Guarded) -> None:
    credential = grant(**ANNS)
    for where in (
        None,
        "true",
        "owner = 'bob'",
        "owner = 'ann' or true",
        "1 = 1) or (1 = 1",
        "owner = $1",
        "content like 'of b%'",
        "not (owner = 'ann')",
    ):
        for form in (START, {**SUBSET, "subset__where": where or "true"}):
            more = {} if where is None else {"where": where, "params[1]": "bob"}
            if "$1" in str(form.get("subset__where")):
                more["subset__params[1]"] = "bob"
            reply = shape(guarded, form, credential, **more)
            assert b"of bob" not in reply.body, where
            assert reply.status in (200, 400), reply
    # What fails for somebody else's row must not tell of it.
    division = "1 / (id - 2) = 5"
    for form in ({**START, "where": division}, {**SUBSET, "subset__where": division}):
        for limit in (COSTLY, "id = 1"):
            assert shape(guarded, form, grant(where=limit)).status == 200, limit
        assert shape(guarded, form, grant(where="id = 2")).status in (400, 503)


def test_a_token_for_some_columns_tells_nothing_of_others(guarded: Guarded) -> None:
    credential = grant(columns=["id", "owner"])
    reply = shape(guarded, START, credential)
    assert reply.status == 200, reply
    assert b"of ann" not in reply.body
    assert "content" not in reply.headers["electric-schema"]
    for more in (
        {"columns": "id,content"},
        {"columns": 'id,"content"'},
        {"queryable_columns": "id,content"},
        {"where": "content = 'of ann'"},
        {"where": "length(content) > 1"},
        {"where": "owner = 'ann' and not (content is null)"},
        {"window[content]": "1h"},
        {"window[written]": "1h"},
    ):
        for form in (START, NOW, SUBSET):
            reply = shape(guarded, form, credential, **more)
            assert reply.status in (400, 403), (more, reply)
    for name, text in (
        ("subset__where", "content = 'of ann'"),
        ("subset__order_by", "content"),
        ("subset__order_by", "content desc"),
    ):
        more = {name: text, "subset__limit": "1"} if "order" in name else {name: text}
        reply = shape(guarded, START, credential, **more)
        assert reply.status == 400, (text, reply)
    for form in (START, {**START, "replica": "full"}, {**START, "log": "changes_only"}, SUBSET):
        reply = shape(guarded, form, credential)
        assert (reply.status, b"of " in reply.body) == (200, False), reply


def test_rows_may_be_limited_by_what_is_not_shown(guarded: Guarded) -> None:
    credential = grant(columns=["id"], where="content = 'of ann'")
    reply = shape(guarded, START, credential)
    assert reply.status == 200, reply
    assert [one["value"] for one in reply.json if "value" in one] == [{"id": "1"}]


def test_fields_that_a_token_leaves_out_are_left_out_everywhere(guarded: Guarded) -> None:
    skipped = ["payload", "runTags", "completedAt", "usageDurationMs", "startedAt", "status", "id"]
    token = local("read:runs", realtime={"skipColumns": skipped})
    whole = guarded.ask("GET", f"/api/v3/runs/{RUN}", f"Bearer {token}").json
    listed = guarded.ask("GET", "/api/v1/runs", f"Bearer {token}").json["data"]
    for run in (whole, *listed):
        assert not run.keys() & {"payload", "payloadPresignedUrl", "finishedAt", "startedAt"}
        # What clients rely on says nothing, or is kept.
        assert (run["tags"], run["durationMs"]) == ([], 0)
        assert run["status"]
    packet = guarded.ask("GET", f"/api/v1/runs/{RUN}/packets/payload", f"Bearer {token}")
    assert packet.status == 404
    for path in (f"/realtime/v1/runs/{RUN}", "/realtime/v1/runs", f"/realtime/v1/batches/{BATCH}"):
        reply = guarded.ask("GET", f"{path}?skipColumns=ttl", f"Bearer {token}")
        values = [one["value"] for one in reply.json if "value" in one]
        assert values
        for value in values:
            assert not value.keys() & {"payload", "payloadType"} - {"payloadType"}
            assert not value.keys() & {"runTags", "completedAt", "usageDurationMs", "startedAt"}
            assert {"id", "status", "ttl"} <= value.keys()
    # What it starts may be seen in the same way only.
    starting = local("trigger:tasks", realtime={"skipColumns": skipped})
    made = guarded.ask("POST", "/api/v1/tasks/x/trigger", f"Bearer {starting}", {"payload": "1"})
    given = made.headers["x-trigger-jwt"]
    guarded.note(given)
    seen = guarded.ask("GET", f"/api/v3/runs/{made.json['id']}", f"Bearer {given}")
    assert (seen.status, "payload" in seen.json) == (200, False)


def test_handles_open_nothing(guarded: Guarded) -> None:
    """A handle of a shape that somebody may read, with the credential of somebody who may not."""
    given = shape(guarded, START, f"Bearer {KEY}")
    on = {"handle": given.headers["electric-handle"], "offset": given.headers["electric-offset"]}
    for form in (on, {**on, "live": "true"}, {**on, "live": "true", "live_sse": "true"}):
        assert shape(guarded, form, f"Bearer {local('read:runs')}").status == 403
        assert shape(guarded, form).status == 401
        reply = shape(guarded, form, grant(**ANNS))
        assert (reply.status, b"of bob" in reply.body) == (409, False)


def test_who_asks_the_same_as_somebody_else_is_judged_for_himself(guarded: Guarded) -> None:
    """Equal polls share an answer: not with those who may not have it."""
    begun = shape(guarded, START, f"Bearer {KEY}")
    on = {"handle": begun.headers["electric-handle"], "offset": begun.headers["electric-offset"]}
    on |= {"live": "true", "table": "secrets"}
    path = f"/v1/shape?{urlencode(on)}"
    replies: list[Reply] = []

    def poll() -> None:
        """Again when a poll has run out."""
        reply = guarded.ask_alone("GET", path, f"Bearer {KEY}")
        while reply.status == 200 and b"of eve" not in reply.body:
            reply = guarded.ask_alone("GET", path, f"Bearer {KEY}")
        replies.append(reply)

    # So many that each of the nodes has one that waits.
    waiting = [threading.Thread(target=poll) for _ in range(12)]
    for thread in waiting:
        thread.start()
    time.sleep(0.3)
    for _ in range(4):
        for one in refused()[:20]:
            assert guarded.ask_alone("GET", path, one.header).status == 401, one.name
        assert guarded.ask_alone("GET", path, f"Bearer {local('read:runs')}").status == 403
    assert not replies
    guarded.execute("insert into secrets values (3, 'eve', 'of eve')")
    for thread in waiting:
        thread.join(60)
    assert [(one.status, b"of eve" in one.body) for one in replies] == [(200, True)] * 12
    guarded.execute("delete from secrets where id = 3")


def test_answers_are_for_one_credential(guarded: Guarded) -> None:
    credential = f"Bearer {local('read:shapes')}"
    begun = shape(guarded, START, credential)
    on = {"handle": begun.headers["electric-handle"], "offset": begun.headers["electric-offset"]}
    for reply in (begun, shape(guarded, on, credential), shape(guarded, SUBSET, credential)):
        assert "public" not in reply.headers["cache-control"]
        assert "s-maxage" not in reply.headers["cache-control"]
        assert "authorization" in reply.headers["vary"].lower()


@pytest.mark.parametrize("sse", [False, True], ids=["long poll", "event stream"])
def test_what_is_under_way_ends_with_the_credential(guarded: Guarded, sse: bool) -> None:
    seconds = 1.5
    begin = time.time()
    credential = f"Bearer {local('read:shapes', seconds=seconds)}"
    begun = shape(guarded, START, credential)
    on = {"handle": begun.headers["electric-handle"], "offset": begun.headers["electric-offset"]}
    on = {**on, "live": "true"} | ({"live_sse": "true"} if sse else {})
    while time.time() < begin + seconds:
        assert shape(guarded, on, credential).status in (200, 401)
    assert time.time() - begin - seconds < 20
    reply = shape(guarded, on, credential)
    assert (reply.status, reply.json) == (401, {"message": f"Unauthorized - {EXPIRED}"})


@pytest.mark.parametrize("form", [START, SUBSET], ids=["a shape", "some rows"])
def test_what_had_to_be_waited_for_ends_with_the_credential(
    guarded: Guarded, form: dict[str, str]
) -> None:
    name = "waited_for" if form is START else "waited_for_some"
    guarded.execute(f"create table {name} (id int primary key)")
    # Its definition is known then.
    assert shape(guarded, NOW, f"Bearer {KEY}", table=name).status == 200

    def ask(one: Guarded, credential: str) -> Reply:
        return shape(one, form, credential, table=name)

    reply = while_locked(guarded, name, "read:shapes", ask, 0.7)
    if reply.json == {"message": f"Unauthorized - {EXPIRED}"}:
        # Here it takes longer to be let in.
        reply = while_locked(guarded, name, "read:shapes", ask, 15)
    message = "Unauthorized - the credential has ended meanwhile: ask again with a new one"
    assert (reply.status, reply.json) == (401, {"message": message})
