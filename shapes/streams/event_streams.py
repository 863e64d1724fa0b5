"""Readers of streams that wait for more: event streams and long polls."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from shapes.access.grant import Grant
from shapes.access.leases import Leases
from shapes.streams.hub import LiveStream, StreamHub
from shapes.streams.stream import Chunk, StreamState


class Sink(Protocol):
    """A client's end of a response. When the client goes, the task that serves it is cancelled."""

    @property
    def behind(self) -> bool:
        """Whether the client has not taken what was sent to it, or is gone: send nothing then."""
        ...

    def stream(self, data: bytes) -> bool:
        """Send now; True if that makes the client `behind`."""
        ...

    async def drained(self) -> None:
        """Wait until the client has taken what was sent to it."""
        ...


class Framing(Protocol):
    """How messages are written for a client. Pure. Equal framings (by `==`; they have to be hashable)
    write the same: what one wrote is sent to the readers of all."""

    def __hash__(self) -> int: ...

    def encode(self, chunks: list[Chunk], tail: int, closed: bool) -> tuple[bytes, int]:
        """Frames of chunks, and the position that a client that has them is at.

        `tail` is where the stream ends now, `closed` whether that is for good: not if more chunks
        follow these. What is at the end of the chunks may be held back until more comes, if neither
        `closed` is set. It is called without chunks for a reader at the end of a stream that has
        been closed.
        """
        ...

    def idle(self, position: int, closed: bool) -> bytes:
        """What keeps a connection alive; empty for nothing."""
        ...


class ChunkStore(Protocol):
    """Where the messages are."""

    async def chunks(self, state: StreamState, position: int, most_bytes: int) -> list[Chunk]: ...


@dataclass(frozen=True, slots=True)
class Policy:
    """How long a reader is served. Times are in seconds."""

    lifetime: float | None = None
    """Then it ends, in order; never before LEAST_SECONDS."""
    keep_alive: float | None = None
    """Without anything else to send, `Framing.idle` is sent so often."""
    idle_end: float | None = None
    """It ends when nothing was appended for so long."""
    ends_when_closed: bool = True
    """It ends when the stream is closed and the reader has got all."""
    abort_on_stop: bool = False
    """When the server stops, `run` says STOPPED: the answer is to be broken off, not ended."""


class Ending(Enum):
    """Why a reader is not served any longer."""

    CLOSED = "closed"
    """The stream is closed, and the reader has got all of it."""
    LIFETIME = "lifetime"
    IDLE = "idle"
    GONE = "gone"
    """The stream was deleted."""
    FORBIDDEN = "forbidden"
    """What allowed to read does not any longer."""
    STOPPED = "stopped"
    """The server stops."""


class EventStreams:
    """All who wait for streams on a node."""

    def __init__(self, hub: StreamHub, store: ChunkStore, leases: Leases) -> None:
        self._hub = hub
        self._store = store
        self._leases = leases
        self.delivered = 0

    async def run(
        self,
        live: LiveStream,
        position: int,
        sink: Sink,
        framing: Framing,
        policy: Policy,
        grant: Grant | None = None,
    ) -> Ending:
        """Send what a stream has from a position on, and what comes, until an end. The response's
        headers have been sent before. Raises what the store raises, BelowHorizonError above all."""
        raise NotImplementedError

    async def long_poll(
        self, live: LiveStream, position: int, seconds: float, grant: Grant | None = None
    ) -> bool:
        """Wait until a stream reaches beyond a position, is closed or gone; False if it did not in
        time, or the grant ended."""
        raise NotImplementedError

    def stop(self) -> None:
        """Let everybody, and those that still come, end soon."""
