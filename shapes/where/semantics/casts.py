"""Conversions between types: a table, as Postgres's `pg_cast` is one.

A conversion gets a non-NULL value and raises ValueError where Postgres raises an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from functools import partial
from typing import Any, Final

from shapes.where.semantics.types import (
    BOOL,
    BPCHAR,
    BYTEA,
    DATE,
    FLOAT4,
    FLOAT8,
    INT2,
    INT4,
    INT8,
    INTERVAL,
    JSON,
    JSONB,
    NAME,
    NUMERIC,
    TEXT,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    TIMETZ,
    TYPES,
    UNKNOWN,
    UUID,
    VARCHAR,
    Type,
)
from shapes.where.values import intervals, jsonb, numbers, strings, times
from shapes.where.values.arithmetic import fitted
from shapes.where.values.arrays import ArrayValue, write_array
from shapes.where.values.numbers import NAN, Float, NotANumber, Numeric


@dataclass(frozen=True, slots=True, eq=False)
class Cast:
    """How values of `source` become values of `target`.

    `convert` is None if the values are the same. `implicit`: Postgres applies it unasked.
    `constants_only`: not every text that Postgres can read is understood, so that only constants,
    whose texts are seen beforehand, may be converted.
    """

    source: Type
    target: Type
    convert: Callable[[Any], Hashable] | None
    implicit: bool = False
    constants_only: bool = False


_CASTS: dict[tuple[Type, Type], Cast] = {}


def find_cast(source: Type, target: Type) -> Cast | None:
    """The conversion between two different types, if there is one."""
    if source.element is not None and target.element is not None:
        return _array_cast(source, source.element, target, target.element)
    if source.element is not None and target in (TEXT, VARCHAR):
        return _array_to_text(source, source.element, target)
    if source.category == "E" and target in (TEXT, VARCHAR):
        return Cast(source, target, None)
    return _CASTS.get((source, target))


def is_implicit(source: Type, target: Type) -> bool:
    """Whether Postgres would use a `source` where it wants a `target`."""
    if source is target:
        return True
    cast = find_cast(source, target)
    return cast is not None and cast.implicit


def common_type(types: Sequence[Type]) -> Type | None:
    """The type that a list's items are converted to; None if their categories differ."""
    common = types[0]
    for one in types[1:]:
        if one in (UNKNOWN, common):
            continue
        if common is UNKNOWN:
            common = one
        elif one.category != common.category:
            return None
        elif not common.preferred and is_implicit(common, one) and not is_implicit(one, common):
            common = one
    return TEXT if common is UNKNOWN else common


def _array_to_text(source: Type, element: Type, target: Type) -> Cast | None:
    """What Postgres prints, which says t and f for booleans."""
    cast = find_cast(element, TEXT)
    known = element in (TEXT, BOOL) or cast is not None
    if not known or element is BPCHAR:
        return None
    write = strings.write_flag if element is BOOL else element.write
    return Cast(source, target, partial(write_array, write=write))


def _array_cast(source: Type, inner: Type, target: Type, wanted: Type) -> Cast | None:
    cast = find_cast(inner, wanted)
    if cast is None or cast.convert is None:
        return cast and Cast(source, target, None, cast.implicit)
    convert = cast.convert

    def convert_elements(value: ArrayValue) -> ArrayValue:
        bounds, elements = value
        return bounds, tuple([None if one is None else convert(one) for one in elements])

    return Cast(source, target, convert_elements, cast.implicit, cast.constants_only)


def _add(
    source: Type,
    target: Type,
    convert: Callable[[Any], Hashable] | None,
    *,
    implicit: bool = False,
    constants_only: bool = False,
) -> None:
    _CASTS[source, target] = Cast(source, target, convert, implicit, constants_only)


# -- numbers ---------------------------------------------------------------------------------------

_INTEGERS: Final = (
    (INT2, numbers.INT2_RANGE),
    (INT4, numbers.INT4_RANGE),
    (INT8, numbers.INT8_RANGE),
)


def _to_integer(limits: range) -> Callable[[Any], int]:
    def convert(value: int | Float | Decimal) -> int:
        if isinstance(value, Decimal) and value.is_finite():
            value = int(value.to_integral_value(ROUND_HALF_UP))
        elif isinstance(value, float) and math.isfinite(value):
            value = round(value)
        if not isinstance(value, int):
            raise ValueError("out of range")
        return numbers.in_range(value, limits)

    return convert


def _integer_to_float4(value: int) -> Float:
    return numbers.read_float4(str(value))


def _numeric_to_float8(value: Numeric) -> Float:
    return numbers.read_float8(numbers.write_numeric(value))


def _numeric_to_float4(value: Numeric) -> Float:
    return numbers.read_float4(numbers.write_numeric(value))


def _float_to_numeric(digits: int) -> Callable[[Float], Numeric]:
    """Postgres keeps as many digits as every decimal number of the float type survives."""

    def convert(value: Float) -> Numeric:
        if isinstance(value, NotANumber):
            return NAN
        return fitted(Decimal(f"{value:.{digits}g}" if math.isfinite(value) else value))

    return convert


for _width, (_source, _) in enumerate(_INTEGERS):
    for _narrower, _limits in _INTEGERS[:_width]:
        _add(_narrower, _source, None, implicit=True)
        _add(_source, _narrower, _to_integer(_limits))
    _add(_source, NUMERIC, Decimal, implicit=True)
    _add(_source, FLOAT4, _integer_to_float4, implicit=True)
    _add(_source, FLOAT8, float, implicit=True)
for _source in (NUMERIC, FLOAT4, FLOAT8):
    for _target, _limits in _INTEGERS:
        _add(_source, _target, _to_integer(_limits))
_add(NUMERIC, FLOAT4, _numeric_to_float4, implicit=True)
_add(NUMERIC, FLOAT8, _numeric_to_float8, implicit=True)
_add(FLOAT4, FLOAT8, None, implicit=True)
_add(FLOAT8, FLOAT4, numbers.narrow)
_add(FLOAT4, NUMERIC, _float_to_numeric(6))
_add(FLOAT8, NUMERIC, _float_to_numeric(15))
_add(BOOL, INT4, int)
_add(INT4, BOOL, bool)

# -- dates and times -------------------------------------------------------------------------------

_add(DATE, TIMESTAMP, times.in_timestamp_range, implicit=True)
_add(DATE, TIMESTAMPTZ, times.in_timestamp_range, implicit=True)
_add(TIMESTAMP, TIMESTAMPTZ, None, implicit=True)
_add(TIMESTAMPTZ, TIMESTAMP, None)
_add(TIME, INTERVAL, intervals.from_time, implicit=True)
_add(INTERVAL, TIME, intervals.to_time)
_add(TIME, TIMETZ, times.time_to_timetz, implicit=True)
_add(TIMETZ, TIME, times.timetz_to_time)
_add(TIMESTAMPTZ, TIMETZ, times.timestamptz_to_timetz)
for _source in (TIMESTAMP, TIMESTAMPTZ):
    _add(_source, DATE, times.timestamp_to_date)
    _add(_source, TIME, times.timestamp_to_time)

# -- JSON ------------------------------------------------------------------------------------------

for _target, _limits in _INTEGERS:
    _add(JSONB, _target, jsonb.to_number(_to_integer(_limits)))
_add(JSONB, NUMERIC, jsonb.to_number(Decimal))
_add(JSONB, FLOAT4, jsonb.to_number(_numeric_to_float4))
_add(JSONB, FLOAT8, jsonb.to_number(_numeric_to_float8))
_add(JSONB, BOOL, jsonb.to_bool)
_add(JSON, JSONB, jsonb.read_jsonb)
_add(JSONB, JSON, jsonb.write_json)

# -- texts -----------------------------------------------------------------------------------------

_UNDERSTOOD: Final = (
    *(BOOL, INT2, INT4, INT8, NUMERIC, FLOAT4, FLOAT8, UUID, BYTEA, JSON, JSONB),
    *(DATE, TIMESTAMP, TIMESTAMPTZ, TIME),
)
"""Types of which the texts in a column are read: all that Postgres reads, or all in ISO 8601."""

for _source in TYPES.values():
    for _target in (TEXT, VARCHAR):
        if _source.category != "S" and _source is not INTERVAL:
            _add(_source, _target, _source.write)
for _source in (TEXT, VARCHAR):
    _add(_source, BPCHAR, strings.read_bpchar, implicit=True)
    _add(_source, NAME, strings.read_name, implicit=True)
    for _target in TYPES.values():
        if _target.category != "S":
            _understood = _target in _UNDERSTOOD
            _add(_source, _target, _target.read, constants_only=not _understood)
_add(TEXT, VARCHAR, None, implicit=True)
_add(VARCHAR, TEXT, None, implicit=True)
_add(BPCHAR, TEXT, None, implicit=True)
_add(BPCHAR, VARCHAR, None, implicit=True)
_add(BPCHAR, NAME, strings.read_name, implicit=True)
_add(NAME, TEXT, None, implicit=True)
_add(NAME, VARCHAR, None)
_add(NAME, BPCHAR, strings.read_bpchar)
