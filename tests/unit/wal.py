"""A source of decoded replication messages, as a Postgres server would send them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from log_builder import COLUMNS, OID, Columns, writing

from engine import pgoutput
from engine.log.layout import INDEX_STEP, Row
from engine.log.reader import LogReader
from engine.log.writer import LogWriter
from engine.lsn import Lsn, Offset
from engine.replication.transactions import Transactions

Partitions = dict[int, tuple[tuple[int, str, str], ...]]


class Logged(NamedTuple):
    """One change as it stands in the log. `relation` is its name, `columns` those of its version."""

    offset: Offset
    xid: int
    relation: str
    columns: tuple[str, ...]
    operation: str
    new: Row | None
    old: Row | None


def logged(folder: Path) -> list[Logged]:
    """All changes in a log."""
    reader = LogReader(folder)
    found: list[Logged] = []
    for block in reader.read(Offset(0, 0), most=1 << 40)[1]:
        assert len(block.changes()) == block.count
        assert set(block.relations) == {change[0] for change in block.changes()}
        for place, (version, operation, new, old) in enumerate(block.changes()):
            described = reader.relation(version)
            found.append(
                Logged(
                    Offset(block.commit_lsn, block.index + INDEX_STEP * place),
                    block.xid,
                    described.name,
                    tuple(column.name for column in described.columns),
                    operation,
                    new,
                    old,
                )
            )
    reader.close()
    return found


def inserted(folder: Path) -> dict[int, list[str]]:
    """First columns of the inserted rows, by commit LSN."""
    found: dict[int, list[str]] = {}
    for one in logged(folder):
        assert one.operation == "I"
        assert one.new is not None
        found.setdefault(one.offset.lsn, []).append(str(one.new[0]))
    return found


class Wal:
    """What comes over one replication connection, put into `transactions` message by message."""

    def __init__(
        self, writer: LogWriter, folder: Path, partitions: Partitions, ticks: str = ""
    ) -> None:
        self.writer = writer
        self.progressed = 0
        self.transactions = Transactions(writer, folder, self._ancestors, self._on_progress, ticks)
        self.asked: list[tuple[int, int | None]] = []
        """For the ancestors of which relation, seen by whom, the engine has asked."""
        self._partitions = partitions
        self._subxid: int | None = None

    def _ancestors(self, oid: int, xid: int | None) -> tuple[tuple[int, str, str], ...]:
        self.asked.append((oid, xid))
        return self._partitions.get(oid, ())

    def _on_progress(self) -> None:
        self.progressed += 1

    def relation(self, oid: int = OID, name: str = "t", columns: Columns = COLUMNS) -> None:
        described = tuple(
            pgoutput.RelationColumn(name, type_oid, -1, is_key=True) for name, type_oid in columns
        )
        message = pgoutput.Relation(oid, "public", name, "f", described)
        self.transactions.message(message, self._subxid)

    def change(self, change: pgoutput.Change, size: int = 50) -> None:
        if self._subxid is None:
            self.transactions.change(change, size)
        else:
            self.transactions.streamed_change(self._subxid, change, size)

    def insert(self, *row: str | None, oid: int = OID, size: int = 50) -> None:
        self.change(("I", oid, list(row), None, False), size)

    def truncate(self, *oids: int) -> None:
        self.transactions.message(pgoutput.Truncate(oids, False, False), self._subxid)

    def message(self, message: pgoutput.LogicalMessage) -> None:
        self.transactions.message(message, self._subxid)

    def begin(self, commit_lsn: int, xid: int = 5) -> None:
        self.transactions.message(pgoutput.Begin(Lsn(commit_lsn), 77, xid))

    def commit(self, commit_lsn: int, end_lsn: int | None = None, time_us: int = 77) -> None:
        end = Lsn(commit_lsn + 8 if end_lsn is None else end_lsn)
        self.transactions.message(pgoutput.Commit(0, Lsn(commit_lsn), end, time_us))

    def whole(self, commit_lsn: int, rows: Sequence[str], xid: int = 5, oid: int = OID) -> None:
        """A transaction that is sent at its commit and inserts these into the first column."""
        self.begin(commit_lsn, xid)
        for row in rows:
            self.insert(row, oid=oid)
        self.commit(commit_lsn)

    @contextmanager
    def stream(self, xid: int, *, first: bool = False) -> Generator[None]:
        """A block of a transaction in progress."""
        self.transactions.message(pgoutput.StreamStart(xid, first))
        self._subxid = xid
        yield
        self._subxid = None
        self.transactions.message(pgoutput.StreamStop())

    def subtransaction(self, subxid: int) -> None:
        """What follows in this block is made by that subtransaction."""
        assert self._subxid is not None
        self._subxid = subxid

    def stream_commit(self, xid: int, commit_lsn: int, end_lsn: int | None = None) -> None:
        end = Lsn(commit_lsn + 8 if end_lsn is None else end_lsn)
        self.transactions.message(pgoutput.StreamCommit(xid, 0, Lsn(commit_lsn), end, 77))

    def stream_abort(self, xid: int, subxid: int | None = None) -> None:
        self.transactions.message(pgoutput.StreamAbort(xid, xid if subxid is None else subxid))

    def flush(self) -> None:
        self.transactions.flush()


@contextmanager
def connected(
    folder: Path,
    *,
    start: int | None = None,
    partitions: Partitions | None = None,
    ticks: str = "",
) -> Generator[Wal]:
    """A connection, on a log that begins at `start` or, without it, goes on. Nothing is flushed at
    the end: it breaks off."""
    with writing(folder) as writer:
        if start is not None:
            writer.begin_epoch(start, "test")
        wal = Wal(writer, folder.parent / "spool", {} if partitions is None else partitions, ticks)
        try:
            yield wal
        finally:
            wal.transactions.close()
