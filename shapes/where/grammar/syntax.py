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
    """`ARRAY[…]`; items that are arrays, or brackets without the word, make it multidimensional."""

    items: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Call(Node):
    function: str
    arguments: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Collate(Node):
    operand: Tree
    collation: str


@dataclass(frozen=True, slots=True)
class Choice(Node):
    """`COALESCE`, `GREATEST` or `LEAST`, by the word in lower case."""

    word: str
    items: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class NullIf(Node):
    left: Tree
    right: Tree


@dataclass(frozen=True, slots=True)
class Case(Node):
    """`CASE [operand] WHEN … THEN … [ELSE otherwise] END`; `branches` are pairs of the two."""

    operand: Tree | None
    branches: tuple[tuple[Tree, Tree], ...]
    otherwise: Tree | None


@dataclass(frozen=True, slots=True)
class Subscript(Node):
    """`[index]`, or `[lower:upper]` if `slice`; `lower` is None in an index and where it is omitted."""

    lower: Tree | None
    upper: Tree | None
    slice: bool


@dataclass(frozen=True, slots=True)
class Subscripts(Node):
    """`array[…]`, with one subscript or several; `at` is the first bracket."""

    operand: Tree
    items: tuple[Subscript, ...]


@dataclass(frozen=True, slots=True)
class Row(Node):
    """`(a, b)` or `ROW(a, b)`."""

    items: tuple[Tree, ...]


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
    | Choice
    | NullIf
    | Case
    | Subscripts
    | Row
)
