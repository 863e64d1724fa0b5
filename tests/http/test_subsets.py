"""Subset snapshots: one-off queries over a shape's rows, by GET and by POST."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from serving import Serving
from tables import Tables

COLUMNS = "id int primary key, bay text not null, weight numeric, label text"


@pytest.fixture(scope="module")
def parcels(tables: Tables) -> str:
    name = tables.make(COLUMNS)
    tables.run(
        f"insert into {name} select n, 'B' || n % 3, n * 0.5, 'label ' || n"
        " from generate_series(1, 30) n"
    )
    return name


def get(server: Serving, **parameters: object) -> httpx.Response:
    query = {name: str(value) for name, value in parameters.items()}
    return httpx.get(f"{server.url}/v1/shape", params={"offset": "now", **query}, timeout=30)


def post(
    server: Serving, body: dict[str, Any] | str | bytes, **parameters: object
) -> httpx.Response:
    content = json.dumps(body) if isinstance(body, dict) else body
    query = {"offset": "now", **{name: str(value) for name, value in parameters.items()}}
    return httpx.post(f"{server.url}/v1/shape", params=query, content=content, timeout=30)


def ids(answer: httpx.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [int(row["value"]["id"]) for row in answer.json()["data"]]


def refusal(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 400, answer.text
    assert answer.json()["message"] == "Invalid request"
    return answer.json()["errors"]


def test_rows_and_metadata(server: Serving, tables: Tables, parcels: str) -> None:
    answer = get(server, table=parcels, subset__where="id = 2")
    metadata, data = answer.json()["metadata"], answer.json()["data"]
    mark = metadata["snapshot_mark"]
    assert data == [
        {
            "key": f'"public"."{parcels}"/"2"',
            "value": {"id": "2", "bay": "B2", "weight": "1.0", "label": "label 2"},
            "headers": {
                "operation": "insert",
                "relation": ["public", parcels],
                "snapshot_mark": mark,
            },
        }
    ]
    assert 0 <= mark < 2**31
    assert int(metadata["xmin"]) <= int(metadata["xmax"])
    assert metadata["xip_list"] == []
    [(lsn,)] = tables.run("select (pg_current_wal_insert_lsn() - '0/0')::text")
    assert 0 < int(metadata["database_lsn"]) <= int(lsn)


def test_headers(server: Serving, parcels: str) -> None:
    answer = get(server, table=parcels, subset__limit=1, subset__order_by="id")
    headers = answer.headers
    assert headers["electric-snapshot"] == "true"
    assert headers["cache-control"] == "no-cache"
    assert headers["content-type"].startswith("application/json")
    assert json.loads(headers["electric-schema"])["id"]["pk_index"] == 0
    assert headers["electric-handle"]
    assert headers["electric-offset"].endswith("_0")
    assert "etag" not in headers
    assert int(headers["content-length"]) == len(answer.content)


def test_the_offset_of_a_running_client_is_echoed(server: Serving, parcels: str) -> None:
    now = get(server, table=parcels, log="changes_only")
    handle, offset = now.headers["electric-handle"], now.headers["electric-offset"]
    given = {"table": parcels, "log": "changes_only", "handle": handle, "subset__where": "true"}
    for position in (offset, "0_inf", "0_0"):
        answer = get(server, offset=position, **given)
        assert answer.headers["electric-offset"] == position
        assert answer.headers["electric-handle"] == handle
        assert len(ids(answer)) == 30


def test_all_who_skip_history_share_a_handle(server: Serving, parcels: str) -> None:
    handles = {get(server, table=parcels, where="id > 3").headers["electric-handle"] for _ in "abc"}
    assert len(handles) == 1


def test_an_unknown_handle_gets_a_new_one(server: Serving, parcels: str) -> None:
    answer = get(server, table=parcels, offset="0_0", handle="1-1", subset__where="true")
    assert answer.status_code == 409
    handle = answer.headers["electric-handle"]
    again = get(server, table=parcels, offset="0_0", handle=handle, subset__where="true")
    assert again.headers["electric-handle"] == handle
    assert len(ids(again)) == 30


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"where": "bay = $1", "params": '{"1": "B1"}', "order_by": "id", "limit": 3}, [1, 4, 7]),
        ({"where": "weight > 14", "order_by": "id DESC"}, [30, 29]),
        ({"where": "true = true", "params": "{}", "order_by": '"id"', "limit": 2}, [1, 2]),
        ({"order_by": "bay, id desc", "limit": 2, "offset": 1}, [27, 24]),
        ({"order_by": "id", "limit": 3, "offset": 29}, [30]),
        ({"where": "id > $1 and id <= $2", "params": '{"1": 3, "2": 4}'}, [4]),
        ({"where": "label > $1", "params": '{"1":"label 8"}', "order_by": "label"}, [9]),
        ({"where": "id = ANY($1)", "params": '{"1":"{5,6}"}', "order_by": "id"}, [5, 6]),
        ({"where": "bay = 'nothing'"}, []),
        ({"where": "id = 7", "where_expr": '{"type":"func"}', "order_by_expr": "[]"}, [7]),
    ],
)
def test_what_a_subset_selects(
    server: Serving, parcels: str, parameters: dict[str, object], expected: list[int]
) -> None:
    by_url = get(server, table=parcels, **{f"subset__{k}": v for k, v in parameters.items()})
    assert ids(by_url) == expected
    assert ids(post(server, parameters, table=parcels)) == expected
    assert ids(post(server, {"subset": parameters}, table=parcels)) == expected


def test_numbers_are_sorted_as_numbers(server: Serving, parcels: str) -> None:
    """The columns are delivered as texts of the same names."""
    answer = get(server, table=parcels, subset__order_by="weight", subset__limit=3)
    assert ids(answer) == [1, 2, 3]


def test_a_subset_stays_inside_its_shape(server: Serving, parcels: str) -> None:
    inside = get(
        server,
        table=parcels,
        where="bay = 'B1' or bay = 'B2'",
        subset__where="id = 1 or id = 2 or id = 3",
        subset__order_by="id",
    )
    assert ids(inside) == [1, 2]


def test_columns_of_the_shape(server: Serving, parcels: str) -> None:
    answer = get(server, table=parcels, columns="id,label", subset__where="bay='B1' and id < 3")
    assert [row["value"] for row in answer.json()["data"]] == [{"id": "1", "label": "label 1"}]


def test_a_large_subset(server: Serving, tables: Tables) -> None:
    name = tables.make("id int primary key, filler text")
    tables.run(f"insert into {name} select n, repeat('é', 300) from generate_series(1, 20000) n")
    answer = get(server, table=name, subset__order_by="id")
    assert ids(answer) == list(range(1, 20001))
    assert len(answer.content) > 10_000_000


@pytest.mark.parametrize(
    ("parameters", "errors"),
    [
        ({"limit": 5}, {"order_by": ["order_by is required when limit or offset is present"]}),
        ({"offset": 5}, {"order_by": ["order_by is required when limit or offset is present"]}),
        ({"limit": 0, "order_by": "id"}, {"limit": ["must be greater than 0"]}),
        ({"limit": -1, "order_by": "id"}, {"limit": ["must be greater than 0"]}),
        (
            {"offset": -1, "order_by": "id"},
            {"offset": ["must be greater than or equal to 0"]},
        ),
        ({"limit": "x", "order_by": "id"}, {"limit": ["is invalid"]}),
        ({"where": "id = $1", "params": "[1]"}, {"params": ["params must be a JSON object"]}),
        ({"where": "id = $1", "params": "{"}, {"params": ["params must be valid JSON"]}),
        (
            {"where": "id = $1", "params": '{"a":"1"}'},
            {"params": ["Parameters can only use numbers as keys"]},
        ),
        (
            {"where": "id = $2", "params": '{"2":"1"}'},
            {"params": ["Parameters must be numbered sequentially, starting from 1"]},
        ),
        ({"where": "nope = 1"}, {"where": ["At location 0: unknown reference nope"]}),
        (
            {"where": "1 x 1"},
            {"where": ['At location 17: syntax error at or near "x"']},
        ),
    ],
)
def test_refused(
    server: Serving, parcels: str, parameters: dict[str, object], errors: dict[str, Any]
) -> None:
    by_url = get(server, table=parcels, **{f"subset__{k}": v for k, v in parameters.items()})
    assert refusal(by_url) == {"subset": errors}
    assert refusal(post(server, {"subset": parameters}, table=parcels)) == {"subset": errors}


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("label::int = 1", 'invalid input syntax for type integer: "…"'),
        ("(weight * 'NaN'::float8)::int = 1", "integer"),
    ],
)
def test_what_postgres_says_names_no_values(
    server: Serving, parcels: str, where: str, reason: str
) -> None:
    """They may be those of rows that the shape's own filter keeps out."""
    text = refusal(get(server, table=parcels, subset__where=where))["subset"]["where"]
    assert reason in text
    assert "label 1" not in text


def test_order_by_cannot_smuggle(server: Serving, parcels: str) -> None:
    for text in ("id; drop table x", "(select 1)", "pg_sleep(9)", "id limit 1", "id) --"):
        answer = get(server, table=parcels, subset__order_by=text)
        assert list(refusal(answer)["subset"]) == ["order_by"]


def test_queryable_columns_bound_what_a_subset_may_use(server: Serving, parcels: str) -> None:
    given = {"table": parcels, "queryable_columns": "id,label"}
    answer = get(server, **given, subset__where="id = 1")
    assert answer.json()["data"][0]["value"] == {"id": "1", "label": "label 1"}
    where = refusal(get(server, **given, subset__where="bay = 'B1'"))
    assert "unknown reference bay" in where["subset"]["where"][0]
    order = refusal(get(server, **given, subset__order_by="bay"))
    assert list(order["subset"]) == ["order_by"]
    # The proxy that sets this has written the main filter too.
    assert ids(get(server, **given, where="bay = 'B1'", subset__where="id < 5")) == [1, 4]


def test_queryable_columns_bound_columns(server: Serving, parcels: str) -> None:
    errors = refusal(get(server, table=parcels, queryable_columns="id,label", columns="id,bay"))
    assert errors == {"columns": ["The following columns are not found on the table: bay"]}
    errors = refusal(get(server, table=parcels, queryable_columns="label"))
    assert errors == {
        "queryable_columns": [
            "The list of queryable columns must include all primary key columns, missing: id"
        ]
    }
    errors = refusal(get(server, table=parcels, queryable_columns="id,x,y"))
    assert errors == {
        "queryable_columns": ["The following queryable columns are not found on the table: x, y"]
    }
    errors = refusal(post(server, {"queryable_columns": []}, table=parcels))
    assert errors == {"queryable_columns": ["The list of queryable columns must not be empty"]}


# -- POST ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "answer"),
    [
        ("[1]", 400, {"error": "Request body must be a JSON object"}),
        ('"x"', 400, {"error": "Request body must be a JSON object"}),
    ],
)
def test_a_body_that_is_no_object(
    server: Serving, parcels: str, body: str, status: int, answer: dict[str, str]
) -> None:
    found = post(server, body, table=parcels)
    assert (found.status_code, found.json()) == (status, answer)
    assert found.headers["cache-control"] == "max-age=0, private, must-revalidate"


def test_a_body_that_is_no_json(server: Serving, parcels: str) -> None:
    found = post(server, "{", table=parcels)
    assert found.status_code == 400
    assert found.json().keys() == {"error", "details"}
    assert found.json()["error"] == "Invalid JSON in request body"


def test_a_body_that_is_too_large(server: Serving, parcels: str) -> None:
    found = post(server, b" " * 8_000_001, table=parcels)
    assert (found.status_code, found.json()) == (413, {"error": "Request body too large"})


@pytest.mark.parametrize("body", ["", "{}", " {} "])
def test_without_a_subset_a_post_is_a_get(server: Serving, parcels: str, body: str) -> None:
    found = post(server, body, table=parcels, offset="-1")
    assert found.status_code == 200
    assert found.headers["cache-control"] == "no-cache"
    assert found.headers["electric-offset"] == "0_0"
    assert len(found.json()) == 31


def test_keys_of_a_body_override_the_url(server: Serving, parcels: str) -> None:
    body = {"subset": {"where": "id < 9"}, "where": "bay = $1", "params": {"1": "B1"}}
    found = post(server, body, table=parcels, where="true", subset__where="id = 1")
    assert ids(found) == [1, 4, 7]
    # An offset beside a filter is the subset's, not the log's.
    body = {"where": "true", "order_by": "id", "offset": 28}
    assert ids(post(server, body, table=parcels)) == [29, 30]
    found = post(server, {"table": parcels, "columns": ["id", "bay"]}, offset="-1")
    assert found.json()[0]["value"].keys() == {"id", "bay"}


def test_errors_of_a_post_are_not_cached(server: Serving, parcels: str) -> None:
    found = post(server, {"where": "nope"}, table=parcels)
    assert found.status_code == 400
    assert found.headers["cache-control"] == "no-cache"
    found = post(server, {}, table=parcels, offset="0_0", handle="1-1")
    assert found.status_code == 409
    assert found.headers["cache-control"] == "no-cache"
    assert found.headers["electric-handle"]


# -- with the log ----------------------------------------------------------------------------------


def test_a_subset_joins_the_log(server: Serving, tables: Tables) -> None:
    """What a subset does not show comes in the log after the offset that it was asked with."""
    name = tables.make("id int primary key, note text")
    shape = {"table": name, "log": "changes_only"}
    now = get(server, **shape)
    handle, offset = now.headers["electric-handle"], now.headers["electric-offset"]
    tables.run(f"insert into {name} values (1, 'before')")
    with tables.transaction() as running:
        running.execute(f"insert into {name} values (2, 'running')".encode())
        [(xid,)] = running.execute("select pg_current_xact_id()::xid::text").fetchall()
        subset = get(server, **shape, offset=offset, handle=handle, subset__where="true")
        metadata = subset.json()["metadata"]
        assert ids(subset) == [1]
        assert xid in metadata["xip_list"] or int(xid) >= int(metadata["xmax"])
    changes: list[dict[str, Any]] = []
    while not any("2" in change["value"]["id"] for change in changes):
        answer = get(server, **shape, offset=offset, handle=handle)
        offset = answer.headers["electric-offset"]
        changes += [one for one in answer.json() if "key" in one]
    seen, unseen = changes
    assert seen["value"]["id"] == "1"
    assert int(seen["headers"]["lsn"]) < int(metadata["database_lsn"])
    assert seen["headers"]["txids"][0] < int(metadata["xmax"])
    assert unseen["headers"]["txids"] == [int(xid)]
