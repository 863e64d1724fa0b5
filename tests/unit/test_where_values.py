"""Texts of every type to values that compare as Postgres's own do."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Hashable
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shapes.where.values import intervals, numbers, strings, times
from shapes.where.values.arrays import parse_array, read_array, split_elements, write_array
from shapes.where.values.numbers import NAN


def test_nan_equals_itself_and_is_greatest() -> None:
    assert numbers.read_float8("nan") is NAN is numbers.read_numeric("NaN")
    for number in (1, -1.5, math.inf, Decimal("1e100"), Decimal("Infinity")):
        assert number < NAN
        assert number != NAN
        assert not number >= NAN
        # The other side's own methods come second to these.
        assert operator.gt(NAN, number)
        assert operator.ge(NAN, number)
    assert not NAN < NAN
    assert NAN <= NAN
    assert len({NAN, NAN, 1.0}) == 2


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        (" -5 ", -5),
        ("+7", 7),
        ("0x1F", 31),
        ("-0b101", -5),
        ("0o17", 15),
        ("1_000", 1000),
    ],
)
def test_integers(text: str, value: int) -> None:
    assert numbers.read_int4(text) == value


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (numbers.read_int2, "32768"),
        (numbers.read_int4, "2147483648"),
        (numbers.read_int8, "9223372036854775808"),
        (numbers.read_int4, "1.0"),
        (numbers.read_int4, ""),
        (numbers.read_int4, "1__0"),
        (numbers.read_int4, "_1"),
        (numbers.read_int4, "٣"),
        (numbers.read_numeric, "1e200000"),
        (numbers.read_numeric, "1e99999999999999999999"),
        (numbers.read_numeric, "1e-20000"),
        (numbers.read_numeric, "1 2"),
        (numbers.read_float8, "1e400"),
        (numbers.read_float8, "1e-400"),
        (numbers.read_float8, "0x10"),
        (numbers.read_float4, "1e39"),
        (numbers.read_float4, "1e-50"),
        (strings.read_bool, "o"),
        (strings.read_bool, "truee"),
        (strings.read_bool, ""),
        (strings.read_uuid, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1"),
        (strings.read_uuid, "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        (strings.read_uuid, " a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        (times.read_date, "2026-02-29"),
        (times.read_date, "2026-13-01"),
        (times.read_date, "0000-01-01"),
        (times.read_date, "yesterday"),
        (times.read_date, "01/02/2026"),
        (times.read_date, "5874898-01-01"),
        (times.read_timestamp, "294277-01-01 00:00:00"),
        (times.read_timestamp, "2026-01-01 25:00:00"),
        (times.read_timestamp, "4714-11-23 23:59:59 BC"),
        (times.read_timestamptz, "2026-01-01 00:00:00+16"),
        (times.read_timestamptz, "now"),
        (times.read_time, "24:00:00.1"),
        (times.read_time, "10"),
        (intervals.read_interval, "P"),
        (intervals.read_interval, "1 2"),
        (intervals.read_interval, "1 day 1 day"),
        (intervals.read_interval, "1 min 1 minute"),
        (intervals.read_interval, "1.5 months"),
        (intervals.read_interval, "1. days"),
        (intervals.read_interval, "0.0000001 seconds"),
        (intervals.read_interval, "1 fortnight"),
        (intervals.read_interval, "PT"),
    ],
)
def test_refused_texts(read: Callable[[str], Hashable], text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(text)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("1e5", "100000"),
        ("1.50", "1.50"),
        ("-0", "0"),
        ("0e999999999", "0"),
        ("5e-7", "0.0000005"),
        ("inf", "Infinity"),
        ("-Infinity", "-Infinity"),
        ("nan", "NaN"),
        ("123456789012345678901234567890.123456789", "123456789012345678901234567890.123456789"),
    ],
)
def test_numeric(text: str, written: str) -> None:
    value = numbers.read_numeric(text)
    assert numbers.write_numeric(value) == written
    assert numbers.parse_numeric(written) == value


def test_float4_is_rounded_once() -> None:
    # Just above the middle of two float4 values; as float8 it is the middle, and would round down.
    text = "1.00000005960464477540"
    assert numbers.read_float4(text) == 1.0000001192092896
    assert numbers.read_float4("0.1") == numbers.parse_float4("0.1") == 0.10000000149011612


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.1, "0.1"),
        (100000.0, "100000"),
        (123456789012345.0, "123456789012345"),
        (1e15, "1e+15"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (-1.5e300, "-1.5e+300"),
        (-0.0, "-0"),
        (math.inf, "Infinity"),
        (NAN, "NaN"),
    ],
)
def test_float8_is_written_as_postgres_does(value: float, written: str) -> None:
    assert numbers.write_float8(value) == written


def test_float4_is_written_as_postgres_does() -> None:
    assert numbers.write_float4(numbers.read_float4("0.1")) == "0.1"
    assert numbers.write_float4(numbers.read_float4("16777216")) == "1.6777216e+07"
    assert numbers.write_float4(numbers.read_float4("123456")) == "123456"
    assert numbers.write_float4(numbers.read_float4("3.4028235e38")) == "3.4028235e+38"


@given(st.floats(allow_nan=False))
def test_float8_survives(value: float) -> None:
    assert numbers.read_float8(numbers.write_float8(value)) == value


@given(st.floats(allow_nan=False, width=32))
@example(3.4028234663852886e38)
def test_float4_survives(value: float) -> None:
    assert numbers.read_float4(numbers.write_float4(value)) == value


@given(st.integers(times.read_date("4713-01-01 BC"), times.read_date("294276-12-31")))
def test_timestamps_survive(value: int) -> None:
    assert times.read_timestamp(times.write_timestamp(value)) == value
    assert times.parse_timestamp(times.write_timestamp(value)) == value
    assert times.parse_timestamptz(times.write_timestamptz(value)) == value


@given(st.datetimes())
def test_the_fast_way_to_read_a_timestamp_is_right(moment: object) -> None:
    text = str(moment)
    assert times.parse_timestamp(text) == times.read_timestamp(text)
    assert times.parse_timestamptz(text + "+00") == times.read_timestamptz(text + "+00")


def test_dates_in_order() -> None:
    texts = ("-infinity", "4713-01-01 BC", "0001-12-31 BC", "0001-01-01", "1999-12-31")
    texts += ("2000-01-01", "2000-02-29", "9999-12-31", "10000-01-01", "5874897-12-31", "infinity")
    values = [times.read_date(text) for text in texts]
    assert values == sorted(set(values))
    assert [times.write_date(value) for value in values] == list(texts)
    assert times.read_date("2000-01-01") == 0
    assert times.read_date("2026-01-01T10:00:00Z") == times.read_date("2026-1-1")


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01T00:00:00Z",
        "2026-01-01 02:00+02",
        "2026-01-01 05:30:00 +05:30",
        "2025-12-31 16:00:00-0800",
        "2026-01-01 00:00:00 UTC",
        "2025-12-31 24:00:00",
        "2026-01-01",
        "2025-12-31 23:59:59.9999999",
    ],
)
def test_ways_to_write_a_moment(text: str) -> None:
    assert times.write_timestamptz(times.read_timestamptz(text)) == "2026-01-01 00:00:00+00"


def test_timestamp_ignores_a_zone() -> None:
    assert times.write_timestamp(times.read_timestamp("2026-01-01T10:00:00+05")) == (
        "2026-01-01 10:00:00"
    )


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("P1M", "P30D"),
        ("PT24H", "P1D"),
        ("P1Y2M3DT4H5M6.7S", "1 year 2 mons 3 days 04:05:06.7"),
        ("PT-0.5S", "-00:00:00.5"),
        ("P-1D", "-1 day"),
        ("2 hours 3 mins", "PT2H3M"),
        ("P2W", "14 days"),
        ("P1DT-24H", "PT0S"),
        ("1.5 seconds", "PT1.5S"),
        ("-1.5 days 10:00", "P-1DT-2H"),
        ("0.5 weeks", "P3DT12H"),
    ],
)
def test_equal_intervals(text: str, same: str) -> None:
    value = intervals.read_interval(text)
    assert value == intervals.read_interval(same)
    assert intervals.read_interval(intervals.write_interval(value)) == value


def test_intervals_in_order() -> None:
    texts = ("-infinity", "P-1M", "PT-1S", "PT0S", "PT0.000001S", "P1D", "P1M", "infinity")
    values = [intervals.read_interval(text) for text in texts]
    assert values == sorted(set(values))


def test_names_are_cut_at_the_end_of_a_character() -> None:
    assert strings.read_name("a" * 70) == "a" * 63
    assert strings.read_name("a" * 62 + "é") == "a" * 62


@pytest.mark.parametrize(
    ("text", "bounds", "elements"),
    [
        ("{}", (), ()),
        ("{a}", ((1, 1),), ("a",)),
        ("{a,b,NULL}", ((1, 3),), ("a", "b", None)),
        ('{"NULL","",a}', ((1, 3),), ("NULL", "", "a")),
        ('{"a,b","c\\"d","e\\\\f","{"}', ((1, 4),), ("a,b", 'c"d', "e\\f", "{")),
        ("{{a,b},{c,d}}", ((1, 2), (1, 2)), ("a", "b", "c", "d")),
        ("[0:1]={a,b}", ((0, 2),), ("a", "b")),
        ("[2:2][-1:0]={{a,b}}", ((2, 1), (-1, 2)), ("a", "b")),
        ("{é,日本}", ((1, 2),), ("é", "日本")),
    ],
)
def test_arrays(
    text: str, bounds: tuple[tuple[int, int], ...], elements: tuple[str | None, ...]
) -> None:
    assert parse_array(text, None) == (bounds, elements)
    assert tuple(split_elements(text)) == elements


@pytest.mark.parametrize(
    ("text", "same"),
    [
        (" { a , b } ", "{a,b}"),
        ("{null}", "{NULL}"),
        ("{a b }", '{"a b"}'),
        (r"{\N,a\,b}", '{N,"a,b"}'),
        ("{{a},{b}}", "{{a},{b}}"),
    ],
)
def test_ways_to_write_an_array(text: str, same: str) -> None:
    value = read_array(text, strings.read_text)
    assert value == parse_array(same, None)
    assert write_array(value, str) == same


@pytest.mark.parametrize(
    "text",
    [
        *("", "a", "{", "}", "{a", "{a,}", "{,a}", "{a}b", '{"a}', '{"a"b}', "{{a},b}", "{a,{b}}"),
        *(
            "{{a},{b,c}}",
            "{{}}",
            "{a}{b}",
            "[0:2]={a,b}",
            "[1:0]={}",
            "[2]={a}",
            "{" * 7 + "}" * 7,
            "{a\\",
        ),
    ],
)
def test_refused_arrays(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_array(text, strings.read_text)


@given(st.lists(st.none() | st.text(st.characters(exclude_characters="\0", codec="utf-8"))))
def test_arrays_survive(elements: list[str | None]) -> None:
    bounds = ((1, len(elements)),) if elements else ()
    text = write_array((bounds, tuple(elements)), str)
    assert read_array(text, strings.read_text) == (bounds, tuple(elements))
    assert list(split_elements(text)) == elements
