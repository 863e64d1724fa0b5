"""What stands before a node's application: it answers while that is not ready, and wakes the engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from engine.configuration.settings import Settings
from engine.processes.board import Board, Stage
from shapes.access.authority import Authority
from shapes.access.grant import AuthenticationError
from shapes.definition import InvalidRequestError
from shapes.http.answer import send_preflight
from shapes.http.errors import answer_error, answer_refusal
from shapes.http.request import query_parameters, read_request
from shapes.http.responder import Responder
from shapes.http.responses import PRIVATE, Receive, Scope, Send
from shapes.http.shape_access import ShapeAccess
from shapes.http.streams.stream_manners import StreamManners
from shapes.readiness import NotReadyError, health, reason
from shapes.wire import SHAPE_METHODS

WAIT_SECONDS = 5.0
POLL_SECONDS = 0.02
_PINGS = ("/", "/v1/health")
"""What balancers ask for all the time."""

ATTEND_SECONDS = 0.5

App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Front:
    """Holds requests for a short while until the application behind it is there.

    Every request but a balancer's counts as somebody asking: an engine that rests, and has let go of
    Postgres, wakes up, and the request waits for that.
    """

    def __init__(self, settings: Settings, board: Board, authority: Authority) -> None:
        self._board = board
        self._access = ShapeAccess(settings, authority)
        self._deletes = settings.enable_delete
        self._application: App | None = None
        self._on_stop: Callable[[], None] = lambda: None
        self._ready = asyncio.Event()
        self._under_way = 0

    def open(self, application: App, on_stop: Callable[[], None]) -> None:
        """From now on everything goes to `application`, to which `on_stop` belongs."""
        self._application = application
        self._on_stop = on_stop
        self._ready.set()

    def stop(self) -> None:
        """Let answers that would wait come to an end."""
        self._on_stop()

    async def attend(self) -> None:
        """Requests that last (live ones) keep the engine awake; until cancelled."""
        while True:
            await asyncio.sleep(ATTEND_SECONDS)
            if self._under_way:
                self._board.ask()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        application = self._application
        if scope["type"] != "http" or scope["path"] in _PINGS:
            if application is None:
                return await self._pong(scope, receive, send)
            return await application(scope, receive, send)
        self._board.ask()
        self._under_way += 1
        try:
            if application is None:
                application = await self._wait(scope, receive, send)
                if application is None:
                    return None
            elif self._board.stage is Stage.RESTING:
                await self._wake()
            await application(scope, receive, send)
        finally:
            self._under_way -= 1

    async def _pong(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/":
            return await Responder(scope, receive, send, b"GET, HEAD").send_body(
                200, [PRIVATE], b""
            )
        return await answer_health(scope, receive, send, self._board.stage)

    async def _wake(self) -> None:
        """Until changes come in again; if that takes long, what the log has must do."""
        deadline = time.monotonic() + WAIT_SECONDS
        while self._board.stage is not Stage.STREAMING and time.monotonic() < deadline:
            await asyncio.sleep(POLL_SECONDS)

    async def _wait(self, scope: Scope, receive: Receive, send: Send) -> App | None:
        """The application once it is there; None after the request has been answered."""
        responder = Responder(scope, receive, send, SHAPE_METHODS)
        if scope["path"].strip("/") == "v1/shape" and await self._answered(responder):
            return None
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._ready.wait()
        except TimeoutError:
            error = NotReadyError(reason(self._board.stage))
            if scope["path"].startswith("/v1/stream/"):
                manners = StreamManners()
                await manners.refuse(manners.responder(scope, receive, send), error)
            else:
                await answer_error(responder, error)
            return None
        return self._application

    async def _answered(self, responder: Responder) -> bool:
        """Answer what can be without a log: whoever may not ask, or asks wrongly, need not wait."""
        if responder.method == "OPTIONS":
            await send_preflight(responder)
            return True
        try:
            parameters = query_parameters(responder.scope["query_string"])
        except InvalidRequestError as error:
            await answer_error(responder, error)
            return True
        try:
            self._access.admit(responder, parameters)
        except AuthenticationError as error:
            await answer_error(responder, error)
            return True
        if responder.method == "DELETE" and not self._deletes:
            await answer_refusal(responder, 405, "DELETE not allowed")
        elif responder.method in ("GET", "HEAD"):
            try:
                read_request(parameters)
            except InvalidRequestError as error:
                await answer_error(responder, error)
            else:
                return False
        else:
            return False
        return True


async def answer_health(
    scope: Scope, receive: Receive, send: Send, stage: Stage, *, follows: bool | None = None
) -> None:
    """/v1/health; `follows` as in `readiness.health`, None without a log."""
    responder = Responder(scope, receive, send, b"GET, HEAD")
    status, body = health(stage, has_log=follows is not None, follows=bool(follows))
    cache = (b"cache-control", b"no-cache, no-store, must-revalidate")
    await responder.send_json(status, [cache], body)
