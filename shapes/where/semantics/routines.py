"""Operators and functions: a table that grows by one entry per signature.

An entry says what the operator takes and returns and how it is computed from non-NULL values. The
parser, the type check and the evaluator read this table and know no operator by name, except that
`=` makes `IN`, `IS DISTINCT FROM` and index keys, and that ranges are made of `<=` and `>=`.
"""

from __future__ import annotations

import operator
from functools import cache, partial
from typing import Final

from shapes.where.semantics import numeric_routines, text_routines
from shapes.where.semantics.binary_routines import BINARY_ROUTINES
from shapes.where.semantics.json_routines import JSON_ROUTINES
from shapes.where.semantics.routine import Routine
from shapes.where.semantics.time_routines import TIME_ROUTINES
from shapes.where.semantics.types import (
    BOOL,
    BPCHAR,
    BYTEA,
    DATE,
    FLOAT4,
    FLOAT8,
    INT2,
    INT4,
    INT8,
    INTERVAL,
    MACADDR,
    NAME,
    NUMERIC,
    TEXT,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    TIMETZ,
    UUID,
    Type,
)
from shapes.where.values.enums import by_place, by_place_with

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
    (TIMETZ,),
    (INTERVAL,),
    (BYTEA,),
    (MACADDR,),
)
"""Types whose values compare with each other as they are."""


def _comparison(name: str, left: Type, right: Type) -> Routine:
    apply, symbol = _COMPARISONS[name]
    collation = ""
    if left.category == "S":
        collation = "equality" if name in ("=", "<>") else "order"
    return Routine(name, (left, right), BOOL, apply, f"({{0}} {symbol} {{1}})", collation=collation)


# -- enums -------------------------------------------------------------------------------------------


@cache
def enum_routines(enum: Type) -> dict[str, Routine]:
    """Two values of one enum type are equal if their labels are; these also have an order."""
    both = (enum, enum)
    found = {
        "=": Routine("=", both, BOOL, operator.eq, "({0} == {1})"),
        "<>": Routine("<>", both, BOOL, operator.ne, "({0} != {1})"),
    }
    for name in ("<", "<=", ">", ">="):
        apply, _ = _COMPARISONS[name]
        found[name] = Routine(
            name,
            both,
            BOOL,
            by_place(apply, enum.labels),
            with_constant=partial(by_place_with, apply, enum.labels),
        )
    return found


# -- the table -------------------------------------------------------------------------------------

_ROUTINES: Final = (
    *(
        _comparison(name, left, right)
        for family in _FAMILIES
        for left in family
        for right in family
        for name in _COMPARISONS
    ),
    *numeric_routines.ROUTINES,
    *JSON_ROUTINES,
    *TIME_ROUTINES,
    *BINARY_ROUTINES,
    *text_routines.ROUTINES,
)

_TABLE: dict[tuple[str, int, bool], list[Routine]] = {}
for _routine in _ROUTINES:
    _key = (_routine.name, len(_routine.parameters), _routine.operator)
    _TABLE.setdefault(_key, []).append(_routine)

_ARRAY_OPERATORS = frozenset(("=", "<>", "@>", "<@", "&&"))


def signatures(name: str, arguments: int, *, operator: bool) -> list[Routine]:
    """All routines of a name with so many arguments, but for those of arrays and enums."""
    return _TABLE.get((name, arguments, operator), [])


def is_listed(name: str, arguments: int, *, operator: bool) -> bool:
    return (name, arguments, operator) in _TABLE or (
        operator and arguments == 2 and name in _ARRAY_OPERATORS
    )
