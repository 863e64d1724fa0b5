"""Messages as server-sent events: after each with data one that says where the client is. Pure."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from shapes.http.streams.cursors import interval_at
from shapes.streams.stream import Chunk, StreamState, media_type, offset_of

HELD_BYTES: Final = 64 << 10
"""So much is held back at most because it ends inside a character."""


class Payload(Enum):
    """How data is written: a JSON array, as it is, or as base64."""

    JSON = "json"
    TEXT = "text"
    BASE64 = "base64"

    @classmethod
    def of(cls, state: StreamState) -> Payload:
        if state.is_json:
            return cls.JSON
        return cls.TEXT if media_type(state.content_type).startswith("text/") else cls.BASE64


@dataclass(frozen=True, slots=True)
class SseFraming:
    """`cursor`: clients get this one until time has gone beyond it; `now` gives seconds since 1970."""

    payload: Payload
    cursor: int
    now: Callable[[], float] = field(compare=False)

    def encode(self, chunks: Sequence[Chunk], tail: int, closed: bool) -> tuple[bytes, int]:
        """An event with the chunks' data and one with the position that is reached, which is `tail`
        without chunks. A text that ends inside a character is held back, unless it is `closed`."""
        if not chunks:
            return self._control(tail, up_to_date=True, closed=closed), tail
        reached = len(chunks)
        if self.payload is Payload.TEXT and not closed:
            reached = _whole(chunks)
        up_to_date = chunks[-1].end >= tail
        if not reached:
            # There is nothing more that the client could have, so it need not wait for more either.
            start = chunks[0].position
            return self._control(start, up_to_date=up_to_date, closed=False), start
        end = chunks[reached - 1].end
        pieces = [chunk.data for chunk in chunks[:reached]]
        control = self._control(end, up_to_date=up_to_date, closed=closed)
        return b"event: data\n%b\n\n%b" % (self._lines(pieces), control), end

    def idle(self, position: int, closed: bool) -> bytes:
        """The position once more."""
        return self._control(position, up_to_date=True, closed=closed)

    def _lines(self, pieces: list[bytes]) -> bytes:
        if self.payload is Payload.BASE64:
            return b"data:" + b64encode(b"".join(pieces))
        if self.payload is Payload.JSON:
            return data_lines(b"[%b]" % b",".join(pieces))
        return data_lines(b"".join(pieces))

    def _control(self, position: int, *, up_to_date: bool, closed: bool) -> bytes:
        members = f'"streamNextOffset":"{offset_of(position)}"'
        if not closed:
            members += f',"streamCursor":"{max(self.cursor, interval_at(self.now()))}"'
        if up_to_date:
            members += ',"upToDate":true'
        if closed:
            members += ',"streamClosed":true'
        return f"event: control\ndata:{{{members}}}\n\n".encode()


def data_lines(data: bytes) -> bytes:
    """An event's data: each of its lines with its field's name. Clients take away one space at the
    beginning of each line, so there is one more before a line that begins with one."""
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b"\n" in data:
        data = data.replace(b"\n ", b"\n  ").replace(b"\n", b"\ndata:")
    return (b"data: " if data.startswith(b" ") else b"data:") + data


def _whole(chunks: Sequence[Chunk]) -> int:
    """How many of the chunks end with a whole character."""
    held = 0
    for count in range(len(chunks), 0, -1):
        if not _ends_inside(
            b"".join([chunk.data[-3:] for chunk in chunks[max(0, count - 3) : count]])
        ):
            return count
        held += len(chunks[count - 1].data)
        if held > HELD_BYTES:
            return len(chunks)
    return 0


def _ends_inside(data: bytes) -> bool:
    """Whether more bytes could complete the UTF-8 character at the end."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            return back < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4 if byte < 0xF8 else 0)
        if byte < 0x80:
            return False
    return False
