"""By which keys a condition is found."""

from __future__ import annotations

import pytest
from where_table import parse

from shapes.where import Key, Kind, Plan
from shapes.where.keys import NEVER


def _shown(key: Key) -> str:
    """A key in short: kind, operands, value."""
    operands = [
        (one.sql or one.column) + (" null" if one.null else "") for one in key.index.operands
    ]
    kind = "" if key.index.kind is Kind.VALUE else key.index.kind.name.lower() + " "
    return f"{kind}{', '.join(operands)}: {key.value}"


def _span(low: object, high: object) -> str:
    return f"Span(low={low}, high={high})"


def _keys(plan: Plan) -> list[str]:
    return [_shown(key) for key in plan.keys]


@pytest.mark.parametrize(
    ("clause", "keys"),
    [
        ("id = 'x'", ["id: x"]),
        ("'x' = id", ["id: x"]),
        ("NOT (id <> 'x')", ["id: x"]),
        ("id IN ('x', 'y')", ["id: x", "id: y"]),
        ("id = ANY ('{x,y,x}')", ["id: x", "id: y"]),
        ("i4 = 1 OR id = 'x'", ["i4: 1", "id: x"]),
        ("c IS NOT DISTINCT FROM 'x'", ["c: x"]),
        ("c IS NOT DISTINCT FROM NULL", ["c null: True"]),
        ("c IS NULL", ["c null: True"]),
        ("NOT (c IS NULL)", ["c null: False"]),
        ("b", ["b: True"]),
        ("NOT b", ["b: False"]),
        ("b IS FALSE", ["b: False"]),
        ("b IS NOT TRUE", ["b: False", "b null: True"]),
        ("(id = 'x') IS TRUE", ["id: x"]),
        ("e = 'sad'", ["e: sad"]),
        ("u = 'A0000000-0000-0000-0000-000000000001'", ["u: a0000000-0000-0000-0000-000000000001"]),
        ("tags @> '{x}'", ["element tags: x"]),
        ("'{x}' <@ tags", ["element tags: x"]),
        ("'x' = ANY (tags)", ["element tags: x"]),
        ("tags && '{x,y}'", ["element tags: x", "element tags: y"]),
        ("tags = '{x,y}'", ["tags: (((1, 2),), ('x', 'y'))"]),
        ("length(c) = 3", ['length("c"): 3']),
        ("i4 > 3", [f"span i4: {_span((3, 1), None)}"]),
        ("3 >= i4", [f"span i4: {_span((), (3, 0))}"]),
        ("NOT (i4 > 3)", [f"span i4: {_span((), (3, 0))}"]),
        ("i4 >= 1 AND i4 < 5", [f"span i4: {_span((1, 0), (5, -1))}"]),
        ("i4 > 0 AND i4 BETWEEN -1 AND 5", [f"span i4: {_span((0, 1), (5, 0))}"]),
        (
            "i4 NOT BETWEEN 1 AND 5",
            [f"span i4: {_span((), (1, -1))}", f"span i4: {_span((5, 1), None)}"],
        ),
        ("c > 'a' OR id = 'x'", [f"span c: {_span(('a', 1), None)}", "id: x"]),
        ("c LIKE 'x'", ["c: x"]),
        ("c LIKE 'x\\%y%'", ["prefix c: x%y"]),
        ("c ILIKE 'Ab'", ["c: ab"]),
        ("c ILIKE 'Ab%'", ["prefix c: ab"]),
        ("id = 'x' AND i4 = 1", ["i4, id: ('1', 'x')"]),
        ("id = 'x' AND c IS NULL AND b", ["b, c null, id: (True, True, 'x')"]),
        ("id IN ('x', 'y') AND i4 = 1", ["i4, id: ('1', 'x')", "i4, id: ('1', 'y')"]),
        ("id IN ('x', 'y') AND id IN ('y', 'z')", ["id: y"]),
        ("(id = 'x' AND i4 = 1) OR i4 = 2", ["i4, id: ('1', 'x')", "i4: 2"]),
    ],
)
def test_conditions_that_keys_settle(clause: str, keys: list[str]) -> None:
    (plan,) = parse(clause).plans
    assert _keys(plan) == keys
    assert plan.exact


@pytest.mark.parametrize(
    ("clause", "alternatives"),
    [
        ("id = 'x' AND c <> 'y'", [["id: x"]]),
        ("b AND length(c) = 3 AND i4 > 5 AND tags @> '{x}' AND id = 'x'", None),
        ("tags @> '{x,y}'", [["element tags: x"], ["element tags: y"]]),
        ("(id = 'x' AND c <> 'y') OR i4 = 1", [["id: x", "i4: 1"]]),
        ("c LIKE 'x%y'", [["prefix c: x"], ["part c: y"]]),
        ("c LIKE '%ab%'", [["part c: ab"]]),
        ("c LIKE '%abcde'", [["part c: abcd"], ["part c: bcde"]]),
        ("c ILIKE '%Abé_'", [["part c: abé"]]),
        ("c LIKE '" + "x" * 40 + "%'", [["prefix c: " + "x" * 24]]),
        # It may fail where the other one keeps Postgres from looking at it.
        ("i4 = 1 OR length(c) = 3", [["i4: 1", 'length("c"): 3']]),
    ],
)
def test_conditions_of_which_keys_are_a_part(
    clause: str, alternatives: list[list[str]] | None
) -> None:
    plans = parse(clause).plans
    assert not any(plan.exact for plan in plans)
    if alternatives is not None:
        assert [_keys(plan) for plan in plans] == alternatives


@pytest.mark.parametrize(
    "clause",
    [
        "i4 <> 1",
        "i4 NOT IN (1, 2)",
        "c NOT LIKE 'x%'",
        "c LIKE '%'",
        "c LIKE '%_%'",
        "i4 = i8",
        "id = 'x' OR i4 <> 1",
        "NOT (id = 'x')",
        "id IS DISTINCT FROM 'x'",
        "i4 = ALL ('{1,2}')",
        "(id = 'x') IS NOT TRUE",
        "tags <@ '{x}'",
        "e > 'sad'",
    ],
)
def test_conditions_without_keys(clause: str) -> None:
    assert parse(clause).plans == []


@pytest.mark.parametrize(
    "clause", ["FALSE", "id = NULL", "i4 > 5 AND i4 < 3", "i4 > 5 AND i4 <= 5", "tags @> '{NULL}'"]
)
def test_conditions_that_hold_of_no_row(clause: str) -> None:
    assert NEVER in parse(clause).plans


def test_values_that_exclude_each_other() -> None:
    assert [plan.keys for plan in parse("id = 'x' AND id = 'y'").plans] == [()]
    assert () in [plan.keys for plan in parse("id = 'x' AND id = 'y' AND i4 = 1 AND b").plans]


def test_the_most_selective_plan_comes_first() -> None:
    plans = parse("b AND c LIKE 'x%' AND i4 > 5 AND tags @> '{x}' AND id = 'x'").plans
    assert [_keys(plan) for plan in plans] == [
        ["id: x"],
        ["element tags: x"],
        ["prefix c: x"],
        [f"span i4: {_span((5, 1), None)}"],
        ["b: True"],
        ["b, id: (True, 'x')"],
    ]
