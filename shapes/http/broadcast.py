"""The event streams at the end of one feed, which get the same at the same time."""

from __future__ import annotations

import time
from typing import Protocol

from engine.lsn import Offset
from shapes.following.feed import Batch, Feed, RotatedError
from shapes.streams.live.event_reader import Sink

SHARED_BYTES = 32 << 10
"""Batches up to this size are sent whole: all clients hold the same bytes."""

KEEP_ALIVE = b": keep-alive\n\n"


class Listener(Protocol):
    """One client's stream. Its methods must not block and must not raise."""

    @property
    def sink(self) -> Sink: ...

    def fall_behind(self, end: Offset) -> None:
        """It is sent nothing any more: it has to come up by itself from `end`, or from where it was
        when it joined, if that is later."""
        ...

    def fail(self, error: RotatedError) -> None:
        """The shape has ended."""
        ...


class Broadcast:
    """Streams of one feed: to the feed they are one reader.

    Those in step are in the same place, and have no state of their own that would change with a batch.
    The others keep the feed warm, so that they find in it what they missed.
    """

    __slots__ = ("_end", "_feed", "_in_step", "_sent", "_slow", "delivered")

    def __init__(self, feed: Feed) -> None:
        self.delivered = 0
        """How many times a batch has been sent to a client."""
        self._feed = feed
        self._end = Offset(0, 0)
        """Of the last batch."""
        self._sent = time.monotonic()
        self._in_step: dict[Listener, None] = {}
        self._slow: set[Listener] = set()

    def __len__(self) -> int:
        return len(self._in_step) + len(self._slow)

    def join(self, stream: Listener, processed: Offset) -> None:
        """The stream has read all there is before `processed`, where complete transactions end now.
        Raises RotatedError if the shape has ended."""
        self._feed.attach(self, processed)
        self._slow.discard(stream)
        self._in_step[stream] = None

    def pause(self, stream: Listener) -> None:
        """Send a stream nothing any more."""
        if stream in self._in_step:
            self._pause(stream, self._end)

    def leave(self, stream: Listener) -> None:
        """The stream ends, or has to read the log."""
        self.pause(stream)
        self._slow.discard(stream)
        if not self:
            self._feed.detach(self)

    def keep_alive(self, now: float, seconds: float) -> None:
        """Send a comment if nothing else has been sent for so long."""
        if self._in_step and now >= self._sent + seconds:
            self._feed.last_used = now
            self._send(KEEP_ALIVE, self._end)

    # -- as a reader of the feed -------------------------------------------------------------------

    def deliver(self, batch: Batch | None) -> bool:
        """Write the batch now to all whose connections take it."""
        if batch is not None and self._in_step and len(batch.events) <= SHARED_BYTES:
            self.delivered += self._send(batch.events, batch.end)
        else:
            # They find it in the log, or among the feed's recent batches. They send it in parts: what
            # a slow client leaves must not be all of it.
            for stream in list(self._in_step):
                self._pause(stream, self._end)
        return True

    def end(self, error: RotatedError) -> None:
        for stream in list(self._in_step):
            stream.fail(error)

    def _send(self, events: bytes, end: Offset) -> int:
        """Send to all in step, which are at `end` then; how many got it."""
        before, self._end = self._end, end
        self._sent = time.monotonic()
        full: list[Listener] = []
        late: list[Listener] = []
        for stream in self._in_step:
            sink = stream.sink
            if sink.behind:
                late.append(stream)
            elif sink.stream(events):
                full.append(stream)
        sent = len(self._in_step) - len(late)
        for stream in full:
            self._pause(stream, end)
        for stream in late:
            self._pause(stream, before)
        return sent

    def _pause(self, stream: Listener, end: Offset) -> None:
        del self._in_step[stream]
        self._slow.add(stream)
        stream.fall_behind(end)
