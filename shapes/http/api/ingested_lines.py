"""Lines of JSON for a stream, as they come in."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson

from shapes.http.api.call import ApiError
from shapes.streams.json_messages import parse_messages

LINE_BYTES = 1 << 20
"""The longest line."""

MOST_TOGETHER = 1000
"""Lines that are handed on at once, if so many have come."""


async def ingested_lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    """The lines that have come, each time there are some whole ones; the last one may be without its
    end. Lines of nothing but blanks are none. Raises ApiError (413)."""
    rest: list[bytes] = []
    size = 0
    async for piece in pieces:
        first, *others = piece.split(b"\n")
        rest.append(first)
        size += len(first)
        if not others:
            _check(size)
            continue
        lines = [b"".join(rest), *others[:-1]]
        rest, size = [others[-1]], len(others[-1])
        _check(max(map(len, lines)))
        _check(size)
        whole = [line for line in lines if line.strip()]
        for start in range(0, len(whole), MOST_TOGETHER):
            yield whole[start : start + MOST_TOGETHER]
    last = b"".join(rest)
    if last.strip():
        yield [last]


def message_of(line: bytes) -> bytes:
    """The line as one JSON message. What is no JSON (the packages write `undefined` so) becomes a text,
    as which readers would take it."""
    try:
        data, count = parse_messages(b"[%b]" % line)
    except ValueError:
        return text_message(line)
    return data if count == 1 else text_message(line)


def text_message(data: bytes) -> bytes:
    """Bytes as a text of JSON."""
    return orjson.dumps(data.decode(errors="replace"))


def _check(size: int) -> None:
    if size > LINE_BYTES:
        raise ApiError(413, f"A line of a stream may have {LINE_BYTES} bytes at most")
