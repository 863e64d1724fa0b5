"""A client's connection: HTTP/1.1 from bytes to requests and back, within limits."""

from __future__ import annotations

import asyncio
import math
import re
from collections import deque
from typing import TYPE_CHECKING, Any, cast

import httptools

from shapes.http.crowd import Follower, Group
from shapes.http.exchange import Exchange
from shapes.http.framing import refusal
from shapes.http.outgoing import untaken, write
from shapes.http.regulars import PREFIX
from shapes.http.responses import SERVER
from shapes.http.scope import scope_of

if TYPE_CHECKING:
    from shapes.http.server import Server

LINGER_SECONDS = 2.0
"""How long a client that was refused may go on sending, so that it comes to read why."""

MOST_QUEUED = 100
"""Requests that may be sent before earlier ones are answered; the connection ends after them."""

_RAW = re.compile(rb"[\x80-\xff]")


class Connection(asyncio.Protocol):
    """Requests are answered in the order in which they came, one at a time.

    There is no timer per connection: `expire` is called by the server now and then. `behind`: the
    client has not taken what was sent to it, and nothing more should be.
    """

    __slots__ = (
        "_begun",
        "_body_bytes",
        "_closing",
        "_descriptor",
        "_exchange",
        "_expects_continue",
        "_head_bytes",
        "_headers",
        "_headers_bytes",
        "_incoming",
        "_parser",
        "_patience",
        "_queued",
        "_reading_paused",
        "_reading_until",
        "_refusal",
        "_transport",
        "_unsent",
        "_url",
        "_writable",
        "_writing_until",
        "behind",
        "client",
        "server",
    )

    def __init__(self, server: Server) -> None:
        self.server = server
        self.behind = False
        self.client: tuple[str, int] | None = None
        self._descriptor = -1
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport = cast(asyncio.Transport, None)
        self._exchange: Exchange | Follower | None = None
        """What is being answered."""
        self._incoming: Exchange | None = None
        """What is still being received."""
        self._queued: deque[Exchange] | None = None
        self._closing = False
        self._reading_paused = False
        self._reading_until = self._writing_until = math.inf
        self._patience = 0.0  # For each next part of a body that may take its time.
        self._unsent = 0
        self._writable: asyncio.Future[None] | None = None
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._headers_bytes = self._head_bytes = self._body_bytes = 0
        self._expects_continue = False
        self._begun = 0
        self._refusal = 400

    # -- the transport's side ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        # What the system does not take is all that is to be held here.
        self._transport.set_write_buffer_limits(high=0)
        self._descriptor = transport.get_extra_info("socket").fileno()
        address: tuple[str, int] | None = transport.get_extra_info("peername")
        self.client = address[:2] if address else None
        self._await_request()
        self.server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.connections.discard(self)
        self._closing = True
        self._parser = None
        for exchange in (self._exchange, *(self._queued or ())):
            if exchange is not None:
                exchange.disconnect()
        self._exchange = self._incoming = self._queued = None
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if self._head_bytes == 0 and self._incoming is None:
            self._reading_until = self.server.now() + self.server.limits.read_seconds
        elif self._patience:
            self._reading_until = self.server.now() + self._patience
        self._head_bytes += len(data)
        fresh = self._head_bytes == len(data) and self._incoming is None
        try:
            self._feed(data, fresh=fresh)
        except httptools.HttpParserUpgrade:
            # Nothing is offered to upgrade to: the request is answered, what follows it is not.
            self._closing = True
        except httptools.HttpParserError:
            if not self._closing:
                self._refuse(self._refusal)
            return
        limits = self.server.limits
        if self._incoming is None and self._head_bytes > limits.url + limits.headers:
            # The parser keeps to itself what has no end yet.
            self._refuse(431)

    def _feed(self, data: bytes, *, fresh: bool) -> None:
        """Parse; `fresh`: a request begins with this. Raises what httptools does."""
        self._begun = 0
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserInvalidURLError:
            line, end, rest = data.partition(b"\r\n")
            escaped = _RAW.sub(lambda match: b"%%%02X" % match[0][0], line)
            if not fresh or self._begun > 1 or escaped == line:
                raise
            # Other servers take bytes beyond ASCII as they are, and some clients send them so.
            self._parser = httptools.HttpRequestParser(self)
            self._parser.feed_data(escaped + end + rest)

    def pause_writing(self) -> None:
        self.behind = True
        self._unsent = untaken(self._transport)
        self._writing_until = self.server.now() + self.server.limits.send_seconds

    def resume_writing(self) -> None:
        self.behind = False
        self._writing_until = math.inf
        if self._writable is not None:
            if not self._writable.done():
                self._writable.set_result(None)
            self._writable = None

    # -- the parser's side -------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._begun += 1
        self._url = b""
        self._headers = []
        self._headers_bytes = self._body_bytes = 0
        self._expects_continue = False

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > self.server.limits.url:
            self._stop_parsing(414)

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"authorization" and any(one == name for one, _ in self._headers):
            # Which of them counts would be anybody's guess.
            self._stop_parsing(400)
        self._headers.append((name, value))
        self._headers_bytes += len(name) + len(value)
        limits = self.server.limits
        if self._headers_bytes > limits.headers or len(self._headers) > limits.header_count:
            self._stop_parsing(431)
        if name == b"content-length" and int(value) > limits.body_of(self._url):
            self._stop_parsing(413)
        if name == b"expect":
            self._expects_continue = value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        parser = self._parser
        version: str = parser.get_http_version()
        method: bytes = parser.get_method()
        keep_alive = (
            version == "1.1"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and not self.server.stopping
        )
        key = regular = None
        if self._exchange is None and keep_alive and method == b"GET":
            crowd = self.server.crowd
            if self._url.startswith(PREFIX):
                regular = self.server.regulars.recognise(self._url, self._headers)
            key = crowd.key(self._url, self._headers, regular)
            if key is not None:
                follower = crowd.join(key, self, self._headers, regular)
                if follower is not None:
                    self._exchange = follower
                    return
        exchange = Exchange(
            self,
            scope_of(self, version, method.decode("ascii"), self._url, self._headers),
            keep_alive=keep_alive,
            expects_continue=self._expects_continue,
        )
        exchange.regular = regular
        self._incoming = exchange
        if self._exchange is None:
            if key is not None:
                self.server.crowd.lead(key, exchange)
            self._answer(exchange)
        else:
            if self._queued is None:
                self._queued = deque()
            elif len(self._queued) >= MOST_QUEUED:
                self._stop_parsing(400)
            self._queued.append(exchange)
            self._pause_reading()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        limits = self.server.limits
        if self._body_bytes > limits.body and self._body_bytes > limits.body_of(self._url):
            self._stop_parsing(413)
        if self._incoming is not None and not self._incoming.feed(body):
            self._pause_reading()

    def on_message_complete(self) -> None:
        exchange, self._incoming = self._incoming, None
        self._head_bytes = 0
        self._reading_until = math.inf
        self._patience = 0.0
        if exchange is None:
            return
        exchange.feed_end()
        if not exchange.keep_alive:
            # What follows is nothing that would be answered.
            self._closing = True
        if exchange.complete and self._exchange is None:
            # It was answered before it was here in full.
            self._next(exchange)

    def _stop_parsing(self, status: int) -> None:
        self._refusal = status
        raise ValueError("the request is refused")

    # -- the exchanges' side -----------------------------------------------------------------------

    def write(self, data: bytes | memoryview) -> None:
        """Send; whoever sends much waits for `drained` when that makes the connection `behind`."""
        write(self._transport, self._descriptor, data)

    async def drained(self) -> None:
        """Wait until the client is no longer behind, or gone. Only one at a time may wait."""
        while self.behind:
            self._writable = asyncio.get_running_loop().create_future()
            await self._writable

    def resume_reading(self) -> None:
        if self._reading_paused and not self._queued:
            self._reading_paused = False
            self._transport.resume_reading()

    def _pause_reading(self) -> None:
        if not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def serve(self, follower: Follower, group: Group | None) -> None:
        """Serve a request by itself that waited for the answer to an equal one.

        With a group it is the one whose answer the others now wait for.
        """
        exchange = Exchange(
            self,
            scope_of(self, "1.1", "GET", follower.group.key[0], follower.headers),
            keep_alive=follower.keep_alive,
            expects_continue=False,
        )
        exchange.group = group
        exchange.feed_end()
        self._answer(exchange)

    def take_time(self, exchange: Exchange | Follower, seconds: float) -> None:
        """Go on receiving a request's body for as long as some of it comes every so many seconds."""
        if self._incoming is exchange:
            self._patience = seconds
            self._reading_until = self.server.now() + seconds

    def answered(self, exchange: Exchange | Follower) -> None:
        """An answer has been sent in full."""
        self._exchange = None
        if self._incoming is not exchange:
            self._next(exchange)
        elif not exchange.keep_alive:
            self._linger()
        elif self._patience:
            self.take_time(exchange, self.server.limits.read_seconds)

    def abort(self) -> None:
        """Close at once, whatever was still to be sent."""
        self._closing = True
        self._transport.abort()

    # -- a connection's life -----------------------------------------------------------------------

    def _answer(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.server.begin(exchange)

    def _next(self, answered: Exchange | Follower) -> None:
        """Go on after an answer to a request that is here in full."""
        if not answered.keep_alive:
            self._closing = True
            self._transport.close()
        elif self._queued:
            exchange = self._queued.popleft()
            self.resume_reading()
            self._answer(exchange)
        else:
            self._await_request()

    def _await_request(self) -> None:
        if self._head_bytes == 0:
            server = self.server
            # Not longer than it was to be kept before.
            self._reading_until = min(self._reading_until, server.now() + server.idle_seconds)

    def _refuse(self, status: int) -> None:
        """Answer that the request is too bad to be understood, after what is being answered."""
        self._closing = True
        incoming, self._incoming = self._incoming, None
        if self._exchange is not None and self._exchange is not incoming:
            last = self._queued[-1] if self._queued else self._exchange
            last.keep_alive = False
            return
        if incoming is not None:
            self._exchange = None
            incoming.disconnect()
            if incoming.status:
                self.abort()
                return
        self._transport.write(refusal(status, SERVER))
        self._linger()

    def _linger(self) -> None:
        """Close, but let the client read: what it still sends would otherwise reset the connection."""
        self._closing = True
        self._reading_paused = (self._reading_paused and self._transport.resume_reading()) or False
        self._reading_until = self.server.now() + LINGER_SECONDS
        self._transport.write_eof()

    def expire(self, now: float) -> None:
        """Close if the client has taken too long for anything."""
        if self._writing_until <= now:
            unsent = untaken(self._transport)
            if unsent >= self._unsent:
                self.abort()
                return
            self._unsent = unsent
            self._writing_until = now + self.server.limits.send_seconds
        if self._reading_until <= now:
            if self._head_bytes and not self._closing:
                self._refuse(408)
            else:
                self.abort()

    def stop(self) -> None:
        """Close as soon as the client has been told so, or has nothing more to ask."""
        last = self._queued[-1] if self._queued else self._exchange
        if last is None:
            self._await_request()
        elif not last.status:
            last.keep_alive = False
