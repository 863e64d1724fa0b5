"""A bare HTTP/1.1 client connection: one request at a time, bodies whole or piece by piece.

Unlike a library's client it opens a connection exactly when told, never retries, and can stop reading.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from urllib.parse import urlencode, urlsplit

LIMIT = 1 << 20


class HttpError(Exception):
    """The other side ended the connection, or what it sent is no HTTP."""


class Response:
    """Status and headers (lower-case names); the body follows by `body` or `pieces`."""

    def __init__(self, status: int, headers: dict[str, str], reader: asyncio.StreamReader) -> None:
        self.status = status
        self.headers = headers
        self._reader = reader

    async def body(self) -> bytes:
        return b"".join([piece async for piece in self.pieces()])

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises HttpError if it ends too early."""
        try:
            if "chunked" in self.headers.get("transfer-encoding", ""):
                while size := int(await self._reader.readuntil(b"\r\n"), 16):
                    yield await self._reader.readexactly(size)
                    await self._reader.readexactly(2)
                await self._reader.readuntil(b"\r\n")
            else:
                left = int(self.headers.get("content-length", "0"))
                while left > 0:
                    piece = await self._reader.read(min(left, LIMIT))
                    if not piece:
                        raise HttpError("the body ended too early")
                    left -= len(piece)
                    yield piece
        except (asyncio.IncompleteReadError, ValueError) as error:
            raise HttpError("the body ended too early") from error


class HttpConnection:
    """A keep-alive connection to `url`'s host and port. Raises OSError and HttpError."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, url: str) -> HttpConnection:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=LIMIT)
        return cls(reader, writer)

    async def get(
        self, path: str, parameters: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> Response:
        """Send a request; returns when the head of its answer is here."""
        lines = [f"GET {path}?{urlencode(parameters)} HTTP/1.1", "host: localhost"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self._writer.write("\r\n".join([*lines, "", ""]).encode())
        await self._writer.drain()
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise HttpError("the connection ended before an answer") from error
        status, *fields = head.decode("latin-1").split("\r\n")
        pairs = [field.split(":", 1) for field in fields if ":" in field]
        found = {name.strip().lower(): value.strip() for name, value in pairs}
        return Response(int(status.split(" ", 2)[1]), found, self._reader)

    def pause(self) -> None:
        """Read nothing more, so that the other side cannot go on sending."""
        transport = self._writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()

    async def close(self) -> None:
        """At once, whatever was still to be sent or read."""
        self._writer.transport.abort()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
