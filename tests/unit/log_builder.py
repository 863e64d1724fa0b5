"""Builds logs, tables and shapes for tests from short descriptions.

The logs are real ones, made by the engine's own writer. LMDB opens an environment once per process,
so whoever writes to a log that this process is reading does it through `Elsewhere`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import orjson

from engine.log.layout import (
    FIRST_INDEX,
    INDEX_STEP,
    Change,
    RelationColumn,
    RelationVersion,
    Row,
    pack_body,
)
from engine.log.reader import LogReader
from engine.log.writer import LogWriter
from engine.lsn import Offset
from engine.postgres.table import Column, Table
from shapes.following.feed import Feed
from shapes.following.tail import Tail
from shapes.shape import Projection, Shape, make_shape
from shapes.where import parse_where

INT8, TEXT = 20, 25
OID = 1000
START = 100
"""Where the logs begin."""


# -- transactions ----------------------------------------------------------------------------------


class Transaction(NamedTuple):
    """A committed transaction; `blocks` says how many changes each of its blocks holds."""

    commit_lsn: int
    changes: tuple[Change, ...]
    blocks: tuple[int, ...]
    xid: int
    end_lsn: int
    commit_time: int

    def offsets(self) -> list[Offset]:
        return [
            Offset(self.commit_lsn, FIRST_INDEX + INDEX_STEP * place)
            for place in range(len(self.changes))
        ]


def transaction(
    commit_lsn: int,
    *changes: Change,
    blocks: int | Sequence[int] = 1000,
    xid: int | None = None,
    end_lsn: int | None = None,
    commit_time: int = 0,
) -> Transaction:
    """`blocks` is the size of every block in changes, or of each; the last takes what is left."""
    sizes: list[int] = []
    left = len(changes)
    while left:
        wanted = blocks if isinstance(blocks, int) else blocks[min(len(sizes), len(blocks) - 1)]
        sizes.append(min(wanted, left))
        left -= sizes[-1]
    return Transaction(
        commit_lsn,
        changes,
        tuple(sizes),
        commit_lsn & 0xFFFFFFFF if xid is None else xid,
        commit_lsn + 8 if end_lsn is None else end_lsn,
        commit_time,
    )


def insert(*new: str | None, version: int = 1) -> Change:
    return version, "I", list(new), None


def update(old: Sequence[str | None], new: Sequence[str | None], version: int = 1) -> Change:
    return version, "U", list(new), list(old)


def delete(*old: str | None, version: int = 1) -> Change:
    return version, "D", None, list(old)


def truncate(version: int = 1) -> Change:
    return version, "T", None, None


def change(operation: str, new: Row | None, old: Row | None, version: int = 1) -> Change:
    """Any change, also one of those with an incomplete old row (`u`, `d`)."""
    return version, operation, new, old


# -- relations, tables, shapes ---------------------------------------------------------------------

Columns = Sequence[tuple[str, int]]
COLUMNS: Columns = (("id", INT8), ("v", TEXT), ("w", TEXT))
_TYPES = {INT8: "int8", TEXT: "text"}


def relation(
    number: int = 1,
    oid: int = OID,
    name: str = "t",
    columns: Columns = COLUMNS,
    *,
    identity: str = "f",
    ancestors: tuple[tuple[int, str, str], ...] = (),
) -> RelationVersion:
    """A version of a relation in the schema `public`."""
    described = tuple(RelationColumn(name, type_oid, -1, True) for name, type_oid in columns)
    return RelationVersion(number, oid, "public", name, identity, described, ancestors)


def table(
    oid: int = OID,
    name: str = "t",
    columns: Columns = COLUMNS,
    *,
    key: Sequence[str] = ("id",),
    kind: str = "r",
) -> Table:
    """A table in the schema `public` with texts that sort by their bytes."""
    described = tuple(
        Column(
            name,
            _TYPES[type_oid],
            type_oid,
            base=_TYPES[type_oid],
            not_null=name in key,
            key_index=key.index(name) if name in key else None,
            collation="C" if type_oid == TEXT else None,
        )
        for name, type_oid in columns
    )
    return Table(oid, "public", name, described, kind)


def shape(
    of: Table | None = None,
    where: str | None = None,
    *,
    columns: Sequence[str] | None = None,
    full: bool = False,
) -> Shape:
    of = of or table()
    chosen = tuple(one for one in of.columns if columns is None or one.name in columns)
    condition = None if where is None else parse_where(where, {}, of)
    return make_shape(Projection(of, chosen, columns is not None), condition, full_replica=full)


# -- logs ------------------------------------------------------------------------------------------


def append(writer: LogWriter, transactions: Iterable[Transaction]) -> None:
    """Write transactions, each with a commit of its own."""
    for one in transactions:
        stage(writer, one)
        writer.commit(one.commit_lsn, one.end_lsn, one.end_lsn)


def stage(writer: LogWriter, one: Transaction, *, blocks: slice = slice(None)) -> None:
    """Add the blocks of a transaction, or some of them, without committing it."""
    begin = 0
    pieces: list[tuple[int, tuple[Change, ...]]] = []
    for size in one.blocks:
        pieces.append((begin, one.changes[begin : begin + size]))
        begin += size
    last = pieces[-1]
    for piece in pieces[blocks]:
        begin, changes = piece
        relations = tuple(dict.fromkeys(change[0] for change in changes))
        writer.add(
            one.commit_lsn,
            FIRST_INDEX + INDEX_STEP * begin,
            one.xid,
            one.end_lsn if piece is last else 0,
            one.commit_time,
            len(changes),
            len(relations),
            pack_body(relations, orjson.dumps(changes)),
        )


@contextmanager
def writing(path: Path) -> Generator[LogWriter]:
    writer = LogWriter(path, sync=False)
    try:
        yield writer
    finally:
        writer.close()


def make_log(
    path: Path,
    transactions: Iterable[Transaction] = (),
    relations: Iterable[RelationVersion] | None = None,
    *,
    start: int = START,
) -> None:
    """A new epoch in `path` with these transactions in it."""
    with writing(path) as writer:
        writer.begin_epoch(start, "test")
        for one in (relation(),) if relations is None else relations:
            writer.add_relation(one)
        append(writer, transactions)


def append_to(
    path: Path, transactions: Iterable[Transaction], relations: Iterable[RelationVersion] = ()
) -> None:
    with writing(path) as writer:
        for one in relations:
            writer.add_relation(one)
        append(writer, transactions)


def trim_log(path: Path, before_time: int) -> None:
    with writing(path) as writer:
        assert not writer.trim(before_time, 1 << 40)


@contextmanager
def reading(path: Path) -> Generator[LogReader]:
    reader = LogReader(path)
    try:
        yield reader
    finally:
        reader.close()


Result = TypeVar("Result")


class Elsewhere:
    """Another process, started when first needed."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def run(self, function: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
        """The result of a function of some module, called there. It raises what that raises."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        return self._pool.submit(partial(function, *arguments, **options)).result(timeout=60)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()


# -- a node's place in a log -----------------------------------------------------------------------


class Follower:
    """A tail without a node: keeps what the tail reports."""

    def __init__(self, path: Path, reader: LogReader) -> None:
        self.ended: list[tuple[Feed, int]] = []
        self.incomplete: list[Table] = []
        self.versions: list[RelationVersion] = []
        self.tail = Tail(
            path,
            reader,
            on_ended=self._end,
            on_incomplete=self.incomplete.append,
            on_start_over=lambda: None,
            on_version=self.versions.append,
        )

    def _end(self, feed: Feed, lsn: int) -> None:
        self.ended.append((feed, lsn))
        feed.rotate(lsn)

    def go_on(self) -> None:
        """Route everything that the log has now."""
        while self.tail.step():
            pass


@asynccontextmanager
async def following(path: Path) -> AsyncGenerator[Follower]:
    """A tail that stands where the log ends now. It goes on when told to."""
    with reading(path) as reader:
        follower = Follower(path, reader)
        try:
            yield follower
        finally:
            # Only a tail that has run closes its pipe.
            running = asyncio.create_task(follower.tail.run())
            await asyncio.sleep(0)
            running.cancel()
            await asyncio.wait([running])
