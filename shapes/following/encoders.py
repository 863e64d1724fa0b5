"""Encoders of a node, made when first needed."""

from __future__ import annotations

import sys

from engine.log.layout import RelationVersion
from engine.log.reader import LogReader
from engine.lsn import Offset
from engine.replication.tick import window_key
from shapes.following.encoder import Encoder, Entry, make_encoder
from shapes.shape import Projection, Shape


class Encoders:
    """Encoders by projection, relation version and replica mode, made when first needed."""

    def __init__(self, log: LogReader) -> None:
        self._log = log
        self._versions: dict[int, RelationVersion] = {}
        self._encoders: dict[tuple[Projection, int, bool], Encoder] = {}

    def cutoff(self, shape: Shape, position: Offset) -> str | None:
        """The cut-off of a shape's window at a place in the log."""
        if shape.window is None:
            return None
        return self._log.cutoff(window_key(shape.table.oid, *shape.window), position)

    def version(self, number: int) -> RelationVersion:
        version = self._versions.get(number)
        if version is None:
            version = self._versions[number] = self._log.relation(number)
        return version

    def encoder(self, shape: Shape, version: int) -> Encoder:
        key = (shape.projection, version, shape.full_replica)
        encoder = self._encoders.get(key)
        if encoder is None:
            encoder = self._encoders[key] = make_encoder(
                shape.projection, self.version(version), full_replica=shape.full_replica
            )
        return encoder

    def encode(self, shape: Shape, entries: list[Entry]) -> list[bytes]:
        """Messages of entries that end with a complete transaction."""
        return self.encode_some(shape, entries, 0, sys.maxsize)[0]

    def encode_some(
        self, shape: Shape, entries: list[Entry], next_lsn: int, most: int
    ) -> tuple[list[bytes], int]:
        """Messages until they have `most` bytes, and of how many entries they are.

        `next_lsn` is the commit LSN of the entry that follows these, 0 if none does.
        """
        messages: list[bytes] = []
        final = len(entries) - 1
        for position, entry in enumerate(entries):
            following = next_lsn if position == final else entries[position + 1].lsn
            for message in self.encoder(shape, entry.version).encode(
                entry, last=following != entry.lsn
            ):
                messages.append(message)
                most -= len(message) + 2
            if most <= 0:
                return messages, position + 1
        return messages, len(entries)

    def clear(self) -> None:
        """Forget everything: relation versions mean something else in another epoch of the log."""
        self._versions.clear()
        self._encoders.clear()
