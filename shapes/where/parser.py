"""From tokens to the syntax tree: Postgres's grammar of expressions, as far as it is supported.

Operator precedence is Postgres's own (its manual, "Operator Precedence"). Parsing climbs by
precedence: `_expression(n)` reads an expression whose operators all bind at least as tightly as n.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from shapes.where import syntax
from shapes.where.errors import WhereError
from shapes.where.keywords import CLAUSES, RESERVED, TYPE_ALIASES, VALUE_FUNCTIONS
from shapes.where.lexer import END, NAME, NUMBER, OPERATOR, PARAMETER, STRING, WORD, Token
from shapes.where.syntax import Tree
from shapes.where.tokens import Cursor

MAX_DEPTH: Final = 64
"""Of nested expressions. Chains of AND, OR and list items do not nest."""

OR, AND, NOT, IS, COMPARE, RANGE, OTHER, ADD, MULTIPLY, POWER, ZONE, COLLATE, SIGN, CAST = range(14)

_OPERATORS = {
    **dict.fromkeys(("=", "<>", "<", "<=", ">", ">="), COMPARE),
    **dict.fromkeys(("+", "-"), ADD),
    **dict.fromkeys(("*", "/", "%"), MULTIPLY),
    "^": POWER,
}
_PATTERNS = {"like": "~~", "ilike": "~~*"}
_NEGATABLE = frozenset(("in", "between", "like", "ilike", "similar"))
_CLOSED = frozenset(("in", "any", "some", "all"))
_NOT_CHAINED = frozenset((COMPARE, RANGE))
_MAX_INT4: Final = 2**31 - 1
_MAX_INT8: Final = 2**63 - 1


class Parser:
    """Parses one where clause. `slots` are the positions of its constants' tokens, by slot number."""

    def __init__(self, text: str, tokens: list[Token]) -> None:
        self._cursor = Cursor(text, tokens)
        self._depth = 0
        self.slots: list[int] = []

    def parse(self) -> Tree:
        tree = self._expression(OR)
        token = self._cursor.token
        if token.kind == END:
            return tree
        if token.value == ";" and self._cursor.is_mark(";"):
            raise WhereError('unescaped ";" causing statement split')
        if self._cursor.is_word(*CLAUSES):
            raise WhereError("malformed query ending with SQL clauses")
        raise self._cursor.error()

    # -- operators ---------------------------------------------------------------------------------

    def _expression(self, minimum: int) -> Tree:
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
            forbidden = -1
            before = self._cursor.position
            left = self._infix(left, level)
            if level in _NOT_CHAINED and not self._closed(before):
                forbidden = level
        self._depth = depth
        return left

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise WhereError(
                f"the expression is nested more than {MAX_DEPTH} levels deep",
                self._cursor.token.start,
            )

    def _closed(self, start: int) -> bool:
        """Whether what began at `start` ends with a parenthesis of its own: another may follow."""
        back = start - self._cursor.position
        words = (self._cursor.peek(back), self._cursor.peek(back + 1))
        return any(token.kind == WORD and token.value in _CLOSED for token in words)

    def _level(self) -> int:
        """How tightly the operator at the cursor binds; -1 if there is none."""
        token = self._cursor.token
        if token.kind == OPERATOR:
            return _OPERATORS.get(token.value, OTHER)
        if token.kind == WORD:
            if token.value == "not":
                following = self._cursor.peek()
                negatable = following.kind == WORD and following.value in _NEGATABLE
                return RANGE if negatable else -1
            return _WORD_LEVELS.get(token.value, -1)
        if token.value in ("::", "[") and token.kind == "mark":
            return CAST
        return -1

    def _infix(self, left: Tree, level: int) -> Tree:
        cursor = self._cursor
        token = cursor.next()
        if level in (OR, AND):
            return self._junction(left, token, level)
        if level == IS:
            return self._is(left, token)
        if level == CAST:
            if token.value == "[":
                raise unsupported("A_Indirection", token.start)
            name, array = cursor.type_name()
            return syntax.Cast(token.start, left, name, array)
        if level == COLLATE:
            name = cursor.next()
            if name.kind not in (NAME, WORD):
                cursor.position -= name.kind != END
                raise cursor.error()
            return syntax.Collate(token.start, left, name.value)
        if level == ZONE:
            raise WhereError("unknown or unsupported function timezone/2", token.start)
        if token.kind == WORD:
            return self._range(left, token)
        return self._operation(left, token.value, token.start, level)

    def _junction(self, left: Tree, token: Token, level: int) -> Tree:
        """A chain of one of AND and OR, as one node however long it is."""
        parts = [left, self._expression(level + 1)]
        while self._cursor.take_word(token.value):
            parts.append(self._expression(level + 1))
        return syntax.Junction(token.start, token.value, tuple(parts))

    def _operation(self, left: Tree, operator: str, at: int, level: int) -> Tree:
        if self._cursor.is_word("any", "some", "all"):
            return self._quantified(left, operator, at)
        right = self._expression(level + 1)
        return syntax.Operation(at, operator, (left, right))

    def _quantified(self, left: Tree, operator: str, at: int) -> Tree:
        every = self._cursor.next().value == "all"
        self._cursor.expect_mark("(")
        self._refuse_query(at)
        array = self._expression(OR)
        self._cursor.expect_mark(")")
        return syntax.Quantified(at, operator, left, array, every)

    def _is(self, left: Tree, token: Token) -> Tree:
        if token.value in ("isnull", "notnull"):
            return syntax.IsTest(token.start, left, "null", token.value == "notnull")
        cursor = self._cursor
        negated = cursor.take_word("not")
        if cursor.take_word("distinct"):
            cursor.expect_word("from")
            return syntax.IsDistinct(token.start, left, self._expression(IS + 1), negated)
        if not cursor.is_word("null", "true", "false", "unknown"):
            raise cursor.error()
        return syntax.IsTest(token.start, left, cursor.next().value, negated)

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
            cursor.take_word("asymmetric")
            low = self._expression(RANGE + 1)
            cursor.expect_word("and")
            high = self._expression(RANGE + 1)
            return syntax.Range(token.start, left, low, high, negated, symmetric)
        tree = self._operation(left, ("!" if negated else "") + _PATTERNS[word], token.start, RANGE)
        if cursor.is_word("escape"):
            raise WhereError("LIKE with ESCAPE is not supported", cursor.token.start)
        return tree

    def _membership(self, left: Tree, at: int, negated: bool) -> Tree:
        self._cursor.expect_mark("(")
        if self._cursor.is_word("select", "with", "values"):
            raise unsupported("SubLink", at)
        items = self._list(")")
        return syntax.Membership(at, left, items, negated)

    def _list(self, closing: str) -> tuple[Tree, ...]:
        """Expressions between commas, at least one, and the closing mark."""
        items = [self._expression(OR)]
        while self._cursor.take_mark(","):
            items.append(self._expression(OR))
        self._cursor.expect_mark(closing)
        return tuple(items)

    # -- operands ----------------------------------------------------------------------------------

    def _prefix(self) -> Tree:
        cursor = self._cursor
        token = cursor.token
        if token.kind == NUMBER:
            return self._number(cursor.next(), token.start, negative=False)
        if token.kind == STRING:
            return self._text(cursor.next())
        if token.kind == PARAMETER:
            cursor.next()
            return syntax.Parameter(token.start, int(token.value[1:]))
        if token.kind == OPERATOR and _OPERATORS.get(token.value, OTHER) in (OTHER, ADD):
            return self._signed(cursor.next())
        if token.kind == WORD and token.value in _PREFIXES:
            cursor.next()
            return _PREFIXES[token.value](self, token)
        if token.kind in (WORD, NAME):
            return self._named(token)
        if cursor.take_mark("("):
            return self._parenthesised(token)
        raise cursor.error()

    def _text(self, token: Token) -> Tree:
        self.slots.append(self._cursor.position - 1)
        return syntax.Text(token.start, len(self.slots) - 1)

    def _number(self, token: Token, at: int, *, negative: bool) -> Tree:
        self.slots.append(self._cursor.position - 1)
        return syntax.Number(
            at, len(self.slots) - 1, number_type(token.value, negative=negative), negative
        )

    def _signed(self, token: Token) -> Tree:
        negative = token.value == "-"
        following = self._cursor.token
        if negative and following.kind == NUMBER and self._cursor.peek().value not in ("::", "["):
            return self._number(self._cursor.next(), token.start, negative=True)
        level = SIGN if token.value in ("+", "-") else OTHER
        operand = self._expression(level)
        return syntax.Operation(token.start, token.value, (operand,))

    def _parenthesised(self, token: Token) -> Tree:
        self._refuse_query(token.start)
        tree = self._expression(OR)
        if self._cursor.is_mark(","):
            raise unsupported("RowExpr", token.start)
        self._cursor.expect_mark(")")
        return tree

    def _named(self, token: Token) -> Tree:
        """A column, a function call or a constant after the name of its type."""
        cursor = self._cursor
        if token.kind == WORD:
            typed = self._typed_constant(token)
            if typed is not None:
                return typed
            if token.value in VALUE_FUNCTIONS:
                raise unsupported("SQLValueFunction", token.start)
            if token.value in RESERVED:
                raise cursor.error()
        cursor.next()
        if cursor.take_mark("("):
            return self._call(token)
        parts = [token.value]
        while cursor.take_mark("."):
            part = cursor.token
            if part.kind not in (WORD, NAME) and not cursor.is_operator("*"):
                raise cursor.error()
            parts.append(cursor.next().value)
        return syntax.Reference(token.start, tuple(parts))

    def _typed_constant(self, token: Token) -> Tree | None:
        """`date '2026-01-01'` and the like, or None if there is nothing of the kind."""
        cursor = self._cursor
        several = token.value in ("double", "character", "timestamp", "time")
        if token.value not in TYPE_ALIASES and not several:
            return None
        before = cursor.position
        words = (cursor.peek().value, cursor.peek(2).value)
        if (
            cursor.peek().kind != STRING
            and words[0] not in ("with", "without")
            and not (several and words[0] in ("precision", "varying"))
        ):
            return None
        name, array = cursor.type_name()
        if cursor.token.kind != STRING:
            cursor.position = before
            return None
        return syntax.Cast(token.start, self._text(cursor.next()), name, array)

    def _call(self, token: Token) -> Tree:
        cursor = self._cursor
        if cursor.is_word("distinct", "all") or cursor.is_operator("*"):
            raise WhereError("aggregation is not supported in this context", token.start)
        if cursor.is_word("variadic"):
            raise WhereError(
                "explicit VARIADIC function calls are not currently supported", token.start
            )
        if token.value == "nullif" and token.kind == WORD:
            raise WhereError(
                "expression = of :AEXPR_NULLIF is not currently supported", token.start
            )
        if token.value == "row" and token.kind == WORD:
            raise unsupported("RowExpr", token.start)
        if token.value == "exists" and token.kind == WORD:
            self._refuse_query(token.start)
        arguments = () if cursor.take_mark(")") else self._list(")")
        if cursor.is_word("filter", "over", "within"):
            raise WhereError("aggregation is not supported in this context", token.start)
        return syntax.Call(token.start, token.value, arguments)

    def _refuse_query(self, at: int) -> None:
        if self._cursor.is_word("select", "with", "values"):
            raise WhereError("only `value IN (SELECT ...)` sublinks are supported right now", at)

    # -- words that start an operand ---------------------------------------------------------------

    def _not(self, token: Token) -> Tree:
        return syntax.Negation(token.start, self._expression(NOT))

    def _cast(self, token: Token) -> Tree:
        cursor = self._cursor
        cursor.expect_mark("(")
        operand = self._expression(OR)
        cursor.expect_word("as")
        name, array = cursor.type_name()
        cursor.expect_mark(")")
        return syntax.Cast(token.start, operand, name, array)

    def _array(self, token: Token) -> Tree:
        if self._cursor.is_mark("("):
            raise WhereError(
                "only `value IN (SELECT ...)` sublinks are supported right now", token.start
            )
        self._cursor.expect_mark("[")
        items = () if self._cursor.take_mark("]") else self._list("]")
        return syntax.Array(token.start, items)

    def _case(self, token: Token) -> Tree:
        raise unsupported("CaseExpr", token.start)

    def _true(self, token: Token) -> Tree:
        return syntax.Boolean(token.start, True)

    def _false(self, token: Token) -> Tree:
        return syntax.Boolean(token.start, False)

    def _null(self, token: Token) -> Tree:
        return syntax.Null(token.start)


_PREFIXES: dict[str, Callable[[Parser, Token], Tree]] = {
    "not": Parser._not,  # pyright: ignore[reportPrivateUsage]
    "cast": Parser._cast,  # pyright: ignore[reportPrivateUsage]
    "array": Parser._array,  # pyright: ignore[reportPrivateUsage]
    "case": Parser._case,  # pyright: ignore[reportPrivateUsage]
    "true": Parser._true,  # pyright: ignore[reportPrivateUsage]
    "false": Parser._false,  # pyright: ignore[reportPrivateUsage]
    "null": Parser._null,  # pyright: ignore[reportPrivateUsage]
}
_WORD_LEVELS = {
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


def unsupported(node: str, at: int) -> WhereError:
    """The refusal of a construct, named as Postgres's parser names it."""
    return WhereError(f"{node} is not supported in this context", at)


def number_type(text: str, *, negative: bool) -> str:
    """The type that Postgres gives to a number in a statement."""
    if not text.isdigit():
        return "numeric"
    value = int(text) if len(text) < 20 else 2**64
    if value <= _MAX_INT4 + negative:
        return "int4"
    return "int8" if value <= _MAX_INT8 + negative else "numeric"
