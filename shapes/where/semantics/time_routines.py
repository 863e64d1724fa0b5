"""Operators and functions of dates, times and intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from shapes.where.semantics.routine import Routine
from shapes.where.semantics.types import (
    DATE,
    FLOAT8,
    INT4,
    INTERVAL,
    NUMERIC,
    TEXT,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    TIMETZ,
    Type,
)
from shapes.where.values import intervals, time_arithmetic, time_fields, zones
from shapes.where.values.numbers import Float


def _swapped(apply: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda left, right: apply(right, left)


def _sums() -> list[Routine]:
    found: list[Routine] = []
    for left, right, result, apply in (
        (DATE, INT4, DATE, time_arithmetic.date_plus_days),
        (DATE, TIME, TIMESTAMP, time_arithmetic.date_plus_time),
        (DATE, INTERVAL, TIMESTAMP, time_arithmetic.plus_interval),
        (TIMESTAMP, INTERVAL, TIMESTAMP, time_arithmetic.plus_interval),
        (TIMESTAMPTZ, INTERVAL, TIMESTAMPTZ, time_arithmetic.plus_interval),
        (TIME, INTERVAL, TIME, time_arithmetic.time_plus_interval),
        (TIMETZ, INTERVAL, TIMETZ, time_arithmetic.timetz_plus_interval),
        (DATE, TIMETZ, TIMESTAMPTZ, time_arithmetic.date_plus_timetz),
    ):
        found.append(Routine("+", (left, right), result, apply))
        found.append(Routine("+", (right, left), result, _swapped(apply)))
    found.append(Routine("+", (INTERVAL, INTERVAL), INTERVAL, intervals.plus))
    return found


_DIFFERENCES: Final[tuple[tuple[Type, Type, Type, Callable[..., Any]], ...]] = (
    (DATE, INT4, DATE, time_arithmetic.date_minus_days),
    (DATE, DATE, INT4, time_arithmetic.days_between),
    (DATE, INTERVAL, TIMESTAMP, time_arithmetic.minus_interval),
    (TIMESTAMP, INTERVAL, TIMESTAMP, time_arithmetic.minus_interval),
    (TIMESTAMPTZ, INTERVAL, TIMESTAMPTZ, time_arithmetic.minus_interval),
    (TIMESTAMP, TIMESTAMP, INTERVAL, time_arithmetic.between),
    (TIMESTAMPTZ, TIMESTAMPTZ, INTERVAL, time_arithmetic.between),
    (TIME, INTERVAL, TIME, time_arithmetic.time_minus_interval),
    (TIMETZ, INTERVAL, TIMETZ, time_arithmetic.timetz_minus_interval),
    (TIME, TIME, INTERVAL, time_arithmetic.time_between),
    (INTERVAL, INTERVAL, INTERVAL, intervals.minus),
)

_FIELDS: Final[tuple[tuple[Type, Callable[[str], Callable[[Any], Any]]], ...]] = (
    (TIMESTAMP, time_fields.of_moment),
    (TIMESTAMPTZ, time_fields.of_moment),
    (DATE, time_fields.of_date),
    (TIME, time_fields.of_time),
    (TIMETZ, time_fields.of_timetz),
    (INTERVAL, time_fields.of_interval),
)


def _of_unit(
    name: str,
    type_: Type,
    result: Type,
    leading: Callable[[str], Callable[[Any], Any]],
    template: str = "",
) -> Routine:
    def apply(unit: str, value: Any) -> Any:
        return leading(unit)(value)

    return Routine(
        name,
        (TEXT, type_),
        result,
        apply,
        leading=leading,
        template=template,
        operator=False,
    )


def _date_part(
    field: Callable[[str], Callable[[Any], Any]],
) -> Callable[[str], Callable[[Any], Any]]:
    """As a floating point number; units with fractions would depend on how it is computed."""

    def leading(unit: str) -> Callable[[Any], Float | None]:
        extract = field(unit)
        if unit.lower() in _FRACTIONS:
            raise ValueError(f"date_part loses digits; write extract({unit} FROM …)")

        def apply(value: Any) -> Float | None:
            found = extract(value)
            return None if found is None else float(found)

        return apply

    return leading


_FRACTIONS: Final = frozenset(("second", "millisecond", "milliseconds", "epoch"))


def _functions() -> list[Routine]:
    found = [
        Routine(name, (INTERVAL,), INTERVAL, apply, operator=False)
        for name, apply in (
            ("justify_days", intervals.justify_days),
            ("justify_hours", intervals.justify_hours),
            ("justify_interval", intervals.justify_interval),
        )
    ]
    for type_, field in _FIELDS:
        found.append(_of_unit("extract", type_, NUMERIC, field, "pg_catalog.extract({0}, {1})"))
        found.append(_of_unit("date_part", type_, FLOAT8, _date_part(field)))
    found += [
        _of_unit("date_trunc", TIMESTAMP, TIMESTAMP, time_fields.truncated),
        _of_unit("date_trunc", TIMESTAMPTZ, TIMESTAMPTZ, time_fields.truncated),
        _of_unit("date_trunc", INTERVAL, INTERVAL, time_fields.truncated_interval),
        _of_unit("timezone", TIMESTAMP, TIMESTAMPTZ, zones.to_utc),
        _of_unit("timezone", TIMESTAMPTZ, TIMESTAMP, zones.to_local),
        Routine(
            "timezone",
            (INTERVAL, TIMESTAMP),
            TIMESTAMPTZ,
            zones.interval_to_utc,
            operator=False,
        ),
        Routine(
            "timezone",
            (INTERVAL, TIMESTAMPTZ),
            TIMESTAMP,
            zones.interval_to_local,
            operator=False,
        ),
    ]
    return found


TIME_ROUTINES: Final = (
    *_sums(),
    *(Routine("-", (left, right), result, apply) for left, right, result, apply in _DIFFERENCES),
    Routine("-", (INTERVAL,), INTERVAL, intervals.negative),
    Routine("*", (INTERVAL, FLOAT8), INTERVAL, intervals.times),
    Routine("*", (FLOAT8, INTERVAL), INTERVAL, _swapped(intervals.times)),
    Routine("/", (INTERVAL, FLOAT8), INTERVAL, intervals.divided),
    *_functions(),
)
