"""The syntax tree of a where clause, before names and types are known.

`at` is a character index in the text. The values of strings, numbers and parameters are not in the
tree but in slots, so that texts which differ only in these have equal trees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Node:
    at: int


@dataclass(frozen=True, slots=True)
class Text(Node):
    """A string constant; its type comes from where it stands."""

    slot: int


@dataclass(frozen=True, slots=True)
class Number(Node):
    """A number: `type` is int4, int8 or numeric, by its size and form."""

    slot: int
    type: str
    negative: bool


@dataclass(frozen=True, slots=True)
class Parameter(Node):
    number: int


@dataclass(frozen=True, slots=True)
class Boolean(Node):
    value: bool


@dataclass(frozen=True, slots=True)
class Null(Node):
    pass


@dataclass(frozen=True, slots=True)
class Reference(Node):
    """A column, by the parts of its name as they were written."""

    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Junction(Node):
    """`AND` or `OR` of two or more."""

    word: str
    parts: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Negation(Node):
    part: Tree


@dataclass(frozen=True, slots=True)
class Operation(Node):
    """A unary (prefix) or binary operator."""

    operator: str
    operands: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class IsTest(Node):
    """`IS [NOT] NULL|TRUE|FALSE|UNKNOWN`."""

    operand: Tree
    word: str
    negated: bool


@dataclass(frozen=True, slots=True)
class IsDistinct(Node):
    left: Tree
    right: Tree
    negated: bool


@dataclass(frozen=True, slots=True)
class Membership(Node):
    """`x [NOT] IN (…)`."""

    operand: Tree
    items: tuple[Tree, ...]
    negated: bool


@dataclass(frozen=True, slots=True)
class Range(Node):
    """`x [NOT] BETWEEN [SYMMETRIC] low AND high`."""

    operand: Tree
    low: Tree
    high: Tree
    negated: bool
    symmetric: bool


@dataclass(frozen=True, slots=True)
class Quantified(Node):
    """`x op ANY|ALL (array)`."""

    operator: str
    operand: Tree
    array: Tree
    every: bool


@dataclass(frozen=True, slots=True)
class Cast(Node):
    """`x::type`. `type` is the written name; `array` whether `[]` follows it."""

    operand: Tree
    type: str
    array: bool


@dataclass(frozen=True, slots=True)
class Array(Node):
    """`ARRAY[…]`."""

    items: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Call(Node):
    function: str
    arguments: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Collate(Node):
    operand: Tree
    collation: str


Tree: TypeAlias = (
    Text
    | Number
    | Parameter
    | Boolean
    | Null
    | Reference
    | Junction
    | Negation
    | Operation
    | IsTest
    | IsDistinct
    | Membership
    | Range
    | Quantified
    | Cast
    | Array
    | Call
    | Collate
)
