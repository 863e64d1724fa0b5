"""Which rows a request for runs means: the environment's, and of those what the grant allows."""

from __future__ import annotations

import pytest

from engine.runs.table import FIELDS, RunTable
from shapes.access.grant import Grant
from shapes.access.scopes import Scope
from shapes.definition import Definition
from shapes.runs.definitions import RunShapes, array_text, look_back
from shapes.runs.view import RunView
from shapes.windows.window import Window

RUNS = RunTable()


def shapes(runs: RunTable = RUNS) -> RunShapes:
    return RunShapes(runs, "prod", RunView.of(runs, ()))


def grant(*scopes: str) -> Grant:
    return Grant("prod", tuple(Scope.parse(scope) for scope in scopes))


def filter_of(definition: Definition) -> str:
    """With the parameters in their places."""
    where = definition.where or ""
    for number, value in reversed(definition.params):
        where = where.replace(f"${number}", f"<{value}>")
    return where


OF_ENVIRONMENT = ' and "environment_id" = <prod>'


@pytest.mark.parametrize(
    "scopes",
    [
        ("read:runs",),
        ("read:runs:run_1",),
        ("admin",),
        ("read:all",),
        ("read:tasks",),
        ("*:runs:run_1",),
        ("read:tags:a", "read:runs:run_1"),
    ],
    ids=str,
)
def test_a_run_that_may_be_read_whatever_it_is(scopes: tuple[str, ...]) -> None:
    assert filter_of(shapes().run("run_1", grant(*scopes))) == '"id" = <run_1>' + OF_ENVIRONMENT


def test_a_secret_key_may_read_it() -> None:
    assert filter_of(shapes().run("run_1", Grant("prod"))) == '"id" = <run_1>' + OF_ENVIRONMENT


@pytest.mark.parametrize(
    ("scopes", "condition"),
    [
        (("read:tags:a",), '("tags" && <{"a"}>)'),
        (("read:tags:b", "read:tags:a"), '("tags" && <{"a","b"}>)'),
        (("read:tasks:t",), '("task" = <t>)'),
        (("read:batch:b",), '("batch_id" = <b>)'),
        (
            ("read:tags:a", "read:batch:b", "read:tasks:t"),
            '("tags" && <{"a"}> or "batch_id" = <b> or "task" = <t>)',
        ),
        (("read:tags",), '(cardinality("tags") > 0)'),
        (("read:batch",), '("batch_id" is not null)'),
        (("read:runs:run_2",), "(false)"),
        (("write:runs:run_1", "read:waitpoints", "read:sessions:x"), "(false)"),
        ((), "(false)"),
    ],
    ids=str,
)
def test_a_run_that_may_be_read_for_what_it_has(scopes: tuple[str, ...], condition: str) -> None:
    found = filter_of(shapes().run("run_1", grant(*scopes)))
    assert found == f'"id" = <run_1> and {condition}{OF_ENVIRONMENT}'


def test_scopes_in_another_order_are_the_same_shape() -> None:
    first = shapes().run("r", grant("read:tags:a", "read:tags:b", "read:batch:x"))
    assert shapes().run("r", grant("read:batch:x", "read:tags:b", "read:tags:a")) == first


def test_tags_and_batches() -> None:
    tagged = shapes().tagged(["b", "a", "b"], 3600)
    assert filter_of(tagged) == '"tags" @> <{"a","b"}>' + OF_ENVIRONMENT
    assert tagged.window == Window("created_at", 3600)
    assert filter_of(shapes().tagged([], 60)) == '"environment_id" = <prod>'
    assert filter_of(shapes().batch("batch_1")) == '"batch_id" = <batch_1>' + OF_ENVIRONMENT
    assert shapes().batch("batch_1").window is None


def test_what_a_table_has_no_column_for() -> None:
    runs = RunTable(
        "public",
        "jobs",
        {name: name for name in FIELDS if name not in ("tags", "environment_id", "task")},
        constants={"environment_id": "staging", "task": "t"},
    )
    assert filter_of(shapes(runs).tagged(["a"], 60)) == "false and false"
    assert filter_of(shapes(runs).batch("b")) == '"batch_id" = <b> and false'
    own = RunTable("public", "jobs", runs.columns, constants={"environment_id": "prod"})
    assert filter_of(shapes(own).batch("b")) == '"batch_id" = <b>'
    found = filter_of(shapes(own).run("r", grant("read:tags:a", "read:tags", "read:tasks:t")))
    assert found == '"id" = <r> and (false or false or false)'


def test_names_and_values_are_quoted() -> None:
    runs = RunTable("Work", 'a"b', {**RUNS.columns, "id": 'the "id"'})
    definition = shapes(runs).run("r' or true --", grant("read:runs"))
    assert definition.table == '"Work"."a""b"'
    assert definition.where == '"the ""id""" = $1 and "environment_id" = $2'
    assert array_text(['a"b', "c\\d", "e,f", "NULL", ""]) == r'{"a\"b","c\\d","e,f","NULL",""}'


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, 86400),
        ("1h", 3600),
        ("2h30m", 9000),
        ("1w2d", 9 * 86400),
        ("90s", 90),
        ("1h1s", 3660),
        ("1d1s", 90000),
        ("1hr", 3600),
        ("yesterday", 86400),
        ("", 86400),
        ("0s", 86400),
        ("-1h", 86400),
        ("1h" + " " * 120, 86400),
        ("9" * 99 + "h", 86400),
    ],
)
def test_how_far_back(text: str | None, seconds: int) -> None:
    assert look_back(text) == seconds
