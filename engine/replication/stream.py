"""The replication stream while it runs: from the socket to the log, and acknowledgements back."""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Callable

from engine import pgoutput
from engine.errors import ProtocolError
from engine.log.doorbell import Doorbell, Pulse
from engine.log.writer import LogWriter
from engine.metrics.meter import Meter
from engine.replication.transactions import Transactions
from engine.replication.walsender import ReplicationError, Walsender

BATCH_SECONDS = 0.02
"""The longest that a complete transaction waits for others to share its disk flush."""

PULSE_SECONDS = 0.002
"""The least time between two pulses that only say how far the stream has come."""

HEARTBEAT_SECONDS = 1.0


class Stream:
    """One life of the replication stream: from `START_REPLICATION` to its end or an error."""

    def __init__(
        self,
        walsender: Walsender,
        writer: LogWriter,
        doorbell: Doorbell,
        transactions: Transactions,
        silence_seconds: float,
        meter: Meter,
    ) -> None:
        """A connection on which Postgres is silent for so long, although asked, is given up."""
        assert writer.state is not None
        self._walsender = walsender
        self._writer = writer
        self._doorbell = doorbell
        self._transactions = transactions
        self._silence = silence_seconds
        self._meter = meter
        self._added = writer.added
        self._received = writer.state.progress
        self._progress = writer.state.progress
        self._acknowledged = 0
        self._in_stream = False
        self._rung = 0.0
        self._pulse_due = False
        self._heard = time.monotonic()
        self.changed = 0.0
        """When the last transaction came (`time.monotonic()`)."""
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._poll = select.poll()
        self._poll.register(walsender.fileno(), select.POLLIN)

    async def run(self) -> None:
        """Stream until `stop`, or until something fails; raises what did."""
        loop = asyncio.get_running_loop()
        # libpq forgets the descriptor of a connection that broke; the next one may get the same.
        descriptor = self._walsender.fileno()
        loop.add_reader(descriptor, self._guarded, self._on_readable)
        try:
            self._guarded(self._on_readable)
            while not self._failed.done():
                self._guarded(self._beat)
                await asyncio.wait([self._failed], timeout=HEARTBEAT_SECONDS)
            await self._failed
        finally:
            loop.remove_reader(descriptor)
            if self._failed.done():
                # Who is cancelled at that moment does not ask for it any more.
                self._failed.exception()

    def stop(self) -> None:
        """End `run`, after acknowledging what is durable."""

        def end() -> None:
            self._acknowledge(force=True)
            if not self._failed.done():
                self._failed.set_result(None)

        self._guarded(end)

    @property
    def quiet(self) -> bool:
        """Whether nothing is under way."""
        return not self._transactions.in_flight and not self._transactions.uncommitted

    def _guarded(self, step: Callable[[], None]) -> None:
        """Run one step of the loop; what it raises ends the stream.

        No step comes after that one, though there may be more to read: of what it left half done
        nothing may be taken for durable.
        """
        if self._failed.done():
            return
        try:
            step()
        except Exception as error:
            if not self._failed.done():
                self._failed.set_exception(error)

    # -- receiving ---------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        """Take all that is here; flush as soon as nothing more is, or the batch is old enough."""
        began = self._heard = time.monotonic()
        while True:
            self._walsender.consume()
            for data in self._walsender.receive():
                self._take(data)
            if not self._poll.poll(0):
                break
            if time.monotonic() - began > BATCH_SECONDS:
                break
        self._flush()

    def _take(self, data: bytes) -> None:
        if data[0] == pgoutput.XLOG_DATA:
            kind = data[pgoutput.XLOG_HEADER]
            if kind in pgoutput.CHANGES:
                self._take_change(data)
            else:
                self._take_message(data)
        elif data[0] == pgoutput.KEEPALIVE:
            self._take_keepalive(data)
        else:
            raise ProtocolError(f"unknown message kind {data[0]:#x} in the replication stream")

    def _take_change(self, data: bytes) -> None:
        if self._in_stream:
            xid, change = pgoutput.decode_streamed_change(data, pgoutput.XLOG_HEADER)
            self._transactions.streamed_change(xid, change, len(data))
        else:
            change = pgoutput.decode_change(data, pgoutput.XLOG_HEADER)
            self._transactions.change(change, len(data))

    def _take_message(self, data: bytes) -> None:
        xid, message = pgoutput.decode(data, pgoutput.XLOG_HEADER, streamed=self._in_stream)
        self._transactions.message(message, xid)
        if isinstance(message, pgoutput.StreamStart):
            self._in_stream = True
        elif isinstance(message, pgoutput.StreamStop):
            self._in_stream = False
        elif isinstance(message, (pgoutput.Commit, pgoutput.StreamCommit)):
            self._received = max(self._received, message.end_lsn)
            self._meter.received(message.commit_time_us)

    def _take_keepalive(self, data: bytes) -> None:
        keepalive = pgoutput.decode_keepalive(data)
        self._received = max(self._received, keepalive.wal_end)
        self._flush()
        if not self._transactions.in_flight and keepalive.wal_end > self._progress:
            # Postgres has sent every transaction that committed before this, and all are durable.
            self._progress = keepalive.wal_end
            self._pulse_soon()
        if keepalive.reply_requested:
            self._acknowledge(force=True)

    # -- durability --------------------------------------------------------------------------------

    def _flush(self) -> None:
        if self._transactions.uncommitted:
            self.changed = time.monotonic()
            self._transactions.flush()
            assert self._writer.state is not None
            self._progress = max(self._progress, self._writer.state.progress)
            self._ring()
            self._meter.durable(self._writer.added - self._added)
            self._added = self._writer.added

    def _acknowledge(self, *, force: bool = False) -> None:
        """Tell Postgres what is durable: what the log on disk says, and nothing else."""
        state = self._writer.state
        assert state is not None
        if self._progress > state.progress and not self._transactions.in_flight:
            state = self._writer.commit(state.commit_lsn, state.end_lsn, self._progress)
        if force or state.progress > self._acknowledged:
            self._walsender.acknowledge(max(self._received, state.progress), state.progress)
            self._acknowledged = state.progress

    def _beat(self) -> None:
        """Once a second: acknowledge, find new readers, tell all how far we are."""
        self._check_alive()
        self._acknowledge()
        self._doorbell.refresh()
        self._ring()

    def _check_alive(self) -> None:
        """A connection can be dead without an end of file; Postgres answers a request at once."""
        silence = time.monotonic() - self._heard
        if silence > self._silence:
            raise ReplicationError(
                f"Postgres has not answered for {silence:.0f} s: the connection is taken for dead"
            )
        if silence > self._silence / 2:
            self._acknowledge_only(reply=True)

    def on_progress(self) -> None:
        """Called while a large transaction moves into the log, which may take seconds."""
        if time.monotonic() - self._rung > HEARTBEAT_SECONDS:
            self._acknowledge_only()
            self._ring()

    def _acknowledge_only(self, *, reply: bool = False) -> None:
        state = self._writer.state
        assert state is not None
        written = max(self._received, state.progress)
        self._walsender.acknowledge(written, state.progress, reply=reply)

    # -- waking readers ----------------------------------------------------------------------------

    def _ring(self) -> None:
        self._rung = time.monotonic()
        self._doorbell.ring(Pulse(self._progress, True))

    def _pulse_soon(self) -> None:
        """Ring now, or shortly if we just did: other databases' traffic can move the stream often."""
        if time.monotonic() - self._rung > PULSE_SECONDS:
            self._ring()
        elif not self._pulse_due:
            self._pulse_due = True
            asyncio.get_running_loop().call_later(PULSE_SECONDS, self._pulse)

    def _pulse(self) -> None:
        self._pulse_due = False
        # What comes after the end must not be taken for life.
        if not self._failed.done():
            self._ring()
