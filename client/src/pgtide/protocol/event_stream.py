"""Server-sent events: from pieces of a body, cut anywhere, to the events."""

from __future__ import annotations

import re
from typing import NamedTuple

from pgtide.errors import UnexpectedAnswerError

MOST_BYTES = 64 << 20
"""Of one event. pgtide's are smaller by far."""

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LINE = re.compile(rb"\r\n|\n|\r")


class Event(NamedTuple):
    """`name` is empty for events without one."""

    name: str
    data: bytes


class EventStream:
    """Feed pieces in, get the events that are complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, piece: bytes) -> list[bytes]:
        """The events' data."""
        return [event.data for event in self.events(piece)]

    def events(self, piece: bytes) -> list[Event]:
        """Raises UnexpectedAnswerError if there is no end to an event."""
        # An end may begin in the last three bytes of what came before.
        begin = max(0, len(self._buffer) - 3)
        self._buffer += piece
        found: list[Event] = []
        done = 0
        for end in _END.finditer(self._buffer, begin):
            event = _event(bytes(self._buffer[done : end.start()]))
            if event is not None:
                found.append(event)
            done = end.end()
        del self._buffer[:done]
        if len(self._buffer) > MOST_BYTES:
            raise UnexpectedAnswerError("an event has no end. Is this pgtide's address?")
        return found


def _event(text: bytes) -> Event | None:
    """None for comments."""
    lines = _LINE.split(text)
    data = [line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")]
    if not data:
        return None
    names = [line[6:].removeprefix(b" ") for line in lines if line.startswith(b"event:")]
    return Event(names[-1].decode(errors="replace") if names else "", b"\n".join(data))
