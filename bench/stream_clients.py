"""Clients of streams, in a process of their own: `python -m bench.stream_clients`.

Reads a `Work` as JSON from its input, does it, and prints what it found as JSON. As light as Python
allows, because it shares the machine with what is measured.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import httptools
import orjson
import uvloop

from bench.stack import PATIENCE, BenchError

_SENT = re.compile(rb"@(\d+)@")
_TEXT = "content-type: text/plain\r\n"


@dataclass(frozen=True, slots=True)
class Work:
    """`count` clients for `seconds`; what each kind makes of it is said at its function."""

    kind: Literal["append", "sse", "long-poll", "fill", "catch-up"]
    port: int
    path: str
    count: int = 1
    seconds: float = 1.0
    rate: float = 50.0
    size: int = 64


def run_clients(work: Work) -> Any:
    """Do it in a process of its own. Raises BenchError."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.stream_clients"],
        input=orjson.dumps(asdict(work)),
        stdout=subprocess.PIPE,
        timeout=PATIENCE + work.seconds,
        check=False,
    )
    if done.returncode:
        raise BenchError("the clients of streams have failed; their last words are above")
    return orjson.loads(done.stdout)


class Client(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    def __init__(self) -> None:
        self._parser: Any = None
        self._transport = cast(asyncio.Transport, None)
        self._answer: asyncio.Future[int] | None = None
        self.headers: dict[bytes, bytes] = {}
        self.received = 0
        self.first_byte_ns = 0
        self.on_part: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(BenchError("the server has closed a connection"))

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        if not self.first_byte_ns:
            self.first_byte_ns = time.monotonic_ns()
        self.received += len(body)
        if self.on_part is not None:
            self.on_part(body)

    def on_message_complete(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(self._parser.get_status_code())

    def send(self, method: str, target: str, headers: str = "", body: bytes = b"") -> None:
        """Send a request without waiting for its answer."""
        self._parser = httptools.HttpResponseParser(self)
        self.headers = {}
        self.first_byte_ns = 0
        length = f"content-length: {len(body)}\r\n" if body or method in ("PUT", "POST") else ""
        head = f"{method} {target} HTTP/1.1\r\nhost: bench\r\n{headers}{length}\r\n"
        self._transport.write(head.encode() + body)

    async def ask(self, method: str, target: str, headers: str = "", body: bytes = b"") -> int:
        """The status of the answer. Raises BenchError for one that is no success."""
        self._answer = asyncio.get_running_loop().create_future()
        self.send(method, target, headers, body)
        status = await self._answer
        if status >= 400:
            raise BenchError(f"{method} {target} was answered with {status}")
        return status


async def connect(port: int) -> Client:
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(Client, "127.0.0.1", port)
    return client


def _target(work: Work, number: int = 0) -> str:
    return f"/v1/stream/{work.path}-{number}"


def _payload(size: int) -> bytes:
    """Says when it was sent."""
    text = b"@%d@" % time.monotonic_ns()
    return text.ljust(size - 1, b".") + b"\n"


async def append(work: Work) -> Any:
    """Each client appends to a stream of its own, one request after the other."""
    clients = [await connect(work.port) for _ in range(work.count)]
    for number, client in enumerate(clients):
        await client.ask("PUT", _target(work, number), _TEXT)
    took: list[int] = []
    end = time.monotonic() + work.seconds

    async def produce(number: int, client: Client) -> None:
        target = _target(work, number)
        while time.monotonic() < end:
            began = time.monotonic_ns()
            await client.ask("POST", target, _TEXT, _payload(work.size))
            took.append(time.monotonic_ns() - began)

    began = time.monotonic()
    await asyncio.gather(*(produce(number, client) for number, client in enumerate(clients)))
    return {"seconds": time.monotonic() - began, "took": took}


class _Events:
    """Takes the parts of one response, and notes how long ago what is in them was sent."""

    def __init__(self, took: list[int]) -> None:
        self._took = took
        self._rest = b""

    def __call__(self, body: bytes) -> None:
        now = time.monotonic_ns()
        body = self._rest + body
        end = 0
        for match in _SENT.finditer(body):
            self._took.append(now - int(match[1]))
            end = match.end()
        # A time of sending may be cut in two.
        self._rest = body[max(end, len(body) - 32) :]


async def sse(work: Work) -> Any:
    """Clients read one stream as events while one more appends at a rate; how long each event took."""
    writer = await connect(work.port)
    await writer.ask("PUT", _target(work), _TEXT)
    took: list[int] = []
    readers = [await connect(work.port) for _ in range(work.count)]
    for reader in readers:
        reader.on_part = _Events(took)
        reader.send("GET", f"{_target(work)}?offset=now&live=sse", "accept: text/event-stream\r\n")
    deadline = time.monotonic() + PATIENCE
    while not all(one.received for one in readers) and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    written = 0
    began = time.monotonic()
    while (now := time.monotonic()) < began + work.seconds:
        due = began + written / work.rate
        if now < due:
            await asyncio.sleep(due - now)
        await writer.ask("POST", _target(work), _TEXT, _payload(work.size))
        written += 1
    deadline = time.monotonic() + PATIENCE
    while len(took) < written * work.count and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    return {"written": written, "took": took}


async def long_poll(work: Work) -> Any:
    """Clients wait at the end of one stream; how long until the last of them has an append, from the
    moment at which it was sent, and from that at which it was answered. As often as `rate` says."""
    writer = await connect(work.port)
    await writer.ask("PUT", _target(work), _TEXT)
    readers = [await connect(work.port) for _ in range(work.count)]
    from_sent: list[int] = []
    from_answer: list[int] = []
    offset = writer.headers[b"stream-next-offset"].decode()
    for _ in range(int(work.rate)):
        target = f"{_target(work)}?offset={offset}&live=long-poll"
        waiting = [asyncio.ensure_future(reader.ask("GET", target)) for reader in readers]
        # All of them have to wait when it comes.
        await asyncio.sleep(work.seconds)
        sent = time.monotonic_ns()
        await writer.ask("POST", _target(work), _TEXT, _payload(work.size))
        answered = time.monotonic_ns()
        await asyncio.gather(*waiting)
        done = time.monotonic_ns()
        from_sent.append(done - sent)
        from_answer.append(max(0, done - answered))
        offset = readers[0].headers[b"stream-next-offset"].decode()
    return {"from_sent": from_sent, "from_answer": from_answer}


async def fill(work: Work) -> Any:
    """Append `count` chunks of `size` to one stream."""
    client = await connect(work.port)
    await client.ask("PUT", _target(work), "content-type: application/octet-stream\r\n")
    body = (bytes(range(256)) * (work.size // 256 + 1))[: work.size]
    for _ in range(work.count):
        await client.ask("POST", _target(work), "content-type: application/octet-stream\r\n", body)
    return {"bytes": work.count * len(body)}


async def catch_up(work: Work) -> Any:
    """Read one stream from its start to its end, page by page."""
    client = await connect(work.port)
    began = time.monotonic_ns()
    first = 0
    offset = "-1"
    while True:
        await client.ask("GET", f"{_target(work)}?offset={offset}")
        first = first or client.first_byte_ns
        offset = client.headers[b"stream-next-offset"].decode()
        if b"stream-up-to-date" in client.headers:
            break
    done = time.monotonic_ns()
    return {"bytes": client.received, "first_byte": first - began, "took": done - began}


_KINDS = {
    "append": append,
    "sse": sse,
    "long-poll": long_poll,
    "fill": fill,
    "catch-up": catch_up,
}


def main() -> None:
    work = Work(**orjson.loads(sys.stdin.buffer.read()))
    sys.stdout.buffer.write(orjson.dumps(uvloop.run(_KINDS[work.kind](work))))


if __name__ == "__main__":
    main()
