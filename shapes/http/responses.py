"""Sending answers: headers that every answer has, and the bytes."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import orjson

from shapes.wire import EXPOSED_HEADERS, JSON_TYPE

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Coroutine[Any, Any, None]]
Header = tuple[bytes, bytes]


def _version() -> str:
    try:
        return version("pgtide")
    except PackageNotFoundError:
        return "dev"


SERVER: Header = (b"electric-server", f"pgtide/{_version()}".encode())
NO_CACHE: Header = (b"cache-control", b"no-cache")
NO_STORE: Header = (b"cache-control", b"no-store")
PRIVATE: Header = (b"cache-control", b"max-age=0, private, must-revalidate")
JSON: Header = (b"content-type", JSON_TYPE)

_SHARED = frozenset((b"public", b"private"))

REQUEST_ID = re.compile(rb"[\x21-\x7e]{20,200}")


def header(scope: Scope, name: bytes) -> bytes | None:
    """A request header, by its lower-case name."""
    for key, value in scope["headers"]:
        if key == name:
            return value
    return None


def common_headers(scope: Scope, methods: bytes, exposed: bytes = EXPOSED_HEADERS) -> list[Header]:
    """Headers of every answer: who answers, the request's id, and what browsers may see of it."""
    origin = request_id = None
    for key, value in scope["headers"]:
        if key == b"origin":
            origin = value
        elif key == b"x-request-id" and REQUEST_ID.fullmatch(value):
            request_id = value
    return [
        SERVER,
        (b"x-request-id", request_id or os.urandom(12).hex().encode()),
        (b"access-control-allow-origin", origin or b"*"),
        (b"access-control-expose-headers", exposed),
        (b"access-control-allow-methods", methods),
    ]


def private(headers: list[Header]) -> list[Header]:
    """The headers of an answer that depends on the credential: no cache but the client's own keeps
    it, and that not for another credential."""
    kept = [_kept_privately(pair) for pair in headers]
    return [*kept, (b"vary", b"authorization")]


def _kept_privately(pair: Header) -> Header:
    if pair[0] != b"cache-control" or pair[1] == NO_STORE[1]:
        return pair
    parts = [part.strip() for part in pair[1].split(b",")]
    left = [part for part in parts if part not in _SHARED and not part.startswith(b"s-maxage")]
    return b"cache-control", b", ".join([b"private", *left])


async def send_body(send: Send, status: int, headers: list[Header], body: bytes) -> None:
    """A whole answer at once."""
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_json(send: Send, status: int, headers: list[Header], value: object) -> None:
    """A JSON answer."""
    await send_body(send, status, [JSON, *headers], orjson.dumps(value))
