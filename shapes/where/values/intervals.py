"""Intervals: months, days and microseconds, which Postgres compares as if a month had 30 days and a
day 24 hours.

`read` takes ISO 8601 with designators and lists of `<number> <unit>`; `parse` takes Postgres's
output with IntervalStyle iso_8601.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Final

from shapes.where.errors import Failure
from shapes.where.values.numbers import INT4_RANGE, INT8_RANGE, Float, NotANumber, in_range
from shapes.where.values.times import DAY, HOUR, INFINITY, SECOND

MONTH: Final = 30 * DAY


class Interval(int):
    """An interval. As a number, which is what it compares by, it is its microseconds in all: one
    month equals 30 days in Postgres, too, though added to a date they are not the same."""

    months: int
    days: int
    micros: int

    @property
    def infinite(self) -> bool:
        return abs(self) == INFINITY


def interval(months: int, days: int, micros: int) -> Interval:
    """Raises ValueError if a part is out of Postgres's range."""
    in_range(months, INT4_RANGE)
    in_range(days, INT4_RANGE)
    in_range(micros, INT8_RANGE)
    value = Interval(months * MONTH + days * DAY + micros)
    value.months, value.days, value.micros = months, days, micros
    return value


def _infinity(sign: int) -> Interval:
    value = Interval(sign * INFINITY)
    value.months = value.days = value.micros = 0
    return value


FOREVER: Final = _infinity(1)
NEVER: Final = _infinity(-1)

_ISO = re.compile(
    r"P(?:(-?\d+)Y)?(?:(-?\d+)M)?(?:(-?\d+)W)?(?:(-?\d+)D)?"
    r"(?:T(?:(-?\d+)H)?(?:(-?\d+)M)?(?:(-?)(\d+)(?:\.(\d{1,6}))?S)?)?",
    re.ASCII,
)
_PART = re.compile(r"[ \t]*([+-]?\d+(?:\.\d{1,9})?)[ \t]*([a-z]+)(?![^ \t])", re.ASCII)
_CLOCK = re.compile(r"[ \t]*([+-]?)(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,6}))?)?[ \t]*", re.ASCII)
_SECONDS = re.compile(r"[+-]?\d+", re.ASCII)
_SYNONYMS = {"min": "minute", "mon": "month", "sec": "second"}
_MONTHS = {"year": 12, "month": 1}
_DAYS = {"week": 7, "day": 1}
_MICROS = {"hour": HOUR, "minute": 60 * SECOND, "second": SECOND}


# -- texts -----------------------------------------------------------------------------------------


def read_interval(text: str) -> Interval:
    match = _ISO.fullmatch(text)
    if match is not None and text[-1] not in "PT":
        return _read_iso(match)
    text = text.strip(" \t\n\r\f\v").lower()
    if text in ("infinity", "-infinity"):
        return FOREVER if text[0] != "-" else NEVER
    if _SECONDS.fullmatch(text):
        return interval(0, 0, int(text) * SECOND)
    return _read_units(text)


parse_interval = read_interval


def write_interval(value: Interval) -> str:
    if value.infinite:
        return "infinity" if value > 0 else "-infinity"
    sign = "-" if value.micros < 0 else ""
    seconds, micros = divmod(abs(value.micros), SECOND)
    return f"P{value.months}M{value.days}DT{sign}{seconds}.{micros:06d}S"


def _read_iso(match: re.Match[str]) -> Interval:
    *counts, sign, seconds, fraction = match.groups()
    years, months, weeks, days, hours, minutes = (int(count or 0) for count in counts)
    micros = int(seconds or 0) * SECOND + int((fraction or "").ljust(6, "0"))
    micros = hours * HOUR + minutes * 60 * SECOND + (-micros if sign == "-" else micros)
    return interval(years * 12 + months, weeks * 7 + days, micros)


def _whole(count: Fraction) -> int:
    """Parts of months, which Postgres takes for days, and of microseconds are refused."""
    if count.denominator != 1:
        raise ValueError("too fine")
    return int(count)


def _read_units(text: str) -> Interval:
    months = days = micros = position = 0
    seen = set[str]()
    while match := _PART.match(text, position):
        unit = match.group(2).removesuffix("s")
        unit = _SYNONYMS.get(unit, unit)
        if unit in seen:
            raise ValueError("repeated unit")
        seen.add(unit)
        count = Fraction(match.group(1))
        whole_days = int(count * _DAYS.get(unit, 0))
        days += whole_days
        months += _whole(count * _MONTHS.get(unit, 0))
        # What is left of a day is hours.
        micros += _whole(count * _MICROS.get(unit, 0))
        micros += _whole((count * _DAYS.get(unit, 0) - whole_days) * DAY)
        if unit not in _MONTHS and unit not in _DAYS and unit not in _MICROS:
            raise ValueError("unknown unit")
        position = match.end()
    clock = _CLOCK.fullmatch(text, position)
    if clock is not None:
        if seen & _MICROS.keys():
            raise ValueError("repeated unit")
        return interval(months, days, micros + _clock(clock))
    if not seen or text[position:].strip(" \t"):
        raise ValueError("not an interval")
    return interval(months, days, micros)


def _clock(match: re.Match[str]) -> int:
    sign, hours, minutes, seconds, fraction = match.groups()
    if int(minutes) > 59 or int(seconds or 0) > 59:
        raise ValueError("out of range")
    micros = int(hours) * HOUR + int(minutes) * 60 * SECOND + int(seconds or 0) * SECOND
    micros += int((fraction or "").ljust(6, "0"))
    return -micros if sign == "-" else micros


# -- arithmetic ------------------------------------------------------------------------------------
# All of it raises ValueError where Postgres (17 or later, which knows infinite intervals) fails.


def from_time(micros: int) -> Interval:
    return interval(0, 0, micros)


def to_time(value: Interval) -> int:
    """Without its days and months, round the clock."""
    if value.infinite:
        raise Failure("cannot convert infinite interval to time")
    return value.micros % DAY


def negative(value: Interval) -> Interval:
    if value.infinite:
        return NEVER if value > 0 else FOREVER
    return interval(-value.months, -value.days, -value.micros)


def plus(left: Interval, right: Interval) -> Interval:
    if left.infinite or right.infinite:
        if left.infinite and right.infinite and left != right:
            raise Failure("interval out of range")
        return left if left.infinite else right
    return interval(left.months + right.months, left.days + right.days, left.micros + right.micros)


def minus(left: Interval, right: Interval) -> Interval:
    return plus(left, negative(right))


def times(value: Interval, factor: Float) -> Interval:
    """Fractions of months go on to days and those of days to the time, in the order and with the
    rounding of Postgres's own floating point arithmetic."""
    if isinstance(factor, NotANumber):
        raise Failure("interval out of range")
    if value.infinite or math.isinf(factor):
        return _infinite_product(value, factor)
    return _scaled(value, factor, divide=False)


def divided(value: Interval, divisor: Float) -> Interval:
    if divisor == 0 or isinstance(divisor, NotANumber):
        raise Failure("division by zero" if divisor == 0 else "interval out of range")
    if value.infinite:
        if math.isinf(divisor):
            raise Failure("interval out of range")
        return _infinite_product(value, divisor)
    return _scaled(value, divisor, divide=True)


def _infinite_product(value: Interval, factor: float) -> Interval:
    sign = (value > 0) - (value < 0)
    if not sign or not factor:
        raise Failure("interval out of range")
    return FOREVER if sign * factor > 0 else NEVER


def _scaled(value: Interval, factor: float, *, divide: bool) -> Interval:
    def scale(part: int) -> float:
        return part / factor if divide else part * factor

    try:
        whole_months, whole_days = int(scale(value.months)), int(scale(value.days))
        in_range(whole_months, INT4_RANGE)
        in_range(whole_days, INT4_RANGE)
        left_days = _rounded((scale(value.months) - whole_months) * 30)
        left_seconds = _rounded(
            (scale(value.days) - whole_days + left_days - int(left_days)) * 86_400
        )
        if abs(left_seconds) >= 86_400:
            carried = int(left_seconds / 86_400)
            whole_days += carried
            left_seconds -= carried * 86_400
        whole_days += int(left_days)
        micros = round(scale(value.micros) + left_seconds * SECOND)
    except OverflowError:
        raise Failure("interval out of range") from None
    return interval(whole_months, whole_days, micros)


def _rounded(value: float) -> float:
    """To a millionth."""
    return round(value * 1_000_000.0) / 1_000_000.0


def justify_hours(value: Interval) -> Interval:
    """Whole days of the time become days."""
    if value.infinite:
        return value
    carried, micros = _truncated(value.micros, DAY)
    days = in_range(value.days + carried, INT4_RANGE)
    days, micros = _same_sign(days, micros, DAY)
    return interval(value.months, days, micros)


def justify_days(value: Interval) -> Interval:
    """Every 30 days become a month."""
    if value.infinite:
        return value
    carried, days = _truncated(value.days, 30)
    months = in_range(value.months + carried, INT4_RANGE)
    months, days = _same_sign(months, days, 30)
    return interval(months, days, value.micros)


def justify_interval(value: Interval) -> Interval:
    """Both, and all parts get the same sign."""
    if value.infinite:
        return value
    months, days, micros = value.months, value.days, value.micros
    if (days > 0 and micros > 0) or (days < 0 and micros < 0):
        # So that the sum below cannot leave the range when the result does not.
        carried, days = _truncated(days, 30)
        months = in_range(months + carried, INT4_RANGE)
    carried, micros = _truncated(micros, DAY)
    days += carried
    carried, days = _truncated(days, 30)
    months = in_range(months + carried, INT4_RANGE)
    if months > 0 and (days < 0 or (days == 0 and micros < 0)):
        days += 30
        months -= 1
    elif months < 0 and (days > 0 or (days == 0 and micros > 0)):
        days -= 30
        months += 1
    days, micros = _same_sign(days, micros, DAY)
    return interval(months, days, micros)


def _truncated(value: int, unit: int) -> tuple[int, int]:
    """Quotient and remainder, towards zero."""
    quotient = abs(value) // unit
    quotient = -quotient if value < 0 else quotient
    return quotient, value - quotient * unit


def _same_sign(greater: int, smaller: int, unit: int) -> tuple[int, int]:
    if greater > 0 > smaller:
        return greater - 1, smaller + unit
    if greater < 0 < smaller:
        return greater + 1, smaller - unit
    return greater, smaller
