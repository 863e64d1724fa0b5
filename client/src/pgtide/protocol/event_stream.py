"""Server-sent events: from pieces of a body, cut anywhere, to the events' data."""

from __future__ import annotations

import re

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LINE = re.compile(rb"\r\n|\n|\r")


class EventStream:
    """Feed pieces in, get the data of the events that are complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, piece: bytes) -> list[bytes]:
        # An end may begin in the last three bytes of what came before.
        begin = max(0, len(self._buffer) - 3)
        self._buffer += piece
        found: list[bytes] = []
        done = 0
        for end in _END.finditer(self._buffer, begin):
            data = _data(bytes(self._buffer[done : end.start()]))
            if data is not None:
                found.append(data)
            done = end.end()
        del self._buffer[:done]
        return found


def _data(event: bytes) -> bytes | None:
    """None for comments."""
    lines = [
        line[5:].removeprefix(b" ") for line in _LINE.split(event) if line.startswith(b"data:")
    ]
    return b"\n".join(lines) if lines else None
