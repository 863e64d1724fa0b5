"""Tables for tokens: whole, or some columns of some rows."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from access_tokens import SECRET_KEY, bearer, public_token
from follower import Follower, ask, events
from guarded import RESTRICTED_KEY, SECRET, STAGING_KEY, Guarded
from tables import Tables

ORDERS = "id int primary key, tenant int not null, total int, note text, hidden text"


@pytest.fixture
def orders(guarded: Guarded) -> str:
    """A table with two rows of tenant 42 and one of tenant 7."""
    name = guarded.tables.make(ORDERS)
    guarded.tables.run(
        f"insert into {name} values (1, 42, 10, 'a', 'x'), (2, 42, 20, 'b', 'y'),"
        " (3, 7, 100, 'c', 'z')"
    )
    return name


def scoped(*scopes: str) -> str:
    return public_token(SECRET_KEY, scopes)


def narrow(table: str, **limits: Any) -> str:
    """A token for a part of a table."""
    return public_token(SECRET_KEY, None, shapes=[{"table": f"public.{table}", **limits}])


def of_tenant(table: str, *columns: str, tenant: object = 42) -> str:
    limits: dict[str, Any] = {"where": "tenant = $1", "params": {"1": tenant}}
    return narrow(table, **limits, **({"columns": list(columns)} if columns else {}))


def ids(follower: Follower) -> list[str]:
    return sorted(row["id"] for row in follower.rows.values())


# -- who may read at all ---------------------------------------------------------------------------


def test_nobody_reads_without_a_credential(guarded: Guarded, orders: str) -> None:
    answer = ask(guarded.url, table=orders, offset=-1)
    assert (answer.status, answer.text) == (
        401,
        '{"message":"Unauthorized - Invalid API secret"}',
    )
    assert ask(guarded.url, table=orders, offset=-1, secret=SECRET).status == 200


@pytest.mark.parametrize("way", ["header", "query"])
def test_a_token_opens_its_table(way: str, guarded: Guarded, orders: str) -> None:
    token = scoped(f"read:shapes:public.{orders}")
    headers = bearer(token) if way == "header" else {}
    given: dict[str, Any] = {"token": token} if way == "query" else {}
    answer = ask(guarded.url, table=orders, offset=-1, headers=headers, **given)
    assert answer.status == 200
    assert len(answer.changes) == 3


@pytest.mark.parametrize(
    ("scope", "status"),
    [
        ("read:shapes:public.{}", 200),
        ("read:shapes:{}", 200),
        ('read:shapes:"public"."{}"', 200),
        ("*:shapes:public.{}", 200),
        ("read:shapes", 200),
        ("write:shapes:public.{}", 403),
        ("read:shapes:public.{}x", 403),
        ("read:shapes:other.{}", 403),
        ("read:shapes:a.b.{}", 403),
        ("read:shapes:*", 403),
        ("read:runs", 403),
        # Who gave these out thought of runs.
        ("read:all", 403),
        ("*:all", 403),
        ("admin", 403),
    ],
)
def test_scopes_for_tables(scope: str, status: int, guarded: Guarded, orders: str) -> None:
    token = scoped(scope.format(orders))
    assert ask(guarded.url, table=orders, offset=-1, token=token).status == status


def test_other_keys_and_issuers(guarded: Guarded, orders: str) -> None:
    def status(credential: str, **parameters: Any) -> int:
        headers = bearer(credential)
        return ask(guarded.url, table=orders, offset=-1, headers=headers, **parameters).status

    assert status(SECRET_KEY) == 200
    assert status(RESTRICTED_KEY) == 403
    assert status(guarded.files.token(f"read:shapes:{orders}")) == 200
    assert status(SECRET_KEY + "x") == 401
    assert status("no such token", secret=SECRET) == 200
    assert status(scoped(f"read:shapes:{orders}"), secret="wrong") == 200
    # Tables are not divided by environments.
    assert status(STAGING_KEY) == 403
    staging = public_token(STAGING_KEY, [f"read:shapes:{orders}"], environment="staging")
    assert status(staging) == 403


def test_a_refusal_does_not_tell_whether_there_is_such_a_table(
    guarded: Guarded, orders: str
) -> None:
    for token in (scoped("read:shapes:mine"), narrow("mine")):
        answers = [
            ask(guarded.url, table=table, offset=-1, token=token)
            for table in (orders, "no_such_table", "pg_catalog.pg_authid", f"other.{orders}")
        ]
        assert {(answer.status, answer.text) for answer in answers} == {(403, answers[0].text)}
        assert answers[0].error == {
            "message": "Forbidden - the token does not allow to read this table",
            "code": "unauthorized",
        }


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (public_token(SECRET_KEY, ["read:shapes"], seconds=-1), "has expired"),
        (public_token(SECRET_KEY + "x", ["read:shapes"]), "is invalid"),
        (public_token(SECRET_KEY, ["read:shapes"], aud="else"), "is invalid"),
        (public_token(SECRET_KEY, ["read:shapes"], shapes="all"), "is invalid"),
    ],
)
def test_a_token_that_is_no_good_says_why(token: str, reason: str, guarded: Guarded) -> None:
    answer = ask(guarded.url, table="t", offset=-1, token=token)
    assert answer.status == 401
    assert answer.error == {"message": f"Unauthorized - Public Access Token {reason}"}
    assert answer.headers["access-control-allow-origin"] == "*"


def test_nothing_is_deleted_with_a_token(guarded: Guarded, orders: str) -> None:
    answer = ask(guarded.url, method="DELETE", table=orders, token=scoped("read:shapes"))
    assert answer.status == 403
    handle = ask(guarded.url, table=orders, offset=-1, secret=SECRET).handle
    answer = ask(guarded.url, method="DELETE", handle=handle, token=narrow(orders))
    assert answer.status == 403
    answer = ask(guarded.url, method="DELETE", handle=handle, headers=bearer(SECRET_KEY))
    assert answer.status == 202


# -- caches ----------------------------------------------------------------------------------------


def test_no_shared_cache_keeps_what_a_token_opens(guarded: Guarded, orders: str) -> None:
    token = of_tenant(orders)
    follower = Follower(guarded.url, orders, token=token)
    answers = [follower.step(), follower.step()]
    guarded.tables.run(f"update {orders} set total = 11 where id = 1")
    answers.append(follower.step(live=True))
    answers.append(follower.request(offset="now"))
    answers.append(follower.request(subset__where="id = 1", offset="now"))
    answers.append(follower.request(handle="1-1"))
    assert [answer.status for answer in answers] == [200] * 5 + [409]
    for answer in answers:
        parts = {part.strip() for part in answer.headers["cache-control"].split(",")}
        assert "private" in parts
        assert not {part for part in parts if part.startswith(("public", "s-maxage"))}
        assert answer.headers["vary"] == "authorization"
    with events(guarded.url, table=orders, token=token, **_place(follower)) as stream:
        assert "private" in stream.answer.headers["cache-control"]
    assert (
        "public"
        in ask(guarded.url, table=orders, offset=-1, secret=SECRET).headers["cache-control"]
    )


def _place(follower: Follower) -> dict[str, Any]:
    assert follower.handle is not None
    return {"handle": follower.handle, "offset": follower.offset}


def test_an_entity_tag_confirms_only_what_a_token_opens(guarded: Guarded, orders: str) -> None:
    token = of_tenant(orders)
    first = ask(guarded.url, table=orders, offset=-1, token=token)
    known = {"if-none-match": first.headers["etag"]}
    assert ask(guarded.url, table=orders, offset=-1, token=token, headers=known).status == 304
    other = of_tenant(orders, tenant=7)
    assert ask(guarded.url, table=orders, offset=-1, token=other, headers=known).status == 200


# -- columns ---------------------------------------------------------------------------------------


def test_columns_are_a_ceiling_and_the_default(guarded: Guarded, orders: str) -> None:
    token = narrow(orders, columns=["id", "total"])
    answer = ask(guarded.url, table=orders, offset=-1, token=token)
    assert [change["value"] for change in answer.changes] == [
        {"id": "1", "total": "10"},
        {"id": "2", "total": "20"},
        {"id": "3", "total": "100"},
    ]
    assert "hidden" not in answer.headers["electric-schema"]
    fewer = ask(guarded.url, table=orders, offset=-1, token=token, columns="id")
    assert fewer.changes[0]["value"] == {"id": "1"}


def test_a_window_needs_its_column_too(guarded: Guarded) -> None:
    table = guarded.tables.make("id int primary key, made timestamptz default now()")
    guarded.tables.run(f"insert into {table} values (1)")
    asked: dict[str, Any] = {"table": table, "offset": -1, "window[made]": "1h"}
    assert ask(guarded.url, **asked, token=narrow(table, columns=["id", "made"])).status == 200
    assert ask(guarded.url, **asked, token=narrow(table, columns=["id"])).status == 403


@pytest.mark.parametrize("columns", ["id,hidden", '"id","hidden"', "id,HIDDEN", "hidden"])
@pytest.mark.parametrize("name", ["columns", "queryable_columns"])
def test_other_columns_are_refused(columns: str, name: str, guarded: Guarded, orders: str) -> None:
    token = narrow(orders, columns=["id", "total"])
    asked: dict[str, Any] = {"table": orders, "offset": -1, "token": token, name: columns}
    answer = ask(guarded.url, **asked)
    assert answer.status == 403
    assert "does not allow to read the columns hidden" in answer.error["message"]
    unknown = columns.replace("hidden", "unknown").replace("HIDDEN", "unknown")
    asked[name] = unknown
    other = ask(guarded.url, **asked)
    assert (other.status, other.text) == (403, answer.text.replace("hidden", "unknown"))


@pytest.mark.parametrize(
    "parameters",
    [
        {"where": "{} = 'x'"},
        {"where": "id = 1 OR length({}) > 0"},
        {"subset__where": "{} = 'x'", "offset": "now"},
        {"subset__order_by": "{}", "subset__limit": "1", "offset": "now"},
    ],
    ids=str,
)
def test_what_may_not_be_seen_may_not_be_asked_about(
    parameters: dict[str, Any], guarded: Guarded, orders: str
) -> None:
    """A column that is not granted is answered like one that there is not."""
    token = narrow(orders, columns=["id", "total"])
    texts: list[str] = []
    for column in ("hidden", "nosuch"):
        asked: dict[str, Any] = {name: text.format(column) for name, text in parameters.items()}
        given: dict[str, Any] = {"offset": "-1", "table": orders, "token": token, **asked}
        answer = ask(guarded.url, **given)
        assert answer.status == 400, answer.text
        texts.append(answer.text.replace(column, "*"))
    assert texts[0] == texts[1]


def test_a_token_without_the_key_s_columns_says_so(guarded: Guarded, orders: str) -> None:
    answer = ask(guarded.url, table=orders, offset=-1, token=narrow(orders, columns=["total"]))
    assert answer.status == 400
    assert "primary key columns, missing: id" in answer.text


# -- rows ------------------------------------------------------------------------------------------


def test_only_granted_rows_are_there(guarded: Guarded, orders: str) -> None:
    assert ids(Follower(guarded.url, orders, token=of_tenant(orders)).sync()) == ["1", "2"]
    assert ids(Follower(guarded.url, orders, token=of_tenant(orders, tenant=7)).sync()) == ["3"]
    both = [{"table": orders, "where": "tenant = 7"}, {"table": orders}]
    token = public_token(SECRET_KEY, [], shapes=both)
    # The first one that names the table counts.
    assert ids(Follower(guarded.url, orders, token=token).sync()) == ["3"]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("true", ["1", "2"]),
        ("id = 3 OR true", ["1", "2"]),
        ("tenant = 7", []),
        ("total > $1", ["2"]),
        ("total > $1 OR tenant = $2", ["2"]),
        ("NOT (tenant = 42)", []),
    ],
)
def test_what_is_asked_for_stays_within(
    where: str, expected: list[str], guarded: Guarded, orders: str
) -> None:
    follower = Follower(
        guarded.url,
        orders,
        token=of_tenant(orders),
        where=where,
        params=[15, 7][: where.count("$")],
    )
    assert ids(follower.sync()) == expected


@pytest.mark.parametrize(
    "where",
    [
        "true) OR (true",
        "true) --",
        "true) OR (1=1 --",
        "1=1)) OR ((1=1",
        "true; select 1",
        "/*",
        "'",
        "true) union select * from t (",
        "$3 = 1",
    ],
)
def test_there_is_no_way_out_of_the_parentheses(where: str, guarded: Guarded, orders: str) -> None:
    answer = ask(guarded.url, table=orders, offset=-1, token=of_tenant(orders), where=where)
    assert answer.status == 400
    assert "tenant" not in answer.text


def test_parameters_of_a_request_are_not_the_token_s(guarded: Guarded, orders: str) -> None:
    answer = ask(guarded.url, table=orders, offset=-1, token=of_tenant(orders), params=[7])
    assert [change["value"]["id"] for change in answer.changes] == ["1", "2"]
    where = "tenant = $1 OR id = $2"
    answer = ask(
        guarded.url, table=orders, offset=-1, token=of_tenant(orders), where=where, params=[7, 2]
    )
    assert [change["value"]["id"] for change in answer.changes] == ["2"]


def test_a_body_cannot_widen(guarded: Guarded, orders: str) -> None:
    token = of_tenant(orders, "id", "total")
    url, given = f"{guarded.url}/v1/shape", {"token": token, "offset": "now", "table": orders}
    refused = httpx.post(url, params=given, json={"table": "pg_class"})
    assert refused.status_code == 403
    refused = httpx.post(url, params=given, json={"columns": ["id", "hidden"], "where": "true"})
    assert refused.status_code == 403
    bodies: list[dict[str, Any]] = [
        {"where": "total > 0", "order_by": "total desc", "limit": 5},
        {"where": "true) or (true", "order_by": "total desc", "limit": 5},
        {"where": "note is not null"},
        {"order_by": "hidden", "limit": 5},
    ]
    answers = [httpx.post(url, params=given, json=body) for body in bodies]
    assert [answer.status_code for answer in answers] == [200, 400, 400, 400]
    rows = [row["value"] for row in answers[0].json()["data"]]
    assert rows == [{"id": "2", "total": "20"}, {"id": "1", "total": "10"}]
    assert "private" in answers[0].headers["cache-control"]


@pytest.mark.parametrize("name", ["where", "subset__where"])
def test_an_error_tells_nothing_of_other_rows(name: str, guarded: Guarded, orders: str) -> None:
    """`total` is 100 in a row of another tenant only: dividing by zero there must not show."""
    asked: dict[str, Any] = {name: "1000 / (total - $1) < 1000000", "offset": "-1"}
    value: dict[str, Any] = {"params[1]" if name == "where" else "subset__params[1]": "100"}
    if name == "subset__where":
        asked["offset"] = "now"
    token = of_tenant(orders)
    answer = ask(guarded.url, table=orders, token=token, **asked, **value)
    assert answer.status == 200, answer.text
    ours: dict[str, Any] = dict.fromkeys(value, "10")
    assert ask(guarded.url, table=orders, token=token, **asked, **ours).status != 200


def test_changes_keep_to_the_grant(guarded: Guarded, orders: str) -> None:
    tables = guarded.tables
    follower = Follower(
        guarded.url, orders, token=of_tenant(orders, "id", "total"), replica="full"
    ).sync()
    tables.run(f"update {orders} set hidden = 'new', total = 12 where id = 1")
    (update,) = follower.take(1)
    assert update["value"] == {"id": "1", "total": "12"}
    assert set(update.get("old_value", {})) <= {"id", "total"}

    tables.run(
        f"update {orders} set total = 13 where tenant = 7; insert into {orders} values"
        f" (4, 7, 1, 'd', 'w'); update {orders} set tenant = 7 where id = 1"
    )
    (moved_out,) = follower.take(1)
    assert moved_out["headers"]["operation"] == "delete"
    assert set(moved_out["value"]) <= {"id", "total"}

    tables.run(f"update {orders} set tenant = 42 where id = 3")
    (moved_in,) = follower.take(1)
    assert (moved_in["headers"]["operation"], moved_in["value"]) == (
        "insert",
        {"id": "3", "total": "13"},
    )
    tables.run(f"delete from {orders} where id in (2, 4)")
    (deleted,) = follower.take(1)
    assert (deleted["key"], set(deleted["value"]) - {"id", "total"}) == (
        f'"public"."{orders}"/"2"',
        set(),
    )


def test_events_keep_to_the_grant(guarded: Guarded, orders: str) -> None:
    token = of_tenant(orders, "id", "total")
    follower = Follower(guarded.url, orders, token=token).sync()
    with events(guarded.url, table=orders, token=token, **_place(follower)) as stream:
        guarded.tables.run(f"update {orders} set total = 1000 where id = 3")
        guarded.tables.run(f"update {orders} set total = 30, hidden = 'h' where id = 1")
        found = [one for one in stream.next_batch() if "key" in one]
        assert [one["value"] for one in found] == [{"id": "1", "total": "30"}]


def test_a_handle_of_more_opens_no_more(guarded: Guarded, orders: str) -> None:
    whole = Follower(guarded.url, orders, secret=SECRET).sync()
    guarded.tables.run(f"update {orders} set total = 1 where id = 3")
    for live in (None, True):
        answer = ask(guarded.url, table=orders, token=of_tenant(orders), live=live, **_place(whole))
        assert answer.status == 409
        assert answer.messages == [{"headers": {"control": "must-refetch"}}]
        assert answer.headers["electric-handle"] != whole.handle


def test_a_filter_that_is_no_good_is_the_token_s_fault(guarded: Guarded, orders: str) -> None:
    for where in ("nosuch = 1", "tenant = ", "tenant = $2", "true) or (true"):
        token = narrow(orders, where=where, params={"1": "1"})
        answer = ask(guarded.url, table=orders, offset=-1, token=token, where="id = 1")
        assert answer.status == 403
        assert answer.error["message"].startswith("Forbidden - the token's filter is no good")


def test_a_shape_is_shared_by_tokens_that_mean_the_same(guarded: Guarded, orders: str) -> None:
    """A thousand browsers of one tenant are readers of one shape."""
    tokens = [of_tenant(orders), narrow(orders, where="tenant=42"), of_tenant(orders, tenant="42")]
    handles = {ask(guarded.url, table=orders, offset=-1, token=one).handle for one in tokens}
    assert len(handles) == 1
    whole = {
        ask(guarded.url, table=orders, offset=-1, token=scoped("read:shapes")).handle,
        ask(guarded.url, table=orders, offset=-1, secret=SECRET).handle,
    }
    assert len(whole) == 1


def test_the_rows_of_runs_are_a_table_like_others(guarded: Guarded) -> None:
    """Tokens for runs open no tables, and the other way round."""
    tables: Tables = guarded.tables
    name = tables.make("id int primary key")
    token = scoped(f"read:shapes:{name}")
    answer = httpx.get(f"{guarded.url}/realtime/v1/runs?tags=a", headers=bearer(token))
    assert answer.status_code == 403
