"""Which subscriptions an append concerns. Pure: who is asked for every append must not ask Postgres."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from shapes.streams.subscriptions.glob import Glob
from shapes.streams.subscriptions.subscription import Key

MOST_STREAMS: Final = 200_000
"""Streams of which is remembered whom they concern."""


class Interest(NamedTuple):
    """Whom a stream concerns: those whose pattern its path matches, and all."""

    path: str
    matched: frozenset[Key]
    all: frozenset[Key]


class Interests:
    """The subscriptions there are, by what they want; and of streams that have come up, whom they
    concern."""

    def __init__(self) -> None:
        self._patterns: dict[str, list[tuple[Glob, str | None, Key]]] = {}
        self._named: dict[tuple[str, str], set[Key]] = {}
        self._streams: dict[int, Interest | None] = {}
        self._count = 0

    def replace(
        self,
        count: int,
        patterns: Iterable[tuple[Key, str, str | None]],
        named: Iterable[tuple[Key, str]],
    ) -> None:
        """`count` subscriptions: `patterns` with the wake streams that they leave out, and streams
        that are `named`."""
        self._count = count
        self._patterns.clear()
        self._named.clear()
        self._streams.clear()
        for key, pattern, wake_stream in patterns:
            found = self._patterns.setdefault(key.environment, [])
            found.append((Glob(pattern), wake_stream, key))
        for key, path in named:
            self._named.setdefault((key.environment, path), set()).add(key)

    def __bool__(self) -> bool:
        return self._count > 0

    @property
    def known(self) -> Mapping[int, Interest | None]:
        """Whom a stream concerns, by its id; None for nobody."""
        return self._streams

    def learn(self, stream_id: int, environment: str, path: str) -> Interest | None:
        """Whom a stream concerns that has not come up before."""
        matched = frozenset(
            key
            for glob, wake_stream, key in self._patterns.get(environment, ())
            if path != wake_stream and glob.matches(path)
        )
        everybody = matched.union(self._named.get((environment, path), ()))
        interest = Interest(path, matched, everybody) if everybody else None
        if len(self._streams) >= MOST_STREAMS:
            self._streams.clear()
        self._streams[stream_id] = interest
        return interest
