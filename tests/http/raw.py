"""Bytes to a server and back, for requests that no client would send."""

from __future__ import annotations

import socket
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

PATIENCE = 60.0


class RawAnswer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class RawConnection:
    """One connection. Raises TimeoutError when the server is silent for too long."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._buffer = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def _more(self) -> bool:
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            data = b""
        self._buffer += data
        return bool(data)

    def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the next answer; (0, {}) if the server closes instead."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._more():
                assert self._buffer == b"", self._buffer
                return 0, {}
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, *_ = first.split(" ")
        assert version == "HTTP/1.1"
        pairs = [line.split(": ", 1) for line in lines]
        return int(status), {pair[0]: pair[1] for pair in pairs}

    def answer(self, *, bodyless: bool = False) -> RawAnswer:
        """The next answer with its body, whose length the headers say."""
        status, headers = self.head()
        body = b""
        if bodyless or status in (0, 204, 304):
            return RawAnswer(status, headers, body)
        if headers.get("transfer-encoding") == "chunked":
            while size := int(self._line(), 16):
                body += self._take(size)
                assert self._line() == b""
            assert self._line() == b""
        elif "content-length" in headers:
            body = self._take(int(headers["content-length"]))
        else:
            body = self.rest()
        return RawAnswer(status, headers, body)

    def until(self, end: bytes) -> bytes:
        """Everything up to and including these bytes."""
        while end not in self._buffer:
            assert self._more(), "it ended too early"
        data, _, self._buffer = self._buffer.partition(end)
        return data + end

    def rest(self) -> bytes:
        """Everything until the server closes."""
        while self._more():
            pass
        rest, self._buffer = self._buffer, b""
        return rest

    def closes_within(self, seconds: float) -> bool:
        """Whether the server closes, without sending more, in this time."""
        begin = time.monotonic()
        self.socket.settimeout(seconds)
        try:
            return not self._more() and time.monotonic() - begin < seconds
        except TimeoutError:
            return False

    def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            assert self._more(), "the body ended too early"
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            assert self._more(), "the body ended too early"
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data


@contextmanager
def connected(url: str) -> Generator[RawConnection]:
    """A connection to the host and port of `url`."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE) as connection:
        yield RawConnection(connection)
