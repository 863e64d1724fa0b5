"""Transactions that Postgres streams before they commit, kept on disk until their fate is known.

One file per top-level transaction. It holds blocks (see `engine.log.layout`) without their headers,
since the commit LSN is not known yet, each marked with the subtransaction that made it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from pathlib import Path
from struct import Struct
from typing import NamedTuple

import orjson

from engine.errors import LogError
from engine.log.layout import Change, RelationVersion, pack_body, unpack_body
from engine.replication.tick import Tick

_RECORD = Struct(">IIIH")


class SpooledBlock(NamedTuple):
    """Changes of one (sub)transaction; `body` as `layout.pack_body` makes it."""

    subxid: int
    count: int
    relations: int
    body: bytes

    def with_versions(self, changed: dict[int, int]) -> SpooledBlock:
        """The block with other relation versions in the place of some."""
        relations, payload = unpack_body(self.body, self.relations)
        changes: list[Change] = orjson.loads(payload)
        changes = [(changed.get(change[0], change[0]), *change[1:]) for change in changes]
        relations = tuple(changed.get(relation, relation) for relation in relations)
        return self._replace(body=pack_body(relations, orjson.dumps(changes)))


class Spool:
    """The spooled blocks of one transaction in progress, in the order in which they came."""

    def __init__(self, folder: Path, xid: int) -> None:
        self._path = folder / str(xid)
        self._file = self._path.open("w+b", buffering=1 << 18)
        self._aborted: set[int] = set()
        self.versions: dict[int, int] = {}
        """Relation versions that only this transaction has seen, by relation oid."""
        self.relations: dict[int, RelationVersion] = {}
        """What these versions look like; recorded when the transaction commits."""
        self.tick: Tick | None = None
        """The tick of a window that it is, if it is one."""

    def add(self, block: SpooledBlock) -> None:
        """Append a block. Raises LogError if the disk refuses it."""
        with self._explained():
            self._file.write(
                _RECORD.pack(len(block.body), block.subxid, block.count, block.relations)
            )
            self._file.write(block.body)

    def abort(self, subxid: int) -> None:
        """A subtransaction was rolled back: its blocks are left out from now on."""
        self._aborted.add(subxid)

    def blocks(self) -> Iterator[SpooledBlock]:
        """What is left after the aborts, in order. Reads one block at a time. Raises LogError."""
        with self._explained():
            self._file.flush()
            self._file.seek(0)
        while header := self._file.read(_RECORD.size):
            length, subxid, count, relations = _RECORD.unpack(header)
            if subxid in self._aborted:
                self._file.seek(length, 1)
                continue
            yield SpooledBlock(subxid, count, relations, self._file.read(length))

    def close(self) -> None:
        """Drop it; what the disk did not take of it does not matter any more."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _explained(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise LogError(
                f"cannot keep a transaction in progress in {self._path.parent}: {error.strerror}; "
                "free some space, nothing is lost"
            ) from error


def empty_folder(folder: Path) -> Path:
    """Make the spool folder and remove what an earlier life left: Postgres sends that again."""
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.iterdir():
        leftover.unlink()
    return folder
