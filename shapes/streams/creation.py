"""Making streams, from nothing or as forks of others."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NewStream:
    """What somebody wants a stream to be, as he said it: None or 0 where he said nothing."""

    environment: str
    path: str
    content_type: str | None = None
    """Otherwise the source's, or application/octet-stream."""
    ttl: int | None = None
    """In seconds; not together with `expires_at`. A fork has its source's if neither is given."""
    expires_at: float | None = None
    """In seconds since 1970."""
    expires_text: str | None = None
    closed: bool = False
    data: bytes = b""
    """The first messages: the request's body as it came. Of JSON an array's elements."""
    source: str | None = None
    """Path of the stream to fork."""
    fork_position: int | None = None
    """Otherwise the source's tail."""
    sub_offset: int = 0
    """How much of the chunk at the fork's position to take along: bytes, or messages of JSON."""
