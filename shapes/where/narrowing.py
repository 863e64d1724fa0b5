"""A filter within a filter: what somebody asks for, of the rows that they may see."""

from __future__ import annotations

from shapes.where.condition import MOST_EXPRESSIONS, Condition, Template
from shapes.where.errors import WhereError
from shapes.where.semantics.binding import FALSE
from shapes.where.semantics.expressions import (
    All,
    Apply,
    Case,
    Collated,
    ColumnValue,
    Constant,
    Distinct,
    Either,
    Expression,
    Not,
    Quantified,
    Test,
    parts_of,
    weight_of,
)
from shapes.where.semantics.types import BOOL

_COMPARISONS = frozenset(("=", "<>", "<", "<=", ">", ">="))
_HARMLESS = (All, Collated, ColumnValue, Constant, Distinct, Either, Not, Test)


def narrowed(limit: Condition, asked: Condition) -> Condition:
    """The rows of `limit` that are `asked` for; both are of the same table.

    Postgres evaluates the parts of AND in any order. An error of `asked` for a row beyond the limit
    would tell of that row, so a filter that may fail is looked at within the limit alone.
    Raises WhereError if both are too much together.
    """
    within = asked.expression
    if not _harmless(within):
        within = Case(BOOL, ((limit.expression, within),), FALSE)
    expression = All((limit.expression, within))
    if weight_of(expression) > MOST_EXPRESSIONS:
        raise WhereError("the expression is too complex; compare with fewer columns")
    columns = limit.columns | asked.columns
    template = limit.template
    return Condition(Template(template.table, template.letters, expression, columns, (), ()), ())


def guarded(limit: Condition, sql: str) -> str:
    """The same for SQL that Postgres alone evaluates."""
    return f"case when {limit.sql} then ({sql}) else false end"


def _harmless(expression: Expression) -> bool:
    """Whether it can be evaluated for every row without an error."""
    if isinstance(expression, Apply | Quantified):
        harmless = expression.routine.name in _COMPARISONS
    else:
        harmless = isinstance(expression, _HARMLESS)
    return harmless and all(map(_harmless, parts_of(expression)))
