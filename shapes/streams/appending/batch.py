"""One transaction of group commit: appends to many streams, judged and written together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from shapes.streams.appending import statements
from shapes.streams.appending.judgement import Target, judge
from shapes.streams.appending.pipeline import Pipeline, StatementError, Step
from shapes.streams.appending.statements import Key
from shapes.streams.stream import Append, Appended


class Entry:
    """A request that waits, and its answer."""

    __slots__ = ("answer", "arrived", "key", "request", "size")

    def __init__(self, request: Append, answer: asyncio.Future[Appended], arrived: float) -> None:
        self.request = request
        self.answer = answer
        self.arrived = arrived
        self.key: Key = (request.environment, request.path)
        self.size = sum(map(len, request.parts))

    def settle(self, answer: Appended) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


@dataclass(slots=True)
class Verdicts:
    """What became of a batch's requests, to be told once it is committed, and of which streams none
    was judged."""

    answers: list[tuple[Entry, Appended]] = field(default_factory=list[tuple[Entry, Appended]])
    locked: set[Key] = field(default_factory=set[Key])
    """Somebody else has locked them, or they have expired and are to be made anew."""
    missing: set[Key] = field(default_factory=set[Key])
    """They are to be made."""


class Batch:
    """Requests for one transaction, in their order.

    `create`: streams that are missing are made, and waited for `patience` seconds if somebody else is
    making them. `wait`: locks are waited for, for so long, too: only for a single stream, since who
    waits must not have others locked.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        *,
        create: bool = False,
        wait: bool = False,
        patience: float = 0.0,
    ) -> None:
        self.entries = entries
        self._create = create
        self._wait = wait
        self.patience = patience
        self._by_key: dict[Key, list[Entry]] = {}
        for entry in entries:
            self._by_key.setdefault(entry.key, []).append(entry)
        self._keys = list(self._by_key)
        self._targets: list[Target] = []

    @property
    def written(self) -> tuple[int, int]:
        """How many messages were accepted, and how many bytes they have."""
        chunks = [chunk for target in self._targets for chunk in target.chunks]
        return sum(chunk.messages for chunk in chunks), sum(
            len(chunk.data or b"") for chunk in chunks
        )

    async def judge(self, pipeline: Pipeline) -> Verdicts:
        """Begin the transaction, lock the streams, and find out what becomes of the requests.

        Raises StatementError and ConnectionLostError; nothing has been written then.
        """
        steps = [statements.BEGIN]
        if self.patience:
            steps.append(statements.patience(self.patience))
        if self._create and (wanted := self._wanted()):
            steps.append(statements.create(wanted))
        place = len(steps)
        steps.append(statements.lock(self._keys, wait=self._wait))
        asked = self._producers()
        if asked:
            steps.append(statements.producers(list(asked)))
        results = await pipeline.run(steps)
        found = statements.targets(results[place])
        if asked:
            self._place(list(asked), found, statements.positions(results[place + 1]))
        verdicts = Verdicts()
        there = set[int]()
        if len(found) < len(self._keys) and not self._wait:
            lacking = [place for place in range(len(self._keys)) if place not in found]
            [look] = await pipeline.run([statements.look([self._keys[one] for one in lacking])])
            there = {lacking[one] for one in statements.places(look)}
        for number, key in enumerate(self._keys):
            self._judge(key, found.get(number), verdicts, locked=number in there)
        return verdicts

    async def commit(self, pipeline: Pipeline) -> None:
        """Write down what was judged, and commit.

        Raises StatementError: nothing was committed; and ConnectionLostError: nobody knows.
        """
        steps: list[Step] = []
        if self._targets:
            steps = statements.changes(self._targets)
        await pipeline.run([*steps, statements.COMMIT])
        if not pipeline.idle:
            raise StatementError("25000", "the transaction did not end")

    def _judge(self, key: Key, target: Target | None, verdicts: Verdicts, *, locked: bool) -> None:
        entries = self._by_key[key]
        if locked:
            verdicts.locked.add(key)
            return
        if not self._wait and any(entry.request.create for entry in entries):
            if target is None:
                (verdicts.locked if self._create else verdicts.missing).add(key)
                return
            if _is_expired(target):
                verdicts.locked.add(key)
                return
        verdicts.answers += [(entry, judge(target, entry.request)) for entry in entries]
        if target is not None and (target.chunks or target.changed or target.moved):
            self._targets.append(target)

    def _wanted(self) -> list[tuple[str, str, str]]:
        """Streams that some request would make: as the first one says."""
        wanted: list[tuple[str, str, str]] = []
        for (environment, path), entries in self._by_key.items():
            types = (entry.request.create for entry in entries if entry.request.create)
            content_type = next(types, None)
            if content_type is not None:
                wanted.append((environment, path, content_type))
        return wanted

    def _producers(self) -> dict[tuple[Key, str], None]:
        return {
            (entry.key, entry.request.stamp.producer): None
            for entry in self.entries
            if entry.request.stamp is not None
        }

    def _place(
        self,
        asked: Sequence[tuple[Key, str]],
        found: dict[int, Target],
        positions: dict[int, tuple[int, int]],
    ) -> None:
        targets = {self._keys[number]: target for number, target in found.items()}
        for place, position in positions.items():
            key, producer = asked[place]
            if key in targets:
                targets[key].producers[producer] = position


def _is_expired(target: Target) -> bool:
    """Without a trace: nobody reads from it any more."""
    return (
        target.expires_at is not None
        and target.expires_at <= target.now
        and not target.deleted
        and not target.forks
    )
