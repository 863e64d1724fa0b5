"""What goes over the wire: offsets, messages, header values. Pure.

Follows Electric's HTTP shape API, so that its clients work unmodified.
"""

from __future__ import annotations

import re
from enum import Enum

import orjson

from engine.lsn import MAX_LSN, Offset

JSON_TYPE = b"application/json; charset=utf-8"
SSE_TYPE = b"text/event-stream"

EXPOSED_HEADERS = (
    b"electric-cursor,electric-handle,electric-has-data,electric-offset,electric-schema,"
    b"electric-up-to-date,electric-internal-known-error,retry-after"
)

SHAPE_METHODS = b"GET, POST, HEAD, DELETE, OPTIONS"
MUST_REFETCH = b'[{"headers":{"control":"must-refetch"}}]'

CURSOR_EPOCH = 1_728_432_000
"""2024-10-09T00:00:00Z: cursors count from here."""

INFINITE = 2**63


class Special(Enum):
    """Request offsets that are no positions: read from the beginning, or skip all history."""

    START = "-1"
    NOW = "now"

    def __str__(self) -> str:
        return self.value


class LogOffset(Offset):
    """A position. With `lsn` 0 it is one in the snapshot: `index` is a chunk, INFINITE its end."""

    __slots__ = ()

    @property
    def in_snapshot(self) -> bool:
        return self.lsn == 0

    def __str__(self) -> str:
        index = "inf" if self.index == INFINITE else self.index
        return f"{self.lsn}_{index}"


RequestOffset = Special | LogOffset

SNAPSHOT_END = LogOffset(0, INFINITE)

_OFFSET = re.compile(r"(\d{1,20})_(\d{1,18}|inf)", re.ASCII)


def parse_offset(text: str) -> RequestOffset | None:
    """Read an offset; None if it does not follow the grammar."""
    if text in ("-1", "-1_0"):
        return Special.START
    if text == "now":
        return Special.NOW
    match = _OFFSET.fullmatch(text)
    if match is None or int(match[1]) > MAX_LSN:
        return None
    return LogOffset(int(match[1]), INFINITE if match[2] == "inf" else int(match[2]))


def up_to_date(lsn: int) -> bytes:
    """The control message that ends a body: every commit that begins before `lsn` has been delivered.

    Clients of several shapes take the number for the last LSN that they have seen whole, so it must
    be less than that of the next commit, which may begin exactly at `lsn`.
    """
    seen = max(lsn - 1, 0)
    return b'{"headers":{"control":"up-to-date","global_last_seen_lsn":"%d"}}' % seen


def snapshot_end(xmin: int, xmax: int, xip: tuple[int, ...]) -> bytes:
    """The control message that ends a snapshot and says which transactions it has seen."""
    return orjson.dumps(
        {
            "headers": {
                "control": "snapshot-end",
                "xmin": str(xmin),
                "xmax": str(xmax),
                "xip_list": [str(xid) for xid in xip],
            }
        }
    )


def sse_events(messages: list[bytes]) -> bytes:
    """Messages as server-sent events."""
    return b"".join([b"data: %b\n\n" % message for message in messages])


def next_cursor(now: float, period: float, previous: str, lsn: int = 0) -> int:
    """The cursor of a live answer at `now` (Unix seconds) that ends at `lsn`, given the request's own.

    Always greater than `previous`, so that a cache never answers a poll with its own predecessor:
    the end of the present `period` (seconds) or, if that has been given already, the LSN added to it.
    Both only grow, so does their sum; and it is the same for all who get the same answer, whatever
    cursors they came with, so that their next requests are equal and caches join them.
    """
    length = int(period)
    if length < 1:
        return 0
    elapsed = int(now) - CURSOR_EPOCH
    boundary = -(-elapsed // length) * length
    known = previous.isascii() and previous.isdigit() and len(previous) < 200
    last = int(previous) if known else 0
    if boundary > last:
        return boundary
    # A cursor that is ahead of both is not ours, or time was turned back.
    return boundary + lsn if boundary + lsn > last else last + 1 + lsn % 3600
