"""LIKE and ILIKE."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    """A regular expression for a pattern. Raises ValueError if it ends with a lone backslash."""
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
                raise ValueError("LIKE pattern must not end with escape character")
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


_FOLD = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


def like(text: str, pattern: str) -> bool:
    return _compiled(pattern).fullmatch(text) is not None


def ilike(text: str, pattern: str) -> bool:
    """LIKE without regard to the case of ASCII letters, as in the C locale."""
    return like(text.translate(_FOLD), pattern.translate(_FOLD))


def matcher(pattern: str, *, fold: bool, negated: bool) -> Callable[[str], bool]:
    """The match with a constant pattern. Raises ValueError as above."""
    match = _compiled(pattern.translate(_FOLD) if fold else pattern).fullmatch
    if fold:
        return lambda text: (match(text.translate(_FOLD)) is None) is negated
    return lambda text: (match(text) is None) is negated
