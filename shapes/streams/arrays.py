"""Arrays as Postgres's binary format has them. Pure.

One number, text or byte string per row of a table, so that a statement can write many rows at once.
None is null.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import Struct, pack
from typing import Final

INT4: Final = 23
INT8: Final = 20
TEXT: Final = 25
BYTEA: Final = 17
BOOL: Final = 16

_HEADER = Struct(">iiiii")
_INT8 = Struct(">iq")
_LENGTH = Struct(">i")
_NULL = _LENGTH.pack(-1)


def int8s(values: Sequence[int]) -> bytes:
    """A bigint[] without nulls."""
    count = len(values)
    flat = [8] * (2 * count)
    flat[1::2] = values
    return _head(INT8, count) + pack(">" + "iq" * count, *flat)


def int4s(values: Sequence[int]) -> bytes:
    """An integer[] without nulls."""
    count = len(values)
    flat = [4] * (2 * count)
    flat[1::2] = values
    return _head(INT4, count) + pack(f">{2 * count}i", *flat)


def some_int8s(values: Iterable[int | None]) -> bytes:
    """A bigint[]."""
    items = [_NULL if value is None else _INT8.pack(8, value) for value in values]
    return _head(INT8, len(items)) + b"".join(items)


def bools(values: Sequence[bool]) -> bytes:
    """A boolean[] without nulls."""
    items = [b"\0\0\0\1\1" if value else b"\0\0\0\1\0" for value in values]
    return _head(BOOL, len(items)) + b"".join(items)


def byteas(values: Iterable[bytes | None]) -> bytes:
    """A bytea[]."""
    return _strings(BYTEA, values)


def texts(values: Iterable[str | None]) -> bytes:
    """A text[]. Raises ValueError for what is no text to Postgres."""
    return _strings(TEXT, (None if value is None else _encoded(value) for value in values))


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
