"""Arithmetic, functions and forms of where clauses, value by value.

Agreement with Postgres itself is the business of tests/db/test_where_oracle.py.
"""

from __future__ import annotations

import pytest
from where_table import POSITIONS, TABLE, error, full_row, parse, truth

from shapes.where import (
    EvaluationError,
    MissingLettersError,
    SubqueryError,
    WhereError,
    WhereSyntaxError,
    make_letters,
    parse_subset_where,
    parse_where,
)

NAMES = [column.name for column in TABLE.columns]


@pytest.mark.parametrize(
    ("clause", "values", "outcome"),
    [
        ("i4 + 1 = 3", {"i4": "2"}, True),
        ("i4 + 1 = 3", {}, None),
        ("i4 / 2 = -3", {"i4": "-7"}, True),
        ("i4 % 4 = -3", {"i4": "-7"}, True),
        ("mod(i4, 4) = 3", {"i4": "7"}, True),
        ("i8 + i4 = 3000000000", {"i8": "2999999999", "i4": "1"}, True),
        ("@ i4 = 5 AND abs(i4) = 5", {"i4": "-5"}, True),
        ("i4 & 6 | 1 # 8 = 13", {"i4": "4"}, True),
        ("~ i4 = -6", {"i4": "5"}, True),
        ("1 << i4 = 1024", {"i4": "10"}, True),
        ("i2 << 15 = -32768", {"i2": "1"}, True),
        ("i4 >> 1 = -4", {"i4": "-7"}, True),
        ("(n / 3)::text = '0.83333333333333333333'", {"n": "2.50"}, True),
        ("(n / 10000)::text = '1.00000000000000000000'", {"n": "10000"}, True),
        ("(n * 1.10)::text = '2.7500'", {"n": "2.50"}, True),
        ("(n + 0.001)::text = '2.501'", {"n": "2.50"}, True),
        ("n % 1 = -0.5", {"n": "-2.5"}, True),
        ("n - n = 'NaN'", {"n": "Infinity"}, True),
        ("round(n, 1)::text = '2.6' AND round(n) = 3", {"n": "2.55"}, True),
        ("trunc(n, -1) = 120 AND ceil(n) = 126 AND floor(n) = 125", {"n": "125.5"}, True),
        ("f8 / 3 = 0.5", {"f8": "1.5"}, True),
        ("(f4 * 3)::text = '0.30000000447034836'", {"f4": "0.1"}, True),
        ("(f4 * 3::float4)::text = '0.3'", {"f4": "0.1"}, True),
        ("|/ f8 = 3 AND round(f8 / 2) = 4", {"f8": "9"}, True),
        ("2 ^ 10 = 1024 AND 2 ^ -1 = 0.5", {}, True),
        ("(c || 'x' || i4)::text = 'ax5'", {"c": "a", "i4": "5"}, True),
        ("c || 'x' = 'ax'", {}, None),
        ("concat(c, i4, 'x') = '5x'", {"i4": "5"}, True),
        ("concat_ws('-', c, nm, 'x') = 'a-x'", {"c": "a"}, True),
        ("concat_ws(c, 'a', 'b') IS NULL", {}, True),
        ("lower(c) = 'aéÉ'", {"c": "AéÉ"}, True),
        ("lower(c) = 'abc' AND upper(c) = 'ABC'", {"c": "aBc"}, True),
        ("LENGTH(c) > 1 AND octet_length(c) = 3", {"c": "é1"}, True),
        ("substring(c from 0 for 3) = 'ab' AND substr(c, 3) = 'c'", {"c": "abc"}, True),
        ("left(c, -1) = 'ab' AND right(c, 2) = 'bc' AND right(c, -2) = 'c'", {"c": "abc"}, True),
        ("trim(c) = 'a' AND ltrim(c) = 'a ' AND trim(both 'a ' from c) = ''", {"c": " a "}, True),
        ("replace(c, 'b', '') = 'ac' AND translate(c, 'ab', 'x') = 'xc'", {"c": "abc"}, True),
        ("strpos(c, 'b') = 2 AND position('z' in c) = 0", {"c": "abc"}, True),
        ("split_part(c, ',', 2) = 'b' AND split_part(c, ',', -1) = 'c'", {"c": "a,b,c"}, True),
        ("starts_with(c, 'ab') AND c ^@ 'a' AND reverse(c) = 'cba'", {"c": "abc"}, True),
        ("like(c, 'a%') AND ilike(c, 'A%') AND notlike(c, 'b')", {"c": "abc"}, True),
        ("coalesce(c, t, 'x') = 'x'", {}, True),
        ("coalesce(i4, i8) = 5", {"i8": "5"}, True),
        ("greatest(i4, NULL, i8) = 7 AND least(i4, i8, 9) = 5", {"i4": "5", "i8": "7"}, True),
        ("greatest(i4, i8) IS NULL", {}, True),
        ("greatest(n, 'NaN') = 'NaN'", {"n": "Infinity"}, True),
        ("nullif(i4, 0) IS NULL", {"i4": "0"}, True),
        ("nullif(i4, NULL) = 5", {"i4": "5"}, True),
        ("CASE WHEN i4 > 0 THEN 'p' WHEN i4 < 0 THEN 'n' END = 'n'", {"i4": "-1"}, True),
        ("CASE WHEN i4 > 0 THEN 'p' WHEN i4 < 0 THEN 'n' END IS NULL", {}, True),
        ("CASE i4 WHEN 1 THEN true WHEN i8 THEN b ELSE false END", {"i4": "2", "i8": "2"}, None),
        ("CASE WHEN i4 <> 0 THEN 10 / i4 ELSE 0 END = 0", {"i4": "0"}, True),
        ("bool(i4) AND int4(b) = 1 AND text(i4) = '1'", {"i4": "1", "b": "t"}, True),
        ("c::numeric = 1.50 AND c::float8 = 1.5", {"c": "1.50"}, True),
        ("c::date = '2026-01-01'", {"c": "2026-01-01"}, True),
        ("ts::time IS NULL", {"ts": "infinity"}, True),
        ("'a' LIKE c", {"c": "b\\"}, False),
    ],
)
def test_values(clause: str, values: dict[str, str | int | None], outcome: bool | None) -> None:
    assert truth(clause, **values) is outcome


@pytest.mark.parametrize(
    ("clause", "values", "reason"),
    [
        ("1 / i4 = 1", {"i4": "0"}, "division by zero"),
        ("i4 % i4 = 1", {"i4": "0"}, "division by zero"),
        ("n / n = 1", {"n": "0.00"}, "division by zero"),
        ("f8 / f8 = 1", {"f8": "-0"}, "division by zero"),
        ("i4 + 1 = 1", {"i4": "2147483647"}, "integer out of range"),
        ("i2 * i2 = 1", {"i2": "300"}, "smallint out of range"),
        ("i8 - 1 = 1", {"i8": "-9223372036854775808"}, "bigint out of range"),
        ("abs(i4) = 1", {"i4": "-2147483648"}, "integer out of range"),
        ("f8 * f8 = 1", {"f8": "1e300"}, "overflow"),
        ("f8 * f8 = 1", {"f8": "1e-300"}, "underflow"),
        ("f4 * f4 = 1", {"f4": "1e30"}, "overflow"),
        ("|/ f8 = 1", {"f8": "-1"}, "square root of a negative number"),
        ("substring(c from 1 for i4) = ''", {"c": "a", "i4": "-1"}, "negative substring length"),
        ("split_part(c, ',', i4) = ''", {"c": "a", "i4": "0"}, "must not be zero"),
        ("i4 << i8::int4 = 1", {"i4": "1", "i8": "40"}, "count of a shift"),
        ("'ab' LIKE c", {"c": "a\\"}, "LIKE pattern must not end with escape character"),
    ],
)
def test_what_fails_for_a_row_says_why(clause: str, values: dict[str, str], reason: str) -> None:
    with pytest.raises(EvaluationError, match=reason):
        parse(clause).compile(POSITIONS)(full_row(values))


@pytest.mark.parametrize(
    ("clause", "message"),
    [
        (
            "i4 = 1/0",
            "At location 6: Failed to apply function to constant arguments: division by zero",
        ),
        ("f8 ^ 2 = 4", "At location 3: the last bit of a float8 power depends on the server's"),
        ("n ^ 2 = 4", "At location 2: how numeric powers are rounded depends on the server's"),
        ("||/ f8 = 4", "At location 0: the cube root depends on the C library"),
        ("ch || c LIKE 'a' AND ch LIKE 'a'", "At location 24: cast char(n) to text to match it"),
        ("substring(c from 'a.c') = 'x'", "At location 0: regular expressions are not evaluated"),
        ("concat(ch, 'a') = 'a'", "At location 0: concat of bpchar is not supported; cast it"),
        ("concat(b, 'a') = 'a'", "At location 0: concat of bool is not supported; cast it"),
        ("lower() = 'a'", "At location 0: unknown or unsupported function lower/0"),
        ("lower(i4) = 'a'", "At location 0: Could not select a function overload for lower(int4)"),
        ("i4 || i8 = 'a'", "At location 3: Could not select an operator overload (int4 || int8)"),
        ("b + 1 = 2", "At location 2: Could not select an operator overload (bool + int4)"),
        ("coalesce(i4, c) = 'a'", "At location 0: COALESCE types int4 and text cannot be matched"),
        ("coalesce(d, tm) = 'a'", "At location 0: COALESCE types date and time cannot be matched"),
        ("CASE WHEN b THEN 1 ELSE c END = 1", "At location 0: CASE types text and int4 cannot be"),
        ("CASE WHEN i4 THEN b END", "At location 10: argument of CASE/WHEN must be bool, not int4"),
        ("greatest(ip, ip) IS NULL", "At location 0: could not identify a comparison function"),
        ("greatest(t, 'a') = 'a'", 'At location 0: "<" between texts depends on the collation'),
        ("ROW(1) = ROW(1)", "At location 0: RowExpr is not supported in this context"),
        ("ts AT LOCAL = tz", "At location 3: AT LOCAL depends on the session"),
        ("xmlforest(c) IS NULL", "At location 0: XmlExpr is not supported in this context"),
        ("c IS NORMALIZED", "At location 2: FuncCall is not supported in this context"),
        ("interval(c) = 'a'", 'At location 23: syntax error at or near "("'),
        ("CASE b END", 'At location 22: syntax error at or near "END"'),
        ("CASE WHEN b THEN b", "At location 33: syntax error at end of input"),
        ("nullif(b)", 'At location 23: syntax error at or near ")"'),
        ("i4 BETWEEN NOT b AND 2", 'At location 26: syntax error at or near "NOT"'),
        ("b IS DISTINCT FROM b IS NULL", 'At location 36: syntax error at or near "IS"'),
        (
            "i4 + 1 IN (SELECT 1)",
            "At location 7: currently, left side of `IN (SELECT ...)` can only be a column",
        ),
        ("(i4, i8) IN (SELECT 1, 2)", "At location 9: subqueries are not supported"),
    ],
)
def test_refusals(clause: str, message: str) -> None:
    assert error(clause).startswith(message)


@pytest.mark.parametrize(
    ("clause", "sql"),
    [
        ("i4 - 1 - 2 = 0", """((("i4" - '1'::int4) - '2'::int4) = '0'::int4)"""),
        ("@ i4 + 1 = 0", """((@ ("i4" + '1'::int4)) = '0'::int4)"""),
        ("- i4 * 2 = 0", """(((- "i4") * '2'::int4) = '0'::int4)"""),
        ("i4 | 1 + 2 * 3 = 7", """(("i4" | '7'::int4) = '7'::int4)"""),
        ("c || 'a' LIKE 'b'", """(("c" || 'a'::text) ~~ 'b'::text)"""),
        ("like(c, 'b')", """("c" ~~ 'b'::text)"""),
        ("b = i4 < 5 IS NOT NULL AND b", ""),
        ("b BETWEEN 1 < 2 AND true", """(("b" >= TRUE) AND ("b" <= TRUE))"""),
        ("coalesce(NULL, i2, 5) = 5", """(COALESCE("i2"::int4, '5'::int4) = '5'::int4)"""),
        ("coalesce(NULL, 5, i2) = i4", """('5'::int4 = "i4")"""),
        ("CASE WHEN false THEN i4 WHEN true THEN i2 END = 1", """("i2"::int4 = '1'::int4)"""),
        ("i2 + 5 = 6", """(("i2" + '5'::int4) = '6'::int4)"""),
        ("position('a' in c) = 1", """(strpos("c", 'a'::text) = '1'::int4)"""),
    ],
)
def test_canonical_forms(clause: str, sql: str) -> None:
    if not sql:
        with pytest.raises(WhereError):
            parse(clause)
    else:
        assert parse(clause).sql == sql


def test_collations_survive_folding() -> None:
    """What is folded away has said by which collation the rest is compared."""
    assert parse("t < lower('A' COLLATE \"C\")").sql == """("t" < ('a'::text COLLATE "C"))"""
    folded = parse("CASE WHEN false THEN c ELSE t END < 'a'").sql
    assert folded == """(("t" COLLATE "C") < 'a'::text)"""


@pytest.mark.parametrize(
    ("opening", "core", "closing"),
    [
        ("coalesce(c, ", "c", ")"),
        ("CASE WHEN b THEN c ELSE ", "c", " END"),
        ("greatest(c, ", "c", ")"),
        ("('x' || ", "c", ")"),
        ("nullif(", "c", ", 'x')"),
        ("lower(", "c", ")"),
        ("CASE WHEN coalesce(b, ", "b", ") THEN b ELSE b END"),
        ("(b AND NOT coalesce(b IS NULL, ", "b", "))"),
    ],
)
def test_what_is_not_too_deep_can_be_evaluated(opening: str, core: str, closing: str) -> None:
    def nested(depth: int) -> str:
        return f"({opening * depth}{core}{closing * depth}) IS NULL"

    depth = 1
    for step in (16, 4, 1):
        while _fits(deeper := nested(depth + step)):
            parse(deeper).compile(POSITIONS)(full_row({"c": "x", "b": "t"}))
            depth += step
    assert "levels deep" in error(nested(depth + 1))
    assert depth >= 15


def _fits(clause: str) -> bool:
    try:
        parse(clause)
    except WhereError:
        return False
    return True


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ("(", " BETWEEN SYMMETRIC b AND b)"),
        ("(", " BETWEEN b AND b)"),
        ("CASE ", " WHEN true THEN b WHEN b THEN false WHEN false THEN b END"),
        ("(", " IN (b, NOT b))"),
        ("(", " IS DISTINCT FROM NULL)"),
    ],
)
def test_what_is_written_out_several_times_does_not_explode(opening: str, closing: str) -> None:
    """One of these takes longer than the universe is old if every level doubles the next."""
    for depth in (5, 25):
        clause = opening * depth + "b" + closing * depth
        try:
            assert len(parse(clause).sql) < 1_000_000
        except WhereError as refusal:
            message = str(refusal)
            assert "too complex" in message or "levels deep" in message


def test_letters_of_a_collation() -> None:
    with pytest.raises(MissingLettersError) as missing:
        parse("lower(t) = 'é'")
    assert missing.value.collation == "default"
    letters = make_letters({ord("É"): "é", ord("A"): "a"}, {ord("é"): "É", ord("a"): "A"})
    for clause, text, outcome in (
        ("lower(t) = 'é'", "É", True),
        ("upper(t) = 'É'", "é", True),
        ("t ILIKE 'é%'", "Éa", True),
        ("t NOT ILIKE 'e%'", "Éa", True),
        ("lower(t) = 'b'", "B", False),
    ):
        condition = parse_where(clause, {}, TABLE, {"default": letters})
        assert condition.compile(POSITIONS)(full_row({"t": text})) is outcome
    with pytest.raises(WhereError, match="At location 0: not to be had"):
        parse_where("upper(t) = 'x' AND i4 = 1", {}, TABLE, {"default": "not to be had"})


def test_filters_of_subsets_are_left_to_postgres() -> None:
    assert parse_subset_where("t > $1", {1: "a"}, TABLE, NAMES) == """("t" > 'a'::text)"""
    sql = parse_subset_where("lower(t) = 'a' OR n ^ 2 > 4 OR f8 ^ 2 > 2", {}, TABLE, NAMES)
    assert 'lower("t")' in sql
    assert "^" in sql
    with pytest.raises(WhereError, match="unknown reference t"):
        parse_subset_where("t > 'a'", {}, TABLE, ["id"])
    with pytest.raises(SubqueryError):
        parse_subset_where("id IN (SELECT id FROM x)", {}, TABLE, NAMES)
    with pytest.raises(WhereSyntaxError):
        parse_subset_where("t >", {}, TABLE, NAMES)


def test_texts_do_not_grow_without_bound() -> None:
    body = "replace(" * 4 + "c" + ", 'a', '" + "a" * 5000 + "')"
    clause = body + (", 'a', '" + "a" * 5000 + "')") * 3 + " = 'x'"
    with pytest.raises(EvaluationError, match="longer than"):
        parse(clause).compile(POSITIONS)(full_row({"c": "a"}))
