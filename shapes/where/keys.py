"""How a condition can be found through an index, instead of by trying it on every change.

A key is a fact about a row: what an operand (a column, or an expression over columns) is, contains or
lies between. A plan is a set of keys of which at least one must hold of every row that the condition
is TRUE of; `shapes.where.plans` finds the plans of a condition.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, NamedTuple, TypeAlias

from shapes.where.semantics.expressions import Expression, columns_in


@dataclass(frozen=True, slots=True)
class Operand:
    """What a key speaks of: the column, or the expression that is `sql`.

    The text of a column stands for its value, or is made one by `parse`. `null`: not the value is
    meant but whether it is NULL. `fold`: what is done to a text before it is looked at.
    """

    column: str
    parse: Callable[[str], Hashable] | None = None
    null: bool = False
    sql: str = ""
    fold: Callable[[str], str] | None = None
    expression: Expression | None = field(default=None, compare=False)

    @property
    def columns(self) -> list[str]:
        """Names of the columns that it depends on."""
        if self.expression is None:
            return [self.column]
        return [one.column.name for one in columns_in(self.expression)]


class Kind(Enum):
    """What the keys of an index say of its operands."""

    VALUE = "the operands have these values"
    ELEMENT = "the array has this element"
    SPAN = "the value lies in this span"
    PREFIX = "the text begins so"
    PART = "the text contains this"


class Index(NamedTuple):
    """Keys of one kind about the same operands, of which only VALUE has several."""

    kind: Kind
    operands: tuple[Operand, ...]


Bound: TypeAlias = tuple[Any, int] | tuple[()]


class Span(NamedTuple):
    """All values x with `low <= (x, 0) <= high`: a bound that excludes its value has a 1, or as the
    high one a -1, beside it. `()` and None stand for no bound."""

    low: Bound
    high: tuple[Any, int] | None

    @property
    def empty(self) -> bool:
        return self.high is not None and self.high < self.low

    def __and__(self, other: Span) -> Span:
        """The values that lie in both."""
        low = max(self.low, other.low)
        if self.high is None or other.high is None:
            return Span(low, other.high if self.high is None else self.high)
        return Span(low, min(self.high, other.high))


class Key(NamedTuple):
    """`value` is a Span if the index is of spans, a tuple if it has several operands."""

    index: Index
    value: Hashable


class Plan(NamedTuple):
    """`exact`: the condition is TRUE of every row of which one of the keys holds."""

    keys: tuple[Key, ...]
    exact: bool

    @property
    def safe(self) -> bool:
        """Whether none of its keys is about an expression, whose evaluation may fail."""
        return all(not one.sql for key in self.keys for one in key.index.operands)


NEVER: Final = Plan((), True)

LONGEST_PREFIX: Final = 24
PART_LENGTH: Final = 4
"""Longer prefixes and parts are cut to these lengths, which bounds what a row has of them."""
