"""What a PUT says of the stream that it makes. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shapes.http.api.routes import path_segments
from shapes.http.streams.fields import (
    LARGEST_NUMBER,
    Fields,
    StreamRequestError,
    check_encoding,
    content_type_of,
    count_of,
    wants_close,
)
from shapes.streams.path import flaw_of
from shapes.streams.stream import position_of

MOUNT: Final = "/v1/stream/"
"""Streams' paths begin behind it."""

LONGEST_LIFE: Final = 10**10
"""Seconds, some 300 years: later moments are none that Postgres could compute with."""

_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """None where nothing was said. `source` is the path of the stream to fork."""

    content_type: str | None
    ttl: int | None
    expires_at: float | None
    expires_text: str | None
    closed: bool
    source: str | None
    fork_position: int | None
    sub_offset: int


def read_creation(fields: Fields) -> CreateRequest:
    """Raises StreamRequestError."""
    check_encoding(fields)
    ttl = count_of(fields, b"stream-ttl", LONGEST_LIFE)
    expires_text, expires_at = _expiry(fields)
    if ttl is not None and expires_text is not None:
        raise StreamRequestError("Stream-TTL and Stream-Expires-At exclude each other")
    source = source_of(fields)
    sub_offset = count_of(fields, b"stream-fork-sub-offset", LARGEST_NUMBER)
    fork_position = _fork_position(fields)
    if source is None and (sub_offset is not None or fork_position is not None):
        raise StreamRequestError("where to fork is said without Stream-Forked-From")
    return CreateRequest(
        content_type_of(fields),
        ttl,
        expires_at,
        expires_text,
        wants_close(fields),
        source,
        fork_position,
        sub_offset or 0,
    )


def source_of(fields: Fields) -> str | None:
    """The path of the stream to fork, in the form that paths of requests have. Raises
    StreamRequestError.

    It is given as the path of the stream's URL, before which a proxy may have put something.
    """
    value = fields.get(b"stream-forked-from")
    if value is None:
        return None
    try:
        text = value.decode("ascii")
    except UnicodeDecodeError:
        raise _no_source() from None
    _, mount, path = text.partition(MOUNT)
    segments = path_segments(f"/{path if mount else text.removeprefix('/')}".encode())
    if segments is None or any("/" in segment for segment in segments):
        raise _no_source()
    return "/".join(segments)


def check_path(path: str) -> None:
    """Raises StreamRequestError if no stream can have this path."""
    flaw = flaw_of(path)
    if flaw is not None:
        raise StreamRequestError(f"the stream's path {flaw}")


def _no_source() -> StreamRequestError:
    return StreamRequestError(
        f"Stream-Forked-From must be the path of a stream's URL, e.g. {MOUNT}name"
    )


def _fork_position(fields: Fields) -> int | None:
    value = fields.get(b"stream-fork-offset")
    if value is None:
        return None
    position = position_of(value.decode("latin-1"))
    if position is None:
        raise StreamRequestError("Stream-Fork-Offset is no offset of a stream")
    return position


def _expiry(fields: Fields) -> tuple[str | None, float | None]:
    value = fields.get(b"stream-expires-at")
    if value is None:
        return None, None
    text = value.decode("latin-1")
    try:
        if _TIME.fullmatch(text) is None:
            raise ValueError("of another form")
        return text, datetime.fromisoformat(text.upper()).timestamp()
    except (ValueError, OverflowError):
        raise StreamRequestError(
            "Stream-Expires-At must be a time by RFC 3339, e.g. 2030-01-31T12:00:00Z"
        ) from None
