"""Arithmetic as Postgres does it: what overflows, how results are rounded, how many digits they have.

Integers are checked against their type's range. The scale of a numeric, the number of digits behind
its point, is the negative exponent of its `Decimal`, which is never positive. `floats` has the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import (
    MAX_EMAX,
    MAX_PREC,
    MIN_EMIN,
    ROUND_CEILING,
    ROUND_DOWN,
    ROUND_FLOOR,
    ROUND_HALF_UP,
    Context,
    Decimal,
)
from typing import Final

from shapes.where.errors import Failure
from shapes.where.values.numbers import NAN, NotANumber, Numeric

_MAX_DIGITS: Final = 131_072
"""Of a numeric, before its point."""
_MAX_SCALE: Final = 16_383
_MAX_QUOTIENT_SCALE: Final = 1000
_SIGNIFICANT_DIGITS: Final = 16
"""A quotient has at least so many."""

_EXACT: Final = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])
"""Nothing that a numeric can hold is rounded in it."""

# -- integers --------------------------------------------------------------------------------------


class Integers:
    """The operators of one integer type."""

    def __init__(self, bits: int, name: str) -> None:
        self._low, self._high = -(1 << bits - 1), (1 << bits - 1) - 1
        self._bits = bits
        self._message = f"{name} out of range"

    def checked(self, value: int) -> int:
        if self._low <= value <= self._high:
            return value
        raise Failure(self._message)

    def add(self, left: int, right: int) -> int:
        return self.checked(left + right)

    def subtract(self, left: int, right: int) -> int:
        return self.checked(left - right)

    def multiply(self, left: int, right: int) -> int:
        return self.checked(left * right)

    def divide(self, left: int, right: int) -> int:
        """Towards zero."""
        if not right:
            raise Failure("division by zero")
        quotient = abs(left) // abs(right)
        return self.checked(quotient if (left < 0) == (right < 0) else -quotient)

    def remainder(self, left: int, right: int) -> int:
        """With the sign of the left operand."""
        if not right:
            raise Failure("division by zero")
        rest = abs(left) % abs(right)
        return -rest if left < 0 else rest

    def negate(self, value: int) -> int:
        return self.checked(-value)

    def absolute(self, value: int) -> int:
        return self.checked(abs(value))

    def shift_left(self, value: int, count: int) -> int:
        shifted = value << self._shift(count) & (1 << self._bits) - 1
        return shifted - (1 << self._bits) if shifted > self._high else shifted

    def shift_right(self, value: int, count: int) -> int:
        return value >> self._shift(count)

    def _shift(self, count: int) -> int:
        # What a processor makes of other counts is its own affair.
        if 0 <= count < max(self._bits, 32):
            return count
        raise Failure("the count of a shift is not within the size of the number")


# -- numeric ---------------------------------------------------------------------------------------


def fitted(value: Decimal) -> Decimal:
    """The number as Postgres would hold it: no negative zero, no positive exponent, no overflow."""
    if not value.is_finite():
        return value
    if value.adjusted() >= _MAX_DIGITS and value:
        raise Failure("value overflows numeric format")
    exponent = value.as_tuple().exponent
    if exponent > 0:  # pyright: ignore[reportOperatorIssue]
        value = _EXACT.quantize(value, Decimal(1))
    return value if value else value.copy_abs()


def _exactly(
    operation: Callable[[Decimal, Decimal], Decimal],
) -> Callable[[Numeric, Numeric], Numeric]:
    def apply(left: Numeric, right: Numeric) -> Numeric:
        if isinstance(left, NotANumber) or isinstance(right, NotANumber):
            return NAN
        value = operation(left, right)
        return NAN if value.is_nan() else fitted(value)

    return apply


add_numeric: Final = _exactly(_EXACT.add)
subtract_numeric: Final = _exactly(_EXACT.subtract)


def _multiply(left: Decimal, right: Decimal) -> Decimal:
    value = _EXACT.multiply(left, right)
    return _rounded(value, _MAX_SCALE) if scale_of(value) > _MAX_SCALE else value


multiply_numeric: Final = _exactly(_multiply)


def scale_of(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 0


def _rounded(value: Decimal, scale: int, rounding: str = ROUND_HALF_UP) -> Decimal:
    """With exactly so many digits behind the point; before it if that is negative."""
    return value.quantize(Decimal((0, (1,), -scale)), rounding, _EXACT)


def divide_numeric(left: Numeric, right: Numeric) -> Numeric:
    if isinstance(left, NotANumber) or isinstance(right, NotANumber):
        return NAN
    if left.is_infinite():
        if not right:
            raise Failure("division by zero")
        same = left.is_signed() == right.is_signed()
        return NAN if right.is_infinite() else Decimal("Infinity" if same else "-Infinity")
    if right.is_infinite():
        return Decimal(0)
    if not right:
        raise Failure("division by zero")
    return fitted(_quotient(left, right, _quotient_scale(left, right)))


def _quotient(left: Decimal, right: Decimal, scale: int) -> Decimal:
    """Rounded to so many digits behind the point, halves away from zero."""
    # A digit more than wanted decides; Decimal divides long numbers far faster than int does.
    above = left.copy_abs().scaleb(scale + 1, _EXACT)
    quotient = _EXACT.divide_int(above, right.copy_abs()).scaleb(-scale - 1, _EXACT)
    rounded = _rounded(quotient, scale)
    return rounded.copy_negate() if left.is_signed() != right.is_signed() else rounded


def _quotient_scale(left: Decimal, right: Decimal) -> int:
    """As Postgres chooses it, from what it knows of the quotient before it divides: the weights of
    the operands and their first digits, both to the base of 10,000."""
    left_weight, left_first = _leading(left)
    right_weight, right_first = _leading(right)
    weight = left_weight - right_weight - (left_first <= right_first)
    scale = max(_SIGNIFICANT_DIGITS - weight * 4, scale_of(left), scale_of(right), 0)
    return min(scale, _MAX_QUOTIENT_SCALE)


def _leading(value: Decimal) -> tuple[int, int]:
    """The first digit to the base of 10,000, and to which power of that it belongs."""
    if not value:
        return 0, 0
    weight = value.adjusted() // 4
    first = value.copy_abs().scaleb(-4 * weight, _EXACT)
    return weight, int(first)


def remainder_numeric(left: Numeric, right: Numeric) -> Numeric:
    """With the sign of the left operand."""
    if isinstance(left, NotANumber) or isinstance(right, NotANumber):
        return NAN
    if not right:
        raise Failure("division by zero")
    if left.is_infinite():
        return NAN
    if right.is_infinite():
        return left
    scale = max(scale_of(left), scale_of(right))
    rest = _rounded(_EXACT.remainder(left.copy_abs(), right.copy_abs()), scale)
    return fitted(rest.copy_negate() if left.is_signed() else rest)


def truncated_quotient(left: Numeric, right: Numeric) -> Numeric:
    """`div`: a whole number, towards zero."""
    if (
        isinstance(left, NotANumber)
        or isinstance(right, NotANumber)
        or left.is_infinite()
        or right.is_infinite()
        or not right
    ):
        return divide_numeric(left, right)
    quotient = _EXACT.divide_int(left.copy_abs(), right.copy_abs())
    return fitted(quotient.copy_negate() if left.is_signed() != right.is_signed() else quotient)


def negate_numeric(value: Numeric) -> Numeric:
    # Python's own sign would round to the context's digits, and make a negative zero.
    return value if isinstance(value, NotANumber) or not value else value.copy_negate()


def absolute_numeric(value: Numeric) -> Numeric:
    return value if isinstance(value, NotANumber) else value.copy_abs()


def sign_numeric(value: Numeric) -> Numeric:
    if isinstance(value, NotANumber):
        return value
    return Decimal(0 if not value else -1 if value.is_signed() else 1)


def _to_scale(rounding: str) -> Callable[[Numeric, int], Numeric]:
    def apply(value: Numeric, scale: int) -> Numeric:
        if isinstance(value, NotANumber) or value.is_infinite():
            return value
        scale = max(-_MAX_DIGITS - 1, min(scale, _MAX_SCALE))
        return fitted(_rounded(value, scale, rounding))

    return apply


round_numeric: Final = _to_scale(ROUND_HALF_UP)
truncate_numeric: Final = _to_scale(ROUND_DOWN)
_ceiling: Final = _to_scale(ROUND_CEILING)
_floor: Final = _to_scale(ROUND_FLOOR)


def round_to_whole(value: Numeric) -> Numeric:
    return round_numeric(value, 0)


def truncate_to_whole(value: Numeric) -> Numeric:
    return truncate_numeric(value, 0)


def ceiling_numeric(value: Numeric) -> Numeric:
    return _ceiling(value, 0)


def floor_numeric(value: Numeric) -> Numeric:
    return _floor(value, 0)
