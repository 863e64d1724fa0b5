"""What answers while a node is not ready yet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from shapes.http.responses import NO_STORE, Receive, Scope, Send, common_headers, send_json

WAIT_SECONDS = 5.0

App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Front:
    """Holds requests for a short while until the application behind it is there."""

    def __init__(self) -> None:
        self._application: App | None = None
        self._ready = asyncio.Event()

    def open(self, application: App) -> None:
        """From now on everything goes to `application`."""
        self._application = application
        self._ready.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._application is None and scope["type"] == "http":
            if scope["path"] == "/v1/health":
                return await _starting(scope, send)
            try:
                await asyncio.wait_for(self._ready.wait(), WAIT_SECONDS)
            except TimeoutError:
                return await _not_ready(scope, send)
        assert self._application is not None
        return await self._application(scope, receive, send)


async def _starting(scope: Scope, send: Send) -> None:
    headers = common_headers(scope, b"GET, HEAD")
    headers.append((b"cache-control", b"no-cache, no-store, must-revalidate"))
    await send_json(send, 202, headers, {"status": "starting"})


async def _not_ready(scope: Scope, send: Send) -> None:
    headers = common_headers(scope, b"GET, HEAD")
    message = (
        "Timeout waiting for replication client to be ready. Check that you don't have pending "
        "transactions in the database, and what the engine logs"
    )
    await send_json(send, 503, [*headers, (b"retry-after", b"5"), NO_STORE], {"message": message})
