"""Array literals as Postgres writes them: `{1,NULL,"a b"}`, `{{1,2},{3,4}}`, `[0:1]={5,6}`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_BOUNDS = re.compile(r"(?:\[-?\d+:-?\d+\])+=")
_PLAIN = {",": re.compile(r"[^,{}\"]*"), ";": re.compile(r"[^;{}\"]*")}
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def parse_array(text: str, element: Callable[[str], Any], delimiter: str = ",") -> list[Any]:
    """Lists within lists, as many as there are dimensions; None for NULL. Raises ValueError."""
    bounds = _BOUNDS.match(text)
    at = bounds.end() if bounds else 0
    if text[at : at + 1] != "{":
        raise ValueError("an array literal begins with a brace")
    plain = _PLAIN[delimiter]
    root: list[Any] = []
    # The arrays that are open, from the outermost to the one that is being filled.
    stack = [root]
    at += 1
    while stack:
        character = text[at : at + 1]
        if character == "{":
            inner: list[Any] = []
            stack[-1].append(inner)
            stack.append(inner)
            at += 1
            continue
        if character == '"':
            quoted = _QUOTED.match(text, at)
            if quoted is None:
                raise ValueError("a quoted element has no end")
            stack[-1].append(element(_ESCAPED.sub(r"\1", quoted[1])))
            at = quoted.end()
        elif character != "}" or stack[-1]:
            found = plain.match(text, at)
            word = found[0] if found else ""
            if not word:
                raise ValueError("an element is missing")
            stack[-1].append(None if word == "NULL" else element(word))
            at += len(word)
        at = _leave(text, at, stack, delimiter)
    if at != len(text):
        raise ValueError("something follows the array")
    return root


def _leave(text: str, at: int, stack: list[list[Any]], delimiter: str) -> int:
    """Past closing braces and the delimiter that follows an element."""
    while text[at : at + 1] == "}":
        stack.pop()
        at += 1
        if not stack:
            return at
    if text[at : at + 1] != delimiter:
        raise ValueError("a delimiter is missing")
    return at + 1
