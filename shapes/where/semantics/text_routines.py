"""Operators and functions of texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, Final

from shapes.where.semantics.routine import Routine, unavailable
from shapes.where.semantics.types import (
    BOOL,
    BPCHAR,
    INT4,
    NAME,
    TEXT,
    UNKNOWN,
    VARCHAR,
    Type,
)
from shapes.where.values import texts
from shapes.where.values.letters import Letters
from shapes.where.values.patterns import like, matcher

_PADDED: Final = "cast char(n) to text to match it with a pattern"
"""Postgres matches char(n) with its padding, which values here are without."""


def _patterns() -> Iterator[Routine]:
    for left in (TEXT, NAME, BPCHAR):
        refused = _PADDED if left is BPCHAR else ""
        for negated in (False, True):
            yield _like(left, refused, negated=negated)
            yield _case_blind(left, refused, negated=negated)


def _like(left: Type, refused: str, *, negated: bool) -> Routine:
    def apply(text: str, pattern: str) -> bool:
        return like(text, pattern) is not negated

    return Routine(
        "!~~" if negated else "~~",
        (left, TEXT),
        BOOL,
        apply,
        with_constant=lambda pattern: matcher(pattern, negated=negated),
        collation="equality",
        refused=refused,
    )


def _case_blind(left: Type, refused: str, *, negated: bool) -> Routine:
    """ILIKE, for letters that are not known yet."""
    return Routine(
        "!~~*" if negated else "~~*",
        (left, TEXT),
        BOOL,
        unavailable,
        collation="letters",
        refused=refused,
    )


@cache
def with_letters(routine: Routine, letters: Letters) -> Routine:
    """The routine, which depends on upper and lower case, for these letters."""
    collation = "ascii" if letters.ascii else "letters"
    if routine.name in ("lower", "upper"):
        apply = letters.lower if routine.name == "lower" else letters.upper
        return Routine(
            routine.name, routine.parameters, TEXT, apply, collation=collation, operator=False
        )
    negated = routine.name[0] == "!"

    def match(text: str, pattern: str) -> bool:
        return like(letters.lower(text), letters.lower(pattern)) is not negated

    def with_constant(pattern: str) -> Callable[[str], bool]:
        matches, lower = matcher(letters.lower(pattern), negated=negated), letters.lower
        return lambda text: matches(lower(text))

    return Routine(
        routine.name,
        routine.parameters,
        BOOL,
        match,
        with_constant=with_constant,
        collation=collation,
        fold=letters.lower,
    )


def _functions() -> Iterator[Routine]:
    for name in ("length", "char_length", "character_length"):
        for one in (TEXT, BPCHAR):
            yield Routine(name, (one,), INT4, len, "len({0})", operator=False)
    for name in ("lower", "upper"):
        yield Routine(name, (TEXT,), TEXT, unavailable, collation="letters", operator=False)
    for name in ("substring", "substr"):
        yield _function(name, (TEXT, INT4), TEXT, texts.substring)
        yield _function(name, (TEXT, INT4, INT4), TEXT, texts.substring_of_length)
    expressions = "regular expressions are not evaluated here; use LIKE, or substring with numbers"
    yield Routine("substring", (TEXT, TEXT), TEXT, unavailable, refused=expressions, operator=False)
    yield Routine(
        "substring", (TEXT, TEXT, TEXT), TEXT, unavailable, refused=expressions, operator=False
    )
    yield _function("left", (TEXT, INT4), TEXT, texts.left)
    yield _function("right", (TEXT, INT4), TEXT, texts.right)
    trims = (
        ("btrim", texts.trim, str.strip),
        ("ltrim", texts.trim_left, str.lstrip),
        ("rtrim", texts.trim_right, str.rstrip),
    )
    for name, blanks, characters in trims:
        yield _function(name, (TEXT,), TEXT, blanks)
        yield _function(name, (TEXT, TEXT), TEXT, characters)
    yield _function("replace", (TEXT, TEXT, TEXT), TEXT, texts.replace, "equality")
    yield _function("translate", (TEXT, TEXT, TEXT), TEXT, texts.translate)
    yield _function("strpos", (TEXT, TEXT), INT4, texts.position, "equality")
    yield Routine(
        "position",
        (TEXT, TEXT),
        INT4,
        texts.position,
        collation="equality",
        operator=False,
        template="strpos({0}, {1})",
    )
    yield _function("split_part", (TEXT, TEXT, INT4), TEXT, texts.split_part, "equality")
    yield Routine("^@", (TEXT, TEXT), BOOL, str.startswith, collation="equality")
    yield _function("reverse", (TEXT,), TEXT, texts.reverse)
    yield _function("bit_length", (TEXT,), INT4, texts.bit_length)
    yield _function("octet_length", (TEXT,), INT4, texts.octet_length)
    yield Routine(
        "octet_length",
        (BPCHAR,),
        INT4,
        unavailable,
        refused="cast char(n) to text, which is without its padding",
        operator=False,
    )


def _function(
    name: str,
    parameters: tuple[Type, ...],
    result: Type,
    apply: Callable[..., Any],
    collation: str = "",
) -> Routine:
    return Routine(name, parameters, result, apply, collation=collation, operator=False)


ROUTINES: Final = (*_patterns(), *_functions())

# -- texts and anything ----------------------------------------------------------------------------

_APPEND: Final = Routine("||", (TEXT, TEXT), TEXT, texts.append)


def resolve_append(types: Sequence[Type]) -> Routine | None:
    """`||` of texts, or of a text and anything that is no array: that becomes a text."""
    if len(types) != 2:
        return None
    strings = [one for one in types if one.category == "S"]
    others = [one for one in types if one.category != "S" and one is not UNKNOWN]
    if len(others) == 2:
        return None
    for one in others:
        # What can be appended to its own kind takes a constant without a type for one of these.
        if one.category in "AXC" or (not strings and one.name in _APPENDED):
            return None
    return _APPEND


_APPENDED: Final = frozenset(("bit", "bytea", "jsonb", "tsvector", "varbit"))


@cache
def _concatenation(name: str, count: int) -> Routine:
    if name == "concat":
        return Routine(name, (TEXT,) * count, TEXT, texts.concat, operator=False, strict=False)
    return Routine(name, (TEXT,) * count, TEXT, texts.concat_with, operator=False, strict=False)


@cache
def _no_concatenation(name: str, types: tuple[Type, ...], refused: str) -> Routine:
    return Routine(name, types, TEXT, unavailable, refused=refused, operator=False)


def resolve_concat(name: str, types: Sequence[Type]) -> Routine | None:
    """`concat` and `concat_ws`: they print their arguments, not always as a cast to text does."""
    if not types or (name == "concat_ws" and len(types) < 2):
        return None
    unlike = [one for one in types if not _prints_as_text(one)]
    if unlike:
        refused = f"{name} of {unlike[0].name} is not supported; cast it to text"
        return _no_concatenation(name, tuple(types), refused)
    return _concatenation(name, len(types))


def _prints_as_text(one: Type) -> bool:
    return (
        one is UNKNOWN or one in (TEXT, VARCHAR, NAME) or (one.as_text and one.category in "DENU")
    )
