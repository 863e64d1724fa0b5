"""The ASGI application of a node."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from engine.processes.board import Board
from shapes.http.api.api import PREFIXES
from shapes.http.front import answer_health
from shapes.http.responses import Receive, Scope, Send, common_headers

if TYPE_CHECKING:
    from shapes.following.tail import Tail
    from shapes.http.api.api import Api
    from shapes.http.shape_endpoint import ShapeEndpoint

_SLASHES = re.compile(r"/{2,}")
_OTHER_METHODS = b"GET, HEAD"


class Application:
    """Sends `/v1/shape` straight to its endpoint and everything else through Starlette's routing.

    Paths are compared by their segments: empty ones do not count.
    """

    def __init__(
        self,
        shape_endpoint: ShapeEndpoint,
        tail: Tail,
        board: Board,
        api: Api,
        stream_api: Api,
        routes: Sequence[BaseRoute] = (),
    ) -> None:
        self._shape_endpoint = shape_endpoint
        self._tail = tail
        self._board = board
        self._api = api
        self._stream_api = stream_api
        self._rest = Starlette(
            routes=[*routes, Route("/", _root)],
            exception_handlers={404: _not_found, 405: _not_found},
        )

    def forget(self) -> None:
        """Let go of what is remembered of paths that came."""
        self._api.forget()
        self._stream_api.forget()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._rest(scope, receive, send)
        path: str = scope["path"]
        if path.startswith(PREFIXES):
            return await self._api(scope, receive, send)
        if path.startswith("/v1/stream/"):
            return await self._stream_api(scope, receive, send)
        if path != "/v1/shape":
            path = _SLASHES.sub("/", path).rstrip("/") or "/"
        if path == "/v1/shape":
            return await self._shape_endpoint(scope, receive, send)
        if path == "/v1/health" and scope["method"] in ("GET", "HEAD"):
            stage, follows = self._board.stage, self._tail.active
            return await answer_health(scope, receive, send, stage, follows=follows)
        scope["path"] = path
        return await self._rest(scope, receive, send)


async def _root(request: Request) -> Response:
    return Response(headers=_plain_headers(request))


async def _not_found(request: Request, _: Exception) -> Response:
    return PlainTextResponse("Not found", status_code=404, headers=_plain_headers(request))


def _plain_headers(request: Request) -> dict[str, str]:
    headers = common_headers(request.scope, _OTHER_METHODS)
    return {name.decode(): value.decode("latin-1") for name, value in headers} | {
        "cache-control": "max-age=0, private, must-revalidate"
    }
