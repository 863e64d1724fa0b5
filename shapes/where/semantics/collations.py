"""By which collation an expression's texts compare, as Postgres derives it.

An explicit COLLATE wins; otherwise columns with a collation of their own must agree; the database's
default gives way to any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from shapes.where.errors import MissingLettersError, WhereError
from shapes.where.semantics.expressions import (
    Case,
    Collated,
    ColumnValue,
    Constant,
    Expression,
    Slot,
    parts_of,
)
from shapes.where.semantics.routine import Routine
from shapes.where.semantics.types import NAME
from shapes.where.values import letters
from shapes.where.values.letters import Letters

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
    type_ = expression.type.element or expression.type
    if type_.category != "S":
        return _NONE
    if isinstance(expression, Collated):
        name = expression.collation
        return Collation(2, name, bytewise=name in BYTEWISE)
    if isinstance(expression, ColumnValue):
        column = expression.column
        name = column.collation or DEFAULT
        return Collation(1, name, column.deterministic, column.bytewise or name in BYTEWISE)
    # The only type whose collation is not the database's.
    own = _NAME if type_ is NAME else _NONE
    if isinstance(expression, Constant | Slot):
        return own
    found = combine(_deciding(expression))
    return found if found.strength else own._replace(strength=1)


def _deciding(expression: Expression) -> Sequence[Expression]:
    """The parts that an expression has its collation from."""
    if isinstance(expression, Case):
        return [*(result for _, result in expression.branches), expression.otherwise]
    return parts_of(expression)


def combine(expressions: Sequence[Expression]) -> Collation:
    """The collation that an operator gets from its arguments."""
    best = _NONE
    for expression in expressions:
        one = collation_of(expression)
        if one.strength > best.strength:
            best = one
        elif one.strength == best.strength and one.name != best.name and one.name != DEFAULT:
            best = one if best.name == DEFAULT else _CONFLICT
        elif one.name == best.name and one.bytewise:
            best = best._replace(bytewise=True)
    return best


def objection(routine: Routine, collation: Collation) -> str | None:
    """Why the routine cannot be evaluated for texts of this collation, if it cannot."""
    if not routine.collation:
        return None
    if not collation.name:
        return (
            "could not determine which collation to use, because the two sides have different ones"
        )
    if not collation.deterministic:
        return f'texts of the nondeterministic collation "{collation.name}" cannot be compared here'
    if routine.collation == "order" and not collation.bytewise:
        return (
            f'"{routine.name}" between texts depends on the collation "{collation.name}", which '
            'only the database knows; add COLLATE "C" to the column'
        )
    return None


def letters_of(collation: Collation, known: Mapping[str, Letters | str], at: int) -> Letters:
    """The upper and lower case of a collation. Raises WhereError if these are not to be had."""
    if collation.name in _ASCII:
        return letters.ASCII
    found = known.get(collation.name)
    if found is None:
        raise MissingLettersError(collation.name, at)
    if isinstance(found, str):
        raise WhereError(found, at)
    return found
