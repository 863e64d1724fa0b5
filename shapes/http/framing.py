"""HTTP/1.1 as bytes: status lines, header blocks, chunks. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from shapes.wire import JSON_TYPE

LAST_CHUNK = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
BODYLESS = frozenset((204, 304))
"""Statuses whose answers have no body."""

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_REFUSALS = {
    400: b"This is no valid HTTP request",
    408: b"The request did not arrive in time",
    413: b"The request's body is too large",
    414: b"The URL is too long: send the parameters of a subset in the body of a POST",
    431: b"The request's headers are too large",
}


def head(status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Status line and headers, without the empty line that ends them.

    Raises ValueError if a header contains a line break: it would be read as another one.
    """
    lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
    lines += [b"%b: %b\r\n" % pair for pair in headers]
    text = b"".join(lines)
    if text.count(b"\n") != len(lines) or text.count(b"\r") != len(lines):
        raise ValueError("a header contains a line break")
    return text


def chunk(data: bytes) -> bytes:
    """A piece of a body in chunked encoding; it must not be empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def refusal(status: int, server: tuple[bytes, bytes]) -> bytes:
    """A whole answer to what was not understood well enough to reach an endpoint."""
    body = b'{"message":"%b"}' % _REFUSALS[status]
    headers = [
        server,
        (b"content-type", JSON_TYPE),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"max-age=0, private, must-revalidate"),
        (b"access-control-allow-origin", b"*"),
        (b"x-content-type-options", b"nosniff"),
        (b"cross-origin-resource-policy", b"cross-origin"),
        (b"connection", b"close"),
    ]
    return b"%b\r\n%b" % (head(status, headers), body)


MOST_FRAMED = 16


class Frames:
    """Chunks of large pieces of bodies, made once for all who are sent the same bytes object.

    Readers of one feed are served one after the other, and those who are behind read the same few
    pieces, so remembering the last ones is enough.
    """

    def __init__(self, most: int) -> None:
        """`most` bytes go into one chunk."""
        self._most = most
        self._data = b""
        self._frames: list[bytes] = []
        self._former: dict[int, tuple[bytes, list[bytes]]] = {}
        """By the identity of the data, which is kept with them."""

    def of(self, data: bytes) -> list[bytes]:
        """The chunks of `data`."""
        if data is not self._data:
            self._data, self._frames = self._found(data)
        return self._frames

    def _found(self, data: bytes) -> tuple[bytes, list[bytes]]:
        found = self._former.get(id(data))
        if found is None:
            most = self._most
            frames = [chunk(data[start : start + most]) for start in range(0, len(data), most)]
            found = self._former[id(data)] = data, frames
            if len(self._former) > MOST_FRAMED:
                del self._former[next(iter(self._former))]
        return found
