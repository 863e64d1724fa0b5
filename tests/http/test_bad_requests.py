"""Requests that cannot be served, and what they are told."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import httpx
import pytest
from follower import ask
from serving import Serving
from tables import Tables

HANDLE = {"handle": "1-1"}


@pytest.fixture(scope="module")
def items(tables: Tables) -> str:
    return tables.make('id int primary key, label text, "Mixed" int, list int[]')


def refusal(server: Serving, **parameters: Any) -> dict[str, Any]:
    """What is wrong, by the name of the parameter."""
    answer = ask(server.url, **parameters)
    assert answer.status == 400, (answer.status, answer.text)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.error.keys() == {"message", "errors"}
    assert answer.error["message"] == "Invalid request"
    return answer.error["errors"]


@pytest.mark.parametrize(
    ("given", "errors"),
    [
        # 1: each value by itself
        ({}, {"offset": ["can't be blank"]}),
        ({"offset": "  "}, {"offset": ["can't be blank"]}),
        ({"offset": -1, "replica": "some"}, {"replica": ["is invalid"]}),
        ({"offset": -1, "log": "some"}, {"log": ["is invalid"]}),
        ({"offset": "x", "replica": "some"}, {"replica": ["is invalid"]}),
        # 2: the offset
        ({"offset": "x"}, {"offset": ["has invalid format"]}),
        ({"offset": "1"}, {"offset": ["has invalid format"]}),
        ({"offset": "1_"}, {"offset": ["has invalid format"]}),
        ({"offset": "1_-1"}, {"offset": ["has invalid format"]}),
        ({"offset": "-2"}, {"offset": ["has invalid format"]}),
        ({"offset": "-1_1"}, {"offset": ["has invalid format"]}),
        ({"offset": "1_1_1"}, {"offset": ["has invalid format"]}),
        ({"offset": "18446744073709551616_0"}, {"offset": ["has invalid format"]}),
        ({"offset": "١_٢"}, {"offset": ["has invalid format"]}),
        # 3: the handle
        ({"offset": "0_0"}, {"handle": ["can't be blank when offset != -1"]}),
        ({"offset": "5_2", "handle": " "}, {"handle": ["can't be blank when offset != -1"]}),
        # 4: live
        ({"offset": -1, "live": True}, {"live": ["can't be true when offset == -1"]}),
        ({"offset": "now", "live": True}, {"live": ["can't be true when offset is 'now'"]}),
        ({"offset": -1, "live": ""}, {"live": ["can't be true when offset == -1"]}),
        # 5: SSE
        (
            {"offset": -1, "live_sse": True},
            {"live_sse": ["can't be true unless live is also true"]},
        ),
        (
            {"offset": "0_0", "live": False, "live_sse": True, **HANDLE},
            {"live_sse": ["can't be true unless live is also true"]},
        ),
        # 6: the table
        ({"offset": -1}, {"table": ["can't be blank"]}),
        ({"offset": "0_0", "live": True, **HANDLE}, {"table": ["can't be blank"]}),
    ],
)
def test_parameters(server: Serving, given: dict[str, Any], errors: dict[str, Any]) -> None:
    assert refusal(server, **given) == errors


def missing(schema: str, name: str) -> str:
    return (
        f'Table "{schema}"."{name}" does not exist. If the table name contains capitals or '
        "special characters you must quote it."
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("nowhere", missing("public", "nowhere")),
        ("Nowhere", missing("public", "nowhere")),
        ('"Nowhere"', missing("public", "Nowhere")),
        ("other.nowhere", missing("other", "nowhere")),
        ("pg_class_x", missing("public", "pg_class_x")),
        ('""', "Invalid zero-length delimited identifier"),
        ("a.", "Invalid zero-length delimited identifier"),
        ("a b", "Invalid unquoted identifier contains special characters: a b"),
        ("a;b", "Invalid unquoted identifier contains special characters: a;b"),
        ('"a"b"', 'Invalid identifier with unescaped quote: a"b'),
        ("a" * 64, "Identifier is too long (max length is 63)"),
        ("a.b.c", "Invalid relation identifier, too many delimiters: a.b.c"),
    ],
)
def test_table(server: Serving, table: str, message: str) -> None:
    assert refusal(server, table=table, offset=-1) == {"table": [message]}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            "id,nowhere,nothing",
            "The following columns are not found on the table: nowhere, nothing",
        ),
        ("id,mixed", "The following columns are not found on the table: mixed"),
        ("label", "The list of columns must include all primary key columns, missing: id"),
        ("id,", "Invalid zero-length delimited identifier"),
        ("id,,label", "Invalid zero-length delimited identifier"),
        ("id,a b", "Invalid unquoted identifier contains special characters: a b"),
    ],
)
def test_columns(server: Serving, items: str, columns: str, message: str) -> None:
    assert refusal(server, table=items, offset=-1, columns=columns) == {"columns": [message]}


def test_columns_of_a_table_without_primary_key(server: Serving, tables: Tables) -> None:
    name = tables.make("a int, b int")
    message = "The list of columns must include all primary key columns, missing: b"
    assert refusal(server, table=name, offset=-1, columns="a") == {"columns": [message]}


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("1 x 1", 'At location 17: syntax error at or near "x"'),
        ("id =", "At location 19: syntax error at end of input"),
        ("nowhere = 1", "At location 0: unknown reference nowhere"),
        ("id = 1 and mixed = 2", "At location 11: unknown reference mixed"),
        ("id", "WHERE clause must return a boolean"),
        ("id = 'x'", "At location 5: invalid syntax for type int4: x"),
        ("id = $1", "At location 5: parameter $1 was not provided"),
        ("sum(id) = 1", "At location 0: unknown or unsupported function sum/1"),
    ],
)
def test_where(server: Serving, items: str, where: str, message: str) -> None:
    assert refusal(server, table=items, offset=-1, where=where) == {"where": [message]}


@pytest.mark.parametrize(
    "where",
    [
        "id = 1; drop table x",
        "id = 1 order by id",
        "id = 1) or (true",
        "label = 'open",
        "case when id = 1 then true",
        "exists (select 1)",
        "id = 1 -- comment\n and",
        "label = 1",
        "list = 1",
        "id = 1e",
        "\x00",
        "(" * 5000,
        "not " * 9000 + "true",
        "x" * 60000,
    ],
)
def test_where_that_is_not_one(server: Serving, items: str, where: str) -> None:
    errors = refusal(server, table=items, offset=-1, where=where)
    assert list(errors) == ["where"]
    assert errors["where"][0]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"params[a]": "1"}, "Parameters can only use numbers as keys"),
        ({"params[1]": "1", "params[b]": "1"}, "Parameters can only use numbers as keys"),
        ({"params[2]": "1"}, "Parameters must be numbered sequentially, starting from 1"),
        ({"params[0]": "1"}, "Parameters must be numbered sequentially, starting from 1"),
        (
            {"params[1]": "1", "params[3]": "1"},
            "Parameters must be numbered sequentially, starting from 1",
        ),
        ({"params": "1"}, None),
    ],
)
def test_params(server: Serving, items: str, params: dict[str, str], message: str | None) -> None:
    given: dict[str, Any] = {"table": items, "offset": -1, "where": "id = $1"}
    answer = ask_with(server, given | params)
    assert answer["errors"] == {"params": [message or "is invalid"]}


def ask_with(server: Serving, parameters: dict[str, Any]) -> dict[str, Any]:
    """With parameters that `ask` would number itself."""
    answer = httpx.get(f"{server.url}/v1/shape", params=parameters)
    assert answer.status_code == 400, answer.text
    return answer.json()


def test_ten_params_are_in_the_order_of_their_numbers(server: Serving, items: str) -> None:
    where = " or ".join(f"id = ${number}" for number in range(1, 12))
    answer = ask(server.url, table=items, offset=-1, where=where, params=range(11))
    assert answer.status == 200


def test_params_without_where_are_not_looked_at(server: Serving, items: str) -> None:
    given: dict[str, Any] = {"table": items, "offset": -1, "params[x]": "1"}
    assert ask(server.url, **given).status == 200


def test_the_first_stage_that_fails_is_reported(server: Serving) -> None:
    given: dict[str, Any] = {"table": "a b", "where": "1 x 1", "live_sse": True}
    assert list(refusal(server, offset="x", **given)) == ["offset"]
    assert list(refusal(server, offset="1_1", **given)) == ["handle"]
    assert list(refusal(server, offset=-1, live=True, **given)) == ["live"]
    assert list(refusal(server, offset=-1, **given)) == ["live_sse"]
    assert list(refusal(server, offset=-1, **given | {"live_sse": None})) == ["table"]


def test_what_postgres_says_stays_inside(server: Serving, tables: Tables, items: str) -> None:
    """A filter that is fine by itself and fails on a row: the client is told no more than that."""
    tables.run(f"insert into {items} values (0, 'zero') on conflict do nothing")
    answer = ask(server.url, table=items, offset=-1, where="1 / id > 0")
    assert answer.status in (400, 503)
    assert "Traceback" not in answer.text


@pytest.fixture(scope="module")
def guarded(database_of_brief: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Serving]:
    with Serving(
        database_of_brief, tmp_path_factory.mktemp("guarded"), nodes=1, secret="open sesame/&"
    ) as serving:
        yield serving


def test_secret(guarded: Serving, brief_tables: Tables) -> None:
    name = brief_tables.make("id int primary key")
    given: dict[str, Any] = {"table": name, "offset": -1}
    wrongs: list[dict[str, Any]] = [{}]
    wrongs += [{"secret": ""}, {"secret": "x"}, {"api_secret": "x"}, {"secret": "é"}]
    for wrong in wrongs:
        for method in ("GET", "HEAD", "DELETE", "POST"):
            answer = ask(guarded.url, method=method, **given, **wrong)
            assert answer.status == 401, (wrong, method)
            if method == "GET":
                expected = '{"message":"Unauthorized - Invalid API secret"}'
                assert answer.text == expected
                assert answer.headers["access-control-allow-origin"] == "*"
    right = "open sesame/&"
    assert ask(guarded.url, **given, secret=right).status == 200
    assert ask(guarded.url, **given, api_secret=right).status == 200
    assert ask(guarded.url, **given, secret="x", api_secret=right).status == 401
    header = {"authorization": f"Bearer {right}"}
    assert ask(guarded.url, headers=header, **given).status == 401
    assert ask(guarded.url, method="OPTIONS").status == 204
    assert "open sesame" not in guarded.log
