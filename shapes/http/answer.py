"""Successful answers of `/v1/shape`, redirections, and what browsers ask beforehand."""

from __future__ import annotations

import re
import time
from os import SEEK_END
from pathlib import Path
from typing import IO

from engine.lsn import Offset
from shapes.http.request import ShapeRequest
from shapes.http.responder import Responder
from shapes.http.responses import JSON, NO_CACHE, NO_STORE, Header
from shapes.shape import Handle, Shape
from shapes.snapshots.subset import Rows
from shapes.wire import MUST_REFETCH, LogOffset, RequestOffset

_REDIRECT_CACHE = b"public, max-age=60, must-revalidate"
_RESTART_CACHE = b"public, max-age=1, must-revalidate"
_LAST_CACHE: Header = (b"cache-control", b"private, max-age=60")
_CONFIRMED_CACHE: Header = (b"cache-control", b"private, no-cache")
"""A shape that had come to its end may go on after all (a run is tried again), and whoever begins with
it must see that: kept, but asked for again with its entity tag. Who goes on from it gets the rest."""

TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
"""A header's name, in lower case (RFC 9110, 5.6.2)."""


class Answer:
    """The headers of one successful answer. `cache` is its `cache-control`, if it may be kept."""

    def __init__(
        self,
        responder: Responder,
        handle: Handle,
        shape: Shape,
        request: ShapeRequest,
        offset: Offset,
        cache: bytes,
        *,
        data: bool = True,
        complete: bool = False,
        over: bool = False,
    ) -> None:
        """`over`: nothing is expected to come after this."""
        self._responder = responder
        self._etag = f'"{handle}:{request.offset}:{offset}'
        # An answer without news must never be confirmed by a cache's revalidation.
        self._etag += '"' if data else f':{time.monotonic_ns()}"'
        self._headers: list[Header] = [
            JSON,
            cache_header(responder, request, cache, over=over),
            (b"electric-handle", str(handle).encode()),
            (b"electric-offset", str(offset).encode()),
            (b"electric-has-data", b"true" if data else b"false"),
            (b"etag", self._etag.encode()),
        ]
        if complete:
            self._headers.append((b"electric-up-to-date", b""))
        self._schema: Header = (b"electric-schema", shape.projection.schema_header)

    async def send_body(self, body: bytes, extra: list[Header]) -> None:
        """A finished body; `extra` has the schema or, in a live answer, the cursor."""
        if not await self.confirmed(extra):
            await self._responder.send_body(200, [*self._headers, *extra], body)

    async def send_messages(self, messages: list[bytes], extra: list[Header] | None = None) -> None:
        """Messages as a JSON array; the schema comes along unless there is something `extra`."""
        if extra is None:
            extra = [self._schema]
        if not await self.confirmed(extra):
            body = b"[%b]" % b",\n".join(messages)
            await self._responder.send_body(200, [*self._headers, *extra], body)

    async def send_file(self, file: IO[bytes], extra: list[Header] | None = None) -> None:
        """A body that lies in a file, from its beginning to its end."""
        if extra is None:
            extra = [self._schema]
        if not await self.confirmed(extra):
            size = file.seek(0, SEEK_END)
            file.seek(0)
            await self._responder.send_file(200, [*self._headers, *extra], file, size)

    async def send_chunk(self, body: bytes | Path, extra: list[Header] | None = None) -> None:
        """A part of a snapshot, or the file that holds it."""
        if isinstance(body, Path):
            with body.open("rb") as file:
                return await self.send_file(file, extra)
        return await self.send_body(body, [self._schema] if extra is None else extra)

    async def confirmed(self, extra: list[Header]) -> bool:
        """Answer 304 if the client has exactly this; False if it has not."""
        known = {tag.strip().strip('"') for tag in self._responder.entity_tags()}
        if self._etag.strip('"') not in known:
            return False
        kept = [pair for pair in self._headers if pair[0] != b"content-type"]
        cursor = [pair for pair in extra if pair[0] == b"electric-cursor"]
        await self._responder.send_empty(304, [*kept, *cursor])
        return True


def cache_header(
    responder: Responder, request: ShapeRequest, cache: bytes, *, over: bool = False
) -> Header:
    """What caches may do with an answer that is good for everybody if it is not private: `cache`."""
    if request.private:
        if not over or request.live:
            return NO_STORE
        return _LAST_CACHE if isinstance(request.offset, LogOffset) else _CONFIRMED_CACHE
    return (b"cache-control", cache) if responder.cacheable else NO_CACHE


async def send_subset(
    responder: Responder, handle: Handle, shape: Shape, offset: RequestOffset | Offset, rows: Rows
) -> None:
    """A subset's rows; closes their file."""
    headers: list[Header] = [
        JSON,
        NO_CACHE,
        (b"electric-handle", str(handle).encode()),
        (b"electric-offset", str(offset).encode()),
        (b"electric-schema", shape.projection.schema_header),
        (b"electric-snapshot", b"true"),
    ]
    with rows.file as file:
        await responder.send_file(200, headers, file, rows.size)


async def send_must_refetch(
    responder: Responder, request: ShapeRequest, handle: Handle | None
) -> None:
    """409: the client has to start over, with `handle` if there is one."""
    headers = [JSON]
    if handle is None:
        cache = _RESTART_CACHE
    else:
        cache = _REDIRECT_CACHE
        headers += [
            (b"electric-handle", str(handle).encode()),
            (b"etag", f'"{handle}::"'.encode()),
        ]
    headers.append(cache_header(responder, request, cache))
    await responder.send_body(409, headers, MUST_REFETCH)


async def send_preflight(responder: Responder, seconds: int = 86400) -> None:
    """What a browser may send, good for `seconds`: every header that it asks for by a proper name."""
    headers: list[Header] = [(b"access-control-max-age", b"%d" % seconds)]
    wanted = responder.header(b"access-control-request-headers")
    if wanted is not None:
        names = [name.strip() for name in wanted.lower().split(b",")]
        allowed = [name for name in names if TOKEN.fullmatch(name)]
        if allowed:
            headers.append((b"access-control-allow-headers", b",".join(allowed)))
    await responder.send_empty(204, headers)
