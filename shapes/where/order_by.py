"""The order of a subset: its own small language, rebuilt from what was parsed.

Columns, constants, ASC or DESC, NULLS FIRST or LAST. A whole number means the column at that place
of the answer, as in any query; Postgres orders by no other constant.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from engine.postgres.sql_text import quote_ident
from engine.postgres.table import Column
from shapes.where.errors import SYNTAX_LOCATION_BASE, WhereError, WhereSyntaxError
from shapes.where.grammar import syntax
from shapes.where.grammar.keywords import CLAUSES
from shapes.where.grammar.lexer import END, tokenize
from shapes.where.grammar.parser import Parser
from shapes.where.grammar.syntax import Tree
from shapes.where.grammar.tokens import Cursor

ORDER_LOCATION_BASE: Final = 18
"""All locations count from the start of `SELECT 1 ORDER BY `."""

_UNSORTED: Final = frozenset(
    "json xml point line lseg path box polygon circle xid cid aclitem jsonpath".split()  # noqa: SIM905
)
"""Types whose values Postgres cannot sort."""

_NODES: Final[dict[type[syntax.Node], str]] = {
    syntax.Operation: "A_Expr",
    syntax.IsDistinct: "A_Expr",
    syntax.Membership: "A_Expr",
    syntax.Range: "A_Expr",
    syntax.Quantified: "A_Expr",
    syntax.Junction: "BoolExpr",
    syntax.Negation: "BoolExpr",
    syntax.Cast: "TypeCast",
    syntax.Collate: "CollateClause",
    syntax.Array: "A_ArrayExpr",
    syntax.NullIf: "A_Expr",
    syntax.Case: "CaseExpr",
    syntax.Row: "RowExpr",
}
_CHOICES: Final = {"coalesce": "CoalesceExpr", "greatest": "MinMaxExpr", "least": "MinMaxExpr"}
_REFUSALS: Final = (
    (re.compile(r"([A-Z]\w+) is not supported in this context"), r"\1"),
    (re.compile(r".*(?:SELECT|[Ss]ubquer).*"), "SubLink"),
    (re.compile(r".*(?:aggregation|function).*"), "FuncCall"),
    (re.compile(r".*:AEXPR_.*"), "A_Expr"),
)
"""What the parser of filters says of constructs that it knows and refuses, and their nodes."""


def parse_order_by(text: str, columns: Sequence[Column]) -> str:
    """The canonical SQL behind `ORDER BY`, which names no other columns. Raises WhereError.

    `columns` are those that may be named, in the order of the answer.
    """
    try:
        return _OrderBy(text, columns).parse()
    except WhereError as error:
        if error.location is None:
            raise
        base = SYNTAX_LOCATION_BASE if isinstance(error, WhereSyntaxError) else 0
        moved = error.location - base + ORDER_LOCATION_BASE
        raise WhereError(error.message, moved) from None


class _OrderBy:
    def __init__(self, text: str, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._tokens = tokenize(text)
        self._parser = Parser(text, self._tokens)

    @property
    def _cursor(self) -> Cursor:
        return self._parser.cursor

    def parse(self) -> str:
        items = [self._item()]
        while self._cursor.take_mark(","):
            items.append(self._item())
        if self._cursor.is_mark(";"):
            raise WhereError("Unexpected `;` in order by")
        if self._cursor.is_word(*CLAUSES):
            raise WhereError("malformed query ending with SQL clauses")
        if self._cursor.token.kind != END:
            raise self._cursor.error()
        return ", ".join(items)

    def _item(self) -> str:
        column = self._column(self._expression())
        cursor = self._cursor
        if cursor.is_word("using"):
            raise WhereError("USING is not supported in ORDER BY clauses", cursor.token.start)
        descending = cursor.take_word("desc")
        if not descending:
            cursor.take_word("asc")
        nulls = "FIRST" if descending else "LAST"
        if cursor.take_word("nulls"):
            if not cursor.is_word("first", "last"):
                raise cursor.error()
            nulls = cursor.next().value.upper()
        direction = "DESC" if descending else "ASC"
        return f"{quote_ident(column.name)} {direction} NULLS {nulls}"

    def _expression(self) -> Tree:
        at = self._cursor.token.start
        try:
            return self._parser.expression()
        except WhereSyntaxError:
            raise
        except WhereError as error:
            # What no filter may contain is not allowed here either.
            for pattern, node in _REFUSALS:
                found = pattern.fullmatch(error.message)
                if found is not None:
                    at = at if error.location is None else error.location
                    raise _refusal(found.expand(node), at) from None
            raise

    def _column(self, tree: Tree) -> Column:
        match tree:
            case syntax.Reference():
                return self._named(tree)
            case syntax.Number():
                return self._numbered(tree)
            case syntax.Text() | syntax.Boolean() | syntax.Null():
                raise WhereError("non-integer constant in ORDER BY", tree.at)
            case syntax.Parameter():
                message = f"parameter ${tree.number} is not supported in ORDER BY clauses"
                raise WhereError(message, tree.at)
            case _:
                raise _refusal(_node(tree), tree.at)

    def _named(self, tree: syntax.Reference) -> Column:
        found = [one for one in self._columns if (one.name,) == tree.parts]
        if not found:
            raise WhereError(f"unknown reference {'.'.join(tree.parts)}", tree.at)
        return self._sortable(found[0], tree.at)

    def _numbered(self, tree: syntax.Number) -> Column:
        text = self._tokens[self._parser.slots[tree.slot]].value
        if tree.type != "int4":
            raise WhereError("non-integer constant in ORDER BY", tree.at)
        place = -int(text) if tree.negative else int(text)
        if not 1 <= place <= len(self._columns):
            raise WhereError(f"ORDER BY position {place} is not in select list", tree.at)
        return self._sortable(self._columns[place - 1], tree.at)

    def _sortable(self, column: Column, at: int) -> Column:
        if (column.base or column.type) in _UNSORTED:
            message = f"could not identify an ordering operator for type {column.type}"
            raise WhereError(message, at)
        return column


def _node(tree: Tree) -> str:
    """What Postgres's parser calls an expression."""
    match tree:
        case syntax.Call():
            return "FuncCall"
        case syntax.Choice():
            return _CHOICES[tree.word]
        case syntax.IsTest():
            return "NullTest" if tree.word == "null" else "BooleanTest"
        case _:
            return _NODES.get(type(tree), "A_Indirection")


def _refusal(node: str, at: int) -> WhereError:
    return WhereError(f"{node} expressions are not allowed in ORDER BY clauses", at)
