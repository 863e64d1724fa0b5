"""What the WAL tells of streams: a logical message per append, or per many appends together. Pure.

The message is transactional, has the prefix `PREFIX`, and its content is one or more entries, each a
header (`_HEADER`, big-endian) and, if it is small enough, what was appended. `pgtide.stream_notice` in
sql/0005_streams.sql writes the same. In the log, it is a change with the operation `S` whose new row is
the content, its bytes taken for Latin-1 characters.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Final, NamedTuple

from engine.replication.stream_notices import NOTICE_PREFIX

PREFIX: Final = NOTICE_PREFIX

INLINE_BYTES: Final = 8192
"""Larger chunks are not in the notice; readers find them in the table."""

CLOSED: Final = 1
GONE: Final = 2
MADE: Final = 4
"""A fork was made. Other streams are made by their first message, or are nobody's concern before."""

_HEADER = Struct(">qqiiqi")
_LEFT_OUT = -1


class Notice(NamedTuple):
    """Something became of a stream: `messages` were appended at `position`, or it was closed or made
    (`flags`), or both. `created_us` is in microseconds since 1970. `data` is None if it was left
    out."""

    stream_id: int
    position: int
    messages: int
    flags: int
    created_us: int
    data: bytes | None

    @property
    def end(self) -> int:
        return self.position + self.messages


def pack_notices(notices: Iterable[Notice]) -> bytes:
    """The content of a logical message. Data beyond INLINE_BYTES is left out."""
    parts: list[bytes] = []
    for notice in notices:
        data = notice.data
        if data is None or len(data) > INLINE_BYTES:
            parts.append(_HEADER.pack(*notice[:5], _LEFT_OUT))
        else:
            parts += (_HEADER.pack(*notice[:5], len(data)), data)
    return b"".join(parts)


def unpack_notices(content: bytes) -> list[Notice]:
    """The entries of a message. Raises ValueError if it is none: anybody may write messages."""
    notices: list[Notice] = []
    place = 0
    while place < len(content):
        if len(content) - place < _HEADER.size:
            raise ValueError("a notice of a stream is cut short")
        stream_id, position, messages, flags, created_us, length = _HEADER.unpack_from(
            content, place
        )
        place += _HEADER.size
        data = None
        if length != _LEFT_OUT:
            data = content[place : place + length]
            if length < 0 or len(data) != length:
                raise ValueError("a notice of a stream is cut short")
            place += length
        notices.append(Notice(stream_id, position, messages, flags, created_us, data))
    return notices
