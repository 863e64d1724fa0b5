"""Arithmetic of float4 and float8: IEEE's, but infinite or vanishing results of finite operands are
errors, and NaN is `NAN`.

A float4 operation is done in double precision and rounded once more, which gives the same number for
sums, differences, products, quotients and square roots.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Final, TypeAlias

from shapes.where.errors import Failure
from shapes.where.values.numbers import NAN, Float, NotANumber, narrow

_Binary: TypeAlias = Callable[[Float, Float], Float]


def _checked(value: float, *operands: float) -> Float:
    """The result of an operation on these."""
    if math.isinf(value) and not any(map(math.isinf, operands)):
        raise Failure("value out of range: overflow")
    return NAN if value != value else value


def add(left: Float, right: Float) -> Float:
    if isinstance(left, NotANumber) or isinstance(right, NotANumber):
        return NAN
    return _checked(left + right, left, right)


def subtract(left: Float, right: Float) -> Float:
    if isinstance(left, NotANumber) or isinstance(right, NotANumber):
        return NAN
    return _checked(left - right, left, right)


def multiply(left: Float, right: Float) -> Float:
    if isinstance(left, NotANumber) or isinstance(right, NotANumber):
        return NAN
    value = left * right
    if not value and left and right:
        raise Failure("value out of range: underflow")
    return _checked(value, left, right)


def divide(left: Float, right: Float) -> Float:
    if isinstance(left, NotANumber):
        return NAN
    if isinstance(right, NotANumber):
        return NAN
    if not right:
        raise Failure("division by zero")
    value = left / right
    if not value and left and not math.isinf(right):
        raise Failure("value out of range: underflow")
    return _checked(value, left)


def single(operation: _Binary) -> _Binary:
    """The same between two float4."""

    def apply(left: Float, right: Float) -> Float:
        try:
            return narrow(operation(left, right))
        except Failure:
            raise
        except ValueError:
            raise Failure("value out of range: overflow or underflow") from None

    return apply


def negate(value: Float) -> Float:
    return value if isinstance(value, NotANumber) else -value


def absolute(value: Float) -> Float:
    return value if isinstance(value, NotANumber) else abs(value)


def sign(value: Float) -> Float:
    if isinstance(value, NotANumber) or not value:
        return 0.0
    return math.copysign(1.0, value)


def _whole(rounding: Callable[[float], int]) -> Callable[[Float], Float]:
    def apply(value: Float) -> Float:
        if isinstance(value, NotANumber) or math.isinf(value):
            return value
        return math.copysign(float(rounding(value)), value)

    return apply


ceiling: Final = _whole(math.ceil)
floor: Final = _whole(math.floor)
truncate: Final = _whole(math.trunc)
nearest: Final = _whole(round)
"""Halves go to the even neighbour."""


def square_root(value: Float) -> Float:
    if isinstance(value, NotANumber):
        return value
    if value < 0:
        raise Failure("cannot take square root of a negative number")
    return math.sqrt(value)


def power(base: Float, exponent: Float) -> Float:
    """A whole power between numbers whose result is a float8 exactly; raises Failure for the rest,
    whose last bit depends on the C library."""
    if isinstance(base, NotANumber) or isinstance(exponent, NotANumber):
        return 1.0 if base == 1 or exponent == 0 else NAN
    if math.isinf(base) or math.isinf(exponent) or exponent % 1:
        raise Failure("this power depends on the C library of the server")
    if not base and exponent < 0:
        raise Failure("zero raised to a negative power is undefined")
    if base and abs(exponent) > _LARGEST_EXPONENT:
        raise Failure("this power depends on the C library of the server")
    exact = Fraction(base) ** int(exponent) if base else Fraction(not exponent)
    try:
        value = exact.numerator / exact.denominator
    except OverflowError:
        raise Failure("value out of range: overflow") from None
    if Fraction(value) != exact:
        raise Failure("this power depends on the C library of the server")
    return -value if not value and math.copysign(1, base) < 0 and exponent % 2 else value


_LARGEST_EXPONENT: Final = 2048
