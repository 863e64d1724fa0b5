"""Indexes over the values in rows: by key, whom a row with the key concerns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

from shapes.following.router.groups import BOTH, NEW, OLD, Found, Group, Tried
from shapes.following.router.members import Members, with_member, without_member
from shapes.following.router.operands import OperandReader
from shapes.where import Row
from shapes.where.values.arrays import split_elements

S = TypeVar("S", bound=Hashable)

Exact: TypeAlias = dict[Hashable, Members[S]]
"""Subscribers whose condition a key settles."""
TriedAt: TypeAlias = dict[Hashable, Members[Group[S]]]
"""Groups to try on a row with a key."""


class Lookup(Protocol[S]):
    """An index. Its keys are of one kind, about the same operands."""

    def add(self, key: Any, subscriber: S) -> None: ...

    def remove(self, key: Any, subscriber: S) -> None: ...

    def add_group(self, key: Any, group: Group[S]) -> None: ...

    def remove_group(self, key: Any, group: Group[S]) -> None: ...

    def load(self, key: Any) -> int:
        """About how many groups would be tried together with one that has this key."""
        ...

    def find(self, old: Row, new: Row, found: Found[S], tried: Tried[S]) -> None:
        """Note whom the rows of an update concern. Raises some PgtideError if an operand's value
        cannot be told; whatever has been noted by then is right."""
        ...

    def everybody(self) -> tuple[Iterator[S], Iterator[Group[S]]]: ...

    def __bool__(self) -> bool:
        """Whether there is any key."""
        ...


class HashLookup(Generic[S]):
    """An index by values that are equal or not."""

    __slots__ = ("_reader", "exact", "tried")

    def __init__(self, reader: OperandReader) -> None:
        self._reader = reader
        self.exact: Exact[S] = {}
        self.tried: TriedAt[S] = {}

    def add(self, key: Hashable, subscriber: S) -> None:
        self.exact[key] = with_member(self.exact.get(key), subscriber)

    def remove(self, key: Hashable, subscriber: S) -> None:
        members = self.exact[key] = without_member(self.exact[key], subscriber)
        if not members:
            del self.exact[key]

    def add_group(self, key: Hashable, group: Group[S]) -> None:
        self.tried[key] = with_member(self.tried.get(key), group)

    def remove_group(self, key: Hashable, group: Group[S]) -> None:
        groups = self.tried[key] = without_member(self.tried[key], group)
        if not groups:
            del self.tried[key]

    def load(self, key: Hashable) -> int:
        return len(self.tried.get(key, ()))

    def __bool__(self) -> bool:
        return bool(self.exact or self.tried)

    def everybody(self) -> tuple[Iterator[S], Iterator[Group[S]]]:
        return (
            (one for members in self.exact.values() for one in members),
            (one for groups in self.tried.values() for one in groups),
        )

    def find(self, old: Row, new: Row, found: Found[S], tried: Tried[S]) -> None:
        if old is new or self._reader.same(old, new):
            self._collect(new, BOTH, found, tried)
        else:
            self._collect(old, OLD, found, tried)
            self._collect(new, NEW, found, tried)

    def _collect(self, row: Row, side: int, found: Found[S], tried: Tried[S]) -> None:
        value = self._reader.read(row)
        if value is not None:
            self._note(self.keys(value), side, found, tried)

    def keys(self, value: Any) -> Iterable[Hashable]:
        """The keys that a value has."""
        return (value,)

    def _note(self, keys: Iterable[Hashable], side: int, found: Found[S], tried: Tried[S]) -> None:
        for key in keys:
            for subscriber in self.exact.get(key, ()):
                found[subscriber] = found.get(subscriber, 0) | side
            for group in self.tried.get(key, ()):
                tried[group] = tried.get(group, 0) | side


class ElementLookup(HashLookup[S]):
    """An index by the elements of an array."""

    __slots__ = ("_parse",)

    def __init__(self, reader: OperandReader, parse: Callable[[str], Hashable] | None) -> None:
        super().__init__(reader)
        self._parse = parse

    def keys(self, value: str) -> Iterable[Hashable]:
        elements = split_elements(value)
        if self._parse is None:
            return elements
        return [self._parse(one) for one in elements if one is not None]


class PrefixLookup(HashLookup[S]):
    """An index by what a text begins with. A row is looked up once per length of such prefixes."""

    __slots__ = ("_lengths",)

    def __init__(self, reader: OperandReader) -> None:
        super().__init__(reader)
        self._lengths = Counter[int]()

    def add(self, key: Hashable, subscriber: S) -> None:
        super().add(key, subscriber)
        self._count(key)

    def remove(self, key: Hashable, subscriber: S) -> None:
        super().remove(key, subscriber)
        self._discount(key)

    def add_group(self, key: Hashable, group: Group[S]) -> None:
        super().add_group(key, group)
        self._count(key)

    def remove_group(self, key: Hashable, group: Group[S]) -> None:
        super().remove_group(key, group)
        self._discount(key)

    def _count(self, key: Hashable) -> None:
        self._lengths[len(str(key))] += 1

    def _discount(self, key: Hashable) -> None:
        length = len(str(key))
        self._lengths[length] -= 1
        if not self._lengths[length]:
            del self._lengths[length]

    def keys(self, value: str) -> Iterable[Hashable]:
        return [value[:length] for length in self._lengths if length <= len(value)]


_TRY_COST: Final = 400
_PIECE_COST: Final = 160
"""What trying a pattern costs beside the search in the text, and what taking a piece from the text
does, in units of what the search costs per character: about half a nanosecond."""


class PartLookup(PrefixLookup[S]):
    """An index by short texts that a text contains. It has groups only."""

    __slots__ = ()

    def keys(self, value: str) -> Iterable[Hashable]:
        tried = self.tried
        if len(tried) * (_TRY_COST + len(value)) < _PIECE_COST * len(value) * len(self._lengths):
            # Looking for each of a few patterns is less work than all pieces of a long text.
            return list(tried)
        found: dict[Hashable, None] = {}
        for length in self._lengths:
            starts = range(len(value) - length + 1)
            pieces = [piece for at in starts if (piece := value[at : at + length]) in tried]
            found.update(dict.fromkeys(pieces))
        return found
