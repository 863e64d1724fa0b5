"""From tokens to the syntax tree: Postgres's grammar of expressions, as far as it is supported.

Operator precedence is Postgres's own (its manual, "Operator Precedence"). Parsing climbs by
precedence: `_climb(n)` reads an expression whose operators all bind at least as tightly as n.
"""

from __future__ import annotations

from typing import Final

from shapes.where.errors import SubqueryError, WhereError, unsupported
from shapes.where.grammar import syntax
from shapes.where.grammar.keywords import CLAUSES
from shapes.where.grammar.lexer import END, MARK, NAME, NUMBER, OPERATOR, WORD, Token
from shapes.where.grammar.operands import MAX_DEPTH, QUERIES, Operands, number_type
from shapes.where.grammar.syntax import Tree

__all__ = ["MAX_DEPTH", "Parser", "number_type"]

OR, AND, NOT, IS, COMPARE, RANGE, OTHER, ADD, MULTIPLY, POWER, ZONE, COLLATE, SIGN, CAST = range(14)

_OPERATORS: Final = {
    **dict.fromkeys(("=", "<>", "<", "<=", ">", ">="), COMPARE),
    **dict.fromkeys(("+", "-"), ADD),
    **dict.fromkeys(("*", "/", "%"), MULTIPLY),
    "^": POWER,
}
_PATTERNS: Final = {"like": "~~", "ilike": "~~*"}
_NEGATABLE: Final = frozenset(("in", "between", "like", "ilike", "similar"))
_NOT_CHAINED: Final = frozenset((IS, COMPARE, RANGE))
_CLOSED: Final = (syntax.IsTest, syntax.Membership, syntax.Quantified)
"""What ends with a word or a parenthesis of its own: another operator of its level may follow."""


class Parser(Operands):
    """Parses one where clause."""

    def parse(self) -> Tree:
        tree = self.expression()
        token = self._cursor.token
        if token.kind == END:
            return tree
        if token.value == ";" and self._cursor.is_mark(";"):
            raise WhereError('unescaped ";" causing statement split')
        if self._cursor.is_word(*CLAUSES):
            raise WhereError("malformed query ending with SQL clauses")
        raise self._cursor.error()

    def expression(self) -> Tree:
        return self._climb(OR)

    def basic_expression(self) -> Tree:
        basic, self._basic = self._basic, True
        tree = self._climb(IS)
        self._basic = basic
        return tree

    def _climb(self, minimum: int) -> Tree:
        depth = self._depth
        self._deeper()
        left = self._prefix()
        forbidden = -1
        while True:
            level = self._level()
            if level < minimum:
                break
            if level == forbidden:
                raise self._cursor.error()
            if level not in (OR, AND):
                self._deeper()
            left = self._infix(left, level)
            chained = level not in _NOT_CHAINED or isinstance(left, _CLOSED)
            forbidden = -1 if chained else level
        self._depth = depth
        return left

    def _level(self) -> int:
        """How tightly the operator at the cursor binds; -1 if there is none."""
        token = self._cursor.token
        if token.kind == OPERATOR:
            return _OPERATORS.get(token.value, OTHER)
        if token.kind == WORD:
            return self._word_level(token.value)
        return CAST if token.kind == MARK and token.value == "::" else -1

    def _word_level(self, word: str) -> int:
        following = self._cursor.peek()
        if self._basic:
            words = [self._cursor.peek(ahead).value for ahead in (1, 2)]
            distinct = word == "is" and "distinct" in (words[0], words[0] == "not" and words[1])
            return IS if distinct else -1
        if word == "not":
            negatable = following.kind == WORD and following.value in _NEGATABLE
            return RANGE if negatable else -1
        return _WORD_LEVELS.get(word, -1)

    # -- before an operand -------------------------------------------------------------------------

    def _prefix(self) -> Tree:
        token = self._cursor.token
        if token.kind == OPERATOR and _OPERATORS.get(token.value, OTHER) in (OTHER, ADD):
            return self._signed(self._cursor.next())
        if token.kind == WORD and token.value == "not" and not self._basic:
            return self._negation(self._cursor.next())
        return self._operand()

    def _signed(self, token: Token) -> Tree:
        following = self._cursor.token
        if token.value == "-" and following.kind == NUMBER and self._cursor.peek().value != "::":
            return self._number(self._cursor.next(), token.start, negative=True)
        level = SIGN if token.value in ("+", "-") else OTHER + 1
        return syntax.Operation(token.start, token.value, (self._climb(level),))

    def _negation(self, token: Token) -> Tree:
        return syntax.Negation(token.start, self._climb(NOT))

    # -- between operands --------------------------------------------------------------------------

    def _infix(self, left: Tree, level: int) -> Tree:
        cursor = self._cursor
        token = cursor.next()
        if level in (OR, AND):
            return self._junction(left, token, level)
        if level == IS:
            return self._is(left, token)
        if level == CAST:
            name, array = cursor.type_name()
            return syntax.Cast(token.start, left, name, array)
        if level == COLLATE:
            return self._collate(left, token)
        if level == ZONE:
            return self._zone(left, token)
        if token.kind == WORD:
            return self._range(left, token)
        return self._operation(left, token.value, token.start, level)

    def _junction(self, left: Tree, token: Token, level: int) -> Tree:
        """A chain of one of AND and OR, as one node however long it is."""
        parts = [left, self._climb(level + 1)]
        while self._cursor.take_word(token.value):
            parts.append(self._climb(level + 1))
        return syntax.Junction(token.start, token.value, tuple(parts))

    def _operation(self, left: Tree, operator: str, at: int, level: int) -> Tree:
        if self._cursor.is_word("any", "some", "all") and not self._basic:
            return self._quantified(left, operator, at)
        return syntax.Operation(at, operator, (left, self._climb(level + 1)))

    def _quantified(self, left: Tree, operator: str, at: int) -> Tree:
        every = self._cursor.next().value == "all"
        self._cursor.expect_mark("(")
        self._refuse_query(at)
        array = self._inner()
        self._cursor.expect_mark(")")
        return syntax.Quantified(at, operator, left, array, every)

    def _is(self, left: Tree, token: Token) -> Tree:
        if token.value in ("isnull", "notnull"):
            return syntax.IsTest(token.start, left, "null", token.value == "notnull")
        cursor = self._cursor
        negated = cursor.take_word("not")
        if cursor.take_word("distinct"):
            cursor.expect_word("from")
            return syntax.IsDistinct(token.start, left, self._climb(IS + 1), negated)
        if cursor.is_word(*_OTHER_TESTS):
            raise unsupported(_OTHER_TESTS[cursor.token.value], token.start)
        if not cursor.is_word("null", "true", "false", "unknown"):
            raise cursor.error()
        return syntax.IsTest(token.start, left, cursor.next().value, negated)

    def _collate(self, left: Tree, token: Token) -> Tree:
        cursor = self._cursor
        name = cursor.next()
        if name[:2] == (WORD, "pg_catalog") and cursor.take_mark("."):
            name = cursor.next()
        if name.kind not in (NAME, WORD):
            cursor.position -= name.kind != END
            raise cursor.error()
        return syntax.Collate(token.start, left, name.value)

    def _zone(self, left: Tree, token: Token) -> Tree:
        """`x AT TIME ZONE zone` is a call of `timezone(zone, x)`."""
        cursor = self._cursor
        if cursor.take_word("local"):
            raise WhereError("AT LOCAL depends on the session; write AT TIME ZONE", token.start)
        cursor.expect_word("time")
        cursor.expect_word("zone")
        return syntax.Call(token.start, "timezone", (self._climb(ZONE + 1), left))

    def _range(self, left: Tree, token: Token) -> Tree:
        """`IN`, `BETWEEN`, `LIKE` and `ILIKE`, each perhaps after `NOT`."""
        cursor = self._cursor
        negated = token.value == "not"
        word = cursor.next().value if negated else token.value
        if word == "in":
            return self._membership(left, token.start, negated)
        if word == "similar":
            raise WhereError(
                "expression ~ of :AEXPR_SIMILAR is not currently supported", token.start
            )
        if word == "between":
            symmetric = cursor.take_word("symmetric")
            if not symmetric:
                cursor.take_word("asymmetric")
            low = self.basic_expression()
            cursor.expect_word("and")
            high = self._climb(RANGE + 1)
            return syntax.Range(token.start, left, low, high, negated, symmetric)
        tree = self._operation(left, ("!" if negated else "") + _PATTERNS[word], token.start, RANGE)
        if cursor.is_word("escape"):
            raise WhereError("LIKE with ESCAPE is not supported", cursor.token.start)
        return tree

    def _membership(self, left: Tree, at: int, negated: bool) -> Tree:
        self._cursor.expect_mark("(")
        if self._cursor.is_word(*QUERIES):
            raise SubqueryError(_refusal(left), at)
        return syntax.Membership(at, left, self._list(")"), negated)


def _refusal(left: Tree) -> str:
    """Why there cannot be a subquery to the right of this."""
    columns = left.items if isinstance(left, syntax.Row) else (left,)
    if not all(isinstance(one, syntax.Reference) for one in columns):
        return (
            "currently, left side of `IN (SELECT ...)` can only be a column reference or a list "
            "of column references"
        )
    return "subqueries are not supported; list the values, or filter by a column of this table"


_WORD_LEVELS: Final = {
    "or": OR,
    "and": AND,
    "is": IS,
    "isnull": IS,
    "notnull": IS,
    "in": RANGE,
    "between": RANGE,
    "like": RANGE,
    "ilike": RANGE,
    "similar": RANGE,
    "at": ZONE,
    "collate": COLLATE,
}
_OTHER_TESTS: Final = {
    "document": "XmlExpr",
    "json": "JsonIsPredicate",
    "normalized": "FuncCall",
    **dict.fromkeys(("nfc", "nfd", "nfkc", "nfkd"), "FuncCall"),
}
