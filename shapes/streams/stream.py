"""What a stream is, and what is asked of it. Pure.

Positions count messages: the first has position 0, and what is appended next gets the position `tail`.
They are the sequence numbers of Trigger.dev's streams and, as `offset_of` writes them, the offsets of
Durable Streams.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

JSON_TYPE: Final = "application/json"

_OFFSET = re.compile(r"0{16}_([0-9]{16})")


def offset_of(position: int) -> str:
    """A position as a Durable Streams offset: sorts as text does."""
    return f"0000000000000000_{position:016}"


def position_of(offset: str) -> int | None:
    """The position of an offset, None if it is none that was ever given out by anybody. One beyond all
    others (`9…_9…`) is a position beyond every tail."""
    match = _OFFSET.fullmatch(offset)
    if match is not None:
        return int(match[1])
    if re.fullmatch(r"[0-9]{16}_[0-9]{16}", offset) is not None:
        return 2**63 - 1
    return None


class Chunk(NamedTuple):
    """Consecutive messages. `data` of JSON messages is joined by commas, without brackets."""

    position: int
    messages: int
    created_us: int
    data: bytes

    @property
    def end(self) -> int:
        return self.position + self.messages


class Stamp(NamedTuple):
    """A producer's request: which producer, and where it is."""

    producer: str
    epoch: int
    sequence: int


@dataclass(frozen=True, slots=True)
class StreamState:
    """A stream as Postgres has it.

    `lineage` tells where a fork's inherited messages are: (stream id, up to which position), the oldest
    first; its own begin at the last of these positions.
    """

    id: int
    environment: str
    path: str
    content_type: str
    head: int
    tail: int
    size: int
    """Bytes before the tail, those that were dropped or inherited as well."""
    closed: bool
    ttl: int | None
    expires_at: float | None
    """In seconds since 1970."""
    expires_text: str | None
    lineage: tuple[tuple[int, int], ...] = ()
    gone: bool = False
    """Deleted or expired, but still there for its forks."""
    first_part: int = 0
    """No older partition of the table has messages of it, inherited ones included."""

    @property
    def is_json(self) -> bool:
        return media_type(self.content_type) == JSON_TYPE


def media_type(content_type: str) -> str:
    """Without parameters, in lower case: what has to be equal."""
    return content_type.partition(";")[0].strip().lower()


@dataclass(frozen=True, slots=True)
class Append:
    """What is to be appended to a stream, in one step: `parts`, then perhaps its end.

    Each part is as many messages as `counts` says (mostly 1); parts of JSON are joined messages. With
    a stamp the whole request has its sequence number, or with `by_part` the first part, and the others
    the next ones: parts that are known are left out, and the rest is appended, as for Trigger.dev's
    ingest. `create` makes the stream, with this content type, if there is none.
    """

    environment: str
    path: str
    parts: tuple[bytes, ...]
    counts: tuple[int, ...]
    content_type: str | None = None
    close: bool = False
    stamp: Stamp | None = None
    by_part: bool = False
    sequence: bytes | None = None
    """`Stream-Seq`: has to be greater than the last one."""
    create: str | None = None


class Outcome(Enum):
    APPENDED = "appended"
    DUPLICATE = "duplicate"
    """It was appended before, or the stream was closed before without anything to append."""
    MISSING = "missing"
    GONE = "gone"
    """Deleted, but still there for its forks."""
    CLOSED = "closed"
    OTHER_TYPE = "other type"
    STALE_EPOCH = "stale epoch"
    EPOCH_WITHOUT_START = "epoch without start"
    """A new epoch has to begin with sequence 0."""
    GAP = "gap"
    OLD_SEQUENCE = "old sequence"
    TOO_LARGE = "too large"


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of an Append. `tail` and `closed` are the stream's (0 and False without one);
    `epoch` and `last` are where its producer is now, `last` -1 if nothing of it was appended."""

    outcome: Outcome
    tail: int = 0
    closed: bool = False
    epoch: int = 0
    last: int = -1
