"""Answers with messages of a stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from shapes.http.api.call import Call
from shapes.http.streams.compression import LEAST_BYTES, gzipped, is_dense, wants_gzip
from shapes.http.streams.entity_tag import EntityTag
from shapes.http.streams.stream_headers import (
    NO_STORE,
    Header,
    cache_headers,
    content_type,
    place_headers,
    shield,
)
from shapes.streams.stream import Chunk, StreamState

JOINED_BYTES: Final = 16 << 10
"""Bodies up to this size are made in one piece."""


class PageAnswer:
    """The answer to a read, with what the stream had at its time."""

    def __init__(self, call: Call, state: StreamState) -> None:
        self._responder = call.responder
        self._state = state
        self._private = call.responder.header(b"authorization") is not None

    async def send_nothing(self) -> None:
        """Only where the stream ends: what is there now is not wanted."""
        state = self._state
        headers = [content_type(state), *place_headers(state, state.tail), NO_STORE]
        await self._responder.send_body(200, headers, b"[]" if state.is_json else b"")

    async def confirm(self, start: int, end: int, *extra: Header, live: bool = False) -> None:
        """304: the client has it already."""
        await self._responder.send_empty(304, [*self._headers(start, end, live=live), *extra])

    async def send(
        self, chunks: Sequence[Chunk], extra: Sequence[Header] = (), *, live: bool = False
    ) -> None:
        """Consecutive messages, at least an empty chunk."""
        state = self._state
        start, end = chunks[0].position, chunks[-1].end
        tag = str(EntityTag.of(state, start, end))
        known = [text.strip().removeprefix("W/") for text in self._responder.entity_tags()]
        if tag in known or "*" in known:
            await self.confirm(start, end, *extra, live=live)
            return
        pieces = [chunk.data for chunk in chunks]
        if state.is_json:
            pieces = _bracketed(pieces)
        size = sum(map(len, pieces))
        headers = [
            content_type(state),
            *self._headers(start, end, live=live),
            *shield(state),
            *extra,
        ]
        if (
            size >= LEAST_BYTES
            and wants_gzip(self._responder.header(b"accept-encoding"))
            and not is_dense(state.content_type)
        ):
            pieces = [await gzipped(pieces)]
            size = len(pieces[0])
            headers.append((b"content-encoding", b"gzip"))
        await self._send(headers, pieces, size)

    def _headers(self, start: int, end: int, *, live: bool) -> list[Header]:
        state = self._state
        return [
            *place_headers(state, end),
            *cache_headers(state, end, live=live, private=self._private),
            (b"etag", str(EntityTag.of(state, start, end)).encode()),
        ]

    async def _send(self, headers: list[Header], pieces: Sequence[bytes], size: int) -> None:
        if size <= JOINED_BYTES:
            await self._responder.send_body(200, headers, b"".join(pieces))
            return
        await self._responder.start(200, [*headers, (b"content-length", b"%d" % size)])
        for piece in pieces:
            message = {"type": "http.response.body", "body": piece, "more_body": True}
            await self._responder.send(message)
        # Whoever made the pieces holds them until the client has taken most of them.
        await self._responder.send({"type": "http.response.body", "body": b""})


def _bracketed(pieces: Sequence[bytes]) -> list[bytes]:
    """Of JSON, one array."""
    whole = [b"["]
    for piece in pieces:
        if piece:
            if len(whole) > 1:
                whole.append(b",")
            whole.append(piece)
    whole.append(b"]")
    return whole
