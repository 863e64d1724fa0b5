"""Functions of texts as Postgres computes them: positions count characters from 1."""

from __future__ import annotations

from typing import Final

from shapes.where.errors import Failure
from shapes.where.values.numbers import INT4_RANGE

LONGEST: Final = 1 << 24
"""Characters. Longer texts are not made here, though Postgres would: a filter must not eat memory."""


def bounded(text: str) -> str:
    if len(text) > LONGEST:
        raise Failure(f"a text is longer than {LONGEST} characters")
    return text


def append(left: str, right: str) -> str:
    return bounded(left + right)


def substring(text: str, start: int) -> str:
    return text[max(start, 1) - 1 :]


def substring_of_length(text: str, start: int, length: int) -> str:
    if length < 0:
        raise Failure("negative substring length not allowed")
    end = start + length
    if end not in INT4_RANGE:
        return substring(text, start)
    return text[max(start, 1) - 1 : max(end, 1) - 1]


def left(text: str, count: int) -> str:
    return text[: max(count if count >= 0 else len(text) + count, 0)]


def right(text: str, count: int) -> str:
    if count == INT4_RANGE[0]:
        # It has no positive counterpart.
        return text
    return text[max(len(text) - count, 0) :] if count >= 0 else text[-count:]


def trim(text: str) -> str:
    return text.strip(" ")


def trim_left(text: str) -> str:
    return text.lstrip(" ")


def trim_right(text: str) -> str:
    return text.rstrip(" ")


def replace(text: str, part: str, other: str) -> str:
    if not part:
        return text
    if len(other) > len(part) and len(text) + text.count(part) * len(other) > LONGEST:
        raise Failure(f"a text is longer than {LONGEST} characters")
    return text.replace(part, other)


def translate(text: str, characters: str, others: str) -> str:
    """Characters without a counterpart are removed; of several alike the first counts."""
    table: dict[int, str] = {}
    for place, one in enumerate(characters):
        table.setdefault(ord(one), others[place : place + 1])
    return text.translate(table)


def position(text: str, part: str) -> int:
    return text.find(part) + 1


def split_part(text: str, separator: str, number: int) -> str:
    """Parts count from 1, negative ones from the end."""
    if not number:
        raise Failure("field position must not be zero")
    parts = text.split(separator) if separator else [text]
    place = number - 1 if number > 0 else len(parts) + number
    return parts[place] if 0 <= place < len(parts) else ""


def octet_length(text: str) -> int:
    return len(text.encode())


def bit_length(text: str) -> int:
    return 8 * len(text.encode())


def reverse(text: str) -> str:
    return text[::-1]


def concat(*values: str | None) -> str:
    return bounded("".join([one for one in values if one is not None]))


def concat_with(separator: str | None, *values: str | None) -> str | None:
    if separator is None:
        return None
    return bounded(separator.join([one for one in values if one is not None]))
