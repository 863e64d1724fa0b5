"""The plans of a condition: which keys it can be found by."""

from __future__ import annotations

import operator
from collections.abc import Hashable, Sequence
from dataclasses import replace
from itertools import product
from math import prod
from typing import Final, cast

from shapes.where.compiler import text_in_row
from shapes.where.keys import NEVER, Index, Key, Kind, Operand, Plan, Span
from shapes.where.pattern_keys import pattern_plans, prefix_plan
from shapes.where.rendering import render
from shapes.where.semantics.expressions import (
    All,
    Apply,
    ColumnValue,
    Constant,
    Distinct,
    Either,
    Expression,
    Not,
    Quantified,
    Test,
    columns_in,
    uncollated,
)
from shapes.where.semantics.types import BOOL, Type
from shapes.where.values.arrays import ArrayValue

MOST_ALTERNATIVES: Final = 8
_MOST_COMBINATIONS: Final = 16
_PLAIN: Final = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
"""How values compare that indexes can hold: the order of an enum's labels, for one, is another."""

_NEGATED: Final = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "<>": "="}
_MIRRORED: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


def plans(expression: Expression, wanted: bool = True) -> list[Plan]:
    """The alternatives, of which any one will do, to find the rows for which the expression is TRUE,
    or FALSE if that is what is wanted. Empty: it must be tried on every row."""
    match expression:
        case Constant():
            return [] if expression.value is wanted else [NEVER]
        case All() | Either():
            parts = [plans(part, wanted) for part in expression.parts]
            return _all(parts) if isinstance(expression, All) is wanted else _either(parts)
        case Not():
            return plans(expression.part, not wanted)
        case Test():
            return _test(expression, expression.negated is wanted)
        case Distinct():
            plain = expression.routine.apply is operator.eq
            return _same(expression) if plain and expression.negated is wanted else []
        case Apply():
            return _operator(expression, wanted)
        case Quantified():
            plain = expression.routine.apply is operator.eq
            return _any(expression) if plain and wanted and not expression.every else []
        case ColumnValue() if expression.type is BOOL:
            return [_one(_column(expression), wanted)]
        case _:
            return []


# -- AND, OR ---------------------------------------------------------------------------------------


def _all(parts: list[list[Plan]]) -> list[Plan]:
    """Every part will do; several together hold of fewer rows."""
    if any(NEVER in part for part in parts):
        return [NEVER]
    spans, rest = _merged_spans(parts)
    if NEVER in spans:
        return [NEVER]
    if len(spans) == 1 and not rest:
        return spans
    combined = _combined(parts)
    if combined is not None and combined.exact:
        return [combined]
    found = sorted([*spans, *(plan for part in rest for plan in part)], key=_preference)
    found = [plan._replace(exact=False) for plan in found[:MOST_ALTERNATIVES]]
    return found if combined is None else [*found, combined]


def _merged_spans(parts: list[list[Plan]]) -> tuple[list[Plan], list[list[Plan]]]:
    """One plan per operand that has bounds, and the other parts."""
    spans: dict[Index, Span] = {}
    rest: list[list[Plan]] = []
    for part in parts:
        only = part[0].keys[0] if len(part) == 1 and len(part[0].keys) == 1 else None
        if only is None or not part[0].exact or not isinstance(only.value, Span):
            rest.append(part)
            continue
        former = spans.get(only.index)
        spans[only.index] = only.value if former is None else former & only.value
    merged = [
        NEVER if span.empty else Plan((Key(index, span),), True) for index, span in spans.items()
    ]
    return merged, rest


def _combined(parts: list[list[Plan]]) -> Plan | None:
    """One key about all the columns that must have certain values."""
    choices: dict[Operand, list[Hashable]] = {}
    exact = True
    for part in parts:
        plan = part[0] if len(part) == 1 else None
        operand = None if plan is None else _operand_of(plan)
        if plan is None or operand is None:
            exact = False
            continue
        values = [key.value for key in plan.keys]
        former = choices.get(operand)
        choices[operand] = values if former is None else [one for one in former if one in values]
    if len(choices) < 2 and not (exact and choices):
        return None
    if prod(map(len, choices.values())) > _MOST_COMBINATIONS:
        return None
    if len(choices) == 1:
        operand, values = next(iter(choices.items()))
        return Plan(_keys(Kind.VALUE, operand, values), exact)
    operands = tuple(
        sorted(choices, key=lambda one: (one.column, one.null, str((one.parse, one.fold))))
    )
    index = Index(Kind.VALUE, operands)
    values = product(*(choices[one] for one in operands))
    return Plan(tuple([Key(index, one) for one in values]), exact)


def _operand_of(plan: Plan) -> Operand | None:
    """The column of which the plan says nothing but what values it may have."""
    operands = {key.index.operands for key in plan.keys if key.index.kind is Kind.VALUE}
    if not plan.exact or not plan.safe or len(operands) != 1:
        return None
    (found,) = operands
    alike = all(key.index.kind is Kind.VALUE for key in plan.keys)
    return found[0] if alike and len(found) == 1 else None


_RANKS: Final = (
    Kind.VALUE,
    Kind.ELEMENT,
    Kind.PREFIX,
    Kind.PART,
    Kind.SPAN,
)


def _preference(plan: Plan) -> tuple[bool, bool, int, int]:
    """Sorts plans whose keys hold of few rows first."""
    operands = [one for key in plan.keys for one in key.index.operands]
    common = any(one.null or one.parse is BOOL.parse for one in operands)
    rank = max((_RANKS.index(key.index.kind) for key in plan.keys), default=0)
    return common and len(operands) == len(plan.keys), not plan.safe, rank, len(plan.keys)


def _either(branches: list[list[Plan]]) -> list[Plan]:
    if not all(branches):
        return []
    best = [min(branch, key=_preference) for branch in branches]
    keys = dict.fromkeys(key for plan in best for key in plan.keys)
    # What fails in one branch does not matter where another one, before it, is TRUE.
    exact = all(one.exact and one.safe for one in best)
    return [Plan(tuple(keys), exact)]


# -- single facts ----------------------------------------------------------------------------------


def _operator(apply: Apply, wanted: bool) -> list[Plan]:
    if len(apply.arguments) != 2:
        return []
    left, right = apply.arguments
    name = apply.routine.name
    if name in _PLAIN and apply.routine.apply is not _PLAIN[name]:
        return []
    if not wanted:
        name = _NEGATED.get(name, "")
    match name:
        case "=":
            return _equal(left, right)
        case "<" | "<=" | ">" | ">=":
            return _bounded(name, left, right)
        case "@>":
            return _contains(left, right)
        case "<@":
            return _contains(right, left)
        case "&&":
            return _overlaps(left, right) or _overlaps(right, left)
        case "~~" | "~~*":
            return _pattern(apply, left, right)
        case "^@" | "starts_with":
            return _begins(left, right)
        case _:
            return []


def _test(test: Test, negated: bool) -> list[Plan]:
    """`negated`: whether the test, which is never NULL itself, must fail."""
    argument = uncollated(test.argument)
    if test.word in ("null", "unknown"):
        if isinstance(argument, ColumnValue):
            return [_one(Operand(argument.column.name, null=True), not negated)]
        return []
    asked = test.word == "true"
    if not negated:
        return plans(argument, asked)
    if isinstance(argument, ColumnValue):
        missing = _one(Operand(argument.column.name, null=True), True)
        return _either([[_one(_column(argument), not asked)], [missing]])
    return []


def _same(distinct: Distinct) -> list[Plan]:
    """`IS NOT DISTINCT FROM`."""
    left, right = uncollated(distinct.left), uncollated(distinct.right)
    if isinstance(left, Constant):
        left, right = right, left
    if right == Constant(right.type, None) and isinstance(left, ColumnValue):
        return [_one(Operand(left.column.name, null=True), True)]
    return _equal(left, right)


def _column(column: ColumnValue) -> Operand:
    return Operand(column.column.name, column.type.parse)


def _one(operand: Operand, value: Hashable) -> Plan:
    return Plan((Key(Index(Kind.VALUE, (operand,)), value),), True)


def _keys(kind: Kind, operand: Operand, values: Sequence[Hashable]) -> tuple[Key, ...]:
    index = Index(kind, (operand,))
    return tuple([Key(index, value) for value in dict.fromkeys(values)])


def _operand(expression: Expression) -> Operand | None:
    """The operand whose values are those of an expression."""
    expression = uncollated(expression)
    if isinstance(expression, ColumnValue):
        return _column(expression)
    if not any(columns_in(expression)):
        return None
    return Operand("", sql=render(expression), expression=expression)


def _equal(left: Expression, right: Expression) -> list[Plan]:
    left, right = uncollated(left), uncollated(right)
    if isinstance(left, Constant):
        left, right = right, left
    if not isinstance(right, Constant) or right.value is None:
        return []
    return _one_of(left, right.type, (right.value,))


def _one_of(operand: Expression, constant: Type, values: Sequence[Hashable]) -> list[Plan]:
    """The plan for an operand that must equal one of the values."""
    operand = uncollated(operand)
    column = text_in_row(operand)
    if column is not None and (operand.type is constant or constant.category == "S"):
        found = Operand(column.column.name)
        values = [constant.write(value) for value in values]
    else:
        found = _operand(operand)
    return [] if found is None else [Plan(_keys(Kind.VALUE, found, values), True)]


def _bounded(name: str, left: Expression, right: Expression) -> list[Plan]:
    """A comparison with a constant, on either side."""
    left, right = uncollated(left), uncollated(right)
    if isinstance(left, Constant):
        left, right, name = right, left, _MIRRORED[name]
    operand = _operand(left)
    if operand is None or not isinstance(right, Constant) or right.value is None:
        return []
    value = right.value
    span = {
        "<": Span((), (value, -1)),
        "<=": Span((), (value, 0)),
        ">": Span((value, 1), None),
        ">=": Span((value, 0), None),
    }[name]
    return [Plan((Key(Index(Kind.SPAN, (operand,)), span),), True)]


def _any(quantified: Quantified) -> list[Plan]:
    left, array = uncollated(quantified.left), uncollated(quantified.array)
    if isinstance(array, Constant) and array.type.element is not None:
        return _one_of(left, array.type.element, _elements(array))
    if isinstance(left, Constant) and left.value is not None and isinstance(array, ColumnValue):
        return [Plan(_element_keys(array, left.type, (left.value,)), True)]
    return []


# -- arrays ----------------------------------------------------------------------------------------


def _contains(array: Expression, part: Expression) -> list[Plan]:
    """`array @> part`: every element will do as a key, the only one of several exactly."""
    array, part = uncollated(array), uncollated(part)
    if not isinstance(array, ColumnValue) or not isinstance(part, Constant):
        return []
    if array.type.element is None or part.type.element is None:
        return []
    keys = _element_keys(array, part.type.element, _elements(part))
    if None in cast(ArrayValue, part.value)[1]:
        return [NEVER]
    return [Plan((key,), len(keys) == 1) for key in keys[:MOST_ALTERNATIVES]]


def _overlaps(array: Expression, part: Expression) -> list[Plan]:
    array, part = uncollated(array), uncollated(part)
    if not isinstance(array, ColumnValue) or not isinstance(part, Constant):
        return []
    if array.type.element is None or part.type.element is None:
        return []
    return [Plan(_element_keys(array, part.type.element, _elements(part)), True)]


def _elements(array: Constant) -> list[Hashable]:
    return [one for one in cast(ArrayValue, array.value)[1] if one is not None]


def _element_keys(
    array: ColumnValue, constant: Type, values: Sequence[Hashable]
) -> tuple[Key, ...]:
    element = array.type.element
    assert element is not None
    if element.canonical and (element is constant or element.category == constant.category == "S"):
        operand = Operand(array.column.name)
        values = [constant.write(value) for value in values]
    else:
        operand = Operand(array.column.name, element.parse)
    return _keys(Kind.ELEMENT, operand, values)


# -- patterns --------------------------------------------------------------------------------------


def _pattern(apply: Apply, left: Expression, right: Expression) -> list[Plan]:
    operand, pattern = _text(left), uncollated(right)
    if operand is None or not isinstance(pattern, Constant) or not isinstance(pattern.value, str):
        return []
    fold = apply.routine.fold
    if fold is None:
        return [] if apply.routine.name == "~~*" else pattern_plans(operand, pattern.value)
    return pattern_plans(replace(operand, fold=fold), fold(pattern.value))


def _begins(left: Expression, right: Expression) -> list[Plan]:
    operand, prefix = _text(left), uncollated(right)
    if operand is None or not isinstance(prefix, Constant) or not isinstance(prefix.value, str):
        return []
    return [prefix_plan(operand, prefix.value, exact=True)]


def _text(expression: Expression) -> Operand | None:
    """The operand for an expression that is a text."""
    column = text_in_row(expression)
    if column is not None:
        return Operand(column.column.name)
    return _operand(expression)
