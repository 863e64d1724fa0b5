"""Entity tags of answers: which messages of which stream, and whether they are all. Pure.

The tag names the stream, not its path: what is made anew under the same path has others.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from shapes.streams.stream import StreamState

_TAG = re.compile(r'(?:W/)?"([0-9]{1,19})-([0-9]{1,19}):([0-9]{1,19})(:[tc])?"')


class EntityTag(NamedTuple):
    """Messages from `start` up to `end` of the stream `id`. `reach` is empty if there are more, `:t` at
    the end of what there is, `:c` if that is the end for good."""

    id: int
    start: int
    end: int
    reach: str

    @classmethod
    def of(cls, state: StreamState, start: int, end: int) -> EntityTag:
        if end < state.tail:
            return cls(state.id, start, end, "")
        return cls(state.id, start, end, ":c" if state.closed else ":t")

    def __str__(self) -> str:
        return f'"{self.id}-{self.start}:{self.end}{self.reach}"'


def known_tag(tags: list[str], state: StreamState, start: int) -> EntityTag | None:
    """Which of the tags that a client knows names what it would be sent now; None if none does."""
    for text in tags:
        match = _TAG.fullmatch(text.strip())
        if match is None:
            continue
        tag = EntityTag(int(match[1]), int(match[2]), int(match[3]), match[4] or "")
        if tag.start == start <= tag.end and tag == EntityTag.of(state, start, tag.end):
            return tag if tag.end <= state.tail else None
    return None
