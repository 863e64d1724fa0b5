"""The rules of appending: what becomes of a request, given the stream and its producers. Pure.

They are those of Durable Streams, and with `by_part` those of Trigger.dev's ingest. Everything is
checked before anything changes. Requests for the same stream are judged one after the other, each
against what those before it have made of the stream.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from shapes.streams.notice import CLOSED, Notice
from shapes.streams.stream import Append, Appended, Outcome, Stamp, media_type

MOST_BYTES: Final = 16 << 20
"""One request may append so much."""

_LATEST = 9_223_000_000_000_000_000
"""There are hardly later times in Postgres."""

_STEP = 20
"""The expiry moves once it is behind by one part in so many of the TTL: it is in an index."""


@dataclass(slots=True)
class Target:
    """A stream that requests are judged against, and what they make of it.

    Times are in microseconds since 1970; `now` is the moment of appending. `producers` has those that
    the requests need, as (epoch, last sequence).
    """

    id: int
    content_type: str
    tail: int
    bytes: int
    now: int
    closed: bool = False
    closed_by: Stamp | None = None
    last_sequence: bytes | None = None
    ttl: int | None = None
    """In seconds."""
    expires_at: int | None = None
    forks: int = 0
    deleted: bool = False
    producers: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])

    chunks: list[Notice] = field(default_factory=list[Notice])
    """What is to be stored: positions, and data that is never left out."""
    ends: list[int] = field(default_factory=list[int])
    """How many bytes of the stream there are up to the end of each chunk."""
    ended: bool = False
    """Whether it is closed now, without a last chunk that would say so."""
    moved: set[str] = field(default_factory=set[str])
    """The producers that are elsewhere now."""
    changed: bool = False
    """Whether something else than the tail is another than before."""

    @property
    def notices(self) -> list[Notice]:
        """What readers are told."""
        if not self.ended:
            return self.chunks
        return [*self.chunks, Notice(self.id, self.tail, 0, CLOSED, self.now, b"")]


def judge(target: Target | None, request: Append) -> Appended:
    """What becomes of a request; `target` changes if it is accepted. None: there is no such stream."""
    if target is None:
        return Appended(Outcome.MISSING)
    if target.deleted or (target.expires_at is not None and target.expires_at <= target.now):
        # An expired one without forks is as good as missing.
        return Appended(Outcome.GONE if target.deleted or target.forks else Outcome.MISSING)
    outcome, skipped = _checked(target, request)
    if outcome is Outcome.APPENDED:
        _accept(target, request, skipped)
    if outcome is Outcome.APPENDED or outcome is Outcome.DUPLICATE:
        _put_off_expiry(target)
    epoch, last = 0, -1
    if request.stamp is not None:
        epoch, last = target.producers.get(request.stamp.producer, (request.stamp.epoch, -1))
    return Appended(outcome, target.tail, target.closed, epoch, last)


def _checked(target: Target, request: Append) -> tuple[Outcome, int]:
    """The outcome, and how many of the parts are known already."""
    parts, stamp = request.parts, request.stamp
    if target.closed:
        return _when_closed(target, request), 0
    if (
        parts
        and request.content_type is not None
        and request.content_type != target.content_type
        and media_type(request.content_type) != media_type(target.content_type)
    ):
        return Outcome.OTHER_TYPE, 0
    skipped = 0
    if stamp is not None:
        if request.by_part:
            outcome, skipped = _ingest(target, request, stamp)
        else:
            outcome = _produce(target, stamp)
        if outcome is not Outcome.APPENDED:
            return outcome, 0
    last = target.last_sequence
    if request.sequence is not None and last is not None and request.sequence <= last:
        return Outcome.OLD_SEQUENCE, 0
    return Outcome.APPENDED, skipped


def _when_closed(target: Target, request: Append) -> Outcome:
    stamp = request.stamp
    if stamp is None:
        return Outcome.DUPLICATE if request.close and not request.parts else Outcome.CLOSED
    if not request.by_part or not request.parts:
        return Outcome.DUPLICATE if stamp == target.closed_by else Outcome.CLOSED
    outcome, skipped = _ingest(target, request, stamp)
    if outcome is Outcome.DUPLICATE or skipped == len(request.parts):
        # All of it was stored before the end.
        return Outcome.DUPLICATE
    return Outcome.CLOSED


def _produce(target: Target, stamp: Stamp) -> Outcome:
    """The rules of idempotent producers."""
    known = target.producers.get(stamp.producer)
    if known is None:
        return Outcome.APPENDED if stamp.sequence == 0 else Outcome.GAP
    epoch, last = known
    if stamp.epoch < epoch:
        return Outcome.STALE_EPOCH
    if stamp.epoch > epoch:
        return Outcome.APPENDED if stamp.sequence == 0 else Outcome.EPOCH_WITHOUT_START
    if stamp.sequence <= last:
        return Outcome.DUPLICATE
    return Outcome.APPENDED if stamp.sequence == last + 1 else Outcome.GAP


def _ingest(target: Target, request: Append, stamp: Stamp) -> tuple[Outcome, int]:
    """Parts have the numbers, whatever epoch they come in, and those that are known are left out. An
    epoch only says who may go on; without parts it is claimed."""
    epoch, last = target.producers.get(stamp.producer, (stamp.epoch, -1))
    if stamp.epoch < epoch:
        return Outcome.STALE_EPOCH, 0
    if not request.parts:
        return Outcome.APPENDED, 0
    skipped = last + 1 - stamp.sequence
    if skipped < 0:
        return Outcome.GAP, 0
    if skipped < len(request.parts):
        return Outcome.APPENDED, skipped
    if request.close or stamp.epoch > epoch:
        return Outcome.APPENDED, len(request.parts)
    return Outcome.DUPLICATE, 0


def _accept(target: Target, request: Append, skipped: int) -> None:
    parts, counts, stamp = request.parts, request.counts, request.stamp
    for number in range(skipped, len(parts)):
        chunk = Notice(target.id, target.tail, counts[number], 0, target.now, parts[number])
        target.chunks.append(chunk)
        target.tail += counts[number]
        target.bytes += len(parts[number])
        target.ends.append(target.bytes)
    if stamp is not None:
        sequence = stamp.sequence
        if request.by_part:
            _, known = target.producers.get(stamp.producer, (0, -1))
            sequence = max(known, stamp.sequence + len(parts) - 1) if parts else known
        target.producers[stamp.producer] = (stamp.epoch, sequence)
        target.moved.add(stamp.producer)
    if request.sequence is not None:
        target.last_sequence = request.sequence
        target.changed = True
    if request.close:
        target.closed = target.changed = True
        target.closed_by = stamp
        if skipped < len(parts):
            target.chunks[-1] = target.chunks[-1]._replace(flags=CLOSED)
        else:
            target.ended = True


def _put_off_expiry(target: Target) -> None:
    if target.ttl is None:
        return
    later = min(target.now + target.ttl * 1_000_000, _LATEST)
    if target.expires_at is None or later - target.expires_at >= target.ttl * 1_000_000 // _STEP:
        target.expires_at = later
        target.changed = True
