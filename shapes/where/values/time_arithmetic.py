"""Sums and differences of dates and times, with TimeZone UTC.

Values are those of `times` and `intervals`. Everything raises ValueError where Postgres fails.
"""

from __future__ import annotations

from shapes.where.errors import Failure
from shapes.where.values import intervals
from shapes.where.values.intervals import FOREVER, NEVER, Interval, interval
from shapes.where.values.numbers import INT4_RANGE, in_range
from shapes.where.values.times import (
    DAY,
    INFINITY,
    SECOND,
    civil_from_days,
    days_from_civil,
    in_date_range,
    in_timestamp_range,
    month_days,
    timetz_to_time,
)


def date_plus_days(date: int, days: int) -> int:
    return date if abs(date) == INFINITY else in_date_range(date + days * DAY)


def date_minus_days(date: int, days: int) -> int:
    return date if abs(date) == INFINITY else in_date_range(date - days * DAY)


def days_between(left: int, right: int) -> int:
    """`date - date`."""
    if INFINITY in (abs(left), abs(right)):
        raise Failure("cannot subtract infinite dates")
    return in_range((left - right) // DAY, INT4_RANGE)


def date_plus_time(date: int, time: int) -> int:
    moment = in_timestamp_range(date)
    return moment if abs(moment) == INFINITY else in_timestamp_range(moment + time)


def plus_interval(moment: int, span: Interval) -> int:
    """A date, timestamp or timestamptz and an interval: first its months, then its days, then the
    rest. A day that the month does not have becomes its last."""
    moment = in_timestamp_range(moment)
    if span.infinite:
        if abs(moment) == INFINITY and (moment > 0) != (span > 0):
            raise Failure("timestamp out of range")
        return int(span)
    if abs(moment) == INFINITY:
        return moment
    if span.months:
        moment = in_timestamp_range(_plus_months(moment, span.months))
    if span.days:
        moment = in_timestamp_range(moment + span.days * DAY)
    return in_timestamp_range(moment + span.micros)


def minus_interval(moment: int, span: Interval) -> int:
    return plus_interval(moment, intervals.negative(span))


def _plus_months(moment: int, months: int) -> int:
    year, month, day = civil_from_days(moment // DAY)
    year, place = divmod(year * 12 + month - 1 + months, 12)
    day = min(day, month_days(year, place + 1))
    return days_from_civil(year, place + 1, day) * DAY + moment % DAY


def time_plus_interval(time: int, span: Interval) -> int:
    """Round the clock; days and months do not count."""
    if span.infinite:
        raise Failure("cannot add infinite interval to time")
    return _wrapped(time + span.micros) % DAY


def time_minus_interval(time: int, span: Interval) -> int:
    if span.infinite:
        raise Failure("cannot subtract infinite interval from time")
    return _wrapped(time - span.micros) % DAY


def _wrapped(micros: int) -> int:
    """As a 64-bit number, since Postgres does not look for an overflow here."""
    return (micros + 2**63) % 2**64 - 2**63


def timetz_plus_interval(time: tuple[int, int], span: Interval) -> tuple[int, int]:
    """In the zone of the time."""
    local = time_plus_interval(timetz_to_time(time), span)
    return local + time[1] * SECOND, time[1]


def timetz_minus_interval(time: tuple[int, int], span: Interval) -> tuple[int, int]:
    local = time_minus_interval(timetz_to_time(time), span)
    return local + time[1] * SECOND, time[1]


def date_plus_timetz(date: int, time: tuple[int, int]) -> int:
    return date_plus_time(date, time[0])


def time_between(left: int, right: int) -> Interval:
    return intervals.from_time(left - right)


def between(left: int, right: int) -> Interval:
    """`timestamp - timestamp`: days and a time. Infinity is an error before Postgres 17."""
    if INFINITY in (abs(left), abs(right)):
        if left == right:
            raise Failure("interval out of range")
        return FOREVER if left > right else NEVER
    return intervals.justify_hours(interval(0, 0, left - right))
