"""Arrays as Postgres's binary format has them. Pure.

One number, text or byte string per row of a table, so that a statement can write many rows at once.
None is null. Values that Postgres has none of are a ValueError.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import Struct, error, pack
from typing import Final

INT4: Final = 23
INT8: Final = 20
TEXT: Final = 25
BYTEA: Final = 17
BOOL: Final = 16

_HEADER = Struct(">iiiii")
_LENGTH = Struct(">i")
_NULL = _LENGTH.pack(-1)


def int8s(values: Sequence[int]) -> bytes:
    """A bigint[] without nulls."""
    count = len(values)
    flat = [8] * (2 * count)
    flat[1::2] = values
    return _head(INT8, count) + _packed(">" + "iq" * count, flat)


def int4s(values: Sequence[int]) -> bytes:
    """An integer[] without nulls."""
    count = len(values)
    flat = [4] * (2 * count)
    flat[1::2] = values
    return _head(INT4, count) + _packed(f">{2 * count}i", flat)


def some_int8s(values: Iterable[int | None]) -> bytes:
    """A bigint[]."""
    items = [_NULL if value is None else _packed(">iq", (8, value)) for value in values]
    return _head(INT8, len(items)) + b"".join(items)


def bools(values: Sequence[bool]) -> bytes:
    """A boolean[] without nulls."""
    items = [b"\0\0\0\1\1" if value else b"\0\0\0\1\0" for value in values]
    return _head(BOOL, len(items)) + b"".join(items)


def byteas(values: Iterable[bytes | None]) -> bytes:
    """A bytea[]."""
    return _strings(BYTEA, values)


def texts(values: Iterable[str | None]) -> bytes:
    """A text[]."""
    return _strings(TEXT, (None if value is None else _encoded(value) for value in values))


def _packed(layout: str, values: Sequence[int]) -> bytes:
    try:
        return pack(layout, *values)
    except error as reason:
        raise ValueError("a number is too large for Postgres") from reason


def _strings(element: int, values: Iterable[bytes | None]) -> bytes:
    parts: list[bytes] = []
    length = _LENGTH.pack
    count = 0
    for value in values:
        count += 1
        if value is None:
            parts.append(_NULL)
        else:
            parts += (length(len(value)), value)
    return _head(element, count) + b"".join(parts)


def _encoded(value: str) -> bytes:
    if "\0" in value:
        raise ValueError("Postgres's texts have no NUL")
    return value.encode()


def _head(element: int, count: int) -> bytes:
    # Dimensions, whether nulls may be among them, their type, how many, the first one's index.
    return _HEADER.pack(1, 1, element, count, 1)
