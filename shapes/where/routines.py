"""Operators and functions: a table that grows by one entry per signature.

An entry says what the operator takes and returns and how it is computed from non-NULL values. The
parser, the type check and the evaluator read this table and know no operator by name, except that
`=` makes `IN`, `IS DISTINCT FROM` and index keys, and that ranges are made of `<=` and `>=`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from shapes.where.arrays import ArrayValue
from shapes.where.numbers import (
    INT2_RANGE,
    INT4_RANGE,
    INT8_RANGE,
    Float,
    NotANumber,
    Numeric,
    in_range,
)
from shapes.where.patterns import ilike, like, matcher
from shapes.where.types import (
    BOOL,
    BPCHAR,
    DATE,
    FLOAT4,
    FLOAT8,
    INT2,
    INT4,
    INT8,
    INTERVAL,
    NAME,
    NUMERIC,
    TEXT,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    UUID,
    Type,
)


@dataclass(frozen=True, slots=True, eq=False)
class Routine:
    """An operator or a function for certain argument types.

    `apply` gets non-NULL values; it raises ValueError where Postgres raises an error, then
    `fallible` is set. `code` is the same as a Python expression of the arguments, where there is
    one. `with_constant` makes a faster function of the first argument from a constant second one.
    `collation` says what the collation of its texts must be: `""` for any, `equality` for one in
    which only equal bytes are equal, `order` for bytewise, `ascii` for the C locale. `refused` is
    the reason why this signature, which Postgres has, cannot be evaluated.
    """

    name: str
    parameters: tuple[Type, ...]
    result: Type
    apply: Callable[..., Any]
    code: str | None = None
    fallible: bool = False
    with_constant: Callable[[Any], Callable[[Any], bool]] | None = None
    collation: str = ""
    refused: str = ""
    operator: bool = True


_COMPARISONS: Final = {
    "=": (operator.eq, "=="),
    "<>": (operator.ne, "!="),
    "<": (operator.lt, "<"),
    "<=": (operator.le, "<="),
    ">": (operator.gt, ">"),
    ">=": (operator.ge, ">="),
}
_FAMILIES: Final = (
    (BOOL,),
    (INT2, INT4, INT8),
    (NUMERIC,),
    (FLOAT4, FLOAT8),
    (TEXT, NAME),
    (BPCHAR,),
    (UUID,),
    (DATE, TIMESTAMP, TIMESTAMPTZ),
    (TIME,),
    (INTERVAL,),
)
"""Types whose values compare with each other as they are."""


def _comparison(name: str, left: Type, right: Type) -> Routine:
    apply, symbol = _COMPARISONS[name]
    collation = ""
    if left.category == "S":
        collation = "equality" if name in ("=", "<>") else "order"
    return Routine(name, (left, right), BOOL, apply, f"({{0}} {symbol} {{1}})", collation=collation)


def _patterns() -> list[Routine]:
    found: list[Routine] = []
    for left in (TEXT, NAME, BPCHAR):
        # Postgres matches char(n) with its padding, which values here are without.
        refused = "cast char(n) to text to match it with a pattern" if left is BPCHAR else ""
        for name, match, fold in (("~~", like, False), ("~~*", ilike, True)):
            collation = "ascii" if fold else "equality"
            found += [
                _pattern(name, left, match, fold, collation, refused, negated=False),
                _pattern("!" + name, left, match, fold, collation, refused, negated=True),
            ]
    return found


def _pattern(
    name: str,
    left: Type,
    match: Callable[[str, str], bool],
    fold: bool,
    collation: str,
    refused: str,
    *,
    negated: bool,
) -> Routine:
    def apply(text: str, pattern: str) -> bool:
        return match(text, pattern) is not negated

    def with_constant(pattern: str) -> Callable[[str], bool]:
        return matcher(pattern, fold=fold, negated=negated)

    return Routine(
        name,
        (left, TEXT),
        BOOL,
        apply,
        fallible=True,
        with_constant=with_constant,
        collation=collation,
        refused=refused,
    )


# -- signs -----------------------------------------------------------------------------------------


def _same(value: Hashable) -> Hashable:
    return value


def _negative_integer(limits: range) -> Callable[[int], int]:
    return lambda value: in_range(-value, limits)


def _negative_float(value: Float) -> Float:
    return value if isinstance(value, NotANumber) else -value


def _negative_numeric(value: Numeric) -> Numeric:
    # Python's own sign would round to the context's digits, and make a negative zero.
    return value if isinstance(value, NotANumber) or not value else value.copy_negate()


_NEGATIVE: Final[dict[Type, Callable[[Any], Hashable]]] = {
    INT2: _negative_integer(INT2_RANGE),
    INT4: _negative_integer(INT4_RANGE),
    INT8: _negative_integer(INT8_RANGE),
    NUMERIC: _negative_numeric,
    FLOAT4: _negative_float,
    FLOAT8: _negative_float,
}


def _signs() -> list[Routine]:
    found: list[Routine] = []
    for one, negative in _NEGATIVE.items():
        found.append(Routine("+", (one,), one, _same, "{0}"))
        found.append(Routine("-", (one,), one, negative, fallible=True))
    return found


# -- arrays ----------------------------------------------------------------------------------------


def _contains(left: ArrayValue, right: ArrayValue) -> bool:
    return None not in right[1] and set(right[1]) <= set(left[1])


def _contained(left: ArrayValue, right: ArrayValue) -> bool:
    return _contains(right, left)


def _overlaps(left: ArrayValue, right: ArrayValue) -> bool:
    return not (set(left[1]) - {None}).isdisjoint(right[1])


def _contains_constant(right: ArrayValue) -> Callable[[ArrayValue], bool]:
    wanted = frozenset(right[1])
    if None in wanted:
        return lambda left: False
    if len(wanted) == 1:
        (only,) = wanted
        return lambda left: only in left[1]
    return lambda left: wanted.issubset(left[1])


def _contained_constant(right: ArrayValue) -> Callable[[ArrayValue], bool]:
    allowed = frozenset(right[1]) - {None}
    return lambda left: allowed.issuperset(left[1])


def _overlaps_constant(right: ArrayValue) -> Callable[[ArrayValue], bool]:
    wanted = frozenset(right[1]) - {None}
    return lambda left: not wanted.isdisjoint(left[1])


@cache
def array_routines(array: Type) -> dict[str, Routine]:
    """The operators between two arrays of one type."""
    element = array.element
    if element is None or equality(element) is None:
        return {}
    both = (array, array)
    collation = "equality" if element.category == "S" else ""
    found = (
        Routine("=", both, BOOL, operator.eq, "({0} == {1})", collation=collation),
        Routine("<>", both, BOOL, operator.ne, "({0} != {1})", collation=collation),
        Routine("@>", both, BOOL, _contains, with_constant=_contains_constant, collation=collation),
        Routine(
            "<@", both, BOOL, _contained, with_constant=_contained_constant, collation=collation
        ),
        Routine("&&", both, BOOL, _overlaps, with_constant=_overlaps_constant, collation=collation),
    )
    return {one.name: one for one in found}


@cache
def enum_routines(enum: Type) -> dict[str, Routine]:
    """Two values of one enum type are equal or not; their order is not known here."""
    found = (
        Routine("=", (enum, enum), BOOL, operator.eq, "({0} == {1})"),
        Routine("<>", (enum, enum), BOOL, operator.ne, "({0} != {1})"),
    )
    return {one.name: one for one in found}


# -- functions -------------------------------------------------------------------------------------

_FUNCTIONS: Final = (
    Routine("length", (TEXT,), INT4, len, "len({0})", operator=False),
    Routine("length", (BPCHAR,), INT4, len, "len({0})", operator=False),
    Routine("char_length", (TEXT,), INT4, len, "len({0})", operator=False),
    Routine("char_length", (BPCHAR,), INT4, len, "len({0})", operator=False),
    Routine("character_length", (TEXT,), INT4, len, "len({0})", operator=False),
    Routine("character_length", (BPCHAR,), INT4, len, "len({0})", operator=False),
)

_OPERATORS: Final = (
    *(
        _comparison(name, left, right)
        for family in _FAMILIES
        for left in family
        for right in family
        for name in _COMPARISONS
    ),
    *_patterns(),
    *_signs(),
)

_TABLE: dict[tuple[str, int, bool], list[Routine]] = {}
for _routine in (*_OPERATORS, *_FUNCTIONS):
    _key = (_routine.name, len(_routine.parameters), _routine.operator)
    _TABLE.setdefault(_key, []).append(_routine)

_ARRAY_OPERATORS = frozenset(("=", "<>", "@>", "<@", "&&"))


def signatures(name: str, arguments: int, *, operator: bool) -> list[Routine]:
    """All routines of a name with so many arguments, but for those of arrays and enums."""
    return _TABLE.get((name, arguments, operator), [])


def is_known(name: str, arguments: int, *, operator: bool) -> bool:
    return (name, arguments, operator) in _TABLE or (
        operator and arguments == 2 and name in _ARRAY_OPERATORS
    )


def equality(type_: Type) -> Routine | None:
    """`=` between two values of a type."""
    if type_.category == "E":
        return enum_routines(type_)["="]
    if type_.element is not None:
        return array_routines(type_).get("=")
    type_ = TEXT if type_.category == "S" and type_ is not BPCHAR else type_
    found = (one for one in signatures("=", 2, operator=True) if one.parameters == (type_, type_))
    return next(found, None)
