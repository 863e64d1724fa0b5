"""Postgres arrays and their text form.

An array is the pair `(bounds, elements)`: a `(lower, length)` per dimension, outermost first (none
of an empty array), and all elements in storage order, None for NULL. Two arrays are equal in
Postgres if and only if these pairs are equal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Final, TypeAlias

from shapes.where.values.numbers import INT4_RANGE

Bounds: TypeAlias = tuple[tuple[int, int], ...]
ArrayValue: TypeAlias = tuple[Bounds, tuple[Hashable, ...]]

EMPTY: Final[ArrayValue] = ((), ())
MAX_DIMENSIONS: Final = 6

_TOKEN = re.compile(
    r"""[ \t\n\r\f\v]*(?:
        ([{},])
      | "((?:[^"\\]|\\.)*)"
      | ((?:[^{},"\\ \t\n\r\f\v]|\\.)(?:(?:[^{},"\\]|\\.)*(?:[^{},"\\ \t\n\r\f\v]|\\.))?)
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_BOUND = re.compile(r"\[([+-]?\d+):([+-]?\d+)\]", re.ASCII)
_BOUNDS = re.compile(rf"(?:{_BOUND.pattern})+", re.ASCII)
_TO_QUOTE = re.compile(r'[{}",\\\s]', re.ASCII)
_SPACE = " \t\n\r\f\v"


def split_elements(text: str) -> Sequence[str | None]:
    """The elements' texts, of any number of dimensions, from Postgres's own output."""
    inner = text[1:-1]
    # Nothing is quoted, nested or NULL in most arrays.
    if '"' in inner or "{" in inner:
        return _Reader(text[text.index("{") :]).read()[1]
    if not inner:
        return ()
    elements = inner.split(",")
    return [None if one == "NULL" else one for one in elements] if "NULL" in inner else elements


def parse_array(text: str, parse: Callable[[str], Hashable] | None) -> ArrayValue:
    """From Postgres's own output. `parse` is the element type's; None if texts are values."""
    lower: list[int] | None = None
    if text[0] == "[":
        prefix, _, text = text.partition("=")
        lower = [int(bound) for bound, _ in _BOUND.findall(prefix)]
    if '"' in text or "{" in text[1:]:
        bounds, texts = _Reader(text).read()
    else:
        texts = split_elements(text)
        bounds = ((1, len(texts)),) if texts else ()
    if lower is not None:
        bounds = tuple((low, length) for low, (_, length) in zip(lower, bounds, strict=True))
    if parse is None:
        return bounds, tuple(texts)
    return bounds, tuple([None if one is None else parse(one) for one in texts])


def read_array(text: str, read: Callable[[str], Hashable]) -> ArrayValue:
    """From what a user wrote. Raises ValueError."""
    text = text.strip(_SPACE)
    prefix, _, rest = text.partition("=") if text[:1] == "[" else ("", "", text)
    bounds, texts = _Reader(rest).read()
    if prefix:
        bounds = _bounded(prefix, bounds)
    return bounds, tuple([None if one is None else read(one) for one in texts])


def _bounded(prefix: str, bounds: Bounds) -> Bounds:
    """With the bounds that stand before an array, which must fit it."""
    if _BOUNDS.fullmatch(prefix) is None:
        raise ValueError("bounds that are not written as usual")
    written = [(int(lower), int(upper)) for lower, upper in _BOUND.findall(prefix)]
    found = tuple((lower, upper - lower + 1) for lower, upper in written)
    lengths = [length for _, length in found] == [length for _, length in bounds]
    if not lengths or not all(
        lower in INT4_RANGE and upper + 1 in INT4_RANGE for lower, upper in written
    ):
        raise ValueError("bounds that do not fit the array")
    return found


def write_array(value: ArrayValue, write: Callable[[Hashable], str]) -> str:
    """Postgres's text form, as it prints it if `write` does so for elements."""
    bounds, elements = value
    parts = ["NULL" if one is None else _quoted(write(one)) for one in elements]
    for _, length in reversed(bounds[1:]):
        groups = range(0, len(parts), length)
        parts = ["{" + ",".join(parts[start : start + length]) + "}" for start in groups]
    prefix = ""
    if any(lower != 1 for lower, _ in bounds):
        prefix = "".join(f"[{lower}:{lower + length - 1}]" for lower, length in bounds) + "="
    return prefix + "{" + ",".join(parts) + "}"


def _quoted(text: str) -> str:
    if text and not _TO_QUOTE.search(text) and text.upper() != "NULL":
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


class _Reader:
    """Reads `{…}`; what Postgres's versions read differently is refused. Raises ValueError."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._elements: list[str | None] = []
        self._lengths: dict[int, int] = {}

    def read(self) -> tuple[Bounds, Sequence[str | None]]:
        mark, _ = self._next()
        if mark != "{":
            raise ValueError("an array starts with a brace")
        depth = self._list(0)
        if next(self._tokens, None) is not None:
            raise ValueError("text after the array")
        lengths = [self._lengths[level] for level in range(depth)]
        return tuple((1, length) for length in lengths) if all(lengths) else (), self._elements

    def _next(self) -> tuple[str, str | None]:
        token = next(self._tokens, None)
        if token is None:
            raise ValueError("the array does not end")
        return token

    def _list(self, level: int) -> int:
        """Read behind an opening brace up to its closing one; how many dimensions it has."""
        if level == MAX_DIMENSIONS:
            raise ValueError("too many dimensions")
        depths: list[int] = []
        mark, element = self._next()
        while mark != "}":
            depths.append(self._element(mark, element, level))
            mark, _ = self._next()
            if mark == ",":
                mark, element = self._next()
                if mark == "}":
                    raise ValueError("an element is missing")
            elif mark != "}":
                raise ValueError("a comma is missing")
        length = len(depths)
        if self._lengths.setdefault(level, length) != length or (level and not length):
            raise ValueError("sub-arrays differ in length")
        if len(set(depths)) > 1:
            raise ValueError("sub-arrays differ in dimensions")
        return 1 + (depths[0] if depths else 0)

    def _element(self, mark: str, element: str | None, level: int) -> int:
        """Read an element or a sub-array; how many dimensions it has."""
        if mark == "{":
            return self._list(level + 1)
        if mark:
            raise ValueError("an element is missing")
        self._elements.append(element)
        return 0


def _tokens(text: str) -> Iterator[tuple[str, str | None]]:
    """Marks as `(mark, None)`, elements as `("", text or None)`."""
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError("not an array")
        mark, quoted, plain = match.groups()
        if mark is not None:
            yield mark, None
        elif quoted is not None:
            yield "", _ESCAPE.sub(r"\1", quoted)
        else:
            yield "", None if plain.upper() == "NULL" else _ESCAPE.sub(r"\1", plain)
        position = match.end()
