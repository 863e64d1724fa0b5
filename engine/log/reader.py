"""Reading the log, from any number of processes."""

from __future__ import annotations

from pathlib import Path

import lmdb

from engine.errors import LogError
from engine.log.cutoffs import cutoff_at
from engine.log.layout import (
    KEY,
    MAX_INDEX,
    XID,
    Block,
    LogState,
    RelationVersion,
    unpack_block,
)
from engine.log.writer import DATABASES, MAP_SIZE, remedy_for
from engine.log.xids import commit_lsn_of, commits_from
from engine.lsn import Offset

READ_BYTES = 1 << 20
"""How much one `read` returns at most, so that no read transaction lives long."""


class LogMissingError(LogError):
    """There is no log in this folder yet. Start the engine with the same --data-dir."""

    code = "log_missing"


class LogReader:
    """A reader of the log. Each call is one short LMDB read transaction; nothing blocks the writer.

    Raises LogMissingError until an engine has made the log.
    """

    def __init__(self, path: Path) -> None:
        if not (path / "data.mdb").exists():
            raise LogMissingError(f"no log in {path}: is the engine running with this data folder?")
        try:
            self._env = lmdb.open(
                str(path), map_size=MAP_SIZE, max_dbs=DATABASES, readonly=True, max_readers=510
            )
        except lmdb.Error as error:
            raise _unreadable(path, error) from error
        try:
            self._blocks = self._env.open_db(b"blocks", create=False)
            self._relations = self._env.open_db(b"relations", create=False)
            self._xids = self._env.open_db(b"xids", create=False)
            self._meta = self._env.open_db(b"meta", create=False)
        except lmdb.Error as error:
            self._env.close()
            if isinstance(error, (lmdb.NotFoundError, lmdb.ReadonlyError)):
                raise LogMissingError(f"the log in {path} is being made") from error
            raise _unreadable(path, error) from error

    def close(self) -> None:
        self._env.close()

    def state(self) -> LogState:
        """How far the log reaches now. Raises LogMissingError before the first epoch."""
        with self._env.begin(db=self._meta) as txn:
            data = txn.get(b"state")
        if data is None:
            raise LogMissingError("the log has not begun: the engine has not reached Postgres yet")
        return LogState.unpack(data)

    def read(self, after: Offset, *, most: int = READ_BYTES) -> tuple[LogState, list[Block]]:
        """Blocks with changes after `after`, up to the head; about `most` bytes of them.

        The first block may begin at or before `after`. An empty list means that there is nothing
        after `after`. State and blocks are of the same moment.
        """
        blocks: list[Block] = []
        with self._env.begin() as txn:
            data = txn.get(b"state", db=self._meta)
            if data is None:
                raise LogMissingError(
                    "the log has not begun: the engine has not reached Postgres yet"
                )
            state = LogState.unpack(data)
            if after.lsn > state.commit_lsn:
                return state, blocks
            cursor = txn.cursor(db=self._blocks)
            found = self._seek(cursor, after)
            head = KEY.pack(state.commit_lsn, MAX_INDEX)
            while found and most > 0:
                key, value = cursor.item()
                if key > head:
                    break
                blocks.append(unpack_block(key, value))
                most -= len(value)
                found = cursor.next()
        return state, blocks

    def _seek(self, cursor: lmdb.Cursor, after: Offset) -> bool:
        """Move to the block that holds the first change after `after`."""
        if not cursor.set_range(KEY.pack(after.lsn, min(after.index, MAX_INDEX - 1) + 1)):
            if not cursor.last():
                return False
        elif not cursor.prev():
            return cursor.first()
        block = unpack_block(*cursor.item())
        return True if block.last > after else cursor.next()

    def block_at(self, commit_lsn: int, index: int) -> Block | None:
        """The block that holds the change at (`commit_lsn`, `index`), or None if it is gone."""
        with self._env.begin(db=self._blocks) as txn:
            cursor = txn.cursor()
            if not self._seek(cursor, Offset(commit_lsn, index - 1)):
                return None
            block = unpack_block(*cursor.item())
        return block if block.commit_lsn == commit_lsn and block.index <= index else None

    def relation(self, version: int) -> RelationVersion:
        """A relation version by its number. Raises LogError if the log does not know it."""
        with self._env.begin(db=self._relations) as txn:
            data = txn.get(XID.pack(version))
        if data is None:
            raise LogError(f"the log has no relation version {version}")
        return RelationVersion.unpack(data)

    def cutoff(self, window: bytes, position: Offset) -> str | None:
        """The cut-off of a window (`engine.replication.tick`) at an offset, None if it has none."""
        with self._env.begin(db=self._meta) as txn:
            return cutoff_at(txn.cursor(), window, position)

    def commits_from(self, xid: int) -> list[int]:
        """Where transactions committed that have this (32-bit) id or a later one."""
        with self._env.begin(db=self._xids) as txn:
            return commits_from(txn, xid)

    def commit_lsn_of(self, xid: int) -> int | None:
        """Where the transaction with this (32-bit) id committed, if the log holds it."""
        with self._env.begin(db=self._xids) as txn:
            return commit_lsn_of(txn, xid)


def _unreadable(path: Path, error: lmdb.Error) -> LogError:
    return LogError(f"the log in {path} cannot be read: {error}{remedy_for(error)}")
