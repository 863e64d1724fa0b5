"""A client of the shape API that trusts nothing: it follows a shape and checks every message.

By long-poll or SSE, through cuts and restarts; what it makes of the messages is in `shape_rows`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson
from http_connection import HttpConnection, HttpError, Response
from shape_rows import Message, Row, Rows, Subject, ViolationError

RETRY_SECONDS = 0.05


@dataclass
class Counts:
    """What happened to a client. `conflicts` are 409s for an offset in the log, which cost the client
    its rows; `restarts` are those within a snapshot."""

    requests: int = 0
    messages: int = 0
    snapshots: int = 0
    conflicts: int = 0
    restarts: int = 0
    reconnects: int = 0
    refusals: Counter[int] = field(default_factory=Counter[int])


class ShapeClient:
    """Follows one shape until `close`.

    A broken connection, a 5xx or a 429 is tried again with the same offset; a 409 begins anew and is
    counted. Anything else that is not a correct answer ends it with a ViolationError in `violation`.
    With `wander` every request has a connection, and so most often a node, of its own.
    `on_change` is called after each applied batch that had changes.
    """

    def __init__(
        self,
        url: str,
        subject: Subject,
        *,
        sse: bool = False,
        wander: bool = False,
        name: str = "client",
        timeout: float = 30.0,
        on_change: Callable[[ShapeClient], None] | None = None,
    ) -> None:
        self.url = url
        self.subject = subject
        self.sse = sse
        self.wander = wander
        self.name = name
        self.state = Rows(subject)
        self.counts = Counts()
        self.violation: ViolationError | None = None
        self.events: deque[str] = deque(maxlen=300)
        self.offset = "-1"
        self.handle: str | None = None
        self.columns: tuple[str, ...] = ()
        """Of the last snapshot, as its schema says."""
        self.up_to_date = False
        self._timeout = timeout
        self._on_change = on_change
        self._cursor = ""
        self._connection: HttpConnection | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def rows(self) -> dict[str, Row]:
        return self.state.rows

    # -- life --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Follow in the background from where it is."""
        assert self._task is None
        self._task = asyncio.create_task(self._follow(live=True), name=self.name)

    async def stop(self) -> None:
        """Stop following; the position is kept."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._disconnect()

    async def catch_up(self) -> None:
        """Without waiting for changes: on from the present position until up to date."""
        self.up_to_date = False
        try:
            await self._follow(live=False)
        finally:
            await self._disconnect()
        self.check()

    def check(self) -> None:
        """Raise what it found wrong."""
        if self.violation is not None:
            raise self.violation

    async def until(self, condition: Callable[[], bool], seconds: float = 60.0) -> bool:
        """Wait for something that messages bring about; False if they were wrong, or if none came for
        so long. On a slow machine many messages take their time."""
        deadline, known = time.monotonic() + seconds, self.counts.messages
        while not condition():
            if known != self.counts.messages:
                deadline, known = time.monotonic() + seconds, self.counts.messages
            if self.violation is not None or time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    def describe(self) -> str:
        """What it did lately, for the message of a failed test."""
        head = f"{self.name} {self.subject} at {self.offset} of {self.handle}: {self.counts}"
        return "\n".join([head, *(f"  {event}" for event in self.events)])

    # -- following ---------------------------------------------------------------------------------

    async def _follow(self, *, live: bool) -> None:
        while live or not self.up_to_date:
            try:
                async with asyncio.timeout(None) as patience:
                    await self._step(patience)
            except (OSError, HttpError, TimeoutError) as error:
                self._note(f"reconnecting: {type(error).__name__} {error}")
                self.counts.reconnects += 1
                await self._disconnect()
                await asyncio.sleep(RETRY_SECONDS)
            except ViolationError as error:
                self.violation = ViolationError(f"{error}\n{self.describe()}")
                await self._disconnect()
                return
            except (KeyError, ValueError, TypeError, AttributeError) as error:
                self.violation = ViolationError(f"not understood: {error!r}\n{self.describe()}")
                await self._disconnect()
                return

    async def _step(self, patience: asyncio.Timeout) -> None:
        """One request and its answer."""
        self._renew(patience)
        if self._connection is None:
            self._connection = await HttpConnection.open(self.url)
        parameters = self._parameters()
        self.counts.requests += 1
        response = await self._connection.get("/v1/shape", parameters)
        self._note(f"{parameters['offset']} live={parameters.get('live')} -> {response.status}")
        if response.status == 409:
            await response.body()
            self._start_over(response)
        elif response.status == 429 or response.status >= 500:
            body = await response.body()
            self.counts.refusals[response.status] += 1
            self._note(f"refused: {body[:300]!r}")
            await asyncio.sleep(RETRY_SECONDS)
        elif response.status != 200:
            raise ViolationError(f"status {response.status}: {(await response.body())[:1000]!r}")
        elif "text/event-stream" in response.headers["content-type"]:
            self._adopt(response)
            await self._read_events(response, patience)
        else:
            await self._read_array(response, patience)
        if self.wander or response.headers.get("connection") == "close":
            await self._disconnect()

    def _parameters(self) -> dict[str, str]:
        parameters = self.subject.parameters() | {"offset": self.offset}
        if self.handle is not None:
            parameters["handle"] = self.handle
        if self.up_to_date:
            parameters |= {"live": "true", "cursor": self._cursor}
            if self.sse:
                parameters["live_sse"] = "true"
        return parameters

    def _adopt(self, response: Response) -> None:
        handle = response.headers["electric-handle"]
        if self.offset != "-1" and handle != self.handle:
            raise ViolationError(f"the handle changed from {self.handle} to {handle} without a 409")
        self.handle = handle
        self.offset = response.headers["electric-offset"]
        self._cursor = response.headers.get("electric-cursor", self._cursor)

    async def _read_array(self, response: Response, patience: asyncio.Timeout) -> None:
        """A whole body counts, a torn one does not."""
        pieces: list[bytes] = []
        async for piece in response.pieces():
            pieces.append(piece)
            self._renew(patience)
        messages: list[Message] = orjson.loads(b"".join(pieces))
        first = self.offset == "-1"
        before = _position(self.offset)
        self._adopt(response)
        if first and self.offset != "0_0":
            raise ViolationError(f"the first answer ends at {self.offset}")
        if not first and _position(self.offset) < before:
            raise ViolationError(f"the offset went back from {before} to {self.offset}")
        if first:
            self.counts.snapshots += 1
            self.columns = tuple(orjson.loads(response.headers["electric-schema"]))
        ends = bool(messages) and messages[-1]["headers"].get("control") == "up-to-date"
        if ends != ("electric-up-to-date" in response.headers) or (ends and first):
            raise ViolationError(f"up-to-date in body is {ends}, headers are {response.headers}")
        self._apply(messages)
        self.up_to_date = ends

    async def _read_events(self, response: Response, patience: asyncio.Timeout) -> None:
        """Batches that end with an up-to-date count; what comes after the last one does not."""
        buffer = b""
        batch: list[Message] = []
        async for piece in response.pieces():
            self._renew(patience)
            *events, buffer = (buffer + piece).split(b"\n\n")
            for event in events:
                if not event.startswith(b"data: "):
                    if not event.startswith(b":"):
                        raise ViolationError(f"neither data nor a comment: {event!r}")
                    continue
                batch.append(orjson.loads(event[6:]))
                if batch[-1]["headers"].get("control") == "up-to-date":
                    self._apply(batch)
                    self.offset = f"{batch[-1]['headers']['global_last_seen_lsn']}_0"
                    batch = []
        self._note(f"the stream ended, {len(batch)} messages without up-to-date")

    def _apply(self, messages: list[Message]) -> None:
        for message in messages:
            self.state.apply(message)
        changes = [one for one in messages if "operation" in one["headers"]]
        self.counts.messages += len(changes)
        for message in changes[-20:]:
            self._note(f"  {orjson.dumps(message).decode()[:400]}")
        self._note(f"  {len(changes)} changes, now at {self.offset}, seen {self.state.seen_lsn}")
        if changes and self._on_change is not None:
            self._on_change(self)

    def _start_over(self, response: Response) -> None:
        if self.offset == "-1" or self.offset.startswith("0_"):
            self.counts.restarts += 1
        else:
            self.counts.conflicts += 1
        handle = response.headers.get("electric-handle")
        if handle is not None and handle == self.handle:
            raise ViolationError(f"409 leads to the same handle {handle}")
        self.state = Rows(self.subject)
        self.offset, self.handle, self.up_to_date = "-1", handle, False

    def _renew(self, patience: asyncio.Timeout) -> None:
        patience.reschedule(asyncio.get_running_loop().time() + self._timeout)

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def _note(self, event: str) -> None:
        self.events.append(f"{time.time():.3f} {event}")


def _position(offset: str) -> tuple[int, float]:
    lsn, index = offset.split("_") if "_" in offset else ("-1", "0")
    return int(lsn), float(index)
