"""The grammar of where clauses, and what is said of texts outside it."""

from __future__ import annotations

import pytest
from where_table import error, holds, parse

from shapes.where import WhereError, WhereSyntaxError
from shapes.where.grammar.parser import MAX_DEPTH


@pytest.mark.parametrize(
    ("clause", "sql"),
    [
        ("i4 = 1 OR i4 = 2 AND b", """(("i4" = '1'::int4) OR (("i4" = '2'::int4) AND "b"))"""),
        ("NOT b AND b", """((NOT "b") AND "b")"""),
        ("NOT i4 = 1", """(NOT ("i4" = '1'::int4))"""),
        ("b = (i4 = 1)", """("b" = ("i4" = '1'::int4))"""),
        ("i4 = 1 IS NULL", """(("i4" = '1'::int4) IS NULL)"""),
        ("i4 IS NULL = b", """(("i4" IS NULL) = "b")"""),
        ("b IS DISTINCT FROM i4 = 1", """("b" IS DISTINCT FROM ("i4" = '1'::int4))"""),
        ("b = i4 IN (1, 2)", """("b" = ("i4" = ANY ('{1,2}'::int4[])))"""),
        ("i4 = - 5", """("i4" = '-5'::int4)"""),
        ("i4=-5", """("i4" = '-5'::int4)"""),
        ("- i4 < 5", """((- "i4") < '5'::int4)"""),
        ("i4 = -1::int8", """("i4" = '-1'::int4)"""),
        ("i4::text::varchar = 'x'", """("i4"::text::varchar = 'x'::text)"""),
        ("i4 = ANY (ia) = b", """(("i4" = ANY ("ia")) = "b")"""),
        ("i4 BETWEEN 1 AND 2 AND b", """(("i4" >= '1'::int4) AND ("i4" <= '2'::int4) AND "b")"""),
        ("i4 NOTNULL", """("i4" IS NOT NULL)"""),
        ("i4 ISNULL", """("i4" IS NULL)"""),
        ("b IS NOT UNKNOWN", """("b" IS NOT UNKNOWN)"""),
        ("c NOT LIKE 'a%'", """("c" !~~ 'a%'::text)"""),
        ("c <> ALL ('{a}')", """("c" <> ALL ('{a}'::text[]))"""),
        ("'a' = SOME (tags)", """('a'::text = ANY ("tags"))"""),
        ("CAST(i4 AS double precision) = 1.5", """("i4"::float8 = '1.5'::float8)"""),
        ("d = date '2026-01-01'", """("d" = '2026-01-01'::date)"""),
        ("tm = time '10:00'", """("tm" = '10:00:00'::time)"""),
        ("time = 1", """("time" = '1'::int4)"""),
        ("ia = '{1,2}'::int[3]", """("ia" = '{1,2}'::int4[])"""),
        ("ia = '{1}'::int ARRAY", """("ia" = '{1}'::int4[])"""),
        ("i4 != 1", """("i4" <> '1'::int4)"""),
    ],
)
def test_precedence_and_forms(clause: str, sql: str) -> None:
    assert parse(clause).sql == sql


@pytest.mark.parametrize(
    ("clause", "message"),
    [
        ("1 x 1", 'At location 17: syntax error at or near "x"'),
        ("", "At location 15: syntax error at end of input"),
        ("   ", "At location 18: syntax error at end of input"),
        ("i4 =", "At location 19: syntax error at end of input"),
        ("(i4 = 1", "At location 22: syntax error at end of input"),
        ("i4 = 1)", 'At location 21: syntax error at or near ")"'),
        ("i4 = = 1", 'At location 20: syntax error at or near "="'),
        ("i4 = 1 = b", 'At location 22: syntax error at or near "="'),
        ("i4 < 1 < 2", 'At location 22: syntax error at or near "<"'),
        ("c LIKE 'a' LIKE 'b'", 'At location 26: syntax error at or near "LIKE"'),
        ("i4 IN ()", 'At location 22: syntax error at or near ")"'),
        ("i4 IS 5", 'At location 21: syntax error at or near "5"'),
        ("select = 1", 'At location 15: syntax error at or near "select"'),
        ("i4 BETWEEN 1", "At location 27: syntax error at end of input"),
        ("i4 NOT 5", 'At location 18: syntax error at or near "NOT"'),
        ("i4 = 'abc", 'At location 20: unterminated quoted string at or near "\'abc"'),
        ('"i4 = 1', 'At location 15: unterminated quoted identifier at or near ""i4 = 1"'),
        ("i4 = 1 /* x", 'At location 22: unterminated /* comment at or near "/* x"'),
        ("i4 = 1x", 'At location 20: trailing junk after numeric literal at or near "1x"'),
        ("i4 = $1a", 'At location 20: trailing junk after parameter at or near "$1a"'),
        ("i4 = {1}", 'At location 20: syntax error at or near "{"'),
        ("cast(i4 as)", 'At location 25: syntax error at or near ")"'),
        ("cast(i4 as", "At location 25: syntax error at end of input"),
        ("i4 = 1 order by i4", "malformed query ending with SQL clauses"),
        ("i4 = 1 limit 5", "malformed query ending with SQL clauses"),
        ("i4 = 1; drop table x", 'unescaped ";" causing statement split'),
        ("i4 = B'101'", "At location 5: BitString values are not supported"),
        ("(i4, i8) = (1, 2)", "At location 0: RowExpr is not supported in this context"),
        ("c = user", "At location 4: SQLValueFunction is not supported in this context"),
        (
            "i4[1] = 1",
            "At location 2: cannot subscript type int4 because it does not support subscripting",
        ),
        (
            "c SIMILAR TO 'x'",
            "At location 2: expression ~ of :AEXPR_SIMILAR is not currently supported",
        ),
        ("count(*) > 1", "At location 0: aggregation is not supported in this context"),
        ("max(distinct i4) > 1", "At location 0: aggregation is not supported in this context"),
        (
            "length(variadic tags) > 1",
            "At location 0: explicit VARIADIC function calls are not currently supported",
        ),
        (
            "id IN (SELECT id FROM x)",
            (
                "At location 3: subqueries are not supported; list the values, or filter by a "
                "column of this table"
            ),
        ),
        (
            "EXISTS (SELECT 1)",
            "At location 0: only `value IN (SELECT ...)` sublinks are supported right now",
        ),
        (
            "i4 = (SELECT 1)",
            "At location 5: only `value IN (SELECT ...)` sublinks are supported right now",
        ),
        (
            "i4 = ANY (SELECT 1)",
            "At location 3: only `value IN (SELECT ...)` sublinks are supported right now",
        ),
        (
            "i4 AT TIME ZONE 'UTC' = ts",
            "At location 3: Could not select a function overload for timezone(unknown, int4)",
        ),
    ],
)
def test_refusals(clause: str, message: str) -> None:
    assert error(clause) == message


def test_syntax_errors_count_from_the_inner_statement() -> None:
    with pytest.raises(WhereSyntaxError) as caught:
        parse("1 x 1")
    assert caught.value.location == 17
    with pytest.raises(WhereError) as semantic:
        parse("i4 = nothing")
    assert semantic.value.location == 5


@pytest.mark.parametrize(
    ("constant", "value"),
    [
        ("'it''s'", "it's"),
        (r"'a\b'", r"a\b"),
        (r"E'a\\b\n\'\t\''", "a\\b\n'\t'"),
        (r"E'\u00e9\U0001F600\x41\101'", "é😀AA"),
        (r"E'\xc3\xa9'", "é"),
        (r"E'\ud83d\ude00'", "😀"),
        ("'日本'", "日本"),
        ("'-- no comment'", "-- no comment"),
    ],
)
def test_string_constants(constant: str, value: str) -> None:
    assert holds(f"c = {constant}", c=value)
    assert not holds(f"c = {constant}", c=value + "x")


@pytest.mark.parametrize(
    "constant", [r"E'\xff'", r"E'\ud83d'", r"E'\u12'", r"E'\000'", r"E'\U00110000'", "U&'a'"]
)
def test_string_constants_that_postgres_refuses(constant: str) -> None:
    with pytest.raises(WhereError):
        parse(f"c = {constant}")


def test_comments() -> None:
    assert holds("i4 /* a /* nested */ one */ = 1 -- end", i4="1")
    assert holds("i4 =-- comment\n1", i4="1")


def test_identifiers_fold_ascii_only() -> None:
    assert parse("I4 = 1").sql == parse('"i4" = 1').sql
    assert error('"I4" = 1') == "At location 0: unknown reference I4"
    assert error("É = 1") == "At location 0: unknown reference É"
    assert error("everything.i4 = 1") == "At location 0: unknown reference everything.i4"
    assert holds('"Odd ""Name" = \'x\'', **{'Odd "Name': "x"})


@pytest.mark.parametrize(
    "clause",
    [
        "(" * 5000 + "b" + ")" * 5000,
        "NOT " * 5000 + "b",
        "i4" + "::int8::int4" * 2000 + " = 1",
        "b" + " IS TRUE" * 3000,
        "b = (" * 2000 + "b" + ")" * 2000,
        "- " * 5000 + "i4 = 1",
        "i4 = ANY (" * 3000,
        "ARRAY[" * 5000,
        "i4 + " * 5000 + "1 = 1",
    ],
)
def test_depth_is_limited(clause: str) -> None:
    assert f"nested more than {MAX_DEPTH} levels deep" in error(clause)


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ("(", ")"),
        ("NOT (", ")"),
        ("(b AND NOT ", ")"),
        ("b = (", ")"),
        ("(b OR b IS NULL) = (", ")"),
    ],
)
def test_what_is_not_too_deep_can_be_evaluated(opening: str, closing: str) -> None:
    depth = 1
    while (clause := opening * depth + "b" + closing * depth) and _is_accepted(clause):
        assert parse(clause).sql
        assert holds(clause, b="t") in (True, False)
        depth += 1
    assert "levels deep" in error(clause)
    assert depth > MAX_DEPTH / 4


def _is_accepted(clause: str) -> bool:
    try:
        parse(clause)
    except WhereError:
        return False
    return True


def test_long_chains_do_not_nest() -> None:
    numbers = range(5000)
    assert holds(" OR ".join(f"i4={one}" for one in numbers), i4="4999")
    assert holds(" AND ".join(f"i4<>{one}" for one in numbers), i4="5000")
    assert holds(f"i4 IN ({','.join(map(str, numbers))})", i4="4999")
    assert not holds(f"i4 IN ({','.join(map(str, numbers))})", i4="5000")


def test_size_is_limited() -> None:
    assert "bigger than maximum size" in error("c = '" + "x" * 65_536 + "'")
    assert "bigger than maximum size" in error("c = '" + "é" * 32_768 + "'")
    fits = "x" * (65_536 - len("c = ''"))
    assert holds(f"c = '{fits}'", c=fits)


@pytest.mark.parametrize("character", ["\0", "\ud800"])
def test_characters_that_no_text_contains(character: str) -> None:
    with pytest.raises(WhereError):
        parse(f"c = '{character}'")
    with pytest.raises(WhereError):
        parse("c = $1", character)
