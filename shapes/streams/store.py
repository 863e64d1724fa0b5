"""Streams in Postgres: what is there, what was appended, and which come and go."""

from __future__ import annotations

from shapes.database import Database
from shapes.streams.creation import NewStream
from shapes.streams.stream import Chunk, Outcome, StreamState
from shapes.tail import Tail


class StreamStore:
    """Reads and makes streams.

    Every method raises DatabaseUnavailableError if Postgres cannot be reached.
    """

    def __init__(self, database: Database, tail: Tail) -> None:
        self._database = database
        self._tail = tail

    async def find(self, environment: str, path: str) -> StreamState | None:
        """The stream as it is now, as far as this node's tail has come: its messages may be read.

        None if there is none, or it has expired or was deleted; `gone` if forks still read from it.
        Raises NotReadyError if changes do not come in.
        """
        raise NotImplementedError

    async def touch(self, state: StreamState) -> None:
        """A read: the stream's time to live begins anew."""
        raise NotImplementedError

    async def create(self, new: NewStream) -> tuple[StreamState, bool]:
        """Make a stream; False if it is there already as it is wanted. Raises StreamRefusedError."""
        raise NotImplementedError

    async def delete(self, environment: str, path: str) -> Outcome:
        """APPENDED: it is deleted. MISSING. GONE: it was deleted before and its forks live on."""
        raise NotImplementedError

    async def page(self, state: StreamState, position: int, most_bytes: int) -> Chunk:
        """The messages from `position` on, up to about so many bytes (at least those that were
        appended together), as one chunk. Without messages at the stream's tail.

        It may end early: whoever has not reached the tail asks again. Raises BelowHorizonError.
        """
        raise NotImplementedError

    async def chunks(self, state: StreamState, position: int, most_bytes: int) -> list[Chunk]:
        """Like `page`, as they were appended: with the times of each."""
        raise NotImplementedError
