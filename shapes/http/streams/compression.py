"""Compressing what is answered, for clients that want it."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Sequence
from typing import Final

from shapes.streams.stream import media_type

LEAST_BYTES: Final = 1024
"""Less is not worth it."""

QUICK_BYTES: Final = 32 << 10
"""More would hold up everybody else, so a thread does it."""

_LEVEL: Final = 1
_GZIP_FORMAT: Final = 31
_GZIP = re.compile(rb"(?:^|,)[ \t]*(?:x-)?gzip[ \t]*(?:;[ \t]*q=([0-9.]*)[ \t]*)?(?=,|$)")
_DENSE = ("image/", "video/", "audio/", "application/zip", "application/gzip", "application/zstd")
"""Media types that gain nothing."""


def wants_gzip(accepted: bytes | None) -> bool:
    """Whether `accept-encoding` names gzip, with a weight that is not 0."""
    if accepted is None:
        return False
    match = _GZIP.search(accepted.lower())
    return match is not None and (match[1] is None or match[1].strip(b"0.") != b"")


def is_dense(content_type: str) -> bool:
    kind = media_type(content_type)
    return kind.startswith(_DENSE) and kind != "image/svg+xml"


async def gzipped(pieces: Sequence[bytes]) -> bytes:
    """The pieces as one body, compressed."""
    if sum(map(len, pieces)) <= QUICK_BYTES:
        return _compress(pieces)
    return await asyncio.to_thread(_compress, pieces)


def _compress(pieces: Sequence[bytes]) -> bytes:
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_FORMAT)
    return b"".join([*(packer.compress(piece) for piece in pieces), packer.flush()])
