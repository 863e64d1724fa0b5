"""One request and the way to answer it."""

from __future__ import annotations

import asyncio
import mmap
import os
from typing import IO

import orjson

from shapes.access.grant import Grant
from shapes.http.responses import (
    JSON,
    Header,
    Receive,
    Scope,
    Send,
    common_headers,
    header,
    private,
)
from shapes.wire import EXPOSED_HEADERS

_SMALL_BYTES = 32 << 10
_PIECE_BYTES = 1 << 20


class Responder:
    """A request to one route, with the headers that each of its answers has."""

    __slots__ = ("_common", "cacheable", "grant", "method", "receive", "scope", "send", "started")

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        methods: bytes,
        exposed: bytes = EXPOSED_HEADERS,
    ) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.method: str = scope["method"]
        self.cacheable = self.method in ("GET", "HEAD")
        """Whether caches may keep what is answered."""
        self.started = False
        """Whether an answer has begun."""
        self.grant: Grant | None = None
        """What the credential allows, if there is one: answers are for its holder alone then, and those
        that last end with it."""
        self._common = common_headers(scope, methods, exposed)

    def header(self, name: bytes) -> bytes | None:
        """A header of the request, by its lower-case name."""
        return header(self.scope, name)

    def entity_tags(self) -> list[str]:
        """What `if-none-match` lists, with quotes; empty if it is not there."""
        values = [value for name, value in self.scope["headers"] if name == b"if-none-match"]
        return b",".join(values).decode("latin-1").split(",") if values else []

    async def start(self, status: int, headers: list[Header]) -> None:
        """Begin an answer whose body is sent by `send`."""
        self.started = True
        if self.grant is not None:
            headers = private(headers)
        await self.send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [*self._common, *headers],
            }
        )

    async def send_empty(self, status: int, headers: list[Header]) -> None:
        """An answer that has no body by its nature (204, 304)."""
        await self.start(status, headers)
        await self.send({"type": "http.response.body", "body": b""})

    async def send_body(self, status: int, headers: list[Header], body: bytes) -> None:
        """A whole answer at once."""
        await self.start(status, [*headers, (b"content-length", b"%d" % len(body))])
        await self.send({"type": "http.response.body", "body": body})

    async def send_text(self, status: int, headers: list[Header], text: bytes) -> None:
        await self.send_body(status, [(b"content-type", b"text/plain"), *headers], text)

    async def send_json(self, status: int, headers: list[Header], value: object) -> None:
        await self.send_body(status, [JSON, *headers], orjson.dumps(value))

    async def send_file(
        self, status: int, headers: list[Header], file: IO[bytes], size: int
    ) -> None:
        """A file's content. What a slow reader does not take stays in the file."""
        await self.start(status, [*headers, (b"content-length", b"%d" % size)])
        if self.method == "HEAD":
            return await self.send({"type": "http.response.body", "body": b""})
        if size <= _SMALL_BYTES:
            return await self.send({"type": "http.response.body", "body": file.read()})
        view = memoryview(mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ))
        for start in range(0, size, _PIECE_BYTES):
            # Reading it brings it into the system's cache, without holding up everybody else meanwhile.
            await asyncio.to_thread(os.pread, file.fileno(), _PIECE_BYTES, start)
            piece = view[start : start + _PIECE_BYTES]
            await self.send({"type": "http.response.body", "body": piece, "more_body": True})
        return await self.send({"type": "http.response.body", "body": b""})
