"""The parts of dates, times and intervals: `extract` and `date_trunc`, with TimeZone UTC.

Each function makes, from the name of a unit, the function that finds it. Both raise ValueError: the
first for a unit that is unknown or has no such part, or in which Postgres's versions differ.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Final, TypeAlias

from shapes.where.values.intervals import Interval, interval
from shapes.where.values.times import (
    DAY,
    HOUR,
    INFINITY,
    SECOND,
    civil_from_days,
    days_from_civil,
    in_timestamp_range,
    timetz_to_time,
)

Number: TypeAlias = Decimal | int
_MINUTE: Final = 60 * SECOND
_EPOCH: Final = -10_957

# -- of a day --------------------------------------------------------------------------------------


def _year(days: int) -> int:
    return civil_from_days(days)[0]


def _shown_year(year: int) -> int:
    """There is no year 0: 1 BC is -1."""
    return year if year > 0 else year - 1


def _era(year: int, length: int) -> int:
    """Centuries and millennia count from 1, before the year 1 from -1."""
    return (year + length - 1) // length if year > 0 else -((length - year) // length)


def _iso_week(days: int) -> tuple[int, int]:
    """ISO year and week."""
    thursday = days - (days + 5) % 7 + 3
    year = _year(thursday)
    return year, (thursday - days_from_civil(year, 1, 1)) // 7 + 1


_OF_DAY: Final[dict[str, Callable[[int], int]]] = {
    "day": lambda days: civil_from_days(days)[2],
    "month": lambda days: civil_from_days(days)[1],
    "quarter": lambda days: (civil_from_days(days)[1] + 2) // 3,
    "year": lambda days: _shown_year(_year(days)),
    "decade": lambda days: _year(days) // 10,
    "century": lambda days: _era(_year(days), 100),
    "millennium": lambda days: _era(_year(days), 1000),
    "dow": lambda days: (days + 6) % 7,
    "isodow": lambda days: (days + 5) % 7 + 1,
    "doy": lambda days: days - days_from_civil(_year(days), 1, 1) + 1,
    "week": lambda days: _iso_week(days)[1],
    "isoyear": lambda days: _shown_year(_iso_week(days)[0]),
}
_ENDLESS: Final = frozenset(("year", "decade", "century", "millennium", "isoyear", "epoch"))
"""Units in which infinity is infinite; in the others it has no value."""

_OF_TIME: Final[dict[str, Callable[[int], Number]]] = {
    "hour": lambda micros: micros // HOUR,
    "minute": lambda micros: micros // _MINUTE % 60,
    "second": lambda micros: Decimal(micros % _MINUTE).scaleb(-6),
    "milliseconds": lambda micros: Decimal(micros % _MINUTE).scaleb(-3),
    "microseconds": lambda micros: micros % _MINUTE,
}


def _unit(text: str) -> str:
    unit = text.lower()
    return {"millisecond": "milliseconds", "microsecond": "microseconds"}.get(unit, unit)


def _unsupported(unit: str, type_: str) -> ValueError:
    return ValueError(f'unit "{unit}" is not supported for type {type_}')


def _endless(unit: str, find: Callable[[int], Number]) -> Callable[[int], Decimal | None]:
    def extract(value: int) -> Decimal | None:
        if abs(value) != INFINITY:
            return Decimal(find(value))
        if unit not in _ENDLESS:
            return None
        return Decimal("Infinity") if value > 0 else Decimal("-Infinity")

    return extract


def of_date(text: str) -> Callable[[int], Decimal | None]:
    unit = _unit(text)
    if unit == "epoch":
        return _endless(unit, lambda value: (value // DAY - _EPOCH) * 86_400)
    of_day = _OF_DAY.get(unit)
    if of_day is None:
        raise _unsupported(unit, "date")
    return _endless(unit, lambda value: of_day(value // DAY))


def of_moment(text: str) -> Callable[[int], Decimal | None]:
    """Of a timestamp or timestamptz."""
    unit = _unit(text)
    if unit == "epoch":
        return _endless(unit, lambda value: Decimal(value - _EPOCH * DAY).scaleb(-6))
    of_time = _OF_TIME.get(unit)
    if of_time is not None:
        return _endless(unit, lambda value: of_time(value % DAY))
    if unit not in _OF_DAY:
        raise _unsupported(unit, "timestamp")
    return of_date(unit)


def of_time(text: str) -> Callable[[int], Decimal]:
    unit = _unit(text)
    if unit == "epoch":
        return lambda value: Decimal(value).scaleb(-6)
    find = _OF_TIME.get(unit)
    if find is None:
        raise _unsupported(unit, "time")
    return lambda value: Decimal(find(value))


def of_timetz(text: str) -> Callable[[tuple[int, int]], Decimal]:
    unit = _unit(text)
    if unit == "epoch":
        return lambda value: Decimal(value[0]).scaleb(-6)
    if unit == "timezone":
        return lambda value: Decimal(-value[1])
    local = of_time(text)
    return lambda value: local(timetz_to_time(value))


# -- of an interval --------------------------------------------------------------------------------


def _truncated(value: int, unit: int) -> int:
    """How many units there are in it, towards zero."""
    return value // unit if value >= 0 else -(-value // unit)


def _rest(value: int, unit: int) -> int:
    return value - _truncated(value, unit) * unit


def _seconds(value: Interval) -> Decimal:
    years, months = _truncated(value.months, 12), _rest(value.months, 12)
    # A year has 365.25 days here.
    days = (1461 * years + 120 * months + 4 * value.days) * 21_600
    return Decimal(days * SECOND + value.micros).scaleb(-6)


_OF_INTERVAL: Final[dict[str, Callable[[Interval], Number]]] = {
    "millennium": lambda value: _truncated(value.months, 12_000),
    "century": lambda value: _truncated(value.months, 1200),
    "decade": lambda value: _truncated(value.months, 120),
    "year": lambda value: _truncated(value.months, 12),
    "month": lambda value: _rest(value.months, 12),
    "day": lambda value: value.days,
    "hour": lambda value: _truncated(value.micros, HOUR),
    "minute": lambda value: _truncated(_rest(value.micros, HOUR), _MINUTE),
    "second": lambda value: Decimal(_rest(value.micros, _MINUTE)).scaleb(-6),
    "milliseconds": lambda value: Decimal(_rest(value.micros, _MINUTE)).scaleb(-3),
    "microseconds": lambda value: _rest(value.micros, _MINUTE),
    "epoch": _seconds,
}
_ENDLESS_INTERVAL: Final = frozenset(
    ("millennium", "century", "decade", "year", "day", "hour", "epoch")
)


def of_interval(text: str) -> Callable[[Interval], Decimal | None]:
    unit = _unit(text)
    find = _OF_INTERVAL.get(unit)
    if find is None:
        raise _unsupported(unit, "interval")

    def extract(value: Interval) -> Decimal | None:
        if not value.infinite:
            return Decimal(find(value))
        if unit not in _ENDLESS_INTERVAL:
            return None
        return Decimal("Infinity") if value > 0 else Decimal("-Infinity")

    return extract


# -- truncation ------------------------------------------------------------------------------------

_MICROS: Final = {
    "microseconds": 1,
    "milliseconds": 1000,
    "second": SECOND,
    "minute": _MINUTE,
    "hour": HOUR,
    "day": DAY,
}
_YEARS: Final[dict[str, Callable[[int], int]]] = {
    "year": lambda year: year,
    "decade": lambda year: year // 10 * 10,
    "century": lambda year: (year - 1) // 100 * 100 + 1,
    "millennium": lambda year: (year - 1) // 1000 * 1000 + 1,
}


def truncated(text: str) -> Callable[[int], int]:
    """Of a timestamp or timestamptz."""
    unit = _unit(text)
    find = _start_of(unit)

    def truncate(value: int) -> int:
        return value if abs(value) == INFINITY else in_timestamp_range(find(value))

    return truncate


def _start_of(unit: str) -> Callable[[int], int]:
    if unit in _MICROS:
        length = _MICROS[unit]
        return lambda value: value - value % length
    if unit == "week":
        return lambda value: (value // DAY - (value // DAY + 5) % 7) * DAY
    if unit in ("month", "quarter"):
        months = 1 if unit == "month" else 3

        def start(value: int) -> int:
            year, month, _ = civil_from_days(value // DAY)
            return days_from_civil(year, month - (month - 1) % months, 1) * DAY

        return start
    if unit not in _YEARS:
        raise _unsupported(unit, "timestamp")
    year_of = _YEARS[unit]
    return lambda value: days_from_civil(year_of(_year(value // DAY)), 1, 1) * DAY


_MONTHS: Final = {
    "month": 1,
    "quarter": 3,
    "year": 12,
    "decade": 120,
    "century": 1200,
    "millennium": 12_000,
}


def truncated_interval(text: str) -> Callable[[Interval], Interval]:
    unit = _unit(text)
    if unit not in _MONTHS and unit not in _MICROS:
        raise _unsupported(unit, "interval")

    def truncate(value: Interval) -> Interval:
        if value.infinite:
            return value
        if unit in _MONTHS:
            return interval(value.months - _rest(value.months, _MONTHS[unit]), 0, 0)
        if unit == "day":
            return interval(value.months, value.days, 0)
        return interval(value.months, value.days, value.micros - _rest(value.micros, _MICROS[unit]))

    return truncate
