"""A routing over a log, with subscribers that keep what they are given."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from log_builder import Transaction, make_log, reading, relation, transaction

from engine.log.layout import Block, Change, RelationVersion
from engine.log.reader import LogReader
from engine.lsn import Offset
from shapes.following.encoder import Entry
from shapes.following.encoders import Encoders
from shapes.following.routing import Routing
from shapes.shape import Shape

BEGINNING = Offset(0, 0)
Seen = list[tuple[int, int]]


class Recorder:
    """A subscriber that keeps what it is given."""

    def __init__(self, followed: Shape) -> None:
        self.shape = followed
        self.entries: list[Entry] = []

    def record(self, entry: Entry) -> None:
        self.entries.append(entry)

    @property
    def seen(self) -> Seen:
        """Index and kind of the entries."""
        return [(entry.index, entry.kind) for entry in self.entries]


class Routed:
    """A routing of some shapes over a log."""

    def __init__(self, reader: LogReader, *shapes: Shape) -> None:
        self._reader = reader
        self.routing = Routing(Encoders(reader))
        self.recorders = [Recorder(one) for one in shapes]
        for recorder in self.recorders:
            self.routing.add(recorder)

    def run(self, after: Offset = BEGINNING) -> list[Seen]:
        """What each shape sees of the log after an offset."""
        for block in self._reader.read(after)[1]:
            self.routing.apply(block, after)
        return [recorder.seen for recorder in self.recorders]

    def read(self) -> list[Block]:
        return self._reader.read(Offset(0, 0))[1]

    @property
    def ended(self) -> set[tuple[int, int]]:
        """Which shapes have ended, by their place, and where."""
        places = {recorder: place for place, recorder in enumerate(self.recorders)}
        return {(places[one], lsn) for one, lsn in self.routing.ended if isinstance(one, Recorder)}


class LogBox:
    """Makes a log and keeps it open until the test's end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._opened = ExitStack()

    def route(
        self,
        transactions: Sequence[Transaction],
        *shapes: Shape,
        relations: Sequence[RelationVersion] = (relation(),),
    ) -> Routed:
        make_log(self._folder, transactions, relations)
        return Routed(self._opened.enter_context(reading(self._folder)), *shapes)

    def close(self) -> None:
        self._opened.close()


def one(*changes: Change, blocks: int = 1000) -> list[Transaction]:
    return [transaction(200, *changes, blocks=blocks)]
