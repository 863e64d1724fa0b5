"""Decoded replication messages to blocks of the log.

Postgres sends small transactions whole, at their commit, and streams large ones while they are still
in progress. Small ones are staged in the log's writer as they come; large ones wait in a spool file
and move into the log when they commit. Either way memory holds one block and what is staged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import orjson

from engine import pgoutput
from engine.errors import ProtocolError
from engine.log.layout import (
    FIRST_INDEX,
    INDEX_STEP,
    Change,
    RelationVersion,
    pack_body,
)
from engine.log.writer import LogWriter
from engine.replication.relation_versions import version_of
from engine.replication.spool import Spool, SpooledBlock, empty_folder
from engine.replication.stream_notices import NOTICE_OID, NOTICE_PREFIX, NOTICES, notice_change
from engine.replication.tick import TICK_IDENTITY, Tick, read_tick
from engine.replication.tick_log import TickLog

BLOCK_BYTES = 32 << 10
"""A block is closed when its changes came in about this many bytes of messages."""

SPILL_BYTES = 16 << 20
"""How much of one transaction is staged in memory before it goes to disk."""

Ancestors = Callable[[int, int | None], tuple[tuple[int, str, str], ...]]
"""The partitioned tables above a relation (oid), as they are once a transaction (xid) is visible."""


class Transactions:
    """Assembles transactions and stages them in the log, in commit order, each exactly once.

    Feed it messages in the order of the stream. `flush` makes all complete transactions durable.
    `ancestors` answers which partitioned tables stand above a relation; `on_progress` is called now
    and then while a large transaction moves into the log; `ticks` is the prefix of their messages.
    """

    def __init__(
        self,
        writer: LogWriter,
        spool_folder: Path,
        ancestors: Ancestors,
        on_progress: Callable[[], None],
        ticks: str = "",
    ) -> None:
        assert writer.state is not None
        self._writer = writer
        self._folder = empty_folder(spool_folder)
        self._ancestors = ancestors
        self._on_progress = on_progress
        self._latest: dict[int, RelationVersion] = {}
        self._next_version = 1
        for relation in writer.relations():
            if relation.replica_identity != TICK_IDENTITY:
                self._latest[relation.oid] = relation
            self._next_version = max(self._next_version, relation.id + 1)
        self._tick_prefix = ticks
        self._tick_log = TickLog(writer, self._new_version)
        self._tick: Tick | None = None
        self._versions: dict[int, int] = {}

        self._changes: list[Change] = []
        self._relations: set[int] = set()
        self._size = 0
        self._staged_bytes = 0

        self._begin: pgoutput.Begin | None = None
        self._skipped = False
        self._index = FIRST_INDEX
        self._next_lsn = writer.state.end_lsn
        self._committed: tuple[int, int] | None = None

        self._spools: dict[int, Spool] = {}
        self._streamed: Spool | None = None
        self._subxid = 0

    @property
    def in_flight(self) -> bool:
        """Whether something has come that is not durable yet. Transactions in progress on the server
        do not count: Postgres sends them again, whole, to whoever has not acknowledged their commit."""
        return self._begin is not None or self._committed is not None or self._streamed is not None

    @property
    def uncommitted(self) -> bool:
        """Whether complete transactions wait for `flush`."""
        return self._committed is not None

    def close(self) -> None:
        """Forget everything that is not durable."""
        for spool in self._spools.values():
            spool.close()
        self._spools.clear()

    def flush(self) -> None:
        """Make every complete transaction durable and visible. Raises LogError."""
        if self._committed is not None:
            commit_lsn, end_lsn = self._committed
            self._writer.commit(commit_lsn, end_lsn, end_lsn)
            self._committed = None
            self._staged_bytes = 0

    # -- changes -----------------------------------------------------------------------------------

    def change(self, change: pgoutput.Change, size: int) -> None:
        """A row change of the transaction that began last; `size` is its message's length in bytes."""
        if self._skipped:
            return
        operation, oid, new, old, old_is_key = change
        version = self._versions.get(oid)
        if version is None:
            raise ProtocolError(f"a change of relation {oid} came before its description")
        if self._size > BLOCK_BYTES:
            self._seal(0)
        if old_is_key or (old is None and operation == "U"):
            operation = operation.lower()
        self._changes.append((version, operation, new, old))
        self._relations.add(version)
        self._size += size

    def streamed_change(self, subxid: int, change: pgoutput.Change, size: int) -> None:
        """A row change of a transaction in progress, made by its (sub)transaction `subxid`."""
        spool = self._streamed
        if spool is None:
            raise ProtocolError("a streamed change came outside of a stream")
        operation, oid, new, old, old_is_key = change
        version = spool.versions.get(oid) or self._versions.get(oid)
        if version is None:
            raise ProtocolError(f"a streamed change of relation {oid} came before its description")
        if subxid != self._subxid or self._size > BLOCK_BYTES:
            self._seal_streamed()
            self._subxid = subxid
        if old_is_key or (old is None and operation == "U"):
            operation = operation.lower()
        self._changes.append((version, operation, new, old))
        self._relations.add(version)
        self._size += size

    # -- everything else ---------------------------------------------------------------------------

    def message(self, message: pgoutput.Message, subxid: int | None = None) -> None:
        """Any message that is not a row change. `subxid` is set for those inside a stream."""
        match message:
            case pgoutput.Begin():
                self._on_begin(message)
            case pgoutput.Commit():
                self._on_commit(message)
            case pgoutput.LogicalMessage():
                self._on_logical_message(message, subxid)
            case pgoutput.Relation():
                self._on_relation(message)
            case pgoutput.Truncate():
                for oid in message.relation_oids:
                    self._other_change(("T", oid, None, None, False), 64, subxid)
            case pgoutput.StreamStart():
                self._on_stream_start(message)
            case pgoutput.StreamStop():
                self._seal_streamed()
                self._streamed = None
            case pgoutput.StreamCommit():
                self._on_stream_commit(message)
            case pgoutput.StreamAbort():
                self._on_stream_abort(message)
            case _:
                pass

    def _other_change(self, change: pgoutput.Change, size: int, subxid: int | None) -> None:
        if subxid is None:
            self.change(change, size)
        else:
            self.streamed_change(subxid, change, size)

    def _on_logical_message(self, message: pgoutput.LogicalMessage, subxid: int | None) -> None:
        if not message.transactional:
            return
        if message.prefix == NOTICE_PREFIX:
            change = notice_change(message.content)
            if change is not None:
                self._expect_notices()
                self._other_change(change, len(message.content), subxid)
            return
        if message.prefix != self._tick_prefix:
            return
        tick = read_tick(message.content)
        if self._streamed is not None:
            self._streamed.tick = tick
        elif not self._skipped:
            self._tick = tick

    def _expect_notices(self) -> None:
        if NOTICE_OID not in self._versions:
            if NOTICE_OID not in self._latest:
                self._add_relation(replace(NOTICES, id=self._new_version()))
            self._versions[NOTICE_OID] = self._latest[NOTICE_OID].id

    def _move_window(
        self, tick: Tick, xid: int, commit: pgoutput.Commit | pgoutput.StreamCommit
    ) -> None:
        """A transaction that is a tick has committed."""
        if not self._tick_log.moves(tick, commit.commit_time_us):
            return
        # It needs to see all that comes before it.
        self.flush()
        if self._tick_log.add(tick, xid, commit):
            self._committed = (commit.commit_lsn, commit.end_lsn)
            self._next_lsn = commit.end_lsn
            return
        # Whoever flushes next has to say what this has flushed.
        assert self._writer.state is not None
        self._committed = self._writer.state[1:3]

    def _new_version(self) -> int:
        self._next_version += 1
        return self._next_version - 1

    def _on_begin(self, begin: pgoutput.Begin) -> None:
        self._begin = begin
        self._tick = None
        self._index = FIRST_INDEX
        self._skipped = begin.final_lsn < self._next_lsn

    def _on_commit(self, commit: pgoutput.Commit) -> None:
        if self._begin is None:
            raise ProtocolError("a commit came without its begin")
        if self._changes:
            self._seal(commit.end_lsn)
        if not self._skipped and self._index > FIRST_INDEX:
            self._committed = (commit.commit_lsn, commit.end_lsn)
            self._next_lsn = commit.end_lsn
        elif self._tick is not None and not self._skipped:
            self._move_window(self._tick, self._begin.xid, commit)
        self._begin = None
        self._skipped = False

    def _on_relation(self, message: pgoutput.Relation) -> None:
        relation = version_of(message, self._next_version)
        if self._streamed is not None:
            self._streamed_relation(self._streamed, relation)
            return
        xid = None if self._begin is None else self._begin.xid
        relation = replace(relation, ancestors=self._ancestors(message.oid, xid))
        known = self._latest.get(message.oid)
        if known is None or replace(known, id=relation.id) != relation:
            self._add_relation(relation)
            self._next_version += 1
            known = relation
        self._versions[message.oid] = known.id

    def _streamed_relation(self, spool: Spool, relation: RelationVersion) -> None:
        """Whose partition a relation is may not be known before the transaction has committed; until
        then it is taken for the version that is known, if it looks the same."""
        seen = spool.versions.get(relation.oid)
        known = self._latest.get(relation.oid) if seen is None else spool.relations[seen]
        if known is None or replace(relation, id=known.id, ancestors=known.ancestors) != known:
            known = relation
            self._next_version += 1
        spool.relations[known.id] = known
        spool.versions[relation.oid] = known.id

    def _settle_relations(self, spool: Spool, xid: int) -> dict[int, int]:
        """Record the relations of a streamed transaction, now that it has committed.

        Returns which versions stand for others: tables that it made partitions of another one.
        """
        changed: dict[int, int] = {}
        for relation in spool.relations.values():
            ancestors = self._ancestors(relation.oid, xid)
            if relation == self._latest.get(relation.oid):
                if relation.ancestors == ancestors:
                    continue
                changed[relation.id] = self._next_version
                relation = replace(relation, id=self._next_version)
                self._next_version += 1
            self._add_relation(replace(relation, ancestors=ancestors))
        for oid, version in spool.versions.items():
            # What came outside of the stream since may be newer.
            version = changed.get(version, version)
            self._versions[oid] = max(version, self._versions.get(oid, 0))
        return changed

    def _add_relation(self, relation: RelationVersion) -> None:
        self._writer.add_relation(relation)
        self._latest[relation.oid] = relation

    def _on_stream_start(self, start: pgoutput.StreamStart) -> None:
        spool = self._spools.get(start.xid)
        if start.first_segment:
            if spool is not None:
                spool.close()
            spool = self._spools[start.xid] = Spool(self._folder, start.xid)
        elif spool is None:
            raise ProtocolError(f"the stream of transaction {start.xid} lacks its beginning")
        self._streamed = spool
        self._subxid = start.xid

    def _on_stream_abort(self, abort: pgoutput.StreamAbort) -> None:
        spool = self._spools.get(abort.xid)
        if spool is None:
            return
        if abort.subxid == abort.xid:
            del self._spools[abort.xid]
            spool.close()
        else:
            spool.abort(abort.subxid)

    def _on_stream_commit(self, commit: pgoutput.StreamCommit) -> None:
        spool = self._spools.pop(commit.xid, None)
        if spool is None:
            raise ProtocolError(f"a stream commit came for the unknown transaction {commit.xid}")
        changed = self._settle_relations(spool, commit.xid)
        if commit.commit_lsn >= self._next_lsn:
            self._move(spool, commit, changed)
            if spool.tick is not None and commit.commit_lsn >= self._next_lsn:
                self._move_window(spool.tick, commit.xid, commit)
        spool.close()

    def _move(self, spool: Spool, commit: pgoutput.StreamCommit, changed: dict[int, int]) -> None:
        """Copy a committed transaction from its spool into the log."""
        self.flush()
        index = FIRST_INDEX
        held: SpooledBlock | None = None
        for block in spool.blocks():
            if changed:
                block = block.with_versions(changed)
            if held is not None:
                index = self._add_spooled(held, commit, index, 0)
            held = block
        if held is not None:
            self._add_spooled(held, commit, index, commit.end_lsn)
            self._committed = (commit.commit_lsn, commit.end_lsn)
            self._next_lsn = commit.end_lsn

    def _add_spooled(
        self, block: SpooledBlock, commit: pgoutput.StreamCommit, index: int, end_lsn: int
    ) -> int:
        self._stage(
            *(commit.commit_lsn, index, commit.xid, end_lsn, commit.commit_time_us),
            *(block.count, block.relations, block.body),
        )
        return index + INDEX_STEP * block.count

    # -- blocks ------------------------------------------------------------------------------------

    def _take_block(self) -> tuple[int, int, bytes]:
        """Count, number of relations and body of what has been collected; starts afresh."""
        relations = tuple(self._relations)
        count = len(self._changes)
        body = pack_body(relations, orjson.dumps(self._changes))
        self._changes.clear()
        self._relations.clear()
        self._size = 0
        return count, len(relations), body

    def _seal(self, end_lsn: int) -> None:
        begin = self._begin
        if begin is None:
            raise ProtocolError("a change came outside of a transaction")
        count, relations, body = self._take_block()
        self._stage(
            *(begin.final_lsn, self._index, begin.xid, end_lsn, begin.commit_time_us),
            *(count, relations, body),
        )
        self._index += INDEX_STEP * count

    def _stage(
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
        self._writer.add(commit_lsn, index, xid, end_lsn, commit_time, count, relations, body)
        self._staged_bytes += len(body)
        # Once the last block is staged, `flush` makes it durable together with the head.
        if self._staged_bytes > SPILL_BYTES and not end_lsn:
            self._writer.spill()
            self._staged_bytes = 0
            self._on_progress()

    def _seal_streamed(self) -> None:
        if self._changes and self._streamed is not None:
            count, relations, body = self._take_block()
            self._streamed.add(SpooledBlock(self._subxid, count, relations, body))
