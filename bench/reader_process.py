"""The clients of a benchmark, in a process of their own: `python -m bench.reader_process`.

As light as Python allows, because they share the machine with what is measured: bare connections, no
HTTP library, no JSON. `bench.readers` starts it and speaks with it in lines: the first is a
`Plan` in JSON, answered by `ready` once every client is where it should be; then `take`, answered by
the receipts since the last time, as a flat JSON array of pairs (sequence number, nanoseconds of the
monotonic clock). The end of the input ends the process.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, cast

import orjson

Mode = Literal["long-poll", "sse", "open"]

OPENING_AT_A_TIME = 48

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_HANDLE = re.compile(rb"\r\nelectric-handle: ([^\r]+)\r\n", re.IGNORECASE)
_OFFSET = re.compile(rb"\r\nelectric-offset: ([^\r]+)\r\n", re.IGNORECASE)
_CLIENT = b"x-trigger-electric-version: 1\r\nx-trigger-api-version: 2025-07-16\r\n"
_CURSOR = re.compile(rb"\r\nelectric-cursor: ([^\r]+)\r\n", re.IGNORECASE)


class Request(NamedTuple):
    """A shape's address up to its offset, and the token for it, if there is one."""

    target: str
    token: str


@dataclass(frozen=True, slots=True)
class Plan:
    """`queries` are the shapes (`table=…&where=…`), one client each; what follows `path` in a request.

    `long-poll` and `sse` read each shape's snapshot and what came since, then follow it, so that
    all clients of a shape have the same handle; with `history` False they begin with what comes
    next. `open` does the first part only, over a few connections; a receipt then is the number of
    the shape in `queries`.

    `tokens` are the clients' own, in the same order; without them they have none. `sequence` is the
    field of a row that has its sequence number.
    """

    port: int
    mode: Mode
    queries: list[str]
    history: bool = True
    path: str = "/v1/shape?"
    tokens: list[str] = field(default_factory=list[str])
    sequence: str = "seq"

    def requests(self) -> list[Request]:
        """What each client asks for, without its place in the log."""
        tokens = self.tokens or [""] * len(self.queries)
        return [
            Request(self.path + query, token)
            for query, token in zip(self.queries, tokens, strict=True)
        ]


class BadAnswerError(Exception):
    """The server's answer is not what a benchmark can go on with."""


class Connection(asyncio.Protocol):
    """One keep-alive connection; whole answers go to `on_answer` as (head, body).

    With `on_part`, the body of an answer is streamed there as it comes instead.
    """

    def __init__(self, host: bytes) -> None:
        self._host = host
        self._headers = b"host: %b\r\n" % host
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self.on_answer: Callable[[bytes, bytes], None] = _ignore
        self.on_part: Callable[[bytearray], None] | None = None
        self.on_lost: Callable[[], None] = _ignore_loss
        self._streaming = False

    def authorize(self, token: str) -> None:
        """Send this token from now on, as the packages do that follow runs."""
        self._headers = b"host: %b\r\n" % self._host
        if token:
            self._headers += b"authorization: Bearer %b\r\n" % token.encode()
            self._headers += _CLIENT

    def get(self, target: str) -> None:
        assert self._transport is not None
        self._transport.write(b"GET %b HTTP/1.1\r\n%b\r\n" % (target.encode(), self._headers))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.on_lost()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        if self._streaming:
            assert self.on_part is not None
            self.on_part(buffer)
            return
        head_end = buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        body_start = head_end + 4
        head = bytes(buffer[:body_start])
        if not head.startswith(b"HTTP/1.1 200"):
            raise BadAnswerError(bytes(buffer[:600]).decode(errors="replace"))
        if self.on_part is not None:
            self._streaming = True
            del buffer[:body_start]
            self.on_part(buffer)
            return
        length = _LENGTH.search(head)
        if length is None:
            if not buffer.endswith(b"0\r\n\r\n"):
                return
            body = b"".join(_chunks(buffer, body_start))
        elif len(buffer) < body_start + int(length[1]):
            return
        else:
            body = bytes(buffer[body_start:])
        buffer.clear()
        self.on_answer(head, body)

    def stream(self, on_part: Callable[[bytearray], None]) -> None:
        """The next answer is a stream."""
        self.on_part = on_part
        self._streaming = False

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Reader:
    """Follows one shape."""

    def __init__(
        self, connection: Connection, plan: Plan, request: Request, receipts: list[int]
    ) -> None:
        self._connection = connection
        self._sse = plan.mode == "sse"
        self._query = request.target
        self._sequence = re.compile(rb'"%b":"(\d+)"' % plan.sequence.encode())
        self._receipts = receipts
        self._live = ""
        self.started = asyncio.get_running_loop().create_future()
        connection.on_answer = self._on_start
        connection.on_lost = self._on_lost
        connection.authorize(request.token)
        connection.get(f"{self._query}&offset={'-1' if plan.history else 'now'}")

    def _on_start(self, head: bytes, body: bytes) -> None:
        del body
        handle = _text(_HANDLE, head)
        if b"\r\nelectric-up-to-date:" not in head:
            offset = _text(_OFFSET, head)
            self._connection.get(f"{self._query}&handle={handle}&offset={offset}")
            return
        self._live = f"{self._query}&live=true&handle={handle}"
        self.started.set_result(None)
        if self._sse:
            self._connection.stream(self._on_events)
            self._connection.get(f"{self._live}&live_sse=true&offset={_text(_OFFSET, head)}")
        else:
            self._connection.on_answer = self._on_poll
            self._poll(head)

    def _poll(self, head: bytes) -> None:
        cursor = _CURSOR.search(head)
        extra = f"&cursor={cursor[1].decode()}" if cursor else ""
        self._connection.get(f"{self._live}&offset={_text(_OFFSET, head)}{extra}")

    def _on_poll(self, head: bytes, body: bytes) -> None:
        now = time.monotonic_ns()
        self._poll(head)
        for sequence in self._sequence.findall(body):
            self._receipts += (int(sequence), now)

    def _on_events(self, buffer: bytearray) -> None:
        now = time.monotonic_ns()
        for sequence in self._sequence.findall(buffer):
            self._receipts += (int(sequence), now)
        # What is cut in the middle of an event is looked at again with what follows.
        end = buffer.rfind(b"\n\n")
        if end >= 0:
            del buffer[: end + 2]

    def _on_lost(self) -> None:
        print("a connection was closed by the server", file=sys.stderr)
        os._exit(1)


class Opener:
    """Reads the snapshots of shapes one after the other, over one connection."""

    def __init__(
        self, connection: Connection, requests: Iterator[tuple[int, Request]], receipts: list[int]
    ) -> None:
        self._connection = connection
        self._requests = requests
        self._receipts = receipts
        self._number = 0
        self._query = ""
        self.done = asyncio.get_running_loop().create_future()
        self._next()

    def _next(self) -> None:
        following = next(self._requests, None)
        if following is None:
            self.done.set_result(None)
            return
        self._number, (self._query, token) = following
        self._connection.authorize(token)
        self._connection.on_answer = self._on_snapshot
        self._connection.get(f"{self._query}&offset=-1")

    def _on_snapshot(self, head: bytes, body: bytes) -> None:
        if b"\r\nelectric-up-to-date:" in head:
            self._on_log(head, body)
            return
        self._connection.on_answer = self._on_log
        handle, offset = _text(_HANDLE, head), _text(_OFFSET, head)
        self._connection.get(f"{self._query}&handle={handle}&offset={offset}")

    def _on_log(self, head: bytes, body: bytes) -> None:
        del head, body
        self._receipts += (self._number, time.monotonic_ns())
        self._next()


async def _connect(port: int) -> Connection:
    host = b"127.0.0.1:%d" % port
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(host), "127.0.0.1", port)
    return connection


async def _follow(plan: Plan, receipts: list[int]) -> None:
    """Returns when every client has sent its live request."""
    places = asyncio.Semaphore(OPENING_AT_A_TIME)

    async def start(request: Request) -> None:
        async with places:
            reader = Reader(await _connect(plan.port), plan, request, receipts)
            await reader.started

    await asyncio.gather(*[start(request) for request in plan.requests()])


async def _open(plan: Plan, receipts: list[int]) -> None:
    requests = iter(enumerate(plan.requests()))
    connections = [await _connect(plan.port) for _ in range(OPENING_AT_A_TIME)]
    openers = [Opener(connection, requests, receipts) for connection in connections]
    await asyncio.gather(*[opener.done for opener in openers])
    for connection in connections:
        connection.close()


async def _main() -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_die)
    lines = asyncio.StreamReader(limit=1 << 26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    plan = Plan(**orjson.loads(await lines.readline()))
    receipts: list[int] = []
    await (_open if plan.mode == "open" else _follow)(plan, receipts)
    _say(b"ready")
    while await lines.readline():
        taken = receipts.copy()
        receipts.clear()
        _say(orjson.dumps(taken))
    os._exit(0)


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def _die(_: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    print(repr(context.get("exception")), context.get("message"), file=sys.stderr, flush=True)
    os._exit(1)


def _text(pattern: re.Pattern[bytes], head: bytes) -> str:
    match = pattern.search(head)
    if match is None:
        raise BadAnswerError(f"no {pattern.pattern!r} in {head!r}")
    return match[1].decode()


def _chunks(buffer: bytearray, position: int) -> Iterator[bytes]:
    """The pieces of a chunked body that is complete."""
    while True:
        line_end = buffer.index(b"\r\n", position)
        size = int(buffer[position:line_end], 16)
        if size == 0:
            return
        yield bytes(buffer[line_end + 2 : line_end + 2 + size])
        position = line_end + 2 + size + 2


def _ignore(head: bytes, body: bytes) -> None:
    del head, body


def _ignore_loss() -> None:
    pass


if __name__ == "__main__":
    import uvloop

    uvloop.run(_main())
