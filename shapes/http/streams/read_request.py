"""What the query of a GET says. Pure."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from shapes.http.streams.fields import StreamRequestError
from shapes.streams.stream import position_of

START: Final = -1
"""As a position: from the first message that there is."""
NOW: Final = -2
"""As a position: what comes from now on."""

_CURSOR = re.compile(rb"[0-9]{1,18}")


class Live(Enum):
    NO = ""
    LONG_POLL = "long-poll"
    SSE = "sse"


class ReadRequest(NamedTuple):
    """`position`: of the first message to read, START or NOW. `cursor`: the last answer's, or -1."""

    position: int
    live: Live
    cursor: int


def read_query(query: bytes) -> ReadRequest:
    """Raises StreamRequestError."""
    offset: bytes | None = None
    live, cursor = Live.NO, -1
    for pair in query.split(b"&") if query else ():
        name, _, value = pair.partition(b"=")
        if b"%" in name:
            name = unquote_to_bytes(name)
        if b"%" in value or b"+" in value:
            value = unquote_to_bytes(value.replace(b"+", b" "))
        if name == b"offset":
            if offset is not None:
                raise StreamRequestError("the parameter offset is there twice")
            offset = value
        elif name == b"live":
            live = _live(value)
        elif name == b"cursor" and _CURSOR.fullmatch(value) is not None:
            cursor = int(value)
    if offset is None and live is not Live.NO:
        raise StreamRequestError("a live read needs the parameter offset")
    return ReadRequest(START if offset is None else _position(offset), live, cursor)


def _live(value: bytes) -> Live:
    try:
        return Live(value.decode("ascii"))
    except ValueError:
        raise StreamRequestError("the parameter live must be long-poll or sse") from None


def _position(offset: bytes) -> int:
    if offset == b"-1":
        return START
    if offset == b"now":
        return NOW
    position = position_of(offset.decode("latin-1"))
    if position is None:
        raise StreamRequestError("the parameter offset must be -1, now, or an offset of the stream")
    return position
