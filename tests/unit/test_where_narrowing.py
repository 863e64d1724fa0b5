"""A filter within a filter: what it matches, and that it tells nothing of other rows."""

from __future__ import annotations

from itertools import product

import pytest
from where_table import POSITIONS, parse, row

from shapes.where import Condition, WhereError, guarded, narrowed
from shapes.where.condition import MOST_EXPRESSIONS


def within(limit: str, asked: str) -> Condition:
    return narrowed(parse(limit, "7"), parse(asked, "8", "9"))


def matches(condition: Condition, **values: str | int | None) -> bool:
    return condition.compile(POSITIONS)(row(**values))


@pytest.mark.parametrize(
    "asked",
    [
        "i2 = $1",
        "i2 = $1 OR true",
        "i2 = $1 OR i4 = $2",
        "NOT i4 = 7",
        "i2 IN (8, 9) OR i2 IS NULL",
        "i2 = 8 -- ) OR true",
        "1 = 1",
        "i2 / i8 = 1 OR true",
    ],
)
def test_nothing_that_is_asked_gets_beyond_the_limit(asked: str) -> None:
    limit, alone = parse("i4 = $1", "7"), parse(asked, "8", "9")
    both = narrowed(limit, alone)
    for i2, i4 in product((None, "8", "9"), (None, "7", "8", "9")):
        values = {"i2": i2, "i4": i4, "i8": "1"}
        expected = matches(limit, **values) and matches(alone, **values)
        assert matches(both, **values) == expected, values
    assert both.columns == limit.columns | alone.columns


def test_each_has_parameters_of_its_own() -> None:
    both = within("i4 = $1", "i2 = $1 OR i2 = $2")
    assert both.sql == parse("i4 = 7 AND (i2 = 8 OR i2 = 9)").sql


@pytest.mark.parametrize(("asked", "columns"), [("i2 = $1", {"i2", "i4"}), ("i2 / i8 = 1", {"i4"})])
def test_it_is_found_through_the_limits_index(asked: str, columns: set[str]) -> None:
    (plan,) = within("i4 = $1", asked).plans
    (key,) = plan.keys
    assert {operand.column for operand in key.index.operands} == columns


@pytest.mark.parametrize(
    "asked", ["1 / i2 = 1", "t::int4 = 1", "i2 + i4 > 3", "sqrt(f8) = 1", "t LIKE t"]
)
def test_what_may_fail_is_looked_at_within_the_limit_alone(asked: str) -> None:
    both = within("i4 = $1", asked)
    assert "CASE" in both.sql
    # Beyond the limit there is no division by zero, nor a text that is no number.
    assert not matches(both, i2="0", i4="8", t="x", f8="-1")


def test_what_cannot_fail_is_a_plain_condition() -> None:
    both = within("i4 = $1", "i2 >= $1 AND t <> 'x' AND (b IS TRUE OR u IS NOT NULL)")
    assert "CASE" not in both.sql


def test_sql_for_postgres_alone_is_guarded() -> None:
    assert guarded(parse("i4 = $1", "7"), "1 / i2 > 0 or true") == (
        f"case when {parse('i4 = 7').sql} then (1 / i2 > 0 or true) else false end"
    )


def test_both_together_may_not_be_too_much() -> None:
    many = parse(" AND ".join(["i2 = i4"] * (MOST_EXPRESSIONS // 4)))
    assert narrowed(parse("i4 = 7"), many).columns == {"i2", "i4"}
    with pytest.raises(WhereError, match="too complex"):
        narrowed(many, many)
