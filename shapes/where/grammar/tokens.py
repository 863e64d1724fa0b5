"""A cursor over the tokens of a where clause."""

from __future__ import annotations

from shapes.where.errors import WhereSyntaxError
from shapes.where.grammar.keywords import TYPE_ALIASES
from shapes.where.grammar.lexer import END, MARK, NAME, OPERATOR, WORD, Token, near


class Cursor:
    """Reads tokens in order. Methods that expect something raise the syntax error Postgres would."""

    def __init__(self, text: str, tokens: list[Token]) -> None:
        self.text = text
        self._tokens = tokens
        self.position = 0

    @property
    def token(self) -> Token:
        return self._tokens[self.position]

    def next(self) -> Token:
        """The present token; the cursor moves behind it."""
        token = self._tokens[self.position]
        if token.kind != END:
            self.position += 1
        return token

    def peek(self, ahead: int = 1) -> Token:
        return self._tokens[min(self.position + ahead, len(self._tokens) - 1)]

    def error(self) -> WhereSyntaxError:
        """The syntax error of the present token."""
        return near(self.text, self.token)

    def is_word(self, *words: str) -> bool:
        token = self.token
        return token.kind == WORD and token.value in words

    def is_mark(self, mark: str) -> bool:
        token = self.token
        return token.kind == MARK and token.value == mark

    def is_operator(self, *operators: str) -> bool:
        token = self.token
        return token.kind == OPERATOR and token.value in operators

    def take_word(self, *words: str) -> bool:
        """Move behind the word if it is one of these."""
        found = self.is_word(*words)
        self.position += found
        return found

    def take_mark(self, mark: str) -> bool:
        found = self.is_mark(mark)
        self.position += found
        return found

    def expect_word(self, word: str) -> None:
        if not self.take_word(word):
            raise self.error()

    def expect_mark(self, mark: str) -> None:
        if not self.take_mark(mark):
            raise self.error()

    def type_name(self) -> tuple[str, bool]:
        """Read a type as it is written in a cast: its name, and whether it is an array of it."""
        name = self._element_name()
        array = self.is_word("array")
        if array:
            self.next()
        while self.take_mark("["):
            if self.token.kind == "number":
                self.next()
            self.expect_mark("]")
            array = True
        return name, array

    def _element_name(self) -> str:
        token = self.next()
        if token.kind not in (WORD, NAME):
            self.position -= token.kind != END
            raise self.error()
        if token.value == "pg_catalog" and self.take_mark("."):
            token = self.next()
        quoted = token.kind == NAME
        name = token.value if quoted else self._spelled_out(token.value)
        if self.is_mark("("):
            return name + self._modifier()
        if quoted or name not in TYPE_ALIASES:
            return name
        return TYPE_ALIASES[name]

    def _spelled_out(self, word: str) -> str:
        """Types whose names are several words."""
        if (word, self.token.value) in _TWO_WORDS and self.token.kind == WORD:
            return f"{word} {self.next().value}"
        if word in ("time", "timestamp") and self.is_word("with", "without"):
            which = self.next().value
            self.expect_word("time")
            self.expect_word("zone")
            return f"{word} {which} time zone"
        return word

    def _modifier(self) -> str:
        start = self.token.start
        while not self.is_mark(")"):
            if self.token.kind == END:
                raise self.error()
            self.next()
        return self.text[start : self.next().end]


_TWO_WORDS = frozenset((("double", "precision"), ("character", "varying"), ("char", "varying")))
