"""Numbers as Postgres reads, compares, converts and prints them.

Integers are `int`, numeric is `Decimal`, float4 and float8 are `float`. NaN of all three is `NAN`,
which equals itself and is greater than everything else, as in Postgres. `read_…` takes what a user
may write, raises ValueError for the rest; `parse_…` takes Postgres's own output and trusts it.
"""

from __future__ import annotations

import math
import re
import struct
from decimal import (
    ROUND_CEILING,
    ROUND_FLOOR,
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    InvalidOperation,
)
from fractions import Fraction
from typing import Final, TypeAlias


class NotANumber:
    """Postgres's NaN: equal to itself, greater than any number."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return other is self

    def __hash__(self) -> int:
        return 0x7FF8

    def __lt__(self, other: object) -> bool:
        return False

    def __le__(self, other: object) -> bool:
        return other is self

    def __gt__(self, other: object) -> bool:
        return other is not self

    def __ge__(self, other: object) -> bool:
        return True

    def __repr__(self) -> str:
        return "NAN"


NAN: Final = NotANumber()

Float: TypeAlias = float | NotANumber
Numeric: TypeAlias = Decimal | NotANumber

_INTEGER = re.compile(
    r"([+-]?)(?:(0[xX](?:_?[0-9a-fA-F])+)|(0[oO](?:_?[0-7])+)|(0[bB](?:_?[01])+)"
    r"|([0-9](?:_?[0-9])*))"
)
# Every text can match in one way only, so that a long one is refused as fast as it is read.
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_SPECIAL = re.compile(r"([+-]?)inf(?:inity)?|nan", re.IGNORECASE | re.ASCII)
_SPACE = " \t\n\r\f\v"
_MAX_DIGITS_BEFORE = 131_072
_MAX_DIGITS_AFTER = 16_383
_MAX_EXPONENT = 1_000_000_000

INT2_RANGE: Final = range(-(2**15), 2**15)
INT4_RANGE: Final = range(-(2**31), 2**31)
INT8_RANGE: Final = range(-(2**63), 2**63)


def read_integer(text: str, limits: range) -> int:
    match = _INTEGER.fullmatch(text.strip(_SPACE))
    if match is None:
        raise ValueError("not an integer")
    sign, *forms = match.groups()
    digits = next(form for form in forms if form is not None).replace("_", "")
    if len(digits) > 100:
        raise ValueError("out of range")
    value = int(digits, 10 if forms[3] is not None else 0)
    return in_range(-value if sign == "-" else value, limits)


def read_int2(text: str) -> int:
    return read_integer(text, INT2_RANGE)


def read_int4(text: str) -> int:
    return read_integer(text, INT4_RANGE)


def read_int8(text: str) -> int:
    return read_integer(text, INT8_RANGE)


def in_range(value: int, limits: range) -> int:
    if value not in limits:
        raise ValueError("out of range")
    return value


_LONG: Final = Context(prec=_MAX_DIGITS_BEFORE)
"""Wide enough for every digit of a numeric before its point."""


def read_numeric(text: str) -> Numeric:
    text = text.strip(_SPACE)
    special = _SPECIAL.fullmatch(text)
    if special is not None:
        return NAN if special.group(1) is None else Decimal(text)
    if _DECIMAL.fullmatch(text) is None:
        raise ValueError("not a number")
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError("out of range") from None
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -_MAX_DIGITS_AFTER:
        raise ValueError("too many digits")
    if value.adjusted() >= (_MAX_DIGITS_BEFORE if value else _MAX_EXPONENT):
        raise ValueError("out of range")
    if not value:
        return Decimal(0).scaleb(min(exponent, 0))
    # Digits behind the point are counted by the exponent, which therefore is not positive.
    return value.quantize(Decimal(1), context=_LONG) if exponent > 0 else value


def parse_numeric(text: str) -> Numeric:
    return NAN if text == "NaN" else Decimal(text)


def write_numeric(value: Numeric) -> str:
    if isinstance(value, NotANumber):
        return "NaN"
    return format(value, "f") if value.is_finite() else str(value)


def read_float8(text: str) -> Float:
    text = text.strip(_SPACE)
    special = _SPECIAL.fullmatch(text)
    if special is not None:
        return NAN if special.group(1) is None else float(text)
    if _DECIMAL.fullmatch(text) is None:
        raise ValueError("not a number")
    value = float(text)
    if math.isinf(value) or (not value and _has_digits(text)):
        raise ValueError("out of range")
    return value


def _has_digits(text: str) -> bool:
    """Whether a decimal number is not zero."""
    mantissa = re.split("[eE]", text)[0]
    return any(one in "123456789" for one in mantissa)


def parse_float8(text: str) -> Float:
    return NAN if text == "NaN" else float(text)


def read_float4(text: str) -> Float:
    value = read_float8(text)
    narrowed = narrow(value)
    if isinstance(narrowed, NotANumber) or not narrowed or not math.isfinite(narrowed):
        return narrowed
    # Rounding twice can miss by one: take the neighbour that is nearest to the exact value.
    exact = Fraction(text.strip(_SPACE))
    bits = _bits(narrowed)
    near = [one for one in map(_from_bits, (bits - 1, bits, bits + 1)) if math.isfinite(one)]
    return min(near, key=lambda one: (abs(Fraction(one) - exact), _bits(one) & 1))


def parse_float4(text: str) -> Float:
    return NAN if text == "NaN" else _as_float4(float(text))


def narrow(value: Float) -> Float:
    """float8 to float4. Raises ValueError if it does not fit."""
    if isinstance(value, NotANumber):
        return value
    try:
        narrowed = _as_float4(value)
    except OverflowError:
        raise ValueError("out of range") from None
    if value and not narrowed:
        raise ValueError("out of range")
    return narrowed


def write_float8(value: Float) -> str:
    """The shortest text that reads as the same number, laid out as Postgres does."""
    if isinstance(value, NotANumber) or not value or not math.isfinite(value):
        return _write_float(value, Decimal(0), 15)
    low, high = math.nextafter(value, -math.inf), math.nextafter(value, math.inf)
    shortest = Decimal(repr(value))
    if not _between(shortest, value, low, high):
        shortest = _shortest(value, low, high)
    return _write_float(value, shortest, 15)


def write_float4(value: Float) -> str:
    if isinstance(value, NotANumber) or not value or not math.isfinite(value):
        return _write_float(value, Decimal(0), 6)
    bits, step = _bits(value), 1 if value > 0 else -1
    low, high = _from_bits(bits - step), _from_bits(bits + step)
    return _write_float(value, _shortest(value, low, high), 6)


_WIDE: Final = Context(prec=2000)
"""Wide enough for every digit of a float8."""


def _between(text: Decimal, value: float, low: float, high: float) -> bool:
    """Whether a number is nearer to a float than to its neighbours. Half way is not near enough for
    Postgres."""
    exact, twice = Decimal(value), _WIDE.add(text, text)
    # Beyond the largest numbers it goes on as before them.
    below = Decimal(low) if math.isfinite(low) else _beyond(exact, high)
    above = Decimal(high) if math.isfinite(high) else _beyond(exact, low)
    return _WIDE.add(exact, below) < twice < _WIDE.add(exact, above)


def _beyond(value: Decimal, other: float) -> Decimal:
    """The neighbour on the other side, as far away."""
    return _WIDE.subtract(_WIDE.add(value, value), Decimal(other))


def _shortest(value: float, low: float, high: float) -> Decimal:
    exact = Decimal(value)
    for digits in range(1, 18):
        rounded = (
            Context(prec=digits, rounding=rounding).plus(exact)
            for rounding in (ROUND_HALF_EVEN, ROUND_FLOOR, ROUND_CEILING)
        )
        found = [one for one in rounded if _between(one, value, low, high)]
        if found:
            return min(found, key=lambda one: abs(_WIDE.subtract(one, exact)))
    return exact


def _write_float(value: Float, shortest: Decimal, fixed_digits: int) -> str:
    if isinstance(value, NotANumber):
        return "NaN"
    if not math.isfinite(value):
        return "Infinity" if value > 0 else "-Infinity"
    if not value:
        return "-0" if math.copysign(1, value) < 0 else "0"
    decimal = shortest.normalize()
    exponent = decimal.adjusted()
    if -4 <= exponent < fixed_digits:
        return format(decimal, "f")
    sign, digits, _ = decimal.as_tuple()
    mantissa = str(digits[0]) + ("." if digits[1:] else "") + "".join(map(str, digits[1:]))
    return f"{'-' if sign else ''}{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


def _as_float4(value: float) -> float:
    return struct.unpack("<f", struct.pack("<f", value))[0]


def _bits(value: float) -> int:
    return struct.unpack("<i", struct.pack("<f", value))[0]


def _from_bits(bits: int) -> float:
    return struct.unpack("<f", struct.pack("<i", bits))[0]
