"""Which header is in which answer: the whole table, for each method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from follower import Answer, Follower, ask, events
from serving import Serving
from tables import Tables

INITIAL = "public, max-age=604800, s-maxage=3600, stale-while-revalidate=2629746"
LIVE = "public, max-age=5, stale-while-revalidate=5"
OTHER = "public, max-age=60, stale-while-revalidate=300"
CONSIDERED = {
    *("electric-handle", "electric-offset", "electric-schema", "electric-up-to-date"),
    *("electric-has-data", "electric-cursor", "electric-snapshot", "etag"),
    *("electric-internal-known-error", "retry-after", "surrogate-control", "content-type"),
}
LOG = {"electric-handle", "electric-offset", "electric-has-data", "etag", "content-type"}


class Case(NamedTuple):
    """A request about a shape whose reader is up to date, and what its answer must have."""

    parameters: Callable[[Follower], dict[str, Any]]
    status: int
    headers: set[str]
    cache: str
    """Of GET and HEAD."""
    values: dict[str, str]


def at(offset: str, **more: Any) -> Callable[[Follower], dict[str, Any]]:
    """At this offset, or at the reader's own if it is empty."""
    return lambda reader: {"offset": offset or reader.offset, "handle": reader.handle, **more}


def alone(**given: Any) -> Callable[[Follower], dict[str, Any]]:
    """Wherever the reader is."""
    return lambda reader: given | {"table": reader.parameters["table"]}


def before_the_change(reader: Follower) -> dict[str, Any]:
    lsn = reader.changes[-1]["headers"]["lsn"]
    return {"offset": f"{lsn}_0", "handle": reader.handle, "live": "true", "cursor": ""}


CASES = {
    "start": Case(
        alone(offset=-1), 200, LOG | {"electric-schema"}, INITIAL, {"electric-has-data": "true"}
    ),
    "start with a handle": Case(
        at("-1"), 200, LOG | {"electric-schema"}, INITIAL, {"electric-offset": "0_0"}
    ),
    "now": Case(
        alone(offset="now"),
        200,
        LOG | {"electric-schema", "electric-up-to-date"},
        OTHER,
        {"electric-has-data": "false", "electric-up-to-date": ""},
    ),
    "end of the snapshot": Case(
        at("0_0"),
        200,
        LOG | {"electric-schema", "electric-up-to-date"},
        OTHER,
        {"electric-has-data": "true", "electric-up-to-date": ""},
    ),
    "in the log": Case(
        at(""),
        200,
        LOG | {"electric-schema", "electric-up-to-date"},
        OTHER,
        {"electric-has-data": "true"},
    ),
    "live=false": Case(
        at("", live="false"), 200, LOG | {"electric-schema", "electric-up-to-date"}, OTHER, {}
    ),
    "timed out": Case(
        at("", live="true", cursor=""),
        200,
        LOG | {"electric-cursor", "electric-up-to-date"},
        LIVE,
        {"electric-has-data": "false"},
    ),
    "live with something there": Case(
        before_the_change,
        200,
        LOG | {"electric-cursor", "electric-up-to-date"},
        LIVE,
        {"electric-has-data": "true"},
    ),
    "handle of another shape": Case(
        at("0_0", live="true", where="id > 1"),
        409,
        {"electric-handle", "etag", "content-type"},
        "public, max-age=60, must-revalidate",
        {},
    ),
    "subset": Case(
        at("", subset__where="id = 1"),
        200,
        {
            *("electric-handle", "electric-offset", "electric-schema", "electric-snapshot"),
            "content-type",
        },
        "no-cache",
        {"electric-snapshot": "true"},
    ),
    "unknown handle": Case(
        alone(offset="0_0", handle="1-1"),
        409,
        {"electric-handle", "etag", "content-type"},
        "public, max-age=60, must-revalidate",
        {},
    ),
    "bad": Case(alone(offset="x"), 400, {"surrogate-control", "content-type"}, "no-store", {}),
    "ahead": Case(
        at("9999999999999_0"), 400, {"surrogate-control", "content-type"}, "no-store", {}
    ),
}


@pytest.fixture(scope="module")
def reader(brief: Serving, brief_tables: Tables) -> Follower:
    """Up to date, after a change."""
    name = brief_tables.make("id int primary key, label text")
    brief_tables.run(f"insert into {name} values (1, 'one')")
    found = Follower(brief.url, name).sync()
    brief_tables.run(f"insert into {name} values (2, 'two')")
    found.take(1)
    return found


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("name", CASES)
def test_table_of_headers(brief: Serving, reader: Follower, name: str, method: str) -> None:
    case = CASES[name]
    given: dict[str, Any] = reader.parameters | case.parameters(reader)
    answer = ask(brief.url, method=method, **given)
    assert answer.status == case.status, answer.text
    headers = case.headers if method != "POST" else case.headers - {"surrogate-control"}
    assert {one.lower() for one in answer.headers} & CONSIDERED == headers
    cacheable = method in ("GET", "HEAD")
    assert answer.headers["cache-control"] == (case.cache if cacheable else "no-cache")
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    for header, value in case.values.items():
        assert answer.headers[header] == value
    assert (answer.text == "") == (method == "HEAD")


def test_head_answers_say_how_long_the_body_would_be(brief: Serving, reader: Follower) -> None:
    places: list[dict[str, Any]] = [{"offset": -1}, {"offset": "x"}]
    places.append({"offset": "0_0", "handle": "1-1"})
    for given in places:
        given["table"] = reader.parameters["table"]
        answers = [ask(brief.url, method=method, **given) for method in ("GET", "HEAD")]
        assert answers[1].headers["content-length"] == str(len(answers[0].text))


def test_event_stream(brief: Serving, reader: Follower) -> None:
    place = {**reader.parameters, "offset": reader.offset, "handle": reader.handle}
    with events(brief.url, **place) as stream:
        headers = stream.answer.headers
        found = {one.lower() for one in headers} & CONSIDERED
        assert found - {"electric-up-to-date"} == LOG | {"electric-cursor"}
        assert headers["cache-control"] == "public, max-age=1", "the stream's life but a second"
        assert headers["etag"] == f'"{reader.handle}:{reader.offset}:{reader.offset}"'


def schema_of(answer: Answer) -> str:
    return answer.headers["electric-schema"]


def test_the_schema_is_the_same_in_every_answer(brief: Serving, reader: Follower) -> None:
    """Clients keep the first one they see."""
    given: list[dict[str, Any]] = [
        {"offset": "-1"},
        {"offset": "now"},
        {"offset": "0_0"},
        {"offset": reader.offset},
        {"offset": reader.offset, "subset__where": "true"},
    ]
    schemas = {schema_of(reader.request(**one)) for one in given}
    assert schemas == {
        '{"id":{"type":"int4","pk_index":0,"not_null":true},"label":{"type":"text"}}'
    }


def test_cached_for_as_long_as_is_set(
    database_of_brief: str, brief_tables: Tables, tmp_path_factory: pytest.TempPathFactory
) -> None:
    name = brief_tables.make("id int primary key")
    folder = tmp_path_factory.mktemp("pgtide-ages")
    with Serving(
        database_of_brief, folder, nodes=1, cache_max_age=7, cache_stale_age=11
    ) as serving:
        answer = ask(serving.url, table=name, offset="now")
        assert answer.headers["cache-control"] == "public, max-age=7, stale-while-revalidate=11"
        first = ask(serving.url, table=name, offset=-1)
        assert first.headers["cache-control"] == INITIAL
