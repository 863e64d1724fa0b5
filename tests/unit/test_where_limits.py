"""What a filter may not do: be read otherwise than by Postgres, hide its errors, or take long."""

from __future__ import annotations

import contextlib
import time

import pytest
from where_table import POSITIONS, TABLE, full_row, parse, row

from shapes.where import EvaluationError, WhereError, parse_where


@pytest.mark.parametrize(
    "clause",
    [
        # No interval becomes a text here, whose layout would depend on IntervalStyle.
        "iv || 'x' = 'y'",
        "c || iv = 'y'",
        "concat(c || iv, 'x') = 'y'",
        # There is no array of arrays to look in.
        "ia < ALL (ARRAY['{1}', '{}'])",
        "ia = ANY ('{1}')",
        "tags @> ANY (ARRAY['{a}', NULL])",
    ],
)
def test_refused(clause: str) -> None:
    with pytest.raises(WhereError):
        parse(clause)


@pytest.mark.parametrize(
    ("clause", "values", "outcome"),
    [
        ("ARRAY['a', 'b']::text = c", {"c": "{a,b}"}, True),
        ("ARRAY['a', 'b']::varchar = c", {"c": "{a,b"}, False),
        ("c LIKE ARRAY['a']::text", {"c": "{a}"}, True),
    ],
)
def test_arrays_without_a_type_become_texts(
    clause: str, values: dict[str, str], outcome: bool
) -> None:
    assert parse(clause).compile(POSITIONS)(full_row(values)) is outcome


@pytest.mark.parametrize(
    "clause",
    [
        "(i8 + 1 / i4) IS NULL",
        "(i8 = 1 / i4) IS NULL",
        "(i8 + i8 = 1 / i4) IS NULL",
        "((i8 + 1) * (1 / i4)) IS NULL",
        "(i8 + i8) IS NOT DISTINCT FROM i8 * (1 / i4)",
        "NULLIF(i8, 1 / i4) IS NULL",
        "NOT (i8 BETWEEN i8 AND 1 / i4)",
    ],
)
def test_a_null_operand_does_not_hide_the_error_of_the_next(clause: str) -> None:
    """Postgres computes all operands before it looks for a NULL among them."""
    holds = parse(clause).compile(POSITIONS)
    with pytest.raises(EvaluationError, match="division by zero"):
        holds(row(i4="0"))


@pytest.mark.parametrize(
    "clause",
    [
        "i4 IN (" + ", ".join(["i8"] * 20_000) + ")",
        "i4 NOT IN (" + ", ".join(["i8+1"] * 9000) + ")",
        "n = 1e131071 / 3",
        "n % 7e-16000 = 1e131071 % 7e-16000",
        "div(n, 3) = div(1e131071, " + "3" * 60_000 + ")",
        "n = " + " * ".join(["1e2000"] * 60),
        "c LIKE '" + "%a" * 30_000 + "'",
        "j = '" + "[" * 60_000 + "'",
        "/*" * 30_000,
        "i4 = " + "+" * 60_000 + "i4",
        "i4 = $" + "1" * 60_000,
        "n = '" + "1" * 60_000 + "x'",
        "f8 = '" + "." + "1" * 60_000 + "e'",
        "ia" + "[1:2]" * 10_000 + " = ia",
        "COALESCE(" + ", ".join(["b"] * 15_000) + ")",
    ],
)
def test_no_clause_takes_long(clause: str) -> None:
    # It is measured in the processor's time, which other programs do not take from.
    began = time.process_time()
    with contextlib.suppress(WhereError):
        parse_where(clause, {}, TABLE)
    assert time.process_time() - began < 4


def test_long_texts_in_rows_are_read_in_no_time() -> None:
    began = time.process_time()
    for cast in ("n", "f8", "i8", "iv", "tz", "d", "tm", "tt", "u", "by", "j", "ia", "na"):
        name = {column.name: column.type for column in TABLE.columns}[cast]
        array = "[]" * cast.endswith("a")
        try:
            holds = parse(f"c::{name}{array} IS NOT NULL").compile(POSITIONS)
        except WhereError:
            continue
        for filler in ("1", "1:", " ", "a", "-", "{", '"', "\\", "[", "1.", "1e", "_1"):
            for start in ("", "{", "P", "2024-01-01", "\\x"):
                with contextlib.suppress(EvaluationError):
                    holds(row(c=start + filler * 50_000 + "!"))
    assert time.process_time() - began < 10


def test_many_branches() -> None:
    whens = " ".join(f"WHEN {number} THEN '{number + 1}'" for number in range(1500))
    condition = parse(f"CASE i4 {whens} ELSE c END = '1500'")
    test = condition.compile(POSITIONS)
    assert [test(row(i4=one, c="1500")) for one in ("1499", "1498", None)] == [True, False, True]


def test_long_lists_of_constants_are_possible() -> None:
    numbers = ", ".join(map(str, range(9_000)))
    test = parse(f"i4 IN ({numbers})").compile(POSITIONS)
    assert test(row(i4="8999"))
    assert not test(row(i4="9000"))
    either = parse(" OR ".join(f"i4={number}" for number in range(5000))).compile(POSITIONS)
    assert either(row(i4="4999"))
    assert not either(row(i4="5000"))
