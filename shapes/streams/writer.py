"""Appends to streams by group commit: what comes while a transaction is under way goes into the next one."""

from __future__ import annotations

from shapes.database import Database
from shapes.streams.stream import Append, Appended


class StreamWriter:
    """Appends for the requests of one node."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, request: Append) -> Appended:
        """What became of it; what the protocol refuses is an outcome, too.

        Raises DatabaseUnavailableError, also if it is not known whether it was committed.
        """
        raise NotImplementedError

    async def last(self, environment: str, path: str, producer: str) -> int:
        """The last sequence of a producer, -1 if it has appended nothing. Raises
        DatabaseUnavailableError."""
        raise NotImplementedError

    async def close(self) -> None:
        """End what is under way, and the connections."""
