"""The grammar of operands: constants, columns, calls and what has a syntax of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from shapes.where.errors import SubqueryError, WhereError, unsupported
from shapes.where.grammar import syntax
from shapes.where.grammar.keywords import (
    FUNCTION_WORDS,
    NO_FUNCTIONS,
    RESERVED,
    TYPE_ALIASES,
    VALUE_FUNCTIONS,
)
from shapes.where.grammar.lexer import MARK, NAME, NUMBER, PARAMETER, STRING, WORD, Token
from shapes.where.grammar.syntax import Tree
from shapes.where.grammar.tokens import Cursor

MAX_DEPTH: Final = 64
"""Of nested expressions. Chains of AND, OR and list items do not nest."""

_MAX_INT4: Final = 2**31 - 1
_MAX_INT8: Final = 2**63 - 1
_ONLY_IN: Final = "only `value IN (SELECT ...)` sublinks are supported right now"


class Operands:
    """Reads operands. `slots` are the positions of the constants' tokens, by slot number."""

    def __init__(self, text: str, tokens: list[Token]) -> None:
        self._cursor = Cursor(text, tokens)
        self._basic = False
        self._depth = 0
        self.slots: list[int] = []

    @property
    def cursor(self) -> Cursor:
        return self._cursor

    def expression(self) -> Tree:
        """Read one expression; the cursor stops at what does not belong to it."""
        raise NotImplementedError

    def basic_expression(self) -> Tree:
        """Read an expression of the kind whose end a word such as AND or IN marks: it has no words
        for operators but those within parentheses."""
        raise NotImplementedError

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise WhereError(
                f"the expression is nested more than {MAX_DEPTH} levels deep",
                self._cursor.token.start,
            )

    def _operand(self) -> Tree:
        cursor = self._cursor
        token = cursor.token
        if token.kind == NUMBER:
            return self._number(cursor.next(), token.start, negative=False)
        if token.kind == STRING:
            return self._text(cursor.next())
        if token.kind == PARAMETER:
            cursor.next()
            return self._subscripted(syntax.Parameter(token.start, int(token.value[1:])))
        if token.kind == WORD and token.value in _STARTS:
            cursor.next()
            return _STARTS[token.value](self, token)
        if token.kind in (WORD, NAME):
            return self._named(token)
        if cursor.take_mark("("):
            return self._parenthesised(token)
        raise cursor.error()

    # -- constants ---------------------------------------------------------------------------------

    def _text(self, token: Token) -> syntax.Text:
        self.slots.append(self._cursor.position - 1)
        return syntax.Text(token.start, len(self.slots) - 1)

    def _number(self, token: Token, at: int, *, negative: bool) -> Tree:
        self.slots.append(self._cursor.position - 1)
        return syntax.Number(
            at, len(self.slots) - 1, number_type(token.value, negative=negative), negative
        )

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

    # -- names and calls ---------------------------------------------------------------------------

    def _named(self, token: Token) -> Tree:
        """A column, a function call or a constant after the name of its type."""
        cursor = self._cursor
        callable_ = True
        if token.kind == WORD:
            typed = self._typed_constant(token)
            if typed is not None:
                return typed
            if token.value in VALUE_FUNCTIONS:
                raise unsupported("SQLValueFunction", token.start)
            calls = cursor.peek()[:2] == (MARK, "(") and token.value in FUNCTION_WORDS
            if token.value in RESERVED and not calls:
                raise cursor.error()
            callable_ = token.value not in NO_FUNCTIONS
        cursor.next()
        if callable_ and cursor.take_mark("("):
            form = _FORMS.get(token.value) if token.kind == WORD else None
            return self._call(token) if form is None else form(self, token)
        parts = [token.value]
        while cursor.take_mark("."):
            part = cursor.token
            if part.kind not in (WORD, NAME) and not cursor.is_operator("*"):
                raise cursor.error()
            parts.append(cursor.next().value)
        if parts[0] == "pg_catalog" and len(parts) == 2 and cursor.take_mark("("):
            return self._call(Token(NAME, parts[1], token.start, token.end))
        return self._subscripted(syntax.Reference(token.start, tuple(parts)))

    def _call(self, token: Token) -> Tree:
        cursor = self._cursor
        if cursor.is_word("distinct", "all") or cursor.is_operator("*"):
            raise WhereError("aggregation is not supported in this context", token.start)
        if cursor.is_word("variadic"):
            raise WhereError(
                "explicit VARIADIC function calls are not currently supported", token.start
            )
        arguments = () if cursor.take_mark(")") else self._list(")")
        if cursor.is_word("filter", "over", "within"):
            raise WhereError("aggregation is not supported in this context", token.start)
        return syntax.Call(token.start, token.value, arguments)

    def _list(self, closing: str) -> tuple[Tree, ...]:
        """Expressions between commas, at least one, and the closing mark."""
        items = [self._inner()]
        while self._cursor.take_mark(","):
            items.append(self._inner())
        if self._cursor.is_word("order"):
            raise WhereError(
                "aggregation is not supported in this context", self._cursor.token.start
            )
        self._cursor.expect_mark(closing)
        return tuple(items)

    def _inner(self) -> Tree:
        """An expression between marks or words of its own, whatever is allowed around these."""
        basic, self._basic = self._basic, False
        tree = self.expression()
        self._basic = basic
        return tree

    # -- calls with a syntax of their own ----------------------------------------------------------

    def _choice(self, token: Token) -> Tree:
        return syntax.Choice(token.start, token.value, self._list(")"))

    def _null_if(self, token: Token) -> Tree:
        left = self._inner()
        self._cursor.expect_mark(",")
        right = self._inner()
        self._cursor.expect_mark(")")
        return syntax.NullIf(token.start, left, right)

    def _exists(self, token: Token) -> Tree:
        self._refuse_query(token.start)
        raise self._cursor.error()

    def _row(self, token: Token) -> Tree:
        items = () if self._cursor.take_mark(")") else self._list(")")
        return syntax.Row(token.start, items)

    def _extract(self, token: Token) -> Tree:
        """`EXTRACT(field FROM x)`: the field is a word or a text."""
        cursor = self._cursor
        if cursor.token.kind not in (WORD, NAME, STRING):
            raise cursor.error()
        field = self._text(cursor.next())
        cursor.expect_word("from")
        return self._finish(token, "extract", [field, self._inner()])

    def _substring(self, token: Token) -> Tree:
        """`SUBSTRING(x FROM start FOR length)`, or an ordinary call."""
        cursor = self._cursor
        if cursor.is_mark(")"):
            return self._call(token)
        arguments = [self._inner()]
        if cursor.is_word("similar"):
            raise WhereError(
                "expression ~ of :AEXPR_SIMILAR is not currently supported", cursor.token.start
            )
        start = self._inner() if cursor.take_word("from") else None
        length = self._inner() if cursor.take_word("for") else None
        if start is None and cursor.take_word("from"):
            start = self._inner()
        if start is None and length is not None:
            raise WhereError("SUBSTRING needs FROM before FOR", token.start)
        arguments += [one for one in (start, length) if one is not None]
        while start is None and cursor.take_mark(","):
            arguments.append(self._inner())
        return self._finish(token, "substring", arguments)

    def _position(self, token: Token) -> Tree:
        """`POSITION(part IN text)`; the function has them the other way round."""
        part = self.basic_expression()
        self._cursor.expect_word("in")
        return self._finish(token, "position", [self.basic_expression(), part])

    def _overlay(self, token: Token) -> Tree:
        cursor = self._cursor
        arguments = [self._inner()]
        if cursor.take_word("placing"):
            arguments.append(self._inner())
            cursor.expect_word("from")
            arguments.append(self._inner())
            if cursor.take_word("for"):
                arguments.append(self._inner())
        while len(arguments) < 3 and cursor.take_mark(","):
            arguments.append(self._inner())
        return self._finish(token, "overlay", arguments)

    def _trim(self, token: Token) -> Tree:
        """`TRIM([BOTH|LEADING|TRAILING] [characters] FROM x)` or `TRIM(x, characters)`."""
        cursor = self._cursor
        name = "btrim"
        if cursor.is_word(*_TRIMS):
            name = _TRIMS[cursor.next().value]
        arguments = [] if cursor.is_word("from") else [self._inner()]
        if cursor.take_word("from"):
            arguments.insert(0, self._inner())
        while cursor.take_mark(","):
            arguments.append(self._inner())
        return self._finish(token, name, arguments)

    def _finish(self, token: Token, function: str, arguments: list[Tree]) -> Tree:
        self._cursor.expect_mark(")")
        return syntax.Call(token.start, function, tuple(arguments))

    def _special(self, token: Token) -> Tree:
        raise unsupported(_SPECIAL[token.value], token.start)

    # -- parentheses and brackets ------------------------------------------------------------------

    def _parenthesised(self, token: Token) -> Tree:
        self._refuse_query(token.start)
        tree = self._inner()
        if self._cursor.take_mark(","):
            return syntax.Row(token.start, (tree, *self._list(")")))
        self._cursor.expect_mark(")")
        return self._subscripted(tree)

    def _subscripted(self, tree: Tree) -> Tree:
        cursor = self._cursor
        at = cursor.token.start
        items: list[syntax.Subscript] = []
        while cursor.is_mark("[") or cursor.is_mark("."):
            if cursor.is_mark("."):
                raise unsupported("A_Indirection", cursor.token.start)
            items.append(self._subscript(cursor.next()))
        return syntax.Subscripts(at, tree, tuple(items)) if items else tree

    def _subscript(self, token: Token) -> syntax.Subscript:
        cursor = self._cursor
        first = None if cursor.is_mark(":") else self._inner()
        if not cursor.take_mark(":"):
            cursor.expect_mark("]")
            return syntax.Subscript(token.start, None, first, False)
        last = None if cursor.is_mark("]") else self._inner()
        cursor.expect_mark("]")
        return syntax.Subscript(token.start, first, last, True)

    def _array(self, token: Token) -> Tree:
        if self._cursor.is_mark("("):
            self._cursor.next()
            self._refuse_query(token.start)
            raise self._cursor.error()
        if not self._cursor.is_mark("["):
            raise self._cursor.error()
        return self._brackets(token)

    def _brackets(self, token: Token) -> syntax.Array:
        """`[…]` of an array: expressions, or such brackets again."""
        cursor = self._cursor
        cursor.expect_mark("[")
        if cursor.take_mark("]"):
            return syntax.Array(token.start, ())
        if not cursor.is_mark("["):
            return syntax.Array(token.start, self._list("]"))
        self._deeper()
        items = [self._brackets(cursor.token)]
        while cursor.take_mark(","):
            items.append(self._brackets(cursor.token))
        self._depth -= 1
        cursor.expect_mark("]")
        return syntax.Array(token.start, tuple(items))

    # -- words that start an operand ---------------------------------------------------------------

    def _cast(self, token: Token) -> Tree:
        cursor = self._cursor
        cursor.expect_mark("(")
        operand = self._inner()
        cursor.expect_word("as")
        name, array = cursor.type_name()
        cursor.expect_mark(")")
        return syntax.Cast(token.start, operand, name, array)

    def _case(self, token: Token) -> Tree:
        cursor = self._cursor
        operand = None if cursor.is_word("when") else self._inner()
        branches: list[tuple[Tree, Tree]] = []
        while cursor.take_word("when"):
            condition = self._inner()
            cursor.expect_word("then")
            branches.append((condition, self._inner()))
        if not branches:
            raise cursor.error()
        otherwise = self._inner() if cursor.take_word("else") else None
        cursor.expect_word("end")
        return syntax.Case(token.start, operand, tuple(branches), otherwise)

    def _true(self, token: Token) -> Tree:
        return syntax.Boolean(token.start, True)

    def _false(self, token: Token) -> Tree:
        return syntax.Boolean(token.start, False)

    def _null(self, token: Token) -> Tree:
        return syntax.Null(token.start)

    def _refuse_query(self, at: int) -> None:
        """Refuse a query behind a parenthesis, at which the cursor is."""
        if self._cursor.is_word(*QUERIES):
            raise SubqueryError(_ONLY_IN, at)


QUERIES: Final = ("select", "with", "values", "table")
_TRIMS: Final = {"both": "btrim", "leading": "ltrim", "trailing": "rtrim"}
_SPECIAL: Final = {
    **dict.fromkeys(
        ("xmlconcat", "xmlelement", "xmlforest", "xmlparse", "xmlpi", "xmlroot", "xmlexists"),
        "XmlExpr",
    ),
    "grouping": "GroupingFunc",
    "treat": "TypeCast",
    "normalize": "FuncCall",
    "collation": "FuncCall",
}
_Form = Callable[[Operands, Token], Tree]
_FORMS: dict[str, _Form] = {
    **dict.fromkeys(("coalesce", "greatest", "least"), Operands._choice),  # pyright: ignore[reportPrivateUsage]
    **dict.fromkeys(_SPECIAL, Operands._special),  # pyright: ignore[reportPrivateUsage]
    "nullif": Operands._null_if,  # pyright: ignore[reportPrivateUsage]
    "exists": Operands._exists,  # pyright: ignore[reportPrivateUsage]
    "row": Operands._row,  # pyright: ignore[reportPrivateUsage]
    "extract": Operands._extract,  # pyright: ignore[reportPrivateUsage]
    "substring": Operands._substring,  # pyright: ignore[reportPrivateUsage]
    "position": Operands._position,  # pyright: ignore[reportPrivateUsage]
    "overlay": Operands._overlay,  # pyright: ignore[reportPrivateUsage]
    "trim": Operands._trim,  # pyright: ignore[reportPrivateUsage]
}
"""Names whose calls have a syntax of their own."""

_STARTS: dict[str, _Form] = {
    "cast": Operands._cast,  # pyright: ignore[reportPrivateUsage]
    "array": Operands._array,  # pyright: ignore[reportPrivateUsage]
    "case": Operands._case,  # pyright: ignore[reportPrivateUsage]
    "true": Operands._true,  # pyright: ignore[reportPrivateUsage]
    "false": Operands._false,  # pyright: ignore[reportPrivateUsage]
    "null": Operands._null,  # pyright: ignore[reportPrivateUsage]
}


def number_type(text: str, *, negative: bool) -> str:
    """The type that Postgres gives to a number in a statement."""
    if not text.isdigit():
        return "numeric"
    value = int(text) if len(text) < 20 else 2**64
    if value <= _MAX_INT4 + negative:
        return "int4"
    return "int8" if value <= _MAX_INT8 + negative else "numeric"
