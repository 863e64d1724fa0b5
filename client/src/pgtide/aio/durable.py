"""Streams by their path, bound to no run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable
from datetime import datetime, timedelta
from typing import Any

from pgtide.aio.default import HasDriver, driver_of
from pgtide.aio.driver import Subscription
from pgtide.aio.writing import Pipe, Writer
from pgtide.protocol import durable_streams
from pgtide.protocol.channels import GIVE_UP_SECONDS
from pgtide.protocol.durable_channel import DurableChannel
from pgtide.protocol.durable_streams import JSON, LIVE_SECONDS, Start, StreamInfo, StreamPart
from pgtide.protocol.exchange import Patience
from pgtide.protocol.outbox import Outgoing


class Stream:
    """A stream by its path, e.g. `Stream("chats/42")`: values, text or bytes, in the order of their
    appending, for whoever may read that path. Nothing is asked of the server before a method is called.
    """

    def __init__(
        self, path: str, *, client: HasDriver | None = None, access_token: str | None = None
    ) -> None:
        self.path = path
        durable_streams.stream_path(path)
        self._driver = driver_of(client)
        self._token = access_token
        self._content_type: str | None = None
        self._channel: DurableChannel | None = None
        self._appending = asyncio.Lock()

    async def create(
        self,
        *,
        content_type: str = JSON,
        data: Any = None,
        ttl: float | timedelta | None = None,
        expires_at: datetime | None = None,
        closed: bool = False,
    ) -> bool:
        plan = durable_streams.create(
            self.path,
            content_type=content_type,
            data=data,
            ttl=ttl,
            expires_at=expires_at,
            closed=closed,
            access_token=self._token,
        )
        made = await self._driver().run(plan)
        self._content_type = content_type
        return made

    async def info(self) -> StreamInfo:
        return await self._driver().run(durable_streams.info(self.path, access_token=self._token))

    async def append(self, value: Any) -> None:
        """Append a value (JSON), text or bytes, whatever happens to the connection: once. Raises
        NotFoundError if the stream was not created, StreamClosedError if it is closed."""
        async with self._appending:
            channel, self._channel = self._channel, None
            driver = self._driver()
            if channel is None:
                channel = DurableChannel(self.path, self._content_type, access_token=self._token)
                await driver.run(channel.open())
            batch = Outgoing(0, (channel.encode(value),))
            await driver.run(channel.send(batch, Patience()))
            # Of one that failed it is not known where it is: then the next append has another one.
            self._content_type, self._channel = channel.content_type, channel

    def read(
        self,
        *,
        after: str | StreamPart | None = None,
        start: Start = "beginning",
        live: bool = True,
        max_retries: int | None = None,
        live_seconds: float = LIVE_SECONDS,
    ) -> Subscription[StreamPart]:
        values = durable_streams.read(
            self.path,
            after=after,
            start=start,
            live=live,
            access_token=self._token,
            max_retries=max_retries,
            live_seconds=live_seconds,
        )
        return Subscription(self._driver, values)

    def writer(
        self,
        *,
        producer: str | None = None,
        epoch: int = 0,
        close: bool = False,
        give_up_seconds: float = GIVE_UP_SECONDS,
    ) -> Writer[Any]:
        """Write: `async with stream.writer() as out: await out.write("Hel")`.

        A named `producer` sends each value by itself; `out.position` is how many of them are stored, so
        that a process that is started again goes on with the value of this number. A higher `epoch`
        takes over from an earlier process, which can write no more, and counts anew from 0.
        """
        channel = DurableChannel(self.path, self._content_type, producer, epoch, self._token)
        return Writer(self._driver, channel, close=close, give_up_seconds=give_up_seconds)

    def pipe(
        self,
        source: AsyncIterable[Any] | Iterable[Any],
        *,
        producer: str | None = None,
        epoch: int = 0,
        close: bool = False,
        give_up_seconds: float = GIVE_UP_SECONDS,
    ) -> Pipe[Any]:
        """Hand a source on to the stream: iterate over what this returns as over the source, or call
        `wait_until_complete()`. With a `producer`'s name, what is stored of a source that begins anew
        is not stored again."""
        writer = self.writer(
            producer=producer, epoch=epoch, close=close, give_up_seconds=give_up_seconds
        )
        return Pipe(writer, source)

    async def close(self) -> str:
        return await self._driver().run(durable_streams.close(self.path, access_token=self._token))

    async def delete(self) -> None:
        await self._driver().run(durable_streams.delete(self.path, access_token=self._token))


for _name in ("create", "info", "read", "close", "delete"):
    getattr(Stream, _name).__doc__ = getattr(durable_streams, _name).__doc__
