"""A store of streams in a database of its own, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import psycopg
import pytest

from engine.lsn import Offset
from shapes.database import Database
from shapes.streams.refusals import (
    Refusal,
    StreamRefusedError,
)
from shapes.streams.storage.creation import NewStream
from shapes.streams.storage.store import StreamStore
from shapes.streams.stream import StreamState

EVERYWHERE = 2**63


class Place:
    """A place in the log that is moved by hand."""

    def __init__(self) -> None:
        self.processed = Offset(EVERYWHERE, 0)
        self._moved = asyncio.Condition()

    async def connected(self) -> None:
        pass

    async def reached(self, lsn: int, timeout: float) -> bool:
        async def wait() -> None:
            async with self._moved:
                await self._moved.wait_for(lambda: self.processed.lsn >= lsn)

        try:
            await asyncio.wait_for(wait(), timeout)
        except TimeoutError:
            return False
        return True

    async def move(self, lsn: int) -> None:
        async with self._moved:
            self.processed = Offset(lsn, 0)
            self._moved.notify_all()


class Counted(Database):
    """Counts the uses of connections for look-ups."""

    def __init__(self, url: str) -> None:
        super().__init__(url, 6, 10.0)
        self.uses = 0

    def lookups(
        self, line: str = "catalog"
    ) -> AbstractAsyncContextManager[psycopg.AsyncConnection]:
        self.uses += 1
        return super().lookups(line)


@dataclass
class Scene:
    """A store, and a connection of somebody else's."""

    store: StreamStore
    database: Counted
    place: Place
    connection: psycopg.AsyncConnection

    async def put(self, path: str, **fields: object) -> StreamState:
        state, created = await self.store.create(
            NewStream(environment="default", path=path, **fields)  # pyright: ignore[reportArgumentType]
        )
        assert created
        return state

    async def refused(self, path: str, **fields: object) -> Refusal:
        with pytest.raises(StreamRefusedError) as refused:
            await self.store.create(
                NewStream(environment="default", path=path, **fields)  # pyright: ignore[reportArgumentType]
            )
        return refused.value.reason

    async def find(self, path: str) -> StreamState | None:
        return await self.store.find("default", path)

    async def found(self, path: str) -> StreamState:
        state = await self.find(path)
        assert state is not None
        return state

    async def all(self, path: str, most: int = 1 << 20) -> bytes:
        """Everything from the head on, page by page."""
        state = await self.found(path)
        parts: list[bytes] = []
        position = state.head
        while position < state.tail:
            page = await self.store.page(state, position, most)
            assert page.position == position
            assert page.messages
            parts.append(page.data)
            position = page.end
        assert (await self.store.page(state, position, most)).messages == 0
        return (b"," if state.is_json else b"").join(parts)

    async def run(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        cursor = await self.connection.execute(statement.encode(), values)
        return await cursor.fetchall() if cursor.description else []

    async def append(self, path: str, data: bytes, messages: int = 1) -> None:
        await self.run(
            "select pgtide.append_chunk(path, %s, content_type, %s) from pgtide.streams "
            "where path = %s",
            *(data, messages, path),
        )


@asynccontextmanager
async def open_scene(database: str, connection: psycopg.AsyncConnection) -> AsyncGenerator[Scene]:
    own, place = Counted(database), Place()
    try:
        yield Scene(StreamStore(own, place), own, place, connection)
    finally:
        await own.close()
