"""Headers that tell of a stream, and of what was read of it. Pure."""

from __future__ import annotations

import re
from typing import Final

from shapes.streams.stream import StreamState, media_type, offset_of

Header = tuple[bytes, bytes]

NO_STORE: Final[Header] = (b"cache-control", b"no-store")
CLOSED: Final[Header] = (b"stream-closed", b"true")
UP_TO_DATE: Final[Header] = (b"stream-up-to-date", b"true")
SANDBOX: Final[Header] = (b"content-security-policy", b"sandbox")

_PRINTABLE = re.compile(r"[\x20-\x7e]+")
_ACTIVE: Final = frozenset(
    ("text/html", "text/xml", "application/xhtml+xml", "application/xml", "image/svg+xml")
)
"""Types that browsers run scripts of."""
_LASTING: Final = b"max-age=60, stale-while-revalidate=300"
_CHECKED: Final = b"no-cache"


def content_type(state: StreamState) -> Header:
    """As it was given; streams made in SQL may have one that is none."""
    text = state.content_type
    if _PRINTABLE.fullmatch(text) is None:
        text = "application/octet-stream"
    return b"content-type", text.encode("ascii")


def shield(state: StreamState) -> list[Header]:
    """What somebody wrote must not run as a page of whoever serves it here."""
    return [SANDBOX] if media_type(state.content_type) in _ACTIVE else []


def next_offset(position: int) -> Header:
    return b"stream-next-offset", offset_of(position).encode()


def place_headers(state: StreamState, end: int) -> list[Header]:
    """Where a client is that has been sent everything up to `end`."""
    headers = [next_offset(end)]
    if end >= state.tail:
        headers.append(UP_TO_DATE)
        if state.closed:
            headers.append(CLOSED)
    return headers


def cache_headers(state: StreamState, end: int, *, live: bool, private: bool) -> list[Header]:
    """How long caches may keep what was read up to `end`.

    What is there never changes, but more may come after it, which whoever reads after an append must
    see; live reads have a cursor for that. What is read from a cache does not keep a stream from
    expiring.
    """
    open_end = end >= state.tail and not state.closed
    expires = state.ttl is not None or state.expires_at is not None
    lasts = not expires and (live or not open_end)
    whose = b"private" if private else b"public"
    return [
        (b"cache-control", b"%b, %b" % (whose, _LASTING if lasts else _CHECKED)),
        (b"vary", b"authorization, accept-encoding"),
    ]


def description(state: StreamState) -> list[Header]:
    """What HEAD tells."""
    headers = [content_type(state), next_offset(state.tail), NO_STORE]
    if state.ttl is not None:
        headers.append((b"stream-ttl", b"%d" % state.ttl))
    if state.expires_text is not None:
        headers.append((b"stream-expires-at", state.expires_text.encode("latin-1")))
    if state.closed:
        headers.append(CLOSED)
    return headers
