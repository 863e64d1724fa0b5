"""One request and its answer: what an endpoint sees of a connection, by the ASGI specification."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from shapes.http.access_log import shown_path
from shapes.http.framing import BODYLESS, CONTINUE, LAST_CHUNK, chunk, head
from shapes.http.responses import SERVER, Header, Scope

if TYPE_CHECKING:
    from shapes.http.connection import Connection
    from shapes.http.crowd import Group
    from shapes.http.regulars import Regular

log = logging.getLogger("http")

JOINED_BYTES = 16 << 10
"""Bodies up to this size leave in one piece with their headers."""

READ_AHEAD_BYTES = 64 << 10
"""Of a request's body, what is taken from the client before the endpoint asks for it."""

STREAM = "pgtide.stream"
"""The ASGI extension under which an endpoint finds its `Exchange`, to stream without a task."""

_ERROR_BODY = b'{"error":"Internal server error"}'
_ERROR_HEADERS: list[Header] = [
    SERVER,
    (b"content-type", b"application/json; charset=utf-8"),
    (b"content-length", b"%d" % len(_ERROR_BODY)),
    (b"cache-control", b"max-age=0, private, must-revalidate"),
    (b"access-control-allow-origin", b"*"),
]


class Exchange:
    """A request that is being answered.

    `run` is its task. When the client goes, the task is cancelled, and until that reaches it whatever
    it sends is refused with CancelledError.
    """

    __slots__ = (
        "_body",
        "_chunked",
        "_connection",
        "_expects_continue",
        "_held",
        "_left",
        "_more_body",
        "_receiver",
        "_request_id",
        "_running",
        "_taken",
        "began",
        "complete",
        "disconnected",
        "group",
        "keep_alive",
        "regular",
        "scope",
        "sent",
        "status",
        "task",
    )

    def __init__(
        self, connection: Connection, scope: Scope, *, keep_alive: bool, expects_continue: bool
    ) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        self.status = 0
        self.sent = 0
        """Bytes of the body."""
        self.began = 0.0
        self.complete = False
        self.group: Group | None = None
        """Equal requests that get the same answer."""
        self.regular: Regular | None = None
        """Who asks, if that is known without a look at the credential."""
        self.disconnected = False
        self.task: asyncio.Task[None] | None = None
        self._connection = connection
        self._expects_continue = expects_continue
        self._body = bytearray()
        self._more_body = True
        self._taken = False
        self._receiver: asyncio.Future[None] | None = None
        self._held = b""
        self._request_id = b""
        self._running = False
        self._chunked = False
        self._left = -1
        scope["extensions"] = {STREAM: self}

    # -- the request, from the connection ----------------------------------------------------------

    def feed(self, body: bytes) -> bool:
        """More of the body has come; False if that is enough for now."""
        self._body += body
        self._wake()
        return len(self._body) < READ_AHEAD_BYTES

    def feed_end(self) -> None:
        """The request is here in full."""
        self._more_body = False
        self._wake()

    def disconnect(self) -> None:
        """There is nobody left to answer."""
        if self.complete:
            return
        self.disconnected = True
        self._wake()
        server = self._connection.server
        if self.status:
            server.answered(self, self._connection.client)
        server.crowd.part(self)
        if self.task is not None:
            self.task.cancel()
            if not self._running:
                # Then nothing of `run` will be.
                server.tasks.discard(self.task)
                self.task = None

    def _wake(self) -> None:
        if self._receiver is not None and not self._receiver.done():
            self._receiver.set_result(None)

    # -- the endpoint's side -----------------------------------------------------------------------

    async def run(self) -> None:
        """Have the request answered, whatever happens."""
        server = self._connection.server
        self._running = True
        try:
            await server.application(self.scope, self.receive, self.send)
            if not self.complete and not self.disconnected:
                log.error("%s was not answered in full", shown_path(self.scope))
                self.fail()
        except asyncio.CancelledError:
            # The client is gone; or else the server stops.
            if not self.disconnected:
                self._connection.abort()
        except Exception as error:
            log.error("%s failed", shown_path(self.scope), exc_info=error)
            self.fail()
        finally:
            server.tasks.discard(self.task)
            self.task = None
            server.crowd.part(self)
            # An exchange that refers to itself would stay in memory for long.
            self.scope.pop("extensions", None)

    def fail(self) -> None:
        """Answer that there was an error. Where an answer has begun, cutting it off says so."""
        if self.complete or self.disconnected:
            return
        if self.status and not self._held:
            self._connection.abort()
            return
        self.keep_alive = False
        self._held = b""
        self._start(500, _ERROR_HEADERS)
        self._send_body(_ERROR_BODY, more=False)

    async def receive(self) -> MutableMapping[str, Any]:
        """The next part of the request's body, or that the client is gone."""
        if self._expects_continue and not self.status:
            self._expects_continue = False
            self._connection.write(CONTINUE)
        while not self.disconnected and not self.complete:
            if not self._taken and (self._body or not self._more_body):
                body, self._body = bytes(self._body), bytearray()
                self._taken = not self._more_body
                self._connection.resume_reading()
                return {"type": "http.request", "body": body, "more_body": self._more_body}
            self._receiver = asyncio.get_running_loop().create_future()
            await self._receiver
            self._receiver = None
        return {"type": "http.disconnect"}

    def take_time(self, seconds: float) -> None:
        """The request's body may come for as long as it likes, some of it every so many seconds."""
        self._connection.take_time(self, seconds)

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Send headers or a part of the body, once the client has taken most of what came before."""
        if self._connection.behind:
            await self.drained()
        if self.disconnected:
            raise asyncio.CancelledError
        if message["type"] == "http.response.start":
            if self.status:
                raise RuntimeError("an answer begins twice")
            self._start(message["status"], message.get("headers", ()))
        elif not self.status or self.complete:
            raise RuntimeError("an answer's body is sent before it begins or after its end")
        else:
            self._send_body(message.get("body", b""), more=message.get("more_body", False))

    # -- streaming without a task ------------------------------------------------------------------

    @property
    def behind(self) -> bool:
        """Whether the client has not taken what was sent to it, or is gone: send nothing then."""
        return self._connection.behind or self.disconnected

    def stream(self, data: bytes) -> bool:
        """Send a part of the body now; True if the client is `behind` then.

        Giving the same object to many exchanges, one after the other, costs least.
        """
        connection = self._connection
        if self._chunked:
            self.sent += len(data)
            for frame in connection.server.frames.of(data):
                connection.write(frame)
        elif self.scope["method"] != "HEAD":
            self.sent += len(data)
            connection.write(data)
        return connection.behind

    async def drained(self) -> None:
        """Wait until the client has taken what was sent to it."""
        await self._connection.drained()

    # -- the answer --------------------------------------------------------------------------------

    def _start(self, status: int, headers: list[Header] | tuple[Header, ...]) -> None:
        self.status = status
        self._connection.server.crowd.close(self)
        self._expects_continue = False
        bodyless = status in BODYLESS
        kept: list[Header] = []
        for name, value in headers:
            if name == b"content-length":
                if bodyless:
                    continue
                self._left = int(value)
            elif name == b"connection":
                self.keep_alive = self.keep_alive and b"close" not in value.lower()
                if not self.keep_alive:
                    continue
            elif name == b"transfer-encoding":
                continue
            elif name == b"x-request-id":
                self._request_id = value
            kept.append((name, value))
        if self._left < 0 and not bodyless:
            if self.scope["http_version"] == "1.1":
                self._chunked = self.scope["method"] != "HEAD"
                if self._chunked:
                    kept.append((b"transfer-encoding", b"chunked"))
            else:
                self.keep_alive = False
        if not self.keep_alive:
            kept.append((b"connection", b"close"))
        self._held = head(status, kept) + b"\r\n"
        if self._left < 0 and not bodyless:
            # A stream may have nothing to say for a long time.
            self._connection.write(self._held)
            self._held = b""
            self._connection.server.crowd.part(self)

    def _send_body(self, body: bytes, *, more: bool) -> None:
        if self.scope["method"] == "HEAD" or self.status in BODYLESS:
            body = b""
        elif self._chunked:
            self.sent += len(body)
            body = chunk(body) if body else b""
            if not more:
                body += LAST_CHUNK
        else:
            self.sent += len(body)
            if self._left >= 0:
                self._left -= len(body)
                if self._left < 0 or (self._left and not more):
                    raise RuntimeError("an answer's body is not as long as its content-length says")
        held, self._held = self._held, b""
        if held and len(body) > JOINED_BYTES:
            self._connection.write(held)
            self._connection.write(body)
        elif held or body:
            self._connection.write(held + body)
        if not more:
            self.complete = True
            server = self._connection.server
            server.answered(self, self._connection.client)
            self._connection.answered(self)
            if held:
                server.crowd.share(self, held, self._request_id, body)
