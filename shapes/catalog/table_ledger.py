"""What all nodes of one data folder know of the tables they follow.

Nodes learn of an alteration at different times, but a client must not be sent to and fro between
them. So whoever has looked at a table writes down what it saw, and who has to start over because of
it; all others compare what they remember with that before they answer. This outlives nodes and
machines: what was altered while pgtide was down is noticed too.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import lmdb
import orjson

from shapes.kept import writing

Name = tuple[str, str]
"""Schema and name of a table."""

_ENTRY, _STAMP = b"e", b"s"


class Entry(NamedTuple):
    """What is known of one table.

    `facts` is what `engine.postgres.table_look` saw, None if there was no such table, and `age` the
    age of that look. `ends` says by column which handles that show or read it are no longer good:
    those of this generation and all before; the column "" stands for all. All of it belongs to an
    `epoch` of the log.
    """

    epoch: int
    age: int
    facts: str | None
    ends: Mapping[str, int]

    def pack(self) -> bytes:
        return orjson.dumps([self.epoch, self.age, self.facts, self.ends])

    @classmethod
    def unpack(cls, data: bytes) -> Entry:
        fields: list[Any] = orjson.loads(data)
        return cls(*fields)


def stamp_of(entry: bytes) -> bytes:
    """What tells one packed entry from another."""
    return blake2b(entry, digest_size=16).digest()


class TableLedger:
    """Entries as they are packed, by table. Every method is quick; several processes may call."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # Written only when a table changes, and flushed: a machine that goes down forgets nothing.
        self._env = lmdb.open(str(folder), map_size=1 << 32, max_readers=510)

    def close(self) -> None:
        self._env.close()

    def get(self, name: Name) -> bytes | None:
        """The entry of a table; None if nobody has looked at it."""
        with self._env.begin() as txn:
            return txn.get(_ENTRY + _key(name))

    def stamp(self, name: Name) -> bytes | None:
        """The stamp of a table's entry, for those who ask all the time."""
        with self._env.begin() as txn:
            return txn.get(_STAMP + _key(name))

    def swap(self, name: Name, former: bytes | None, entry: bytes) -> bool:
        """Replace an entry, unless it is not `former` any more. Raises DiskError."""
        with writing(self._env) as txn:
            key = _key(name)
            if txn.get(_ENTRY + key) != former:
                return False
            txn.put(_ENTRY + key, entry)
            txn.put(_STAMP + key, stamp_of(entry))
        return True


def _key(name: Name) -> bytes:
    return "\0".join(name).encode()
