"""What the event loop reports although nobody is to be told of it."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg


def pass_over_abandoned(loop: asyncio.AbstractEventLoop) -> None:
    """Say nothing of what asyncpg leaves behind when a connection ends under it.

    A COPY that cannot begin, since Postgres has just said that it ends the connection, raises that,
    and leaves a future that fails once more when the connection is gone.
    """
    loop.set_exception_handler(_report)


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    lost = isinstance(context.get("exception"), asyncpg.ConnectionDoesNotExistError)
    if not (lost and context.get("future") is not None):
        loop.default_exception_handler(context)
