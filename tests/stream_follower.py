"""A follower of a JSON stream by the Durable Streams protocol that trusts nothing: what it gets has
to be 0, 1, 2, … without gap or repetition, through cuts and restarts.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx


class StreamFollower:
    """Follows one stream until the context's end, by SSE or long polls. What is wrong is raised there,
    and by `until`."""

    def __init__(
        self,
        url: str,
        path: str,
        *,
        sse: bool = True,
        offset: str = "-1",
        on_messages: Callable[[list[int]], None] | None = None,
    ) -> None:
        self._url = f"{url}/v1/stream/{path}"
        self._sse = sse
        self._on_messages = on_messages
        self.offset = offset
        self.count = 0
        """How many messages have come: the next has to be this number."""
        self.closed = False
        self.requests = 0
        self.cuts = 0
        """How often a connection broke."""
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> StreamFollower:
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Wait for something that comes with messages."""
        assert self._task is not None
        deadline = time.monotonic() + seconds
        while not condition():
            if self._task.done():
                self._task.result()
                assert condition(), f"it ended after {self.count} messages"
                return
            assert time.monotonic() < deadline, f"{self.count} messages have come so far"
            await asyncio.sleep(0.005)

    async def _follow(self) -> None:
        async with httpx.AsyncClient(timeout=30) as client:
            while not self.closed:
                try:
                    await (self._events(client) if self._sse else self._poll(client))
                except httpx.TransportError:
                    self.cuts += 1
                    await asyncio.sleep(0.02)

    async def _poll(self, client: httpx.AsyncClient) -> None:
        self.requests += 1
        answer = await client.get(self._url, params={"offset": self.offset, "live": "long-poll"})
        if answer.status_code == 503:
            await asyncio.sleep(0.05)
            return
        assert answer.status_code in (200, 204), (answer.status_code, answer.text)
        if answer.content:
            self._take(json.loads(answer.content))
        self.offset = answer.headers["stream-next-offset"]
        self.closed = answer.headers.get("stream-closed") == "true"

    async def _events(self, client: httpx.AsyncClient) -> None:
        self.requests += 1
        async with client.stream(
            "GET", self._url, params={"offset": self.offset, "live": "sse"}
        ) as answer:
            if answer.status_code == 503:
                await asyncio.sleep(0.05)
                return
            assert answer.status_code == 200, (answer.status_code, await answer.aread())
            kind, data = "", ""
            async for line in answer.aiter_lines():
                name, _, value = line.partition(":")
                if name == "event":
                    kind = value.strip()
                elif name == "data":
                    data += value
                elif not line and kind:
                    self._event(kind, json.loads(data))
                    kind, data = "", ""

    def _event(self, kind: str, value: Any) -> None:
        if kind == "data":
            self._take(value)
            return
        assert kind == "control"
        # The data event before it was taken; a cut between both would bring that again.
        self.offset = str(value["streamNextOffset"])
        self.closed = bool(value.get("streamClosed"))

    def _take(self, messages: list[int]) -> None:
        position = int(self.offset.partition("_")[2] or 0)
        # What came without the control event that belongs to it comes again.
        fresh = messages[max(self.count - position, 0) :]
        expected = list(range(self.count, self.count + len(fresh)))
        assert fresh == expected, f"{fresh[:5]} came, not {expected[:5]}"
        self.count += len(fresh)
        if fresh and self._on_messages is not None:
            self._on_messages(fresh)
