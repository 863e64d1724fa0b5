"""Where clauses: parsed, checked against a table, evaluated exactly as Postgres would.

The way of a clause: `grammar` (text to tree) → `semantics` (names, types, operators, constants) →
`rendering` (SQL), `compiler` (a Python function over `values`), `plans` (how to index it). What
cannot be evaluated exactly as Postgres does it is refused. The language grows by entries in the
tables of `semantics.types`, `semantics.casts` and `semantics.routines`.
"""

from shapes.where.compiler import compile_value
from shapes.where.condition import Condition, parse_subset_where, parse_where
from shapes.where.errors import (
    EnumLabelError,
    EvaluationError,
    MissingLettersError,
    MissingZoneError,
    SubqueryError,
    UnchangedValueError,
    WhereError,
    WhereSyntaxError,
)
from shapes.where.keys import Index, Key, Kind, Operand, Plan, Span
from shapes.where.narrowing import guarded, narrowed
from shapes.where.order_by import parse_order_by
from shapes.where.rows import UNCHANGED, Predicate, Row
from shapes.where.values.letters import Letters, make_letters
from shapes.where.values.zones import Zone, learn_zone

__all__ = [
    "UNCHANGED",
    "Condition",
    "EnumLabelError",
    "EvaluationError",
    "Index",
    "Key",
    "Kind",
    "Letters",
    "MissingLettersError",
    "MissingZoneError",
    "Operand",
    "Plan",
    "Predicate",
    "Row",
    "Span",
    "SubqueryError",
    "UnchangedValueError",
    "WhereError",
    "WhereSyntaxError",
    "Zone",
    "compile_value",
    "guarded",
    "learn_zone",
    "make_letters",
    "narrowed",
    "parse_order_by",
    "parse_subset_where",
    "parse_where",
]
