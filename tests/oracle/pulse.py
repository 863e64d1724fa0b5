"""How slow everything is at the moment, for what has to happen within a time."""

from __future__ import annotations

import asyncio
import time

from http_connection import HttpConnection, HttpError

PERIOD_SECONDS = 0.05


class Pulse:
    """Asks a server whether it is well, again and again, and knows how long the answers took."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._asked: list[tuple[float, float]] = []
        """When each question began and was answered, in seconds since 1970; the last may not be yet."""

    async def run(self) -> None:
        """Until cancelled. Each time on a connection of its own, so that all nodes are asked."""
        while True:
            begin = time.time()
            self._asked.append((begin, float("inf")))
            try:
                connection = await HttpConnection.open(self._url)
                try:
                    await (await connection.get("/v1/health", {})).body()
                finally:
                    await connection.close()
            except (HttpError, OSError):
                pass
            self._asked[-1] = begin, time.time()
            await asyncio.sleep(PERIOD_SECONDS)

    def slowest(self, since: float, until: float) -> float:
        """How many seconds the slowest answer in a time took, as far as it was waited for in it."""
        within = (
            min(end, until) - max(begin, since)
            for begin, end in self._asked
            if begin < until and end > since
        )
        return max(within, default=0.0)
