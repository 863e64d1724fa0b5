"""Sending answers: headers that every answer has, and the bytes."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, MutableMapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import orjson

from shapes.wire import EXPOSED_HEADERS, JSON_TYPE

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Coroutine[Any, Any, None]]
Header = tuple[bytes, bytes]

PIECE_BYTES = 1 << 18


def _version() -> str:
    try:
        return version("pgtide")
    except PackageNotFoundError:
        return "dev"


SERVER: Header = (b"electric-server", f"pgtide/{_version()}".encode())
NO_CACHE: Header = (b"cache-control", b"no-cache")
NO_STORE: Header = (b"cache-control", b"no-store")
JSON: Header = (b"content-type", JSON_TYPE)

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{20,200}")


def header(scope: Scope, name: bytes) -> bytes | None:
    """A request header, by its lower-case name."""
    for key, value in scope["headers"]:
        if key == name:
            return value
    return None


def common_headers(scope: Scope, methods: bytes) -> list[Header]:
    """Headers of every answer: who answers, the request's id, and what browsers may see of it."""
    origin = request_id = None
    for key, value in scope["headers"]:
        if key == b"origin":
            origin = value
        elif key == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            request_id = value
    return [
        SERVER,
        (b"x-request-id", request_id or os.urandom(12).hex().encode()),
        (b"access-control-allow-origin", origin or b"*"),
        (b"access-control-expose-headers", EXPOSED_HEADERS),
        (b"access-control-allow-methods", methods),
    ]


async def send_body(send: Send, status: int, headers: list[Header], body: bytes) -> None:
    """A whole answer at once."""
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_json(send: Send, status: int, headers: list[Header], value: object) -> None:
    """A JSON answer."""
    await send_body(send, status, [JSON, *headers], orjson.dumps(value))


async def send_file(send: Send, status: int, headers: list[Header], path: Path) -> None:
    """A file's content, in pieces, so that a slow reader costs no memory."""
    headers.append((b"content-length", b"%d" % path.stat().st_size))
    with path.open("rb") as file:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        while piece := await asyncio.to_thread(file.read, 4 * PIECE_BYTES):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def send_messages(
    send: Send, status: int, headers: list[Header], messages: list[bytes]
) -> None:
    """A JSON array; a large one goes out in pieces."""
    if sum(map(len, messages)) <= PIECE_BYTES:
        await send_body(send, status, headers, b"[%b]" % b",\n".join(messages))
        return
    await send({"type": "http.response.start", "status": status, "headers": headers})
    async for piece in _pieces(messages):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"]"})


async def _pieces(messages: list[bytes]) -> AsyncIterator[bytes]:
    lead = b"["
    for start in range(0, len(messages), 500):
        yield lead + b",\n".join(messages[start : start + 500])
        lead = b",\n"
