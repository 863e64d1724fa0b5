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
from pgtide.aio.durable import Stream
from pgtide.aio.groups import Auth, Metadata, Runs, Streams, Wait
from pgtide.aio.metadata import Progress
from pgtide.aio.shapes import Shape, ShapeStream
from pgtide.aio.streams import DefinedStream
from pgtide.aio.writing import Pipe, Writer
from pgtide.configuration import configure
from pgtide.errors import (
    AnsweredError,
    AuthenticationError,
    ConnectionLostError,
    GoneError,
    InvalidRequestError,
    NoCurrentRunError,
    NotFoundError,
    PermissionDeniedError,
    PgtideError,
    ProducerReplacedError,
    RateLimitedError,
    RunDeletedError,
    ServerError,
    StreamClosedError,
    StreamStoppedError,
    UnexpectedAnswerError,
    WaitTimeoutError,
)
from pgtide.protocol.definition import ShapeOptions
from pgtide.protocol.durable_streams import StreamInfo, StreamPart
from pgtide.protocol.messages import Batch, Change, Control, Message, Position
from pgtide.protocol.packets import StoredPacket
from pgtide.protocol.record_reading import Record
from pgtide.protocol.run import Run, RunError, RunStatus
from pgtide.protocol.run_calls import BatchHandle, BatchItem, RunHandle, RunPage
from pgtide.protocol.run_following import RunSet
from pgtide.protocol.run_streams import Stop
from pgtide.protocol.wait_calls import WaitToken, WaitTokenHandle

runs = Runs(default_driver)
metadata = Metadata(default_driver)
streams = Streams(default_driver)
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
    "DefinedStream",
    "GoneError",
    "InvalidRequestError",
    "Message",
    "NoCurrentRunError",
    "NotFoundError",
    "PermissionDeniedError",
    "PgtideError",
    "Pipe",
    "Position",
    "ProducerReplacedError",
    "Progress",
    "RateLimitedError",
    "Record",
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
    "Stop",
    "StoredPacket",
    "Stream",
    "StreamClosedError",
    "StreamInfo",
    "StreamPart",
    "StreamStoppedError",
    "Subscription",
    "UnexpectedAnswerError",
    "WaitTimeoutError",
    "WaitToken",
    "WaitTokenHandle",
    "Writer",
    "auth",
    "close",
    "configure",
    "metadata",
    "runs",
    "streams",
    "wait",
]
