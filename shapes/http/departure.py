"""A node's end: at once when it is told to stop, in its own time when it has a successor."""

from __future__ import annotations

import asyncio
import logging
import signal

from engine.processes.program import LEAVE
from shapes.http.server import Server

log = logging.getLogger("node")

STOP_SECONDS = 2.5
"""How long answers may go on when the node is told to stop; its supervisor waits a little longer."""

LEAVE_SECONDS = 660.0
"""How long a node that has a successor may go on with what it has begun: the longest event streams last
ten minutes."""


async def serve_until_told(server: Server, background: asyncio.Task[None]) -> None:
    """Until SIGTERM or SIGINT, or until the node has left to its successor; the server has stopped.

    A node whose `background` has failed must not go on answering: it starts over.
    """
    ends = [background, _told(signal.SIGTERM, signal.SIGINT)]
    succeeded = _told(LEAVE)
    await asyncio.wait([*ends, succeeded], return_when=asyncio.FIRST_COMPLETED)
    if succeeded.done() and not any(end.done() for end in ends):
        log.info("leaving to a successor")
        leaving = asyncio.create_task(server.leave(LEAVE_SECONDS))
        await asyncio.wait([*ends, leaving], return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
    await server.stop(STOP_SECONDS)


def _told(*numbers: signal.Signals) -> asyncio.Future[None]:
    """Done when one of these signals comes."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not told.done():
            told.set_result(None)

    for number in numbers:
        loop.add_signal_handler(number, tell)
    return told
