"""How rows look to clients whose names and forms are not those of the table. Pure.

A shape with a presentation is an ordinary one until its rows become messages: then each field of the
message is made from one or more of the row's columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

Value = str | int | None
"""The text of a value as Postgres prints it; 0 for one that it did not send."""

Make = Callable[..., str | None]

UNSENT = 0


class Field(NamedTuple):
    """One field of the presented rows.

    `type` and `dims` are what the schema says of it. `sources` are the columns that it is made from,
    by `make`, which is given their values; without `make` it is the first one's.
    """

    name: str
    type: str
    sources: tuple[str, ...]
    make: Make | None = None
    dims: int = 0


class _Made(NamedTuple):
    name: str
    make: Make
    places: tuple[int, ...]


class Presentation:
    """The fields that are shown of a table's rows. Rows are given as the values of `columns`."""

    def __init__(self, fields: Sequence[Field], key: str, identity: str) -> None:
        """`key` is the column that tells rows apart. Two presentations of a table are the same if
        and only if their `identity` is."""
        self.key = key
        self.identity = identity
        self.columns = tuple(dict.fromkeys([key, *(s for one in fields for s in one.sources)]))
        self.schema: Mapping[str, Any] = {
            one.name: {"type": one.type, **({"dims": one.dims} if one.dims else {})}
            for one in fields
        }
        places = {name: place for place, name in enumerate(self.columns)}
        self._key = [one.name for one in fields if one.sources == (key,) and one.make is None]
        self._plain = [(one.name, places[one.sources[0]]) for one in fields if one.make is None]
        self._made = [
            _Made(one.name, one.make, tuple(places[source] for source in one.sources))
            for one in fields
            if one.make is not None
        ]

    def key_values(self, row: Sequence[Value]) -> dict[str, Value]:
        """The fields that tell which row it is: all that is shown of one that is gone."""
        return dict.fromkeys(self._key, row[0])

    def values(self, row: Sequence[Value]) -> dict[str, Value]:
        """All fields of a row, but for those made from what Postgres did not send."""
        shown = {name: row[place] for name, place in self._plain if row[place] != UNSENT}
        for name, make, places in self._made:
            values = [row[place] for place in places]
            if UNSENT not in values:
                shown[name] = make(*values)
        return shown

    def changed(self, new: Sequence[Value], old: Sequence[Value]) -> dict[str, Value]:
        """The fields of a row that were others before, and those that tell which row it is."""
        shown = self.key_values(new)
        for name, place in self._plain:
            if new[place] != old[place]:
                shown[name] = new[place]
        for name, make, places in self._made:
            values, before = [new[place] for place in places], [old[place] for place in places]
            if values != before and UNSENT not in values:
                value = make(*values)
                if UNSENT in before or value != make(*before):
                    shown[name] = value
        return shown
