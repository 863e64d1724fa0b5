"""The one writer of the log."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import lmdb

from engine.errors import LogError
from engine.log.cutoffs import cutoff_key, drop_all_cutoffs, drop_cutoffs, latest_cutoffs
from engine.log.layout import (
    HEADER,
    KEY,
    LSN,
    XID,
    Block,
    LogState,
    RelationVersion,
    pack_header,
    unpack_block,
)
from engine.log.xids import unseen_commits
from engine.lsn import Offset
from engine.replication.visibility import Visibility

MAP_SIZE = 1 << 42
"""Address space reserved for the log, not disk: the file grows with its content."""

DATABASES = 4

SCARCE_BYTES = 1 << 20


class LogFullError(LogError):
    """The disk under the log is full. Free space there; nothing is lost, Postgres keeps the WAL."""

    code = "log_disk_full"


class LogBusyError(LogError):
    """Another process is writing this log. Stop it, or give this one a data folder of its own."""

    code = "log_busy"


def remedy_for(error: lmdb.Error) -> str:
    """What to do about it, as the end of a sentence; nothing if trying again may do."""
    if isinstance(error, (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError)):
        return (
            ". It is damaged, or of another version: stop pgtide, delete that folder and start "
            "again. The log begins anew then, and clients fetch their shapes again"
        )
    return ""


@contextmanager
def _explained(path: Path) -> Generator[None]:
    try:
        yield
    except lmdb.MapFullError as error:
        raise LogFullError(
            f"the log in {path} has no space left: free some and it goes on"
        ) from error
    except lmdb.Error as error:
        if _is_full(path, str(error)):
            raise LogFullError(
                f"the disk under {path} is full: free some space and pgtide goes on by itself; "
                "nothing is lost, Postgres keeps the changes until then"
            ) from error
        raise LogError(
            f"the log in {path} cannot be written: {error}{remedy_for(error)}"
        ) from error


def _is_full(path: Path, message: str) -> bool:
    """Whether an LMDB error means a full disk; a write that went half way is an I/O error to LMDB."""
    if "No space left" in message or "disk quota" in message.lower():
        return True
    return "Input/output error" in message and shutil.disk_usage(path).free < SCARCE_BYTES


class LogWriter:
    """Appends transactions to the log, in commit order.

    Blocks are staged with `add` and become durable and visible with `commit`, which moves the head.
    `spill` writes staged blocks of a transaction that is not complete yet, without moving the head:
    readers do not look beyond it, and `discard` or the next `open` removes them.
    Single-threaded; every method may raise LogError (LogFullError when the disk is full), after
    which the writer must be closed and opened again.
    """

    def __init__(self, path: Path, *, sync: bool = True) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = _exclusive(path / "writer.lock")
        self.meanwhile: Callable[[], AbstractContextManager[None]] = nullcontext
        """Entered around everything that may wait for the disk, or for whoever has the log locked."""
        self.added = 0
        """How many changes have been added."""
        self._staged: list[tuple[bytes, bytes]] = []
        self._staged_xids: list[tuple[bytes, bytes]] = []
        self._staged_cutoffs: list[tuple[bytes, bytes]] = []
        self._cutoffs: dict[bytes, str] = {}
        try:
            with _explained(path):
                self._env = lmdb.open(
                    str(path), map_size=MAP_SIZE, max_dbs=DATABASES, sync=sync, max_readers=510
                )
        except Exception:
            os.close(self._lock)
            raise
        try:
            with _explained(path):
                self._env.reader_check()
                self._blocks = self._env.open_db(b"blocks")
                self._relations = self._env.open_db(b"relations")
                self._xids = self._env.open_db(b"xids")
                self._meta = self._env.open_db(b"meta")
            self._page_size = int(self._env.stat()["psize"])
            self._state, self._identity = self._load_state()
            self.discard()
        except Exception:
            self.close()
            raise

    @property
    def state(self) -> LogState | None:
        """What the log durably holds; None before the first `begin_epoch`."""
        return self._state

    @property
    def identity(self) -> str:
        """Which server, timeline and slot the log copies; empty before the first `begin_epoch`."""
        return self._identity

    def close(self) -> None:
        self._env.close()
        os.close(self._lock)

    def begin_epoch(self, start_lsn: int, identity: str) -> LogState:
        """Empty the log and let it begin at `start_lsn`: everything before is unknown to it."""
        state = LogState(
            time.time_ns() // 1000, start_lsn, start_lsn, start_lsn, Offset(start_lsn, 0)
        )
        self._forget_staged()
        self._cutoffs.clear()
        with self.meanwhile(), _explained(self.path), self._env.begin(write=True) as txn:
            for database in (self._blocks, self._xids, self._relations):
                txn.drop(database, delete=False)
            drop_all_cutoffs(txn.cursor(db=self._meta))
            txn.put(b"state", state.pack(), db=self._meta)
            txn.put(b"identity", identity.encode(), db=self._meta)
        self._state = state
        self._identity = identity
        return state

    def relations(self) -> list[RelationVersion]:
        """All relation versions, oldest first."""
        with self._env.begin(db=self._relations) as txn:
            return [RelationVersion.unpack(value) for _, value in txn.cursor()]

    def add_relation(self, relation: RelationVersion) -> None:
        """Record a relation version. Durable before any change that refers to it."""
        with self.meanwhile(), _explained(self.path), self._env.begin(write=True) as txn:
            txn.put(XID.pack(relation.id), relation.pack(), db=self._relations)

    def add(
        self,
        commit_lsn: int,
        index: int,
        xid: int,
        end_lsn: int,
        commit_time: int,
        count: int,
        relations: int,
        body: bytes,
    ) -> None:
        """Stage one block; `body` as `layout.pack_body` makes it. Keys must ascend."""
        self.added += count
        header = pack_header(xid, end_lsn, commit_time, count, relations)
        self._staged.append((KEY.pack(commit_lsn, index), header + body))
        if end_lsn:
            self._staged_xids.append((XID.pack(xid), LSN.pack(commit_lsn)))

    def spill(self) -> None:
        """Write what is staged without making it visible."""
        with self.meanwhile(), _explained(self.path), self._env.begin(write=True) as txn:
            self._put_staged(txn)
        self._forget_blocks()

    def commit(self, commit_lsn: int, end_lsn: int, progress: int) -> LogState:
        """Write what is staged and move the head. Returns when it is on disk."""
        assert self._state is not None
        state = self._state._replace(
            commit_lsn=commit_lsn,
            end_lsn=end_lsn,
            progress=max(progress, end_lsn, self._state.progress),
        )
        with self.meanwhile(), _explained(self.path), self._env.begin(write=True) as txn:
            self._put_staged(txn)
            for key, value in self._staged_cutoffs:
                txn.put(key, value, db=self._meta)
            txn.put(b"state", state.pack(), db=self._meta)
        self._forget_staged()
        self._state = state
        return state

    def cutoff(self, window: bytes) -> str | None:
        """The cut-off of a window after all that was added, None if it has none."""
        return self._cutoffs.get(window)

    def move_cutoff(self, window: bytes, commit_lsn: int, cutoff: str) -> None:
        """Move a window's cut-off, with the transaction that commits there."""
        self._staged_cutoffs.append((cutoff_key(window, commit_lsn), cutoff.encode()))
        self._cutoffs[window] = cutoff

    def unseen(self, visibility: Visibility, most: int) -> list[Block] | None:
        """The transactions in the log that a snapshot does not see, in order; None if these are more
        than `most` changes. What is staged is not in the log yet."""
        with self._env.begin(db=self._xids) as txn:
            commits = unseen_commits(txn, visibility)
        found: list[Block] = []
        with self._env.begin(db=self._blocks) as txn:
            cursor = txn.cursor()
            for commit_lsn in commits:
                here = cursor.set_range(KEY.pack(commit_lsn, 0))
                while here and KEY.unpack(cursor.key())[0] == commit_lsn:
                    found.append(unpack_block(*cursor.item()))
                    most -= found[-1].count
                    if most < 0:
                        return None
                    here = cursor.next()
        return found

    def discard(self) -> None:
        """Forget staged blocks and remove spilled ones beyond the head."""
        self._forget_staged()
        with self._env.begin(db=self._meta) as txn:
            self._cutoffs = latest_cutoffs(txn.cursor())
        if self._state is None:
            return
        beyond = KEY.pack(self._state.end_lsn, 0)
        with (
            self.meanwhile(),
            _explained(self.path),
            self._env.begin(write=True, db=self._blocks) as txn,
        ):
            cursor = txn.cursor()
            while cursor.set_range(beyond):
                cursor.delete()

    def trim(self, before_time: int, max_bytes: int, *, most: int = 2000) -> bool:
        """Drop whole transactions from the front, at most about `most` blocks, and raise the horizon.

        Those go whose commit time (microseconds) is before `before_time`, and as many as it takes to
        bring the blocks to `max_bytes` on disk; never the last transaction. True if more is to be done.
        """
        state = self._state
        if state is None:
            return False
        # A reader that was killed in the middle of a read would keep old pages from being used again.
        self._env.reader_check()
        with self.meanwhile(), _explained(self.path), self._env.begin(write=True) as txn:
            used = self._used_bytes(txn)
            removed, horizon = self._drop_front(txn, state, before_time, used - max_bytes, most)
            if horizon is None:
                return False
            state = state._replace(horizon=horizon)
            txn.put(b"state", state.pack(), db=self._meta)
            drop_cutoffs(txn.cursor(db=self._meta), horizon.lsn)
        self._state = state
        return removed >= most

    def _drop_front(
        self, txn: lmdb.Transaction, state: LogState, before_time: int, surplus: int, most: int
    ) -> tuple[int, Offset | None]:
        cursor = txn.cursor(db=self._blocks)
        removed = 0
        horizon: Offset | None = None
        found = cursor.first()
        while found:
            commit_lsn, _ = KEY.unpack(cursor.key())
            xid, end_lsn, commit_time, _, _ = HEADER.unpack_from(cursor.value())
            old = commit_time < before_time or surplus > 0
            # A transaction goes whole: `most` and the limits are looked at only between two of them.
            between = horizon is None or horizon.lsn != commit_lsn or horizon.index == 0
            if between and (not old or commit_lsn >= state.commit_lsn or removed >= most):
                break
            surplus -= len(cursor.value()) + 16
            found = cursor.delete()
            removed += 1
            horizon = Offset(commit_lsn, 1)
            if end_lsn:
                horizon = Offset(end_lsn, 0)
                key = XID.pack(xid)
                if txn.get(key, db=self._xids) == LSN.pack(commit_lsn):
                    txn.delete(key, db=self._xids)
        return removed, horizon

    def _used_bytes(self, txn: lmdb.Transaction) -> int:
        stat = txn.stat(self._blocks)
        pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return int(pages) * self._page_size

    def _put_staged(self, txn: lmdb.Transaction) -> None:
        cursor = txn.cursor(db=self._blocks)
        for key, value in self._staged:
            if not cursor.put(key, value, append=True):
                raise LogError("blocks must be added in ascending order")
        xids = txn.cursor(db=self._xids)
        for key, value in self._staged_xids:
            xids.put(key, value)

    def _forget_blocks(self) -> None:
        # Not before they are written: a head that moved without them would lose them.
        self._staged.clear()
        self._staged_xids.clear()

    def _forget_staged(self) -> None:
        self._forget_blocks()
        self._staged_cutoffs.clear()

    def _load_state(self) -> tuple[LogState | None, str]:
        with self._env.begin(db=self._meta) as txn:
            data = txn.get(b"state")
            identity = txn.get(b"identity") or b""
        return None if data is None else LogState.unpack(data), identity.decode()


def _exclusive(path: Path) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise LogBusyError(
            f"another process writes the log in {path.parent}: stop it, "
            "or choose another folder with --data-dir"
        ) from error
    return handle
