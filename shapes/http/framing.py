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


class Frames:
    """Chunks of large pieces of bodies, made once for all who are sent the same bytes object.

    Readers of one feed are served one after the other, so remembering the last one is enough.
    """

    def __init__(self, most: int) -> None:
        """`most` bytes go into one chunk."""
        self._most = most
        self._data = b""
        self._frames: list[bytes] = []

    def of(self, data: bytes) -> list[bytes]:
        """The chunks of `data`."""
        if data is not self._data:
            most = self._most
            self._frames = [
                chunk(data[start : start + most]) for start in range(0, len(data), most)
            ]
            self._data = data
        return self._frames
