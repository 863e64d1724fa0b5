"""Background runs and any Postgres table, live, from pgtide.

    import asyncio, pgtide

    async def main() -> None:
        async for run in pgtide.runs.subscribe("run_…"):
            print(run.status, run.metadata)

    asyncio.run(main())

`pgtide.sync` has the same names for programs without asyncio.
"""

from pgtide.aio.client import Client
from pgtide.aio.default import close, default_driver
from pgtide.aio.driver import Subscription
from pgtide.aio.groups import Auth, Metadata, Runs, Wait
from pgtide.aio.metadata import Progress
from pgtide.aio.shapes import Shape, ShapeStream
from pgtide.configuration import configure
from pgtide.errors import (
    AnsweredError,
    AuthenticationError,
    ConnectionLostError,
    InvalidRequestError,
    NoCurrentRunError,
    NotFoundError,
    PermissionDeniedError,
    PgtideError,
    RateLimitedError,
    RunDeletedError,
    ServerError,
    UnexpectedAnswerError,
    WaitTimeoutError,
)
from pgtide.protocol.definition import ShapeOptions
from pgtide.protocol.messages import Batch, Change, Control, Message, Position
from pgtide.protocol.packets import StoredPacket
from pgtide.protocol.run import Run, RunError, RunStatus
from pgtide.protocol.run_calls import BatchHandle, BatchItem, RunHandle, RunPage
from pgtide.protocol.run_following import RunSet
from pgtide.protocol.wait_calls import WaitToken, WaitTokenHandle

runs = Runs(default_driver)
metadata = Metadata(default_driver)
wait = Wait(default_driver)
auth = Auth(default_driver)

__all__ = [
    "AnsweredError",
    "AuthenticationError",
    "Batch",
    "BatchHandle",
    "BatchItem",
    "Change",
    "Client",
    "ConnectionLostError",
    "Control",
    "InvalidRequestError",
    "Message",
    "NoCurrentRunError",
    "NotFoundError",
    "PermissionDeniedError",
    "PgtideError",
    "Position",
    "Progress",
    "RateLimitedError",
    "Run",
    "RunDeletedError",
    "RunError",
    "RunHandle",
    "RunPage",
    "RunSet",
    "RunStatus",
    "ServerError",
    "Shape",
    "ShapeOptions",
    "ShapeStream",
    "StoredPacket",
    "Subscription",
    "UnexpectedAnswerError",
    "WaitTimeoutError",
    "WaitToken",
    "WaitTokenHandle",
    "auth",
    "close",
    "configure",
    "metadata",
    "runs",
    "wait",
]
