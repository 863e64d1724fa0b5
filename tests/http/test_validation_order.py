"""Of several things that are wrong with a request, the first is told: by GET and by POST alike."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from follower import UNUSED_TLS
from serving import Serving
from tables import Tables


@pytest.fixture(scope="module")
def items(tables: Tables) -> str:
    return tables.make("id int primary key, label text")


# From the first to the last: what to add to a good request, and which field is then refused.
STAGES: list[tuple[dict[str, str], str]] = [
    ({"replica": "x"}, "replica"),
    ({"offset": "x"}, "offset"),
    ({"offset": "1_2", "handle": ""}, "handle"),
    ({"offset": "-1", "live": "true"}, "live"),
    ({"live": "false", "live_sse": "true"}, "live_sse"),
    ({"table": "no table"}, "table"),
    ({"columns": "id,nothing"}, "columns"),
    ({"where": "id = $2", "params[2]": "1"}, "params"),
    ({"where": "nothing = 1"}, "where"),
    ({"subset__where": "nothing = 1"}, "subset"),
]


def refused(server: Serving, method: str, parameters: dict[str, str]) -> dict[str, Any]:
    with httpx.Client(verify=UNUSED_TLS) as http:
        answer = http.request(method, f"{server.url}/v1/shape", params=parameters)
    assert answer.status_code == 400, answer.text
    assert answer.json()["message"] == "Invalid request"
    return answer.json()["errors"]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("stage", range(len(STAGES)))
def test_the_first_is_told(server: Serving, items: str, stage: int, method: str) -> None:
    wrong, field = STAGES[stage]
    for other, _ in STAGES[stage:]:
        # What the later one needs must not undo what the earlier one makes wrong.
        given = {"table": items, "offset": "-1", **other, **wrong}
        assert list(refused(server, method, given)) == [field], given


MISSING = (
    "does not exist. If the table name contains capitals or special characters you must quote it."
)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"table": "Größe$1"}, f'Table "public"."größe$1" {MISSING}'),
        ({"table": '"a.b"."c""d"'}, f'Table "a.b"."c"d" {MISSING}'),
        ({"table": '"a"."b"."c"'}, 'Invalid relation identifier, too many delimiters: "a"."b"."c"'),
        ({"table": ".a"}, "Invalid zero-length delimited identifier"),
        ({"table": '"a".""'}, "Invalid zero-length delimited identifier"),
        ({"table": "1a"}, "Invalid unquoted identifier contains special characters: 1a"),
        ({"table": "a-b"}, "Invalid unquoted identifier contains special characters: a-b"),
        ({"table": '"' + "a" * 64 + '"'}, "Identifier is too long (max length is 63)"),
        ({"table": f"a.{'b' * 64}"}, "Identifier is too long (max length is 63)"),
    ],
)
def test_names_of_tables(server: Serving, given: dict[str, str], message: str) -> None:
    assert refused(server, "GET", {"offset": "-1", **given}) == {"table": [message]}


def test_several_at_once(server: Serving) -> None:
    found = refused(server, "GET", {"replica": "x", "log": "y", "params": "z"})
    assert found == {
        "replica": ["is invalid"],
        "log": ["is invalid"],
        "params": ["is invalid"],
        "offset": ["can't be blank"],
    }


@pytest.mark.parametrize(
    "extra", [{"user": {"name": ["x"]}}, {"user": [1]}, {"user": None}, {"expired_handle": 7}]
)
def test_unknown_keys_of_a_body_are_ignored(
    server: Serving, items: str, extra: dict[str, object]
) -> None:
    url = f"{server.url}/v1/shape?table={items}&offset=-1"
    assert httpx.post(url, content=json.dumps(extra)).status_code == 200


@pytest.mark.parametrize("where", ["id IN (SELECT 1)", "id NOT IN (SELECT id FROM x)"])
def test_subqueries_are_refused(server: Serving, items: str, where: str) -> None:
    """On purpose, for now; a client learns it at once and in words."""
    given = {"table": items, "offset": "-1", "where": where}
    (message,) = refused(server, "GET", given)["where"]
    assert message.startswith("At location ")
    assert "subqueries are not supported" in message
    body = {"where": where}
    answer = httpx.post(f"{server.url}/v1/shape?table={items}&offset=-1", content=json.dumps(body))
    assert answer.status_code == 400
    assert list(answer.json()["errors"]["subset"]) == ["where"]
