"""LIKE."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from shapes.where.errors import Failure

_LONE: Final = "LIKE pattern must not end with escape character"


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    """A regular expression for a pattern. Raises Failure if it ends with a lone backslash."""
    segments = [""]
    characters = iter(pattern)
    for one in characters:
        if one == "%":
            segments.append("")
        elif one == "_":
            segments[-1] += "."
        elif one == "\\":
            escaped = next(characters, None)
            if escaped is None:
                raise Failure(_LONE)
            segments[-1] += re.escape(escaped)
        else:
            segments[-1] += re.escape(one)
    return re.compile(_expression(segments), re.DOTALL)


def _expression(segments: list[str]) -> str:
    """`first%…%last`. The first place where a segment between two `%` fits is as good as any, so
    these groups are atomic and matching takes no more than linear time per segment."""
    if len(segments) == 1:
        return segments[0]
    first, *middle, last = segments
    return first + "".join(f"(?>.*?{one})" for one in middle if one) + ".*" + last


def like(text: str, pattern: str) -> bool:
    if pattern[-1:] == "\\":
        return _match(text, 0, pattern, 0) is True
    return _compiled(pattern).fullmatch(text) is not None


def _match(text: str, at: int, pattern: str, place: int) -> bool | None:
    """Postgres's own way to match, which fails at a lone backslash only if it gets there. None: no
    match is possible wherever in the text the pattern's rest begins."""
    end = len(pattern)
    while at < len(text) and place < end:
        if pattern[place] == "%":
            return _match_anywhere(text, at, pattern, place + 1)
        if pattern[place] != "_" and _literal(pattern, place) != text[at]:
            return False
        place += 2 if pattern[place] == "\\" else 1
        at += 1
    if at < len(text):
        return False
    return True if not pattern[place:].strip("%") else None


def _match_anywhere(text: str, at: int, pattern: str, place: int) -> bool | None:
    """Match what follows a percent sign."""
    while place < len(pattern) and pattern[place] in "%_":
        if pattern[place] == "_":
            if at >= len(text):
                return None
            at += 1
        place += 1
    if place == len(pattern):
        return True
    first = _literal(pattern, place)
    for start in range(at, len(text)):
        if text[start] == first:
            found = _match(text, start, pattern, place)
            if found is not False:
                return found
    return None


def _literal(pattern: str, place: int) -> str:
    """The character that a pattern demands at a place which is no wildcard."""
    if pattern[place] != "\\":
        return pattern[place]
    if place + 1 == len(pattern):
        raise Failure(_LONE)
    return pattern[place + 1]


def matcher(pattern: str, *, negated: bool) -> Callable[[str], bool]:
    """The match with a constant pattern. Raises Failure as above."""
    simple = _simple(pattern)
    if simple is not None:
        return (lambda text: not simple(text)) if negated else simple
    match = _compiled(pattern).fullmatch
    return lambda text: (match(text) is None) is negated


def _simple(pattern: str) -> Callable[[str], bool] | None:
    """The match with a pattern that is one literal with a percent sign on either or both sides."""
    inner = pattern.strip("%")
    if any(one in inner for one in "%_\\"):
        return None
    before, after = pattern[:1] == "%", pattern[-1:] == "%"
    if not inner:
        return (lambda text: True) if before else (lambda text: not text)
    if before and after:
        return lambda text: inner in text
    if before:
        return lambda text: text.endswith(inner)
    if after:
        return lambda text: text.startswith(inner)
    return lambda text: text == inner
