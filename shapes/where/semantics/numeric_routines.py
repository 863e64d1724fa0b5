"""Operators and functions of numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from shapes.where.semantics.routine import Routine, unavailable
from shapes.where.semantics.types import FLOAT4, FLOAT8, INT2, INT4, INT8, NUMERIC, Type
from shapes.where.values import arithmetic, floats
from shapes.where.values.arithmetic import Integers

_INTEGERS: Final = {
    INT2: Integers(16, "smallint"),
    INT4: Integers(32, "integer"),
    INT8: Integers(64, "bigint"),
}
_WIDTHS: Final = list(_INTEGERS)


def _between_integers() -> Iterator[Routine]:
    for left in _INTEGERS:
        for right in _INTEGERS:
            result = max(left, right, key=_WIDTHS.index)
            operators = _INTEGERS[result]
            both = (left, right)
            yield Routine("+", both, result, operators.add)
            yield Routine("-", both, result, operators.subtract)
            yield Routine("*", both, result, operators.multiply)
            yield Routine("/", both, result, operators.divide)


def _of_integers() -> Iterator[Routine]:
    for one, operators in _INTEGERS.items():
        both = (one, one)
        yield Routine("%", both, one, operators.remainder)
        yield Routine("mod", both, one, operators.remainder, operator=False)
        yield Routine("&", both, one, int.__and__, "({0} & {1})")
        yield Routine("|", both, one, int.__or__, "({0} | {1})")
        yield Routine("#", both, one, int.__xor__, "({0} ^ {1})")
        yield Routine("~", (one,), one, int.__invert__, "(~{0})")
        yield Routine("<<", (one, INT4), one, operators.shift_left)
        yield Routine(">>", (one, INT4), one, operators.shift_right)
        yield from _signs(one, operators.negate, operators.absolute)


def _signs(
    one: Type, negate: Callable[[Any], Any], absolute: Callable[[Any], Any]
) -> Iterator[Routine]:
    yield Routine("+", (one,), one, _same, "{0}")
    yield Routine("-", (one,), one, negate)
    yield Routine("@", (one,), one, absolute)
    yield Routine("abs", (one,), one, absolute, operator=False)


def _same(value: Any) -> Any:
    return value


def _of_numerics() -> Iterator[Routine]:
    both = (NUMERIC, NUMERIC)
    yield Routine("+", both, NUMERIC, arithmetic.add_numeric)
    yield Routine("-", both, NUMERIC, arithmetic.subtract_numeric)
    yield Routine("*", both, NUMERIC, arithmetic.multiply_numeric)
    yield Routine("/", both, NUMERIC, arithmetic.divide_numeric)
    yield Routine("%", both, NUMERIC, arithmetic.remainder_numeric)
    for name in ("^", "power", "pow"):
        yield Routine(
            name,
            both,
            NUMERIC,
            unavailable,
            refused="how numeric powers are rounded depends on the server's version; "
            "cast to float8, or multiply",
            operator=name == "^",
        )
    yield from _signs(NUMERIC, arithmetic.negate_numeric, arithmetic.absolute_numeric)
    functions: dict[str, Callable[..., Any]] = {
        "ceil": arithmetic.ceiling_numeric,
        "ceiling": arithmetic.ceiling_numeric,
        "floor": arithmetic.floor_numeric,
        "round": arithmetic.round_to_whole,
        "trunc": arithmetic.truncate_to_whole,
        "sign": arithmetic.sign_numeric,
    }
    for name, apply in functions.items():
        yield Routine(name, (NUMERIC,), NUMERIC, apply, operator=False)
    for name, apply in (
        ("round", arithmetic.round_numeric),
        ("trunc", arithmetic.truncate_numeric),
    ):
        yield Routine(name, (NUMERIC, INT4), NUMERIC, apply, operator=False)
    yield Routine("mod", both, NUMERIC, arithmetic.remainder_numeric, operator=False)
    yield Routine("div", both, NUMERIC, arithmetic.truncated_quotient, operator=False)
    yield Routine(
        "sqrt",
        (NUMERIC,),
        NUMERIC,
        unavailable,
        refused="how the square root of a numeric is rounded depends on the server's version; "
        "cast to float8",
        operator=False,
    )


def _of_floats() -> Iterator[Routine]:
    operations = {
        "+": floats.add,
        "-": floats.subtract,
        "*": floats.multiply,
        "/": floats.divide,
    }
    for name, apply in operations.items():
        yield Routine(name, (FLOAT4, FLOAT4), FLOAT4, floats.single(apply))
        yield Routine(name, (FLOAT4, FLOAT8), FLOAT8, apply)
        yield Routine(name, (FLOAT8, FLOAT4), FLOAT8, apply)
        yield Routine(name, (FLOAT8, FLOAT8), FLOAT8, apply)
    for one in (FLOAT4, FLOAT8):
        yield from _signs(one, floats.negate, floats.absolute)
    functions = {
        "ceil": floats.ceiling,
        "ceiling": floats.ceiling,
        "floor": floats.floor,
        "round": floats.nearest,
        "trunc": floats.truncate,
        "sign": floats.sign,
        "sqrt": floats.square_root,
    }
    for name, apply in functions.items():
        yield Routine(name, (FLOAT8,), FLOAT8, apply, operator=False)
    yield Routine("|/", (FLOAT8,), FLOAT8, floats.square_root)
    yield Routine(
        "||/", (FLOAT8,), FLOAT8, unavailable, refused="the cube root depends on the C library"
    )
    for name in ("^", "power", "pow"):
        yield Routine(
            name,
            (FLOAT8, FLOAT8),
            FLOAT8,
            floats.power,
            constants_only="the last bit of a float8 power depends on the server's C library; "
            "multiply instead",
            operator=name == "^",
        )


ROUTINES: Final = (
    *_between_integers(),
    *_of_integers(),
    *_of_numerics(),
    *_of_floats(),
)
