"""A node's place at the end of the log: reads on, routes, tells feeds that something came."""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

from engine.log.doorbell import Ear
from engine.log.layout import Block, LogState, RelationVersion
from engine.log.reader import LogReader
from engine.lsn import Offset
from engine.postgres.table import Table
from engine.processes.board import Board
from shapes.following.encoders import Encoders
from shapes.following.feed import Feed
from shapes.following.routing import Routing
from shapes.following.shared_encoding import SharedEncoding
from shapes.readiness import NotReadyError, reason
from shapes.streams.live.hub import StreamHub

log = logging.getLogger("node")

STEP_SECONDS = 0.004
"""How long the event loop is held at a time while there is much to read."""

STEP_BYTES = 1 << 18
HEARTBEAT_TIMEOUT = 10.0
CONNECTED_SECONDS = 5.0


class Tail:
    """Follows the log.

    `processed` is where complete, routed transactions end: readers may see what is before it.
    `cursor` is how far the routing has come: the end of a transaction (index 0), or a change within
    one whose rest is still to come. A feed may join the routing once it has been brought to there.
    """

    def __init__(
        self,
        folder: Path,
        log_reader: LogReader,
        *,
        on_ended: Callable[[Feed, int], None],
        on_incomplete: Callable[[Table], None],
        on_version: Callable[[RelationVersion], None],
        on_start_over: Callable[[], None],
        board: Board | None = None,
    ) -> None:
        """`board` tells why changes do not come in, if they do not."""
        self._board = board
        self.log = log_reader
        self.encoders = Encoders(log_reader)
        self._on_version = on_version
        self.hub: StreamHub | None = None
        """Hears of what was appended to streams. To be set before this runs."""
        self.routing = Routing(self.encoders, on_version, on_notice=self._note)
        state = log_reader.state()
        self.epoch = state.epoch
        self.cursor = Offset(state.end_lsn, 0)
        self.processed = Offset(state.progress, 0)
        self.last_commit_end = state.end_lsn
        self.starts = 0
        """How often it had to start over."""
        self.streaming = False
        self._on_ended = on_ended
        self._on_incomplete = on_incomplete
        self._on_start_over = on_start_over
        self._heard = 0.0
        self._progress = 0
        self._ear = Ear(folder)
        self._rung = asyncio.Event()
        self._sequence = count()
        self._waiters: list[tuple[int, int, asyncio.Future[None]]] = []

    @property
    def horizon(self) -> Offset:
        """From where on the log can be read. Trimming rings no bell, so this looks."""
        return self.log.state().horizon

    @property
    def active(self) -> bool:
        """Whether the engine is there and connected to Postgres."""
        return self.streaming and time.monotonic() - self._heard < HEARTBEAT_TIMEOUT

    async def connected(self) -> None:
        """Wait a little until changes come in. Raises NotReadyError."""
        deadline = time.monotonic() + CONNECTED_SECONDS
        while self._board is not None and not self.active:
            if time.monotonic() > deadline:
                raise NotReadyError(reason(self._board.stage))
            await asyncio.sleep(0.02)

    async def run(self) -> None:
        """Follow the log until cancelled."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._ear.fileno(), self._rung.set)
        try:
            while True:
                await self._rung.wait()
                self._rung.clear()
                self._listen()
                while self.step():
                    await asyncio.sleep(0)
        finally:
            loop.remove_reader(self._ear.fileno())
            self._ear.close()

    async def catch_up(self) -> None:
        """Go on to where the log reaches now.

        After this nothing that another node has shown to anybody is unknown here.
        """
        while self.processed.lsn < self.log.state().end_lsn:
            if self.step():
                await asyncio.sleep(0)

    async def reached(self, lsn: int, timeout: float) -> bool:
        """Wait until every transaction that commits before `lsn` has been routed; False if it takes
        longer than `timeout` seconds."""
        if self.processed.lsn >= lsn:
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiters, (lsn, next(self._sequence), future))
        done, _ = await asyncio.wait([future], timeout=timeout)
        if not done:
            self._waiters = [waiter for waiter in self._waiters if waiter[2] is not future]
            heapq.heapify(self._waiters)
        return bool(done)

    def step(self) -> bool:
        """Route for at most about STEP_SECONDS. True if there is more to read."""
        deadline = time.monotonic() + STEP_SECONDS
        while True:
            progress = self._progress
            state, blocks = self.log.read(self.cursor, most=STEP_BYTES)
            if state.epoch != self.epoch:
                log.warning("the log has begun anew: all shapes have ended")
                self._start_over(state)
                return True
            if self.cursor < state.horizon:
                log.warning("the log was trimmed before it was read: all shapes have ended")
                self._start_over(state)
                return True
            for position, block in enumerate(blocks):
                self._route(block)
                if time.monotonic() > deadline and position + 1 < len(blocks):
                    self._publish()
                    return True
            if not blocks:
                self._advance(max(state.progress, progress))
                return False
            self._publish()
            if time.monotonic() > deadline:
                return True

    # -- the parts of a step -----------------------------------------------------------------------

    def _route(self, block: Block) -> None:
        if not block.end_lsn:
            # More of this transaction follows: what is complete goes out first.
            self._publish()
        self.routing.apply(block, self.cursor)
        if block.end_lsn:
            self.last_commit_end = block.end_lsn
            self.cursor = self.processed = Offset(block.end_lsn, 0)
        else:
            self.cursor = block.last
        if self.routing.ended:
            self._end_shapes()
        if self.routing.incomplete:
            incomplete, self.routing.incomplete = self.routing.incomplete, set()
            for table in incomplete:
                self._on_incomplete(table)

    @property
    def between_transactions(self) -> bool:
        """Whether nothing of an unfinished transaction has been routed."""
        return self.cursor.index == 0

    def _publish(self) -> None:
        """Tell the feeds of complete transactions; keep quiet in the middle of one."""
        if not self.between_transactions:
            return
        touched = self.routing.touched
        if touched:
            with SharedEncoding(self.encoders.encode) as encode:
                for subscriber in touched:
                    if isinstance(subscriber, Feed):
                        subscriber.publish(self.last_commit_end, encode)
            touched.clear()
        if self.hub is not None and self.hub.publish():
            # After the rows of its transaction, also for those whose polls are being answered.
            asyncio.get_running_loop().call_soon(self.hub.tell)
        self._advance(self.processed.lsn)

    def _note(self, content: bytes) -> None:
        if self.hub is not None:
            self.hub.note(content)

    def _advance(self, lsn: int) -> None:
        if self.between_transactions and lsn > self.processed.lsn:
            self.processed = Offset(lsn, 0)
        waiters = self._waiters
        while waiters and waiters[0][0] <= self.processed.lsn:
            future = heapq.heappop(waiters)[2]
            if not future.done():
                future.set_result(None)

    def _end_shapes(self) -> None:
        ended, self.routing.ended = self.routing.ended, []
        for subscriber, lsn in ended:
            self.routing.remove(subscriber)
            self.routing.touched.discard(subscriber)
            if isinstance(subscriber, Feed):
                self._on_ended(subscriber, lsn)

    def _start_over(self, state: LogState) -> None:
        """What was read before does not connect with what comes."""
        for subscriber in self.routing.subscribers():
            if isinstance(subscriber, Feed):
                subscriber.rotate()
        self.starts += 1
        self.encoders.clear()
        self.routing = Routing(self.encoders, self._on_version, on_notice=self._note)
        self.epoch = state.epoch
        self.cursor = self.processed = state.horizon
        self.last_commit_end = state.horizon.lsn
        # A pulse of the old epoch says nothing about the new one.
        self._ear.listen()
        self._progress = 0
        if self.hub is not None:
            self.hub.start_over()
        self._on_start_over()

    def _listen(self) -> None:
        pulse = self._ear.listen()
        if pulse is not None:
            self.streaming = pulse.streaming
            self._heard = time.monotonic()
            self._progress = max(self._progress, pulse.progress)
