"""What a text must begin with or contain to match a LIKE pattern."""

from __future__ import annotations

from typing import Final, NamedTuple

from shapes.where.keys import (
    LONGEST_PREFIX,
    PART_LENGTH,
    Index,
    Key,
    Kind,
    Operand,
    Plan,
)

_MOST_PARTS: Final = 16


class _Literals(NamedTuple):
    """The literal parts of a pattern, in order. `anchored`: the text begins with the first one.
    `ending`: the wildcards behind the last one."""

    parts: list[str]
    anchored: bool
    ending: str


def pattern_plans(operand: Operand, pattern: str) -> list[Plan]:
    """The alternatives for `operand LIKE pattern`."""
    parts, anchored, ending = _literals(pattern)
    if not parts:
        return []
    if not anchored:
        return _part_plans(operand, parts)
    if len(parts) == 1 and not ending:
        return [Plan((Key(Index(Kind.VALUE, (operand,)), parts[0]),), True)]
    prefix = prefix_plan(operand, parts[0], exact=len(parts) == 1 and ending == "%")
    return [prefix, *_part_plans(operand, parts[1:])]


def prefix_plan(operand: Operand, prefix: str, *, exact: bool) -> Plan:
    """Rows whose text begins so; `exact`: that is all there is to it."""
    value = prefix[:LONGEST_PREFIX]
    return Plan((Key(Index(Kind.PREFIX, (operand,)), value),), exact and value == prefix)


def _part_plans(operand: Operand, parts: list[str]) -> list[Plan]:
    """Pieces of the literals, of which the router takes the one that it has seen least."""
    if not parts:
        return []
    length = min(PART_LENGTH, max(map(len, parts)))
    index = Index(Kind.PART, (operand,))
    pieces = dict.fromkeys(
        part[start : start + length] for part in parts for start in range(len(part) - length + 1)
    )
    return [Plan((Key(index, piece),), False) for piece in list(pieces)[-_MOST_PARTS:]]


def _literals(pattern: str) -> _Literals:
    parts = [""]
    anchored = not pattern.startswith(("%", "_"))
    ending = ""
    characters = iter(pattern)
    for one in characters:
        if one in "%_":
            parts.append("")
            ending += one
            continue
        parts[-1] += next(characters, "") if one == "\\" else one
        ending = ""
    return _Literals([part for part in parts if part], anchored, ending)
