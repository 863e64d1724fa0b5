"""Intervals as Postgres compares them: a month is 30 days, a day is 24 hours.

An interval is that many microseconds, which loses how it was written: '1 mon' equals '30 days' in
Postgres, too. `read` takes ISO 8601 with designators and lists of `<number> <unit>`; `parse` takes
Postgres's output with IntervalStyle iso_8601.
"""

from __future__ import annotations

import re
from typing import Final

from shapes.where.numbers import INT4_RANGE, INT8_RANGE, in_range
from shapes.where.times import DAY, HOUR, INFINITY, SECOND

MONTH: Final = 30 * DAY

_ISO = re.compile(
    r"P(?:(-?\d+)Y)?(?:(-?\d+)M)?(?:(-?\d+)W)?(?:(-?\d+)D)?"
    r"(?:T(?:(-?\d+)H)?(?:(-?\d+)M)?(?:(-?)(\d+)(?:\.(\d{1,6}))?S)?)?",
    re.ASCII,
)
_PART = re.compile(r"[ \t]*([+-]?\d+)[ \t]*([a-z]+)(?![^ \t])", re.ASCII)
_CLOCK = re.compile(r"[ \t]*([+-]?)(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,6}))?)?[ \t]*", re.ASCII)
_MONTHS = {"year": 12, "mon": 1, "month": 1}
_DAYS = {"week": 7, "day": 1}
_MICROS = {"hour": HOUR, "minute": 60 * SECOND, "min": 60 * SECOND, "second": SECOND, "sec": SECOND}


def read_interval(text: str) -> int:
    match = _ISO.fullmatch(text)
    if match is not None and text[-1] not in "PT":
        return _read_iso(match)
    text = text.strip(" \t\n\r\f\v").lower()
    if text in ("infinity", "-infinity"):
        return INFINITY if text[0] != "-" else -INFINITY
    return _read_units(text)


parse_interval = read_interval


def write_interval(value: int) -> str:
    if abs(value) == INFINITY:
        return "infinity" if value > 0 else "-infinity"
    sign = "-" if value < 0 else ""
    months, rest = divmod(abs(value), MONTH)
    days, micros = divmod(rest, DAY)
    seconds, micros = divmod(micros, SECOND)
    return f"P{sign}{months}M{sign}{days}DT{sign}{seconds}.{micros:06d}S"


def _read_iso(match: re.Match[str]) -> int:
    *counts, sign, seconds, fraction = match.groups()
    years, months, weeks, days, hours, minutes = (int(count or 0) for count in counts)
    micros = int(seconds or 0) * SECOND + int((fraction or "").ljust(6, "0"))
    micros = hours * HOUR + minutes * 60 * SECOND + (-micros if sign == "-" else micros)
    return _total(years * 12 + months, weeks * 7 + days, micros)


def _read_units(text: str) -> int:
    months = days = micros = position = 0
    seen = set[str]()
    while match := _PART.match(text, position):
        unit = match.group(2).removesuffix("s")
        if unit in seen:
            raise ValueError("repeated unit")
        seen.add(unit)
        count = int(match.group(1))
        months += count * _MONTHS.get(unit, 0)
        days += count * _DAYS.get(unit, 0)
        micros += count * _MICROS.get(unit, 0)
        if unit not in _MONTHS and unit not in _DAYS and unit not in _MICROS:
            raise ValueError("unknown unit")
        position = match.end()
    clock = _CLOCK.fullmatch(text, position)
    if clock is not None:
        if seen & _MICROS.keys():
            raise ValueError("repeated unit")
        return _total(months, days, _clock(clock))
    if not seen or text[position:].strip(" \t"):
        raise ValueError("not an interval")
    return _total(months, days, micros)


def _clock(match: re.Match[str]) -> int:
    sign, hours, minutes, seconds, fraction = match.groups()
    if int(minutes) > 59 or int(seconds or 0) > 59:
        raise ValueError("out of range")
    micros = int(hours) * HOUR + int(minutes) * 60 * SECOND + int(seconds or 0) * SECOND
    micros += int((fraction or "").ljust(6, "0"))
    return -micros if sign == "-" else micros


def _total(months: int, days: int, micros: int) -> int:
    in_range(months, INT4_RANGE)
    in_range(days, INT4_RANGE)
    in_range(micros, INT8_RANGE)
    return months * MONTH + days * DAY + micros
