"""What where clauses mean, value by value; and which of them are refused because of types.

Agreement with Postgres itself is the business of tests/db/test_where_oracle.py.
"""

from __future__ import annotations

import gc
import sys
from types import FrameType

import pytest
from where_table import POSITIONS, TABLE, error, full_row, parse, row, truth

from engine.postgres.table import Column, Table
from shapes.where import (
    UNCHANGED,
    EvaluationError,
    UnchangedValueError,
    WhereError,
    parse_where,
)
from shapes.where.values.numbers import parse_numeric


@pytest.mark.parametrize(
    ("clause", "values", "outcome"),
    [
        ("b AND i4 = 1", {"b": "t", "i4": "1"}, True),
        ("b AND i4 = 1", {"b": "t"}, None),
        ("b AND i4 = 1", {"b": "f"}, False),
        ("b OR i4 = 1", {"b": "t"}, True),
        ("b OR i4 = 1", {"b": "f"}, None),
        ("NOT b", {}, None),
        ("i4 = NULL", {"i4": "1"}, None),
        ("i4 IN (1, NULL)", {"i4": "1"}, True),
        ("i4 IN (1, NULL)", {"i4": "2"}, None),
        ("i4 NOT IN (1, NULL)", {"i4": "2"}, None),
        ("i4 NOT IN (1, 3)", {"i4": "2"}, True),
        ("i4 IN (i8, 3)", {"i4": "2", "i8": "2"}, True),
        ("i4 IN (i8, 3)", {"i4": "2"}, None),
        ("i4 BETWEEN 1 AND 3", {"i4": "3"}, True),
        ("i4 BETWEEN 3 AND 1", {"i4": "2"}, False),
        ("i4 BETWEEN SYMMETRIC 3 AND 1", {"i4": "2"}, True),
        ("i4 NOT BETWEEN 1 AND NULL", {"i4": "0"}, True),
        ("i4 NOT BETWEEN 1 AND NULL", {"i4": "2"}, None),
        ("i4 IS NULL", {}, True),
        ("j IS NOT NULL", {"j": "null"}, True),
        ("by IS NULL", {}, True),
        ("ip IS NULL", {"ip": "::1"}, False),
        ("e IS NULL", {"e": "sad"}, False),
        ("tags IS NULL", {"tags": "{}"}, False),
        ("b IS TRUE", {}, False),
        ("b IS NOT FALSE", {}, True),
        ("b IS UNKNOWN", {}, True),
        ("(b AND i4 = 1) IS UNKNOWN", {"b": "t"}, True),
        ("i4 IS DISTINCT FROM 1", {}, True),
        ("i4 IS NOT DISTINCT FROM i8", {}, True),
        ("i4 IS NOT DISTINCT FROM NULL", {}, True),
        ("'a' = ANY (tags)", {"tags": "{a,b}"}, True),
        ("'a' = ANY (tags)", {"tags": "{b,NULL}"}, None),
        ("'a' = ANY (tags)", {"tags": "{b}"}, False),
        ("'a' = ANY (tags)", {"tags": "{}"}, False),
        ("'a' = ANY (tags)", {}, None),
        ("NULL = ANY (tags)", {"tags": "{}"}, False),
        ("NULL = ANY (tags)", {"tags": "{a}"}, None),
        ("'a' <> ALL (tags)", {"tags": "{b}"}, True),
        ("'a' <> ALL (tags)", {"tags": "{b,NULL}"}, None),
        ("'a' <> ALL (tags)", {"tags": "{{b},{a}}"}, False),
        ("'a' = ALL (tags)", {"tags": "{}"}, True),
        ("5 < ANY (ia)", {"ia": "{1,9}"}, True),
        ("c = ANY ('{a,\"b c\",NULL}')", {"c": "b c"}, True),
        ("c = ANY ('{a,NULL}')", {"c": "b"}, None),
        ("c = ANY ('{}')", {}, False),
        ("i4 = ANY ('{1,2}')", {"i4": "2"}, True),
        ("i4 = ANY (ARRAY[1, i8])", {"i4": "7", "i8": "7"}, True),
        ("tags @> ARRAY['a','b']", {"tags": "{b,c,a}"}, True),
        ("tags @> ARRAY['a','b']", {"tags": "{b,c}"}, False),
        ("tags @> ARRAY['a',NULL]", {"tags": "{a,NULL}"}, False),
        ("tags @> '{}'", {"tags": "{}"}, True),
        ("tags @> '{}'", {}, None),
        ("'{a}' <@ tags", {"tags": "{a}"}, True),
        ("tags <@ '{a,b}'", {"tags": "{a,a}"}, True),
        ("tags <@ '{a,b}'", {"tags": "{a,NULL}"}, False),
        ("tags && '{x,b}'", {"tags": "{a,b}"}, True),
        ("tags && '{x,NULL}'", {"tags": "{a,NULL}"}, False),
        ("tags = '{a,b}'", {"tags": "{a,b}"}, True),
        ("tags = '{a,b}'", {"tags": "[0:1]={a,b}"}, False),
        ("tags = '{a,b}'", {"tags": "{{a,b}}"}, False),
        ("na @> '{1.0}'", {"na": "{1.00,2}"}, True),
        ("ba @> '{yes}'", {"ba": "{t,f}"}, True),
        ("va @> ARRAY['a']", {"va": "{a}"}, True),
        ("c LIKE 'a%'", {"c": "abc\ndef"}, True),
        ("c LIKE 'a_c'", {"c": "a😀c"}, True),
        ("c LIKE 'a\\%c'", {"c": "a%c"}, True),
        ("c LIKE 'a\\%c'", {"c": "abc"}, False),
        ("c LIKE '%b%b%c'", {"c": "abbxc"}, True),
        ("c LIKE '%b%b%c'", {"c": "abxc"}, False),
        ("c LIKE '%'", {"c": ""}, True),
        ("c LIKE c", {"c": "%"}, True),
        ("c NOT LIKE 'a.c'", {"c": "abc"}, True),
        ("c ILIKE 'A%é'", {"c": "abcé"}, True),
        ("c ILIKE 'É'", {"c": "é"}, False),
        ("length(c) = 2", {"c": "日😀"}, True),
        ("length(ch) = 1", {"ch": "a   "}, True),
        ("TRUE", {}, True),
        ("NULL", {}, None),
        ("1 = 1", {}, True),
        ("b AND 'yes'", {"b": "true"}, True),
    ],
)
def test_three_valued_logic(
    clause: str, values: dict[str, str | int | None], outcome: bool | None
) -> None:
    assert truth(clause, **values) is outcome


@pytest.mark.parametrize(
    ("clause", "values", "outcome"),
    [
        ("n = 1", {"n": "1.00"}, True),
        ("n < 'NaN'", {"n": "Infinity"}, True),
        ("n = 'NaN'", {"n": "NaN"}, True),
        ("n > 0.1", {"n": "0.10000000000000000000000000001"}, True),
        ("n = i8", {"n": "9007199254740993", "i8": "9007199254740993"}, True),
        # Between an integer and a float, Postgres compares floats.
        ("i8 = f8", {"f8": "9007199254740992", "i8": "9007199254740993"}, True),
        ("f4 = 0.1", {"f4": "0.1"}, False),
        ("f4 = '0.1'", {"f4": "0.1"}, True),
        ("f4 IN (0.1, 0.2)", {"f4": "0.1"}, True),
        ("f8 = 0", {"f8": "-0"}, True),
        ("f8 > 'Infinity'", {"f8": "NaN"}, True),
        ("i2 = 32768", {"i2": "1"}, False),
        ("i8 > 9223372036854775807", {"i8": "1"}, False),
        ("i8 < 9223372036854775808", {"i8": "1"}, True),
        ("i4 > -2147483648", {"i4": "0"}, True),
        ("b = 'yes'", {"b": "true"}, True),
        ("b = 'f'", {"b": "f"}, True),
        ("b > FALSE", {"b": "t"}, True),
        ("ch = 'ab'", {"ch": "ab  "}, True),
        ("ch = 'ab  '", {"ch": "ab  "}, True),
        ("ch = vc", {"ch": "ab  ", "vc": "ab "}, True),
        ("ch = c", {"ch": "ab  ", "c": "ab "}, False),
        ("ch::text = 'ab'", {"ch": "ab  "}, True),
        (
            "u = 'A0EEBC999C0B4EF8BB6D6BB9BD380A11'",
            {"u": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
            True,
        ),
        (
            "u < 'b0000000-0000-0000-0000-000000000000'",
            {"u": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
            True,
        ),
        ("tz = '2026-01-01T02:00:00+02:00'", {"tz": "2026-01-01 00:00:00+00"}, True),
        ("tz >= d", {"tz": "2026-01-01 00:00:00+00", "d": "2026-01-01"}, True),
        ("ts < 'infinity'", {"ts": "294276-12-31 23:59:59.999999"}, True),
        ("d < '2026-01-01'", {"d": "0044-03-15 BC"}, True),
        ("d > '-infinity'", {"d": "4713-01-01 BC"}, True),
        ("tm = '24:00'", {"tm": "24:00:00"}, True),
        ("iv = '1 mon'", {"iv": "P30D"}, True),
        ("e::text = 'sad'", {"e": "sad"}, True),
        ("e = e", {"e": "sad"}, True),
        ("small = 5", {"small": "5"}, True),
        ("c < 'b'", {"c": "B"}, True),
        ("c < 'é'", {"c": "z"}, True),
        ("t COLLATE \"C\" < 'b'", {"t": "B"}, True),
        ("nm = 'abc'", {"nm": "abc"}, True),
        ("c::int4 = 5", {"c": " 5 "}, True),
        ("f8::int4 = 2", {"f8": "2.5"}, True),
        ("n::int4 = 3", {"n": "2.5"}, True),
        ("b::int = 1", {"b": "t"}, True),
        ("b::text = 'true'", {"b": "t"}, True),
        ("tz::date = '2026-01-01'", {"tz": "2026-01-01 23:59:59+00"}, True),
        ("n::text = '1.0'", {"n": "1.00"}, False),
    ],
)
def test_types(clause: str, values: dict[str, str | int | None], outcome: bool) -> None:
    assert truth(clause, **values) is outcome


@pytest.mark.parametrize(
    ("clause", "values"),
    [
        ("c::int4 = 5", {"c": "five"}),
        ("i8::int4 = 5", {"i8": "5000000000"}),
        ("n::float8 = 5", {"n": "1e400"}),
        ("- i4 = 5", {"i4": "-2147483648"}),
        ("f8::numeric::int4 = 1", {"f8": "NaN"}),
        ("c LIKE t", {"c": "a", "t": "\\"}),
    ],
)
def test_what_fails_in_postgres_fails_here(clause: str, values: dict[str, str]) -> None:
    test = parse(clause).compile(POSITIONS)
    with pytest.raises(EvaluationError) as failure:
        test(full_row(values))
    assert not any(value in str(failure.value) for value in values.values() if len(value) > 1)
    # What is known before the part that fails decides.
    assert truth(f"i2 IS NULL OR {clause}", **values) is True
    assert truth(f"i2 IS NOT NULL AND {clause}", **values) is False
    assert truth(f"(i2 IS NOT NULL AND {clause}) IS NULL", **values) is False
    assert truth(f"CASE WHEN i2 IS NULL THEN TRUE ELSE {clause} END", **values) is True
    assert not test(row())


def test_the_cheaper_part_of_a_condition_comes_first() -> None:
    """As in Postgres, which otherwise would not fail where the condition does."""
    test = parse("10 / i4 > 1 AND i4 <> 0").compile(POSITIONS)
    assert not test(row(i4="0"))
    assert test(row(i4="5"))
    with pytest.raises(EvaluationError):
        parse("10 / i4 > 1 OR i4 <> 0").compile(POSITIONS)(row(i4="0"))


@pytest.mark.parametrize(
    ("clause", "message"),
    [
        ("i4", "WHERE clause must return a boolean"),
        ("'true'", "WHERE clause must return a boolean"),
        ("$1", "WHERE clause must return a boolean"),
        ("nothing = 1", "At location 0: unknown reference nothing"),
        ("i4 = 'x'", "At location 5: invalid syntax for type int4: x"),
        ("d = 'tomorrow'", "At location 4: invalid syntax for type date: tomorrow"),
        ("e = 'mad'", 'At location 4: invalid input value for enum mood: "mad"'),
        ("e = e2", "At location 2: Could not select an operator overload (mood = weather)"),
        (
            "'sad'::weather = e",
            "At location 15: Could not select an operator overload (weather = mood)",
        ),
        ("'sad'::sky = e", "At location 5: unsupported type sky"),
        ("j = '{'", "At location 4: invalid syntax for type jsonb: {"),
        ("ip = '::1'", "At location 3: Could not select an operator overload (inet = unknown)"),
        ("fake = 'x'", "At location 5: Could not select an operator overload (text = unknown)"),
        ("i4 = c", "At location 3: Could not select an operator overload (int4 = text)"),
        ("b < i4", "At location 2: Could not select an operator overload (bool < int4)"),
        ("ia @> '{a}'", "At location 6: invalid syntax for type int4[]: {a}"),
        ("ia @> tags", "At location 3: Could not select an operator overload (int4[] @> text[])"),
        ("i4 @@ 1 = 2", "At location 3: unknown binary operator @@"),
        ("!! i4 = 2", "At location 0: unknown unary operator !!"),
        ("md5(c) = 'a'", "At location 0: unknown or unsupported function md5/1"),
        ("length(i4) = 1", "At location 0: Could not select a function overload for length(int4)"),
        ("i4::uuid IS NULL", "At location 2: unknown cast from type int4 to type uuid"),
        ("c::interval IS NULL", "At location 1: unknown cast from type text to type interval"),
        ("i4::oid = 1", "At location 2: unsupported type oid"),
        ("c::varchar(3) = 'a'", "At location 1: unsupported type varchar(3)"),
        ("c::char = 'a'", "At location 1: unsupported type char"),
        ("300000::int2 = 1", "At location 6: could not cast value 300000 from int4 to int2"),
        ("c = 'x'::text::date::text", "At location 13: could not cast value x from text to date"),
        ("i4 IS TRUE", "At location 3: argument of IS TRUE must be bool, not int4"),
        ("i4 AND b", "At location 0: argument of AND must be bool, not int4"),
        ("NOT c", "At location 4: argument of NOT must be bool, not text"),
        ("ARRAY[1, b] = ia", "At location 0: ARRAY types int4 and bool cannot be matched"),
        ("i4 = ANY (i8)", "At location 3: argument of ANY must be an array"),
        ("i4 = $1 AND c = $1", "At location 16: type conflict for $1: int4 and text"),
        ("i4 = $2", "At location 5: parameter $2 was not provided"),
        ("c LIKE 'a\\'", "At location 2: LIKE pattern must not end with escape character"),
        ("ch LIKE 'a'", "At location 3: cast char(n) to text to match it with a pattern"),
        (
            "gone = 1",
            "At location 0: gone is a virtual generated column, which replication does not send",
        ),
        ("point IS NULL", "At location 6: IS NULL is not supported for type pair"),
        ("hidden IS NULL", "At location 7: IS NULL is not supported for type hidden"),
        ('i4 COLLATE "C" = 1', "At location 3: collations are not supported by type int4"),
        ("c COLLATE \"de_DE\" = 'a'", 'At location 2: collation "de_DE" is not supported; "C" is'),
    ],
)
def test_refusals(clause: str, message: str) -> None:
    assert error(clause, "1") == message


@pytest.mark.parametrize(
    ("clause", "message"),
    [
        ("c < posix", "could not determine which collation to use"),
        (
            "coalesce(nm collate \"C\", ('-0'::float8)::text) = 'a'",
            'texts of the collations "C" and "default" come together here',
        ),
        ("nocase = 'a'", 'texts of the nondeterministic collation "nocase"'),
        ("nocase LIKE 'a'", 'texts of the nondeterministic collation "nocase"'),
        ("t < 'a'", '"<" between texts depends on the collation "default"'),
        ("t >= ANY (va)", None),
        ("'a' < 'b'", '"<" between texts depends on the collation "default"'),
        ("e::text < 'a'", '"<" between texts depends on the collation "default"'),
        ("t ILIKE 'a'", 'the letters of the collation "default" are not known'),
        ("lower(t) = 'a'", 'the letters of the collation "default" are not known'),
        ("nocase ILIKE 'a'", 'texts of the nondeterministic collation "nocase"'),
        ("lower(c) = 'a'", None),
    ],
)
def test_collations(clause: str, message: str | None) -> None:
    """Texts in order only where that order is the bytes' own."""
    if message is None:
        assert parse(clause)
    else:
        assert message in error(clause)


def test_bad_parameters() -> None:
    assert error("i4 = $1", "x") == "At location 5: invalid syntax for type int4: x"
    assert (
        error("i4 = ANY ($1)", "{1,x}") == "At location 10: invalid syntax for type int4[]: {1,x}"
    )


def test_locations_are_those_of_the_text_at_hand() -> None:
    """The parsed form is shared between texts that differ in constants and spacing alone."""
    parse("c = '1'::text::int4::text")
    parse("i4 = $1", "5")
    assert error("c   =   'x'::text::int4::text").startswith(
        "At location 17: could not cast value x"
    )
    assert error("i4   =   $1", "x").startswith("At location 9: invalid syntax")
    assert error("i4  =   'x'").startswith("At location 8: invalid syntax")


@pytest.mark.parametrize(
    ("clause", "same"),
    [
        ("id=$1", "id = 'x'"),
        ('( ("id")=($1) )', "id = 'x'"),
        ("ID = E'\\x78'", "id = 'x'"),
        ("id = $1 AND (b AND i4=1)", "(id = 'x' AND b) AND i4 = 1"),
        ("i8 = $2", "i8 = 5"),
        ("n = $2", "n = 5"),
        ("f8 = $2", "f8 = 5"),
        ("id IN ('x', 'y')", "id IN ($1, 'y')"),
        ("tz = '2026-01-01T02:00:00+02'", "tz = '2026-01-01 00:00:00Z'"),
        ("true = true AND id = 'x'", "id = 'x'"),
        ("NOT (i4 != 1)", "not i4 <> 1"),
    ],
)
def test_canonical_sql(clause: str, same: str) -> None:
    assert parse(clause, "x", "5").sql == parse(same, "x", "5").sql


def test_sql_quotes_everything() -> None:
    assert parse("c = $1", "a'; drop table x; --").sql == (
        """("c" = 'a''; drop table x; --'::text)"""
    )
    assert parse("c = $1", "a\\'b").sql == """("c" = E'a\\\\''b'::text)"""
    assert parse('"Odd ""Name" IS NULL').sql == '("Odd ""Name" IS NULL)'
    assert parse("tags = $1", '{"a\\"b"}').sql == """("tags" = E'{"a\\\\"b"}'::text[])"""
    assert parse("i4 IS DISTINCT FROM 5").sql == """("i4" IS DISTINCT FROM '5'::int4)"""


def test_columns() -> None:
    condition = parse("id = $1 OR (i4 = 1 AND NOT 'a' = ANY (tags))", "x")
    assert condition.columns == {"id", "i4", "tags"}
    assert parse("true").columns == frozenset()


def test_a_column_that_was_not_sent() -> None:
    test = parse("c = 'x' OR i4 = 1").compile(POSITIONS)
    with pytest.raises(UnchangedValueError, match='"c"'):
        test(row(c=UNCHANGED, i4="1"))
    assert test(row(c="x", i4="1", tags=UNCHANGED))


def test_a_column_is_parsed_once_per_row() -> None:
    test = parse("n > 1 AND n < 5 AND n <> 3 AND f8 > 0").compile(POSITIONS)
    calls = 0

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code is parse_numeric.__code__

    sys.setprofile(count)
    try:
        assert test(row(n="2", f8="1"))
    finally:
        sys.setprofile(None)
    assert calls == 1


def test_positions_decide_where_values_are_read() -> None:
    condition = parse("id = 'x' AND i4 = 1")
    assert condition.compile({"i4": 0, "id": 1})(["1", "x"])
    assert condition.compile({"id": 0, "i4": 1})(["x", "1"])


def test_tables_of_one_name_do_not_share_parsed_clauses() -> None:
    first = Table(1, "public", "t", (Column("a", "int4", 23),))
    second = Table(1, "public", "t", (Column("a", "text", 25),))
    assert "int4" in parse_where("a = '1'", {}, first).sql
    assert "text" in parse_where("a = '1'", {}, second).sql
    assert "int4" in parse_where("a = '1'", {}, first).sql
    with pytest.raises(WhereError):
        parse_where("a = 'x'", {}, first)


def test_conditions_that_differ_in_constants_share_the_rest() -> None:
    one, other = parse("id = 'a'"), parse("id = 'b'")
    assert one.columns is other.columns
    count = 1000
    before = sum(map(sys.getsizeof, gc.get_objects()))
    kept = [parse_where("id = $1", {1: str(number)}, TABLE) for number in range(count)]
    after = sum(map(sys.getsizeof, gc.get_objects()))
    assert (after - before) / count < 200
    assert len(kept) == count
