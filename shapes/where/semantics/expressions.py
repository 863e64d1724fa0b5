"""Typed expressions: what a where clause means.

`Slot` stands for a constant whose text is not known yet; binding replaces it by a `Constant`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from engine.postgres.table import Column
from shapes.where.semantics.casts import Cast
from shapes.where.semantics.routines import Routine
from shapes.where.semantics.types import BOOL, Type


@dataclass(frozen=True, slots=True)
class Constant:
    """A value, or NULL as None."""

    type: Type
    value: Hashable | None


@dataclass(frozen=True, slots=True)
class Slot:
    """The constant whose text has this number; `at` is where it stands."""

    type: Type
    number: int
    at: int
    negative: bool = False


@dataclass(frozen=True, slots=True)
class ColumnValue:
    type: Type
    column: Column


@dataclass(frozen=True, slots=True)
class Apply:
    """A routine applied to arguments: NULL if any of them is."""

    routine: Routine
    arguments: tuple[Expression, ...]
    at: int

    @property
    def type(self) -> Type:
        return self.routine.result


@dataclass(frozen=True, slots=True)
class Convert:
    """A type conversion; an explicit one is named in SQL even where it changes nothing."""

    cast: Cast
    argument: Expression
    at: int

    @property
    def type(self) -> Type:
        return self.cast.target


@dataclass(frozen=True, slots=True)
class _Boolean:
    @property
    def type(self) -> Type:
        return BOOL


@dataclass(frozen=True, slots=True)
class All(_Boolean):
    """`AND`, three-valued."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Either(_Boolean):
    """`OR`, three-valued."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Not(_Boolean):
    part: Expression


@dataclass(frozen=True, slots=True)
class Test(_Boolean):
    """`IS NULL`, `IS TRUE`, `IS FALSE` or `IS UNKNOWN`, by the word; never NULL itself."""

    argument: Expression
    word: str
    negated: bool


@dataclass(frozen=True, slots=True)
class Distinct(_Boolean):
    """`IS [NOT] DISTINCT FROM`, never NULL. `routine` is the equality of the two."""

    routine: Routine
    left: Expression
    right: Expression
    negated: bool


@dataclass(frozen=True, slots=True)
class Quantified(_Boolean):
    """`left op ANY (array)`, or `ALL` if `every`."""

    routine: Routine
    left: Expression
    array: Expression
    every: bool
    at: int


@dataclass(frozen=True, slots=True)
class Elements:
    """`ARRAY[…]` of elements of one scalar type."""

    type: Type
    items: tuple[Expression, ...]
    at: int


@dataclass(frozen=True, slots=True)
class Collated:
    """`argument COLLATE "…"`: the value itself, compared another way."""

    argument: Expression
    collation: str

    @property
    def type(self) -> Type:
        return self.argument.type


@dataclass(frozen=True, slots=True)
class Choice:
    """`COALESCE`, `GREATEST` or `LEAST` by the word, of items of one type. `routine` is the `<` of
    the latter two."""

    type: Type
    word: str
    items: tuple[Expression, ...]
    routine: Routine | None = None


@dataclass(frozen=True, slots=True)
class NullIf:
    """`NULLIF(left, right)`. `routine` is the equality of the two."""

    type: Type
    routine: Routine
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Case:
    """`CASE WHEN condition THEN result … ELSE otherwise END`, with the two as pairs."""

    type: Type
    branches: tuple[tuple[Expression, Expression], ...]
    otherwise: Expression


Expression: TypeAlias = (
    Constant
    | Slot
    | ColumnValue
    | Apply
    | Convert
    | All
    | Either
    | Not
    | Test
    | Distinct
    | Quantified
    | Elements
    | Collated
    | Choice
    | NullIf
    | Case
)


def uncollated(expression: Expression) -> Expression:
    """The expression below COLLATE, which changes no value."""
    while isinstance(expression, Collated):
        expression = expression.argument
    return expression


def columns_in(expression: Expression) -> Iterator[ColumnValue]:
    """Every reference to a column within an expression, as often as it occurs."""
    if isinstance(expression, ColumnValue):
        yield expression
    for part in parts_of(expression):
        yield from columns_in(part)


def parts_of(expression: Expression) -> tuple[Expression, ...]:
    """The expressions directly below one."""
    match expression:
        case Apply():
            return expression.arguments
        case All() | Either():
            return expression.parts
        case Not():
            return (expression.part,)
        case Convert() | Test() | Collated():
            return (expression.argument,)
        case Distinct() | NullIf():
            return (expression.left, expression.right)
        case Quantified():
            return (expression.left, expression.array)
        case Elements() | Choice():
            return expression.items
        case Case():
            parts = [part for branch in expression.branches for part in branch]
            return (*parts, expression.otherwise)
        case _:
            return ()


def weight_of(expression: Expression) -> int:
    """How many expressions it consists of that are no constants: what there is to compute."""
    constant = isinstance(expression, Constant | Slot)
    return 0 if constant else 1 + sum(map(weight_of, parts_of(expression)))


def size_of(expression: Expression) -> int:
    """How many expressions it consists of."""
    return 1 + sum(map(size_of, parts_of(expression)))
