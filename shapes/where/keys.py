"""How a condition can be found through an index, instead of by trying it on every change.

A key is a fact about one column: its value, or one element of its array, is a certain constant. A
plan is a set of keys of which at least one must hold of every row that the condition is TRUE of.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Final, NamedTuple, cast

from shapes.where.arrays import ArrayValue
from shapes.where.compiler import text_in_row
from shapes.where.expressions import (
    All,
    Apply,
    ColumnValue,
    Constant,
    Distinct,
    Either,
    Expression,
    Quantified,
    uncollated,
)
from shapes.where.types import BOOL, Type


class Index(NamedTuple):
    """What keys of one kind are compared with: a column's text, or an element's, after `parse`."""

    column: str
    element: bool
    parse: Callable[[str], Hashable] | None


class Key(NamedTuple):
    index: Index
    value: Hashable


class Plan(NamedTuple):
    """`exact`: the condition is TRUE of every row of which one of the keys holds."""

    keys: tuple[Key, ...]
    exact: bool


NEVER: Final = Plan((), True)
_MOST_ALTERNATIVES: Final = 8


def plans(expression: Expression) -> list[Plan]:
    """The alternatives, of which any one will do. Empty: the condition must be tried."""
    match expression:
        case Constant():
            return [] if expression.value is True else [NEVER]
        case All():
            found = [plan for part in expression.parts for plan in plans(part)]
            return [plan._replace(exact=False) for plan in found[:_MOST_ALTERNATIVES]]
        case Either():
            return _either([plans(part) for part in expression.parts])
        case Apply():
            return _operator(expression)
        case Distinct() if expression.negated:
            return _equal(expression.left, expression.right)
        case Quantified() if expression.routine.name == "=" and not expression.every:
            return _any(expression)
        case _:
            return []


def _preference(plan: Plan) -> tuple[bool, bool, int]:
    """Sorts plans whose keys hold of few rows first."""
    boolean = any(key.index.parse is BOOL.parse for key in plan.keys)
    return boolean, any(key.index.element for key in plan.keys), len(plan.keys)


def _either(branches: list[list[Plan]]) -> list[Plan]:
    if not all(branches):
        return []
    best = [min(branch, key=_preference) for branch in branches]
    keys = dict.fromkeys(key for plan in best for key in plan.keys)
    return [Plan(tuple(keys), all(one.exact for one in best))]


def _operator(apply: Apply) -> list[Plan]:
    if len(apply.arguments) != 2:
        return []
    left, right = apply.arguments
    match apply.routine.name:
        case "=":
            return _equal(left, right)
        case "@>":
            return _contains(left, right)
        case "<@":
            return _contains(right, left)
        case "&&":
            return _overlaps(left, right) or _overlaps(right, left)
        case _:
            return []


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
        index = Index(column.column.name, False, None)
        values = [constant.write(value) for value in values]
    elif isinstance(operand, ColumnValue) and operand.type.element is None:
        column = operand
        index = Index(column.column.name, False, column.type.parse)
    else:
        return []
    return [Plan(tuple(Key(index, value) for value in dict.fromkeys(values)), True)]


def _any(quantified: Quantified) -> list[Plan]:
    left, array = uncollated(quantified.left), quantified.array
    if isinstance(array, Constant) and array.type.element is not None:
        return _one_of(left, array.type.element, _elements(array))
    if isinstance(left, Constant) and left.value is not None and isinstance(array, ColumnValue):
        return [Plan(_element_keys(array, left.type, (left.value,)), True)]
    return []


def _contains(array: Expression, part: Expression) -> list[Plan]:
    """`array @> part`: every element will do as a key, the only one of several exactly."""
    if not isinstance(array, ColumnValue) or not isinstance(part, Constant):
        return []
    assert part.type.element is not None
    keys = _element_keys(array, part.type.element, _elements(part))
    if None in cast(ArrayValue, part.value)[1]:
        return [NEVER]
    return [Plan((key,), len(keys) == 1) for key in keys[:_MOST_ALTERNATIVES]]


def _overlaps(array: Expression, part: Expression) -> list[Plan]:
    if not isinstance(array, ColumnValue) or not isinstance(part, Constant):
        return []
    assert part.type.element is not None
    return [Plan(_element_keys(array, part.type.element, _elements(part)), True)]


def _elements(array: Constant) -> list[Hashable]:
    return [one for one in cast(ArrayValue, array.value)[1] if one is not None]


def _element_keys(
    array: ColumnValue, constant: Type, values: Sequence[Hashable]
) -> tuple[Key, ...]:
    element = array.type.element
    assert element is not None
    if element.canonical and (element is constant or element.category == constant.category == "S"):
        index = Index(array.column.name, True, None)
        values = [constant.write(value) for value in values]
    else:
        index = Index(array.column.name, True, element.parse)
    return tuple(Key(index, value) for value in dict.fromkeys(values))
