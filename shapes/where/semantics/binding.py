"""Giving the constants of an expression their values, and computing what depends on nothing else."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, cast

from shapes.where.errors import EnumLabelError, Failure, WhereError
from shapes.where.semantics.collations import Collation, collation_of
from shapes.where.semantics.expressions import (
    All,
    Apply,
    Case,
    Choice,
    Collated,
    ColumnValue,
    Constant,
    Convert,
    Distinct,
    Either,
    Elements,
    Expression,
    Not,
    NullIf,
    Quantified,
    Slot,
    Test,
    parts_of,
    uncollated,
)
from shapes.where.semantics.routine import Routine, unavailable
from shapes.where.semantics.types import BOOL, INT2, INT4, INT8, Type
from shapes.where.values.arrays import ArrayValue
from shapes.where.values.numbers import INT2_RANGE, INT4_RANGE, INT8_RANGE

TRUE = Constant(BOOL, True)
FALSE = Constant(BOOL, False)
NULL = Constant(BOOL, None)

_INTEGERS = {INT2: INT2_RANGE, INT4: INT4_RANGE, INT8: INT8_RANGE}


def bind(expression: Expression, values: Sequence[str]) -> Expression:
    """The expression with `values` in its slots, folded. Raises WhereError.

    Equal conditions become equal expressions: chains of AND and OR are flat and without constants,
    and an integer has the type of the integer column that it is compared with.
    """
    bound = _bind(expression, values)
    _check_collations(bound)
    if isinstance(expression, _COLLATED) and expression.type.category == "S":
        return _collated(bound, collation_of(expression))
    return bound


_COLLATED: Final = (Apply, Case, Choice, Convert, NullIf)


def _check_collations(bound: Expression) -> None:
    """Refuse what Postgres would not read: `_collated` spells out what had gone without saying."""
    parts = parts_of(bound)
    if len(parts) > 1:
        explicit = {one.name for one in map(collation_of, parts) if one.strength > 1}
        if len(explicit) > 1:
            names = " and ".join(f'"{name}"' for name in sorted(explicit))
            raise WhereError(f"texts of the collations {names} come together here", 0)


def _collated(bound: Expression, before: Collation) -> Expression:
    """Give an expression back the collation that it had from parts which are folded away."""
    after = collation_of(bound)
    explicit = before.strength > max(after.strength, 1)
    if before.name and (before.name != after.name or explicit):
        return Collated(bound, before.name)
    return bound


def _bind(expression: Expression, values: Sequence[str]) -> Expression:
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
    expression: Convert
    | Test
    | Distinct
    | Quantified
    | Elements
    | Collated
    | Choice
    | NullIf
    | Case,
    values: Sequence[str],
) -> Expression:
    match expression:
        case Choice():
            return _choice(expression, values)
        case NullIf():
            left, right = bind(expression.left, values), bind(expression.right, values)
            return _null_if(expression, left, right)
        case Case():
            return _case(expression, values)
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


def _choice(choice: Choice, values: Sequence[str]) -> Expression:
    """Without what is known to be NULL; COALESCE ends at what is known not to be."""
    items: list[Expression] = []
    for item in choice.items:
        bound = bind(item, values)
        if isinstance(bound, Constant) and bound.value is None:
            continue
        items.append(bound)
        if isinstance(bound, Constant) and choice.word == "coalesce":
            break
    if not items:
        return Constant(choice.type, None)
    constants = [one for one in items if isinstance(one, Constant)]
    if len(items) == 1 or (isinstance(items[0], Constant) and choice.word == "coalesce"):
        return items[0]
    if len(constants) == len(items):
        return Constant(choice.type, extreme(choice)(*(one.value for one in constants)))
    return Choice(choice.type, choice.word, tuple(items), choice.routine)


def extreme(choice: Choice) -> Callable[..., Any]:
    """The function that GREATEST or LEAST is: NULLs do not count, the first of equals wins."""
    assert choice.routine is not None
    less, greatest = choice.routine.apply, choice.word == "greatest"

    def find(*values: Any) -> Any:
        best = None
        for value in values:
            if value is None:
                continue
            if best is None or (less(best, value) if greatest else less(value, best)):
                best = value
        return best

    return find


def _null_if(expression: NullIf, left: Expression, right: Expression) -> Expression:
    plain, other = uncollated(left), uncollated(right)
    if isinstance(plain, Constant) and isinstance(other, Constant):
        equal = None not in (plain.value, other.value)
        if equal and expression.routine.apply(plain.value, other.value):
            return Constant(expression.type, None)
        return Constant(expression.type, plain.value)
    return NullIf(expression.type, expression.routine, left, right)


def _case(case: Case, values: Sequence[str]) -> Expression:
    """Branches whose condition is known not to hold are not looked at, nor is what follows one whose
    condition is known to hold."""
    branches: list[tuple[Expression, Expression]] = []
    otherwise: Expression | None = None
    for condition, result in case.branches:
        bound = bind(condition, values)
        if not isinstance(bound, Constant):
            branches.append((bound, bind(result, values)))
        elif bound.value is True:
            otherwise = bind(result, values)
            break
    otherwise = bind(case.otherwise, values) if otherwise is None else otherwise
    return Case(case.type, tuple(branches), otherwise) if branches else otherwise


def _boolean(value: object) -> Constant:
    return TRUE if value else FALSE


def _constant(slot: Slot, text: str) -> Constant:
    if slot.negative:
        text = "-" + text
    try:
        return Constant(slot.type, slot.type.read(text))
    except EnumLabelError as error:
        raise EnumLabelError(error.message, slot.at) from None
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
    if routine.result is not BOOL or routine.parameters[0] not in _INTEGERS or len(arguments) != 2:
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
    if routine.strict and None in constants:
        return Constant(routine.result, None)
    if routine.apply is unavailable:
        return Apply(routine, arguments, at)
    if len(constants) == len(arguments):
        return _fold(routine, constants, at)
    if routine.constants_only:
        raise WhereError(routine.constants_only, at)
    if routine.leading is not None:
        first = plain[0]
        if not isinstance(first, Constant):
            raise WhereError(f"the first argument of {routine.name} must be a constant here", at)
        _try(routine.leading, first.value, at)
    last = plain[-1]
    if routine.with_constant is not None and isinstance(last, Constant):
        _try(routine.with_constant, last.value, at)
    return Apply(routine, arguments, at)


def _fold(routine: Routine, constants: Sequence[Any], at: int) -> Constant:
    try:
        return Constant(routine.result, routine.apply(*constants))
    except (ValueError, ArithmeticError) as error:
        reason = f": {error}" if isinstance(error, Failure) else ""
        message = f"Failed to apply function to constant arguments{reason}"
        raise WhereError(message, at) from None


def _try(function: Callable[[Any], object], constant: Hashable, at: int) -> None:
    """See that a constant is one that the routine can use, now rather than at the first row."""
    try:
        function(constant)
    except ValueError as error:
        raise WhereError(str(error), at) from None


def _convert(expression: Convert, argument: Expression) -> Expression:
    cast, plain = expression.cast, uncollated(argument)
    if not isinstance(plain, Constant):
        return Convert(cast, argument, expression.at)
    value = plain.value
    if value is None or cast.convert is None:
        return Constant(cast.target, value)
    try:
        return Constant(cast.target, cast.convert(value))
    except ValueError:
        shown = plain.type.write(value)
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
    except (ValueError, ArithmeticError):
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
