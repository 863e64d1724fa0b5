"""Lines of JSON as they stream in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import orjson

from shapes.http.api.call import ApiError


async def json_lines(
    pieces: AsyncIterator[bytes], most_bytes: int
) -> AsyncIterator[tuple[int, dict[str, Any]]]:
    """The objects of all lines that are not empty, with their sizes in bytes.

    Raises ApiError: 413 for a line of more than `most_bytes`, 400 for one that is no JSON object.
    """
    rest: list[bytes] = []
    size = number = 0
    async for piece in pieces:
        *lines, last = piece.split(b"\n")
        for line in lines:
            if size + len(line) > most_bytes:
                raise _too_large(most_bytes)
            whole, rest, size = b"".join((*rest, line)), [], 0
            number += 1
            if whole.strip():
                yield len(whole), _object(whole, number)
        rest.append(last)
        size += len(last)
        if size > most_bytes:
            raise _too_large(most_bytes)
    whole = b"".join(rest)
    if whole.strip():
        yield len(whole), _object(whole, number + 1)


def _object(line: bytes, number: int) -> dict[str, Any]:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"Invalid JSON at line {number}") from error
    if not isinstance(value, dict):
        raise ApiError(400, f"line {number} must be a JSON object")
    return cast("dict[str, Any]", value)


def _too_large(most_bytes: int) -> ApiError:
    return ApiError(413, f"Batch item exceeds the maximum size of {most_bytes} bytes")
