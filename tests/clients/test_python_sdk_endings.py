"""How a block that writes to a stream ends when its run does, whatever is heard of it first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

import pgtide

KEY = "tr_dev_of-the-tests-0001"

_END = b'event: end\ndata: {"reason":"finished"}\n\n'
_TIME = b"2026-01-01T00:00:00.000Z"
_RUN = b'{"id":"run_1","status":"CANCELED","createdAt":"%b","finishedAt":"%b"}' % (_TIME, _TIME)
_EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-stream-version: v2\r\n"


class Server:
    """Takes no values: it says that the run is over, first to whoever watches for a stop, and to the
    one who sends only when `refuse` is set."""

    def __init__(self) -> None:
        self.sent = asyncio.Event()
        self.refuse = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await _head(reader):
                writer.write(await self._answer(*head))
        finally:
            writer.close()

    async def _answer(self, method: str, target: str) -> bytes:
        if method == "PUT":
            return _json(b"202 Accepted", b'{"version":"v1"}')
        if method == "POST":
            self.sent.set()
            await self.refuse.wait()
            return _json(b"400 Bad Request", b'{"error":"the run is over"}')
        if "/streams/" in target:
            await self.sent.wait()
            return b"%bcontent-length: %d\r\n\r\n%b" % (_EVENTS, len(_END), _END)
        return _json(b"200 OK", _RUN)


async def _head(reader: asyncio.StreamReader) -> tuple[str, str] | None:
    """Method and target of the next request, whose body is read."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    method, target, _ = head.split(" ", 2)
    for line in head.lower().splitlines():
        if line.startswith("content-length:"):
            await reader.readexactly(int(line.partition(":")[2]))
    return method, target


def _json(status: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(body)) + body


@asynccontextmanager
async def serving() -> AsyncGenerator[tuple[Server, pgtide.Client]]:
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    try:
        async with pgtide.Client(f"http://127.0.0.1:{port}", secret_key=KEY) as client:
            yield server, client
    finally:
        server.refuse.set()
        listening.close()


@pytest.mark.timeout(30)
async def test_a_block_ends_when_its_last_values_are_refused_after_the_stop() -> None:
    async with serving() as (server, client), client.streams.writer("run_1", "tokens") as out:
        await out.write("a")
        while out.stopped is None:
            await asyncio.sleep(0.001)
        # Then leaving the block waits already, for what is on its way.
        asyncio.get_running_loop().call_later(0.05, server.refuse.set)
    assert out.stopped is not None
    assert out.stopped.run_is_over
