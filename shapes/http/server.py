"""The HTTP server of a node: connections on one listening socket, and their end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable

from shapes.http.access_log import line_of
from shapes.http.connection import Connection
from shapes.http.crowd import Crowd
from shapes.http.exchange import Exchange
from shapes.http.framing import Frames
from shapes.http.limits import Limits
from shapes.http.regulars import Regulars
from shapes.http.responses import Receive, Scope, Send

access = logging.getLogger("access")

App = Callable[[Scope, Receive, Send], Awaitable[None]]

BACKLOG = 2048
FAREWELL_SECONDS = 0.5
"""How long a connection that a client takes for alive is kept when the server stops: the next request
may be on its way."""

SWEEPS = 8
"""So many times in the shortest of the limits' durations, connections are looked over."""


class Server:
    """Serves an ASGI application over HTTP/1.1, within limits.

    `on_answer` is called with every request that was answered, `on_connections` now and then with
    their number, `on_stop` once when the server begins to stop: long answers should then come to an
    end.
    """

    def __init__(
        self,
        application: App,
        limits: Limits,
        crowd: Crowd,
        regulars: Regulars,
        *,
        on_answer: Callable[[Exchange], None] = lambda exchange: None,
        on_connections: Callable[[int], None] = lambda number: None,
        on_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self.application = application
        self.limits = limits
        self.crowd = crowd
        self.regulars = regulars
        self.frames = Frames(limits.unsent)
        self.address: tuple[str, int] | None = None
        self.connections: set[Connection] = set()
        self.tasks: set[asyncio.Task[None] | None] = set()
        self.stopping = False
        self.idle_seconds = limits.read_seconds
        """How long a connection may have nothing to ask."""
        self._on_answer = on_answer
        self._on_connections = on_connections
        self._on_stop = on_stop
        self._logs_access = access.isEnabledFor(logging.DEBUG)
        self._loop = asyncio.get_running_loop()
        self._listener: asyncio.Server | None = None
        self._sweep_seconds = min(limits.read_seconds, limits.send_seconds, 16.0) / SWEEPS
        self._sweeper: asyncio.TimerHandle | None = None

    def now(self) -> float:
        """The time by which connections expire."""
        return self._loop.time()

    async def start(self, bound: socket.socket) -> None:
        """Accept connections from now on."""
        with contextlib.suppress(OSError):
            # Connections inherit it. What a client does not take fills its own window and this much
            # of the system's memory, instead of megabytes.
            option = getattr(socket, "TCP_NOTSENT_LOWAT", 25)
            bound.setsockopt(socket.IPPROTO_TCP, option, self.limits.system_unsent)
        address = bound.getsockname()
        self.address = (str(address[0]), int(address[1]))
        self._listener = await self._loop.create_server(
            lambda: Connection(self), sock=bound, backlog=BACKLOG
        )
        self._sweep()

    async def stop(self, seconds: float) -> None:
        """Accept no more, let answers end for so long, then cut off what is left."""
        self.idle_seconds = min(FAREWELL_SECONDS, self.idle_seconds)
        self._refuse()
        self._on_stop()
        # Of what was accepted at the same moment we hear only now.
        await asyncio.sleep(0)
        deadline = self.now() + seconds
        while self.connections and self.now() < deadline:
            for connection in list(self.connections):
                connection.expire(self.now())
            await asyncio.sleep(0.02)
        for connection in list(self.connections):
            connection.abort()
        if tasks := {task for task in self.tasks if task is not None}:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if self._sweeper is not None:
            self._sweeper.cancel()

    async def leave(self, seconds: float) -> None:
        """Accept no more, and wait for so long until every connection has come to an end in its own
        time: after the answer that is under way, or because nothing is asked. `stop` comes next."""
        self._refuse()
        await asyncio.sleep(0)
        deadline = self.now() + seconds
        while self.connections and self.now() < deadline:
            await asyncio.sleep(0.1)

    def _refuse(self) -> None:
        """Accept no more: connections end after the answer that is due."""
        self.stopping = True
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for connection in list(self.connections):
            connection.stop()

    # -- for connections ---------------------------------------------------------------------------

    def begin(self, exchange: Exchange) -> None:
        """Let a request be answered."""
        if self._logs_access:
            exchange.began = self.now()
        exchange.task = self._loop.create_task(exchange.run())
        self.tasks.add(exchange.task)

    def answered(self, exchange: Exchange, client: tuple[str, int] | None) -> None:
        """A request has been answered, or another one in the same way."""
        self._on_answer(exchange)
        if self._logs_access:
            access.debug("%s", line_of(exchange, client, self.now() - exchange.began))

    def _sweep(self) -> None:
        now = self.now()
        for connection in list(self.connections):
            connection.expire(now)
        self._on_connections(len(self.connections))
        self._sweeper = self._loop.call_later(self._sweep_seconds, self._sweep)
