"""The messages of a JSON stream, their bytes as they came. Pure."""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

import orjson

MOST_MESSAGES: Final = 100_000
"""In one request. Who reads them one by one gets so many in one piece."""

_BLANK = b" \t\n\r"

_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{},]', re.DOTALL)
"""What matters for finding borders: texts, in which brackets and commas mean nothing, and those."""


def parse_messages(body: bytes) -> tuple[bytes, int]:
    """The messages of a request's body, joined by commas, and how many they are: the elements of an
    array, otherwise the one value that it is. Raises ValueError if it is no JSON."""
    value = _parse(body)
    data = body.strip(_BLANK)
    if isinstance(value, list):
        return data[1:-1].strip(_BLANK), len(value)  # pyright: ignore[reportUnknownArgumentType]
    return data, 1


def split_messages(joined: bytes, count: int) -> list[bytes]:
    """The single messages of `count` joined ones. Raises ValueError if they are not so many."""
    if count == 1:
        return [joined]
    if joined.count(b",") == count - 1:
        return [message.strip(_BLANK) for message in joined.split(b",")]
    messages: list[bytes] = []
    begin = depth = 0
    for match in _TOKEN.finditer(joined):
        token = match[0]
        if token == b",":
            if not depth:
                messages.append(joined[begin : match.start()].strip(_BLANK))
                begin = match.end()
        elif token in b"[{":
            depth += 1
        elif token in b"]}":
            depth -= 1
    messages.append(joined[begin:].strip(_BLANK))
    if len(messages) != count:
        raise ValueError(f"{len(messages)} messages where {count} should be")
    return messages


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    # What orjson refuses and JSON allows: half a surrogate pair, numbers beyond every double, more
    # than 1024 levels.
    try:
        return json.loads(
            body.decode(), parse_constant=_refuse, parse_int=_nothing, parse_float=_nothing
        )
    except RecursionError:
        raise ValueError("JSON of too many levels") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _nothing(_: str) -> None:
    """A number's value is of no interest, and may be too large for one."""
