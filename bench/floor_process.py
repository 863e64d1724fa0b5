"""A server that does nothing but hold clients and answer them all with the same bytes.

`python -m bench.floor_process` is the baseline of the fan-out benchmark: what a bare uvloop server
costs per delivery on this machine, with the same clients. It prints its port; every line of its
input is a sequence number to deliver.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import cast

_HEAD = (
    b"HTTP/1.1 200 OK\r\nelectric-handle: 1-1\r\nelectric-offset: %d_0\r\nelectric-cursor: 1\r\n"
    b"electric-up-to-date: \r\n"
)
_MESSAGE = (
    b'{"key":"\\"public\\".\\"items\\"/\\"run_1\\"","value":{"id":"run_1","seq":"%d"},'
    b'"headers":{"operation":"update","relation":["public","items"],"lsn":"1","last":true}}'
)
_UP_TO_DATE = b'{"headers":{"control":"up-to-date","global_last_seen_lsn":"1"}}'


class Held(asyncio.Protocol):
    """One client. What it asks is not looked at beyond its kind."""

    def __init__(self, polls: list[asyncio.Transport], streams: list[asyncio.Transport]) -> None:
        self._polls = polls
        self._streams = streams
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        if b"live_sse" in data:
            self._transport.write(_HEAD % 1 + b"transfer-encoding: chunked\r\n\r\n")
            self._streams.append(self._transport)
        elif b"live=true" in data:
            self._polls.append(self._transport)
        else:
            self._transport.write(_answer(1, b"[]"))


def _answer(offset: int, body: bytes) -> bytes:
    return b"%bcontent-length: %d\r\n\r\n%b" % (_HEAD % offset, len(body), body)


async def _main() -> None:
    polls: list[asyncio.Transport] = []
    streams: list[asyncio.Transport] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Held(polls, streams), "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        message = _MESSAGE % int(line)
        answer = _answer(int(line), b"[%b,\n%b]" % (message, _UP_TO_DATE))
        waiting = polls.copy()
        polls.clear()
        for transport in waiting:
            transport.write(answer)
        events = b"data: %b\n\ndata: %b\n\n" % (message, _UP_TO_DATE)
        chunk = b"%x\r\n%b\r\n" % (len(events), events)
        for transport in streams:
            transport.write(chunk)
    os._exit(0)


if __name__ == "__main__":
    import uvloop

    uvloop.run(_main())
