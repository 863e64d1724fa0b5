"""Paths of streams: which there can be, and ids as segments of them. Pure."""

from __future__ import annotations

import re
from typing import Final

LONGEST_PATH: Final = 1024
"""Bytes."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def flaw_of(path: str) -> str | None:
    """Why no stream can have this path, which has no empty segments; `pgtide.create_stream` has the
    same rules."""
    if len(path.encode()) > LONGEST_PATH:
        return f"is longer than {LONGEST_PATH} bytes"
    if _CONTROL.search(path) is not None:
        return "has a control character"
    return None


def segment_of(identity: str) -> str:
    """An id as one segment of a stream's path: what would be a slash in it is none there."""
    if "%" in identity or "/" in identity:
        return identity.replace("%", "%25").replace("/", "%2F")
    return identity


def identity_of(segment: str) -> str:
    """The id that has this segment."""
    return segment.replace("%2F", "/").replace("%25", "%") if "%" in segment else segment
