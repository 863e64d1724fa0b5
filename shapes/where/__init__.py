"""Where clauses: parsed, checked against a table, evaluated exactly as Postgres would.

The way of a clause: `lexer` → `parser` → `checker` (names, types, operators) → `binding`
(constants) → `rendering` (SQL), `compiler` (a Python function), `keys` (how to index it). What
cannot be evaluated exactly as Postgres does it is refused. The language grows by entries in the
tables of `types`, `casts` and `routines`.
"""

from shapes.where.condition import Condition, parse_where
from shapes.where.errors import UnchangedValueError, WhereError, WhereSyntaxError
from shapes.where.keys import Index, Key, Plan
from shapes.where.rows import UNCHANGED, Predicate, Row

__all__ = [
    "UNCHANGED",
    "Condition",
    "Index",
    "Key",
    "Plan",
    "Predicate",
    "Row",
    "UnchangedValueError",
    "WhereError",
    "WhereSyntaxError",
    "parse_where",
]
