"""Reading shape requests: what is refused, in which order, and in which words."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest

from shapes.definition import Definition, Errors, InvalidRequestError
from shapes.http.request import ShapeRequest, query_parameters, read_request
from shapes.wire import LogOffset, Special

SNAPSHOT = {"table": "items", "offset": "-1"}
LOG = {"table": "items", "offset": "12_4", "handle": "5-6"}


def request(parameters: dict[str, str], **more: str) -> ShapeRequest:
    return read_request(query_parameters(urlencode({**parameters, **more}).encode()))


def refusal(parameters: dict[str, str], **more: str) -> Errors:
    with pytest.raises(InvalidRequestError) as refused:
        request(parameters, **more)
    return refused.value.errors


# -- what is read ----------------------------------------------------------------------------------


def test_the_shortest_request() -> None:
    found = request(SNAPSHOT)
    assert found == ShapeRequest(Definition("items"), Special.START, None, False, False, "")


def test_everything_there_is() -> None:
    found = request(
        LOG,
        live="true",
        live_sse="true",
        cursor="77",
        where="v = $1",
        columns="id,v",
        replica="full",
        log="changes_only",
        **{"params[1]": "a b", "params[2]": ""},
    )
    definition = Definition(
        "items", "v = $1", (("1", "a b"), ("2", "")), "id,v", full_replica=True, changes_only=True
    )
    assert found == ShapeRequest(definition, LogOffset(12, 4), "5-6", True, True, "77")


def test_unknown_parameters_are_ignored() -> None:
    more = {"expired_handle": "7-8", "cache-buster": "x", "user": "y", "secret": "z"}
    assert request(LOG, **more) == request(LOG)


def test_the_order_of_parameters_does_not_matter() -> None:
    first = request(LOG, **{"params[1]": "a", "params[2]": "b"})
    assert first == request({"params[2]": "b", "params[1]": "a", **LOG})


@pytest.mark.parametrize("offset", ["-1", "-1_0", "now"])
def test_handles_mean_nothing_before_there_is_a_position(offset: str) -> None:
    assert request(SNAPSHOT, offset=offset, handle="5-6").handle is None


@pytest.mark.parametrize("blank", ["", " ", " \t"])
def test_blank_values_count_as_absent(blank: str) -> None:
    names = ("where", "columns", "replica", "log", "cursor", "handle")
    assert request(SNAPSHOT, **dict.fromkeys(names, blank)) == request(SNAPSHOT)


def test_blanks_around_an_offset_do_not_matter() -> None:
    assert request(SNAPSHOT, offset=" -1 ") == request(SNAPSHOT)


@pytest.mark.parametrize(
    ("value", "live"),
    [("true", True), ("false", False), ("", True), ("0", True), ("False", True), ("no", True)],
)
def test_flags_are_set_by_being_there(value: str, live: bool) -> None:
    assert request(LOG, live=value).live is live
    assert request(LOG, live="true", live_sse=value).sse is live
    assert request(LOG, live="true", experimental_live_sse=value).sse is live


def test_the_old_name_of_a_flag_counts_only_without_the_new_one() -> None:
    both = {"live": "true", "experimental_live_sse": "true", "live_sse": "false"}
    assert not request(LOG, **both).sse


def test_of_a_repeated_parameter_the_last_counts() -> None:
    found = query_parameters(b"table=a&table=b&offset=-1")
    assert read_request(found).definition.table == "b"


def test_percent_and_plus_encoding() -> None:
    found = query_parameters(b"table=%22My+T%22&where=v%20%3D%20%27%C3%A4%26b%27&x")
    assert found == {"table": '"My T"', "where": "v = 'ä&b'"}
    with pytest.raises(InvalidRequestError, match="query: is not valid UTF-8"):
        query_parameters(b"table=a&where=%ff")


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "errors"),
    [
        ({"table": "items"}, {"offset": ["can't be blank"]}),
        ({"table": "items", "offset": " "}, {"offset": ["can't be blank"]}),
        ({**SNAPSHOT, "replica": "some"}, {"replica": ["is invalid"]}),
        ({**SNAPSHOT, "replica": "Full"}, {"replica": ["is invalid"]}),
        ({**SNAPSHOT, "log": "none"}, {"log": ["is invalid"]}),
        ({**SNAPSHOT, "params": "x"}, {"params": ["is invalid"]}),
        ({**SNAPSHOT, "offset": "x"}, {"offset": ["has invalid format"]}),
        ({**SNAPSHOT, "offset": "-2"}, {"offset": ["has invalid format"]}),
        ({"offset": "0_0", "table": "t"}, {"handle": ["can't be blank when offset != -1"]}),
        ({**LOG, "handle": ""}, {"handle": ["can't be blank when offset != -1"]}),
        ({**SNAPSHOT, "live": "true"}, {"live": ["can't be true when offset == -1"]}),
        (
            {**SNAPSHOT, "offset": "now", "live": "true"},
            {"live": ["can't be true when offset is 'now'"]},
        ),
        ({**LOG, "live_sse": "true"}, {"live_sse": ["can't be true unless live is also true"]}),
        (
            {**LOG, "experimental_live_sse": "true", "live": "false"},
            {"live_sse": ["can't be true unless live is also true"]},
        ),
        ({"offset": "-1"}, {"table": ["can't be blank"]}),
        ({"offset": "-1", "table": " "}, {"table": ["can't be blank"]}),
    ],
)
def test_refusals(parameters: dict[str, str], errors: dict[str, list[str]]) -> None:
    assert refusal(parameters) == errors


WRONG = [
    ("replica", {"replica": "x"}),
    ("params", {"params": "x"}),
    ("offset", {"offset": "x"}),
    ("handle", {"offset": "1_2", "handle": ""}),
    ("live", {"offset": "-1", "live": "true"}),
    ("live_sse", {"offset": "1_2", "handle": "5-6", "live": "false", "live_sse": "true"}),
    ("table", {"table": ""}),
]


@pytest.mark.parametrize("first", range(len(WRONG) - 1))
def test_the_first_stage_that_fails_is_reported(first: int) -> None:
    """Whatever else is wrong: of two errors, the one of the earlier stage."""
    field, wrong = WRONG[first]
    for _, other in WRONG[first + 1 :]:
        if field != "replica" or "params" not in other:
            assert list(refusal(LOG, **{**other, **wrong})) == [field]


def test_all_errors_of_the_first_stage_are_reported_together() -> None:
    wrong = {"table": "t", "replica": "x", "log": "y", "params": "z"}
    assert refusal(wrong) == {
        "replica": ["is invalid"],
        "log": ["is invalid"],
        "params": ["is invalid"],
        "offset": ["can't be blank"],
    }
