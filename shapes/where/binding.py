"""Giving the constants of an expression their values, and computing what depends on nothing else."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, cast

from shapes.where.arrays import ArrayValue
from shapes.where.errors import WhereError
from shapes.where.expressions import (
    All,
    Apply,
    Collated,
    ColumnValue,
    Constant,
    Convert,
    Distinct,
    Either,
    Elements,
    Expression,
    Not,
    Quantified,
    Slot,
    Test,
    uncollated,
)
from shapes.where.numbers import INT2_RANGE, INT4_RANGE, INT8_RANGE
from shapes.where.routines import Routine
from shapes.where.types import BOOL, INT2, INT4, INT8, Type

TRUE = Constant(BOOL, True)
FALSE = Constant(BOOL, False)
NULL = Constant(BOOL, None)

_INTEGERS = {INT2: INT2_RANGE, INT4: INT4_RANGE, INT8: INT8_RANGE}


def bind(expression: Expression, values: Sequence[str]) -> Expression:
    """The expression with `values` in its slots, folded. Raises WhereError.

    Equal conditions become equal expressions: chains of AND and OR are flat and without constants,
    and an integer has the type of the integer column that it is compared with.
    """
    match expression:
        case Constant() | ColumnValue():
            return expression
        case Slot():
            return _constant(expression, values[expression.number])
        case Apply():
            arguments = tuple([bind(one, values) for one in expression.arguments])
            return _apply(expression.routine, _align(expression.routine, arguments), expression.at)
        case All():
            return _junction([bind(one, values) for one in expression.parts], All, FALSE, TRUE)
        case Either():
            return _junction([bind(one, values) for one in expression.parts], Either, TRUE, FALSE)
        case Not():
            part = bind(expression.part, values)
            if isinstance(part, Constant):
                return NULL if part.value is None else _boolean(not part.value)
            return Not(part)
        case _:
            return _bind_other(expression, values)


def _bind_other(
    expression: Convert | Test | Distinct | Quantified | Elements | Collated, values: Sequence[str]
) -> Expression:
    match expression:
        case Convert():
            return _convert(expression, bind(expression.argument, values))
        case Test():
            argument = bind(expression.argument, values)
            if isinstance(argument, Constant):
                return _boolean(_is(argument.value, expression.word) is not expression.negated)
            return Test(argument, expression.word, expression.negated)
        case Distinct():
            left, right = bind(expression.left, values), bind(expression.right, values)
            if isinstance(left, Constant) and isinstance(right, Constant):
                return _boolean((left.value != right.value) is not expression.negated)
            left, right = _align(expression.routine, (left, right))
            return Distinct(expression.routine, left, right, expression.negated)
        case Quantified():
            left, array = bind(expression.left, values), bind(expression.array, values)
            return _quantified(expression, left, array)
        case Elements():
            items = tuple([bind(one, values) for one in expression.items])
            return _elements(expression, items)
        case Collated():
            return Collated(bind(expression.argument, values), expression.collation)


def _boolean(value: object) -> Constant:
    return TRUE if value else FALSE


def _constant(slot: Slot, text: str) -> Constant:
    if slot.negative:
        text = "-" + text
    try:
        return Constant(slot.type, slot.type.read(text))
    except ValueError:
        raise WhereError(f"invalid syntax for type {slot.type.name}: {text}", slot.at) from None


def _junction(
    parts: list[Expression],
    kind: type[All] | type[Either],
    decisive: Constant,
    neutral: Constant,
) -> Expression:
    flat: list[Expression] = []
    for part in parts:
        if isinstance(part, kind):
            flat += part.parts
        elif part == decisive:
            return decisive
        elif part != neutral:
            flat.append(part)
    if all(part == NULL for part in flat):
        return NULL if flat else neutral
    return flat[0] if len(flat) == 1 else kind(tuple(flat))


def _align(routine: Routine, arguments: tuple[Expression, ...]) -> tuple[Expression, ...]:
    """Between a column and a constant of two integer types, retype the constant: `5` and `$1`
    mean the same."""
    if len(arguments) != 2 or routine.parameters[0] not in _INTEGERS:
        return arguments
    left, right = arguments
    if isinstance(left, Constant) and isinstance(right, ColumnValue):
        return _retype(left, right.type), right
    if isinstance(right, Constant) and isinstance(left, ColumnValue):
        return left, _retype(right, left.type)
    return arguments


def _retype(constant: Constant, wanted: Type) -> Constant:
    limits = _INTEGERS.get(wanted)
    if limits is None or not isinstance(constant.value, int) or constant.value not in limits:
        return constant
    return Constant(wanted, constant.value)


def _apply(routine: Routine, arguments: tuple[Expression, ...], at: int) -> Expression:
    plain = [uncollated(one) for one in arguments]
    constants = [one.value for one in plain if isinstance(one, Constant)]
    if None in constants:
        return Constant(routine.result, None)
    if len(constants) == len(arguments):
        try:
            return Constant(routine.result, routine.apply(*constants))
        except ValueError:
            raise WhereError("Failed to apply function to constant arguments", at) from None
    if routine.with_constant is not None and isinstance(plain[-1], Constant):
        _try(routine.with_constant, constants[-1], at)
    return Apply(routine, arguments, at)


def _try(function: Callable[[Any], object], constant: Hashable, at: int) -> None:
    """See that a constant is one that the routine can use, now rather than at the first row."""
    try:
        function(constant)
    except ValueError as error:
        raise WhereError(str(error), at) from None


def _convert(expression: Convert, argument: Expression) -> Expression:
    cast = expression.cast
    if not isinstance(argument, Constant):
        return Convert(cast, argument, expression.at)
    value = argument.value
    if value is None or cast.convert is None:
        return Constant(cast.target, value)
    try:
        return Constant(cast.target, cast.convert(value))
    except ValueError:
        shown = argument.type.write(value)
        source, target = cast.source.name, cast.target.name
        message = f"could not cast value {shown} from {source} to {target}"
        raise WhereError(message, expression.at) from None


def _is(value: Hashable | None, word: str) -> bool:
    if word in ("null", "unknown"):
        return value is None
    return value is (word == "true")


def _quantified(expression: Quantified, left: Expression, array: Expression) -> Expression:
    routine, every = expression.routine, expression.every
    if isinstance(array, Constant):
        if array.value is None:
            return NULL
        if not _elements_of(array):
            return _boolean(every)
        plain = uncollated(left)
        if isinstance(plain, Constant):
            return _fold_quantified(expression, plain.value, array.value)
    elif isinstance(array, Elements) and not array.items:
        return _boolean(every)
    return Quantified(routine, left, array, every, expression.at)


def _fold_quantified(expression: Quantified, left: Any, array: Any) -> Constant:
    try:
        found = quantify(expression.routine.apply, left, array, expression.every)
    except ValueError:
        message = "Failed to apply function to constant arguments"
        raise WhereError(message, expression.at) from None
    return NULL if found is None else _boolean(found)


def _elements_of(array: Constant) -> tuple[Hashable, ...]:
    return cast(ArrayValue, array.value)[1]


def quantify(
    apply: Callable[[Any, Any], bool | None], left: Any, array: Any, every: bool
) -> bool | None:
    """`left op ANY (array)` or `ALL`, three-valued. None if the array or the answer is NULL."""
    if array is None:
        return None
    unknown = False
    for element in array[1]:
        found = None if left is None or element is None else apply(left, element)
        if found is None:
            unknown = True
        elif found is not every:
            return not every
    return None if unknown else every


def _elements(expression: Elements, items: tuple[Expression, ...]) -> Expression:
    if not all(isinstance(one, Constant) for one in items):
        return Elements(expression.type, items, expression.at)
    values = tuple([one.value for one in items if isinstance(one, Constant)])
    bounds = ((1, len(values)),) if values else ()
    return Constant(expression.type, (bounds, values))
