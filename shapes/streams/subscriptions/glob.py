"""Patterns for paths of streams: `*` stands for one segment, `**` for any number of them. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Final

_ONE: Final = "*"
_ANY: Final = "**"
_STAR = re.compile("%2A", re.IGNORECASE)
_SPECIAL = re.compile(r"\W", re.ASCII)


@dataclass(frozen=True)
class Glob:
    """A pattern in its one spelling: without slashes at its ends."""

    text: str

    @cached_property
    def _parts(self) -> tuple[str, ...]:
        """Its segments. Of several `**` in a row one is enough: what follows would try them all."""
        parts: list[str] = []
        for part in self.text.split("/"):
            if part != _ANY or parts[-1:] != [_ANY]:
                parts.append(part)
        return tuple(parts)

    @cached_property
    def _words(self) -> tuple[str | None, ...]:
        """What each segment has to be; None for stars."""
        return tuple(None if part in (_ONE, _ANY) else _literal(part) for part in self._parts)

    def matches(self, path: str) -> bool:
        """In time proportional to both lengths, whatever the pattern."""
        segments = path.split("/")
        at = place = 0
        # Where to go on when the last `**` has to take one segment more.
        back: tuple[int, int] | None = None
        while place < len(segments):
            if at < len(self._parts) and self._parts[at] == _ANY:
                at += 1
                back = at, place
            elif at < len(self._parts) and self._words[at] in (None, segments[place]):
                at, place = at + 1, place + 1
            elif back is not None:
                back = back[0], back[1] + 1
                at, place = back
            else:
                return False
        return self._parts[at:] in ((), (_ANY,))

    @property
    def expression(self) -> str:
        """The same as a regular expression of Postgres's, for paths with a slash at their end."""
        return "^" + "".join(map(_expression, self._parts)) + "$"


def _literal(part: str) -> str:
    """A star that means itself is written as `%2A`."""
    return _STAR.sub("*", part)


def _expression(part: str) -> str:
    if part == _ANY:
        return "([^/]+/)*"
    if part == _ONE:
        return "[^/]+/"
    return _SPECIAL.sub(_escaped, _literal(part)) + "/"


def _escaped(match: re.Match[str]) -> str:
    """Letters of other scripts mean themselves already."""
    return f"\\{match[0]}" if match[0].isascii() else match[0]
