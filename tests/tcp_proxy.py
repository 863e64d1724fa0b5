"""A TCP proxy whose connections can be cut, stalled, delayed, or held at a chosen moment."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

PIECE = 1 << 16


class TcpProxy:
    """Forwards 127.0.0.1:`port` to `host`:`to_port`.

    `stall` keeps the present connections open but lets no byte through: what a dead peer looks like
    when something in between still answers for it; later ones are not affected. `refuse` ends new
    connections at once. `hold` stalls the connection whose client first sends these bytes, before
    they are forwarded, and sets `held`.
    """

    def __init__(self, to_port: int, host: str = "127.0.0.1") -> None:
        self.port = 0
        self.delay = 0.0
        self.held = asyncio.Event()
        self._target = (host, to_port)
        self._refusing = False
        self._flowing: set[asyncio.Event] = set()
        self._marker: bytes | None = None
        self._released = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def connections(self) -> int:
        return len(self._connections)

    def cut(self) -> int:
        """End every connection now, with a reset; how many there were."""
        cut = len(self._connections)
        for task in self._connections:
            task.cancel()
        return cut

    def stall(self) -> None:
        for flowing in self._flowing:
            flowing.clear()

    def flow(self) -> None:
        for flowing in self._flowing:
            flowing.set()

    def refuse(self) -> None:
        """Like a server that is down: cut what there is, accept nothing."""
        self._refusing = True
        self.cut()

    def accept(self) -> None:
        self._refusing = False

    def hold(self, marker: bytes) -> None:
        self._marker = marker
        self.held.clear()
        self._released.clear()

    def release(self) -> None:
        self._marker = None
        self._released.set()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[TcpProxy]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.flow()
            tasks = list(self._connections)
            self.cut()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        # Also if it is cut before it has begun, when nothing in it would do so.
        task.add_done_callback(lambda _: writer.transport.abort())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opposite: asyncio.StreamWriter | None = None
        flowing = asyncio.Event()
        flowing.set()
        self._flowing.add(flowing)
        # Errors end the connection, as they should; cancelling is how `cut` does it.
        with contextlib.suppress(OSError, asyncio.CancelledError):
            try:
                far, opposite = await asyncio.open_connection(*self._target)
                up = asyncio.create_task(self._pump(reader, opposite, flowing, from_client=True))
                down = asyncio.create_task(self._pump(far, writer, flowing, from_client=False))
                try:
                    await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
                    if up.done() and up.exception() is None:
                        await asyncio.wait([down], timeout=1)
                finally:
                    up.cancel()
                    down.cancel()
                    await asyncio.gather(up, down, return_exceptions=True)
            finally:
                self._flowing.discard(flowing)
                writer.transport.abort()
                if opposite is not None:
                    opposite.transport.abort()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        flowing: asyncio.Event,
        *,
        from_client: bool,
    ) -> None:
        while data := await reader.read(PIECE):
            if self.delay:
                await asyncio.sleep(self.delay)
            await flowing.wait()
            if from_client and self._marker is not None and self._marker in data:
                self.held.set()
                await self._released.wait()
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
