"""Taking snapshots and stitching them to the log."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any, NamedTuple

import asyncpg

from engine.configuration.settings import Settings
from engine.errors import DatabaseSetupError, PgtideError
from engine.lsn import Offset, parse_lsn
from engine.postgres.publication_errors import PublicationError
from engine.replication.visibility import sees
from shapes.database import Database, DatabaseUnavailableError
from shapes.following.activation import OutOfLogError, collect
from shapes.following.encoder import Entry
from shapes.following.feed import RotatedError
from shapes.following.tail import Tail
from shapes.kept import DiskError
from shapes.readiness import NotReadyError
from shapes.shape import Handle, Shape
from shapes.snapshots.snapshot_rows import presented
from shapes.snapshots.snapshot_sql import snapshot_query
from shapes.snapshots.snapshot_store import SnapshotRecord, SnapshotStore
from shapes.windows.stitch import settle
from shapes.wire import snapshot_end

log = logging.getLogger("node")

REACH_SECONDS = 30.0
POLL_SECONDS = 0.01

ALTERED = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedFunctionError,
    asyncpg.DatatypeMismatchError,
)


_QUOTED = re.compile('".*"', re.DOTALL)


class SnapshotError(PgtideError):
    """The snapshot could not be taken; the message may be shown to clients."""

    code = "snapshot_failed"


class Visibility(NamedTuple):
    """What a snapshot sees: `pg_current_snapshot()`, and a WAL position after all of that.

    `durable`: what it sees was on the server's disk already.
    """

    xmin: int
    xmax: int
    xip: frozenset[int]
    lsn: int
    durable: bool

    @classmethod
    def parse(cls, line: str) -> Visibility:
        """Read `xmin:xmax:xip,… lsn flushed-lsn`."""
        snapshot, lsn, flushed = line.split(" ")
        xmin, xmax, xip = snapshot.split(":")
        running = frozenset(int(xid) for xid in xip.split(",") if xid)
        durable = parse_lsn(flushed) >= parse_lsn(lsn)
        return cls(int(xmin), int(xmax), running, parse_lsn(lsn), durable)

    def sees(self, xid: int) -> bool:
        """Whether the transaction with this 32-bit id had ended when the snapshot was taken."""
        return sees(self.xmin, self.xmax, self.xip, xid)


class Snapshots:
    """Takes snapshots that this node has claimed, and waits for those of others."""

    def __init__(
        self,
        store: SnapshotStore,
        database: Database,
        tail: Tail,
        settings: Settings,
        on_altered: Callable[[int], None],
    ) -> None:
        """`on_altered` hears of a table (by oid) that is not what a shape took it for."""
        self._on_altered = on_altered
        self._store = store
        self._database = database
        self._tail = tail
        self._chunk_bytes = settings.chunk_bytes
        self._silence = settings.database_silence
        self._tasks: set[asyncio.Task[None]] = set()
        self.on_taken: Callable[[bool, float, int], None] = lambda done, seconds, rows: None
        """Is called after each snapshot that this node has taken, or tried to."""
        self._changed: dict[Handle, asyncio.Event] = {}

    def start(
        self, shape: Shape, record: SnapshotRecord, prepare: Callable[[], Awaitable[None]]
    ) -> None:
        """Take the snapshot that `record` claims, in the background. `prepare` runs first."""
        handle = Handle(shape.hash, record.generation)
        self._changed[handle] = asyncio.Event()
        task = asyncio.create_task(self._take(shape, handle, record, prepare))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def wait(
        self, handle: Handle, ready: Callable[[SnapshotRecord], bool]
    ) -> SnapshotRecord | None:
        """Wait until a snapshot is as far as `ready` says, or failed; None if it is gone."""
        while True:
            record = self._store.get(handle)
            if record is None or record.state == "failed" or ready(record):
                return record
            if record.stale:
                return None
            event = self._changed.get(handle)
            if event is None:
                # Another node takes it.
                await asyncio.sleep(POLL_SECONDS)
            else:
                await event.wait()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _take(
        self,
        shape: Shape,
        handle: Handle,
        record: SnapshotRecord,
        prepare: Callable[[], Awaitable[None]],
    ) -> None:
        taking = _Taking(self._store, handle, record, self._chunk_bytes, self._notify)
        began = time.monotonic()
        try:
            await self._try(shape, taking, prepare)
        except (OSError, DiskError) as error:
            log.error("what became of a snapshot cannot be written down: %s", error)
        finally:
            event = self._changed.pop(handle)
            event.set()
            self.on_taken(taking.done, time.monotonic() - began, taking.rows)

    async def _try(
        self, shape: Shape, taking: _Taking, prepare: Callable[[], Awaitable[None]]
    ) -> None:
        try:
            await self._tail.connected()
            await prepare()
            # Transactions that the log has now and the snapshot does not see: see `_stitch`.
            window = Offset(self._tail.log.state().end_lsn, 0)
            cutoff = self._tail.encoders.cutoff(shape, window)
            await read_rows(
                self._database,
                snapshot_query(shape, cutoff),
                presented(shape.projection, taking.feed),
                flush=lambda: not taking.durable,
                silence=self._silence,
            )
            visibility = taking.finish()
            stitch = await self._stitch(shape, visibility, window, cutoff)
            taking.publish(state="done", lsn=visibility.lsn, stitch=stitch)
        except (OutOfLogError, RotatedError):
            # Truncated or altered while it was taken: whoever has begun to read it starts over.
            self._store.retire(shape.hash)
            taking.publish(state="failed", error="Failed to create shape, please retry")
        except ALTERED as error:
            log.info(
                "a snapshot of %s.%s has failed, as if the table were altered: %s",
                shape.table.schema,
                shape.table.name,
                error,
            )
            self._on_altered(shape.table.oid)
            taking.publish(state="failed", error="Failed to create shape, please retry")
        except Exception as error:
            taking.publish(state="failed", error=explain(error))
        except BaseException:
            taking.publish(state="failed", error="the node was stopped")
            raise

    async def _stitch(
        self, shape: Shape, visibility: Visibility, window: Offset, cutoff: str | None
    ) -> tuple[str, ...]:
        """Messages for what committed before the snapshot's LSN without being visible to it.

        A transaction's commit record comes first, then the moment from which others see it. So one
        that is in the log may still be running for the snapshot; it can have been in the log even
        before the snapshot began (`window`), which the log's index of transaction ids tells.
        """
        tail = self._tail
        if not await tail.reached(visibility.lsn, REACH_SECONDS):
            raise SnapshotError(
                "the replication stream did not reach the snapshot in time: is the engine connected?"
            )
        early = tail.log.commits_from(visibility.xmax & 0xFFFFFFFF)
        for xid in visibility.xip:
            commit_lsn = tail.log.commit_lsn_of(xid & 0xFFFFFFFF)
            if commit_lsn is not None:
                early.append(commit_lsn)
        until = Offset(visibility.lsn, 0)
        start = min([window, *(Offset(lsn, 0) for lsn in early if lsn >= tail.horizon.lsn)])
        missed: list[Entry] = []
        while start < until:
            entries, start = await collect(
                tail, shape, start, until, self._chunk_bytes, visibility.sees, cutoff
            )
            if cutoff is None:
                entries = [entry for entry in entries if not visibility.sees(entry.xid)]
            missed += entries
        if cutoff is not None:
            latest = tail.encoders.cutoff(shape, until) or cutoff
            missed = settle(shape, tail.encoders, missed, visibility.sees, window, latest)
        return tuple(message.decode() for message in tail.encoders.encode(shape, missed))

    def _notify(self, handle: Handle) -> None:
        event = self._changed.get(handle)
        if event is not None:
            event.set()
            self._changed[handle] = asyncio.Event()


async def read_rows(
    database: Database,
    query: str,
    output: Callable[[bytes], Coroutine[Any, Any, None]],
    *,
    flush: Callable[[], bool],
    silence: float,
) -> None:
    """Run the query; give up if Postgres sends nothing for `silence` seconds. Raises SnapshotError."""
    try:
        async with asyncio.timeout(silence) as limit:

            async def feed(data: bytes) -> None:
                limit.reschedule(asyncio.get_running_loop().time() + silence)
                await output(data)

            # What was committed asynchronously can be seen before it is durable, and would be gone
            # after a crash of Postgres: have it flushed, over this very connection. It also makes
            # the stream go on to here.
            await database.copy(query, feed, flush)
    except TimeoutError as error:
        raise SnapshotError(
            "Snapshot query took too long to return data (cancelled after "
            f"{silence * 1000:.0f}ms). Please ensure that the filter's columns are indexed"
        ) from error


class _Taking:
    """One snapshot being read: cuts the COPY stream into chunk bodies.

    The stream's pieces are kept as they come; only the one with a chunk's last row is cut.
    """

    def __init__(
        self,
        store: SnapshotStore,
        handle: Handle,
        record: SnapshotRecord,
        chunk_bytes: int,
        notify: Callable[[Handle], None],
    ) -> None:
        self._store = store
        self._handle = handle
        self._record = record
        self._chunk_bytes = chunk_bytes
        self._notify = notify
        self._pieces: list[bytes] = []
        self._size = 0
        self._visibility: Visibility | None = None
        self.rows = 0
        """How many rows have come."""

    @property
    def done(self) -> bool:
        return self._record.state == "done"

    async def feed(self, data: bytes) -> None:
        """The next piece of the COPY stream."""
        if self._visibility is None:
            data = self._take_first_line(data)
        self.rows += data.count(b"\n")
        # A chunk ends with the row that makes it reach the threshold.
        while self._size + len(data) >= self._chunk_bytes:
            end = data.find(b"\n", max(0, self._chunk_bytes - self._size - 1))
            if end < 0:
                break
            pieces = [*self._pieces, data[:end]] if end else self._pieces
            # The array's last element has no comma behind it.
            pieces[-1] = pieces[-1][:-1]
            await self._write(pieces)
            self._pieces, self._size = [], 0
            data = data[end + 1 :]
        if data:
            self._pieces.append(data)
            self._size += len(data)

    @property
    def durable(self) -> bool:
        return self._visibility is not None and self._visibility.durable

    def finish(self) -> Visibility:
        """The stream has ended: write the last chunk."""
        visibility = self._visibility
        if visibility is None:
            raise SnapshotError("Postgres sent no snapshot")
        end = snapshot_end(visibility.xmin, visibility.xmax, tuple(sorted(visibility.xip)))
        number = len(self._record.chunks)
        size = self._store.write_chunk(self._handle, number, [*self._pieces, end])
        self.publish(state="reading", lsn=visibility.lsn, chunks=(*self._record.chunks, size))
        self._pieces.clear()
        return visibility

    def publish(self, **changes: object) -> None:
        """Change the record and tell everybody who waits."""
        self._record = replace(self._record, **changes)  # pyright: ignore
        self._record = self._store.update(self._handle, self._record)
        self._notify(self._handle)

    async def _write(self, pieces: list[bytes]) -> None:
        number = len(self._record.chunks)
        try:
            size = await asyncio.to_thread(self._store.write_chunk, self._handle, number, pieces)
        except OSError as error:
            # Not to be taken for one of the connection that the rows come from.
            raise _unwritten(error) from error
        self.publish(chunks=(*self._record.chunks, size))

    def _take_first_line(self, data: bytes) -> bytes:
        self._pieces.append(data)
        data = b"".join(self._pieces)
        end = data.find(b"\n")
        if end < 0:
            self._pieces = [data]
            return b""
        self._pieces = []
        self._visibility = Visibility.parse(data[:end].decode())
        return data[end + 1 :]


def _unwritten(error: OSError | DiskError) -> SnapshotError:
    log.error("a snapshot cannot be written: %s", error)
    return SnapshotError("Snapshot cannot be written; the log of pgtide says why")


def without_values(error: asyncpg.PostgresError) -> str:
    """Why a condition fails for some row, whose values are nobody's business: it may be one that the
    shape's own filter keeps out."""
    return _QUOTED.sub('"…"', str(error))


def explain(error: Exception) -> str:
    """What a client may be told of a failure."""
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return f"Unable to create initial snapshot: {error}"
    if isinstance(error, (asyncpg.DataError, asyncpg.FeatureNotSupportedError)):
        return f"Unable to create initial snapshot: {without_values(error)}"
    if isinstance(error, asyncpg.QueryCanceledError):
        return "Snapshot query took too long to return data"
    if isinstance(error, DatabaseUnavailableError):
        return "Database connection not available"
    if isinstance(error, PublicationError):
        return error.message
    if isinstance(error, (DatabaseSetupError, NotReadyError, SnapshotError)):
        return str(error)
    if isinstance(error, (OSError, DiskError)):
        return str(_unwritten(error))
    log.error("snapshot failed", exc_info=error)
    return "Snapshot creation failed"
