"""By which collation an expression's texts compare, as Postgres derives it.

An explicit COLLATE wins; otherwise columns with a collation of their own must agree; the database's
default gives way to any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from shapes.where.expressions import (
    Apply,
    Collated,
    ColumnValue,
    Convert,
    Elements,
    Expression,
)
from shapes.where.routines import Routine
from shapes.where.types import NAME

DEFAULT: Final = "default"

BYTEWISE: Final = frozenset(("C", "POSIX", "ucs_basic"))
"""Collations in which strings sort by their UTF-8 bytes, on every server."""

_ASCII: Final = frozenset(("C", "POSIX"))
"""Collations in which only ASCII letters have a case."""


class Collation(NamedTuple):
    """`strength`: 0 for none, 1 for a column's or a type's own, 2 for an explicit one."""

    strength: int
    name: str
    deterministic: bool = True
    bytewise: bool = False


_NONE = Collation(0, DEFAULT)
_NAME = Collation(1, "C", bytewise=True)
_CONFLICT = Collation(1, "", deterministic=False)


def collation_of(expression: Expression) -> Collation:
    if isinstance(expression, Collated):
        name = expression.collation
        return Collation(2, name, bytewise=name in BYTEWISE)
    if isinstance(expression, ColumnValue):
        column = expression.column
        name = column.collation or DEFAULT
        return Collation(1, name, column.deterministic, column.bytewise or name in BYTEWISE)
    if isinstance(expression, Convert):
        source = (expression.argument.type.element or expression.argument.type).category
        return collation_of(expression.argument) if source == "S" else Collation(1, DEFAULT)
    if isinstance(expression, Apply):
        return combine(expression.arguments)
    if isinstance(expression, Elements):
        return combine(expression.items)
    # The only type whose collation is not the database's.
    return _NAME if (expression.type.element or expression.type) is NAME else _NONE


def combine(expressions: Sequence[Expression]) -> Collation:
    """The collation that an operator gets from its arguments."""
    best = _NONE
    for expression in expressions:
        one = collation_of(expression)
        if one.strength > best.strength:
            best = one
        elif one.strength == best.strength and one.name != best.name and one.name != DEFAULT:
            best = one if best.name == DEFAULT else _CONFLICT
    return best


def objection(routine: Routine, arguments: Sequence[Expression]) -> str | None:
    """Why the routine cannot be evaluated for texts of these collations, if it cannot."""
    need = routine.collation
    if not need:
        return None
    collation = combine(arguments)
    if not collation.name:
        return (
            "could not determine which collation to use, because the two sides have different ones"
        )
    if not collation.deterministic:
        return f'texts of the nondeterministic collation "{collation.name}" cannot be compared here'
    if (need == "order" and not collation.bytewise) or (
        need == "ascii" and collation.name not in _ASCII
    ):
        what = "ILIKE" if need == "ascii" else f'"{routine.name}" between texts'
        return (
            f'{what} depends on the collation "{collation.name}", which only the database knows; '
            'add COLLATE "C" to the column'
        )
    return None
