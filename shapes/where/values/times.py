"""Dates and times as Postgres reads, compares and prints them with DateStyle ISO and TimeZone UTC.

A date, a timestamp and a timestamptz are all microseconds since 2000-01-01 00:00 UTC, so that they
compare with each other; a time is microseconds since midnight. `read_…` takes the ISO 8601 part of
what Postgres does, raises ValueError for the rest; `parse_…` takes Postgres's own output.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

SECOND: Final = 1_000_000
HOUR: Final = 3600 * SECOND
DAY: Final = 24 * HOUR

INFINITY: Final = 1 << 80
"""Later than every date and time; its negative is earlier."""

_EPOCH = datetime(2000, 1, 1)
_EPOCH_UTC = datetime(2000, 1, 1, tzinfo=UTC)
_SPACE = " \t\n\r\f\v"
_CLOCK = r"(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d*))?)?"
_OFFSET = r"([Zz]|[Uu][Tt][Cc]|[Gg][Mm][Tt]|[+-]\d{4}|[+-]\d{1,2}(?::\d{2}(?::\d{2})?)?)"
_MOMENT = re.compile(
    r"(\d{4,7})-(\d{1,2})-(\d{1,2})"
    rf"(?:(?:[Tt]|[ \t]+){_CLOCK}"
    rf"(?:[ \t]*{_OFFSET})?)?"
    r"(?:[ \t]+(BC|bc|AD|ad))?",
    re.ASCII,
)
_TIME = re.compile(_CLOCK, re.ASCII)
_TIMETZ = re.compile(rf"{_CLOCK}(?:[ \t]*{_OFFSET})?", re.ASCII)
_ZONE = re.compile(r"([+-])(\d{1,2})(?::?(\d{2})(?::(\d{2}))?)?", re.ASCII)
_SPECIAL = {"infinity": INFINITY, "-infinity": -INFINITY, "epoch": -10_957 * DAY}
_MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def days_from_civil(year: int, month: int, day: int) -> int:
    """Days since 2000-01-01 in the Gregorian calendar; the year 0 is 1 BC."""
    year -= month <= 2
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * 146_097 + day_of_era - 730_425


def civil_from_days(days: int) -> tuple[int, int, int]:
    era, day_of_era = divmod(days + 730_425, 146_097)
    year_of_era = (
        day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted + 2) // 5 + 1
    month = shifted + 3 if shifted < 10 else shifted - 9
    return year_of_era + era * 400 + (month <= 2), month, day


_FIRST = days_from_civil(-4713, 11, 24) * DAY
_TIMESTAMP_END = days_from_civil(294_277, 1, 1) * DAY
_DATE_END = days_from_civil(5_874_898, 1, 1) * DAY


def read_date(text: str) -> int:
    return in_date_range(timestamp_to_date(_read_moment(text, zoned=False)))


def read_timestamp(text: str) -> int:
    return in_timestamp_range(_read_moment(text, zoned=False))


def read_timestamptz(text: str) -> int:
    return in_timestamp_range(_read_moment(text, zoned=True))


def in_timestamp_range(value: int) -> int:
    if abs(value) != INFINITY and not _FIRST <= value < _TIMESTAMP_END:
        raise ValueError("out of range")
    return value


def in_date_range(value: int) -> int:
    if abs(value) != INFINITY and not _FIRST <= value < _DATE_END:
        raise ValueError("out of range")
    return value


def timestamp_to_date(value: int) -> int:
    return value if abs(value) == INFINITY else value - value % DAY


def timestamp_to_time(value: int) -> int | None:
    # Postgres makes NULL of the infinities.
    return None if abs(value) == INFINITY else value % DAY


def _read_moment(text: str, *, zoned: bool) -> int:
    text = text.strip(_SPACE)
    special = _SPECIAL.get(text.lower())
    if special is not None:
        return special
    match = _MOMENT.fullmatch(text)
    if match is None:
        raise ValueError("not an ISO date or time")
    year, month, day, hour, minute, second, fraction, zone, era = match.groups()
    value = _days(int(year), int(month), int(day), bc=era in ("BC", "bc")) * DAY
    if hour is not None:
        value += _clock(hour, minute, second, fraction)
    offset = _zone(zone) if zone else 0
    return value - offset if zoned else value


def _days(year: int, month: int, day: int, *, bc: bool) -> int:
    if not year or not 1 <= month <= 12:
        raise ValueError("out of range")
    year = 1 - year if bc else year
    if not 1 <= day <= month_days(year, month):
        raise ValueError("out of range")
    return days_from_civil(year, month, day)


def month_days(year: int, month: int) -> int:
    """How many days a month has; the year 0 is 1 BC."""
    leap = month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return _MONTH_DAYS[month - 1] + leap


def _clock(hour: str, minute: str, second: str | None, fraction: str | None) -> int:
    hours, minutes, seconds = int(hour), int(minute), int(second or 0)
    # Postgres rounds what is finer than a microsecond as a binary floating point number.
    micros = round(float(f"0.{fraction}") * SECOND) if fraction else 0
    value = hours * HOUR + minutes * 60 * SECOND + seconds * SECOND + micros
    if minutes > 59 or seconds > 59 or value > DAY:
        raise ValueError("out of range")
    return value


def _zone(zone: str) -> int:
    match = _ZONE.fullmatch(zone)
    if match is None:
        return 0
    sign, hours, minutes, seconds = match.groups()
    offset = int(hours) * HOUR + int(minutes or 0) * 60 * SECOND + int(seconds or 0) * SECOND
    if int(hours) > 15 or int(minutes or 0) > 59 or int(seconds or 0) > 59:
        raise ValueError("out of range")
    return -offset if sign == "-" else offset


def parse_timestamp(text: str) -> int:
    # Four-digit years of the common era, which the standard library reads fastest.
    if text[4:5] != "-" or text[-1] == "C":
        return _read_moment(text, zoned=True)
    delta = datetime.fromisoformat(text) - _EPOCH
    return delta.days * DAY + delta.seconds * SECOND + delta.microseconds


def parse_timestamptz(text: str) -> int:
    if text[4:5] != "-" or text[-1] == "C":
        return _read_moment(text, zoned=True)
    delta = datetime.fromisoformat(text) - _EPOCH_UTC
    return delta.days * DAY + delta.seconds * SECOND + delta.microseconds


parse_date = parse_timestamp


def read_time(text: str) -> int:
    match = _TIME.fullmatch(text.strip(_SPACE))
    if match is None:
        raise ValueError("not an ISO time")
    return _clock(*match.groups())


parse_time = read_time


def read_timetz(text: str) -> tuple[int, int]:
    """A time of day as `(microseconds in UTC, seconds west of it)`: in this order Postgres compares.
    Without a zone it is in UTC."""
    match = _TIMETZ.fullmatch(text.strip(_SPACE))
    if match is None:
        raise ValueError("not an ISO time")
    *clock, zone = match.groups()
    offset = _zone(zone) if zone else 0
    return _clock(*clock) - offset, -offset // SECOND


parse_timetz = read_timetz


def write_timetz(value: tuple[int, int]) -> str:
    micros, west = value
    minutes, seconds = divmod(abs(west), 60)
    hours, minutes = divmod(minutes, 60)
    zone = f"{'-' if west > 0 else '+'}{hours:02d}"
    zone += f":{minutes:02d}" if minutes or seconds else ""
    zone += f":{seconds:02d}" if seconds else ""
    return write_time(micros - west * SECOND) + zone


def time_to_timetz(value: int) -> tuple[int, int]:
    return value, 0


def timestamptz_to_timetz(value: int) -> tuple[int, int] | None:
    micros = timestamp_to_time(value)
    return None if micros is None else (micros, 0)


def timetz_to_time(value: tuple[int, int]) -> int:
    micros, west = value
    return micros - west * SECOND


def write_time(value: int) -> str:
    seconds, micros = divmod(value, SECOND)
    fraction = f".{micros:06d}".rstrip("0") if micros else ""
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{fraction}"


def write_date(value: int) -> str:
    if abs(value) == INFINITY:
        return "infinity" if value > 0 else "-infinity"
    date, era = _date(value)
    return date + era


def write_timestamp(value: int) -> str:
    return _moment(value, "")


def write_timestamptz(value: int) -> str:
    return _moment(value, "+00")


def _moment(value: int, zone: str) -> str:
    if abs(value) == INFINITY:
        return write_date(value)
    date, era = _date(value)
    return f"{date} {write_time(value % DAY)}{zone}{era}"


def _date(value: int) -> tuple[str, str]:
    year, month, day = civil_from_days(value // DAY)
    era = "" if year > 0 else " BC"
    return f"{year if year > 0 else 1 - year:04d}-{month:02d}-{day:02d}", era
