"""Which operator or function is meant, by Postgres's own rules (its manual, "Operator Type
Resolution"), as far as they concern the types that are known here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from shapes.where.semantics import array_routines, text_routines
from shapes.where.semantics.casts import is_implicit
from shapes.where.semantics.routine import Routine
from shapes.where.semantics.routines import enum_routines, is_listed, signatures
from shapes.where.semantics.types import TEXT, UNKNOWN, UNKNOWN_ARRAY, Type, array_of

SPECIAL: Final[dict[tuple[str, bool], list[Callable[[Sequence[Type]], Routine | None]]]] = {
    **array_routines.SPECIAL,
    ("||", True): [text_routines.resolve_append, *array_routines.SPECIAL["||", True]],
    ("concat", False): [partial(text_routines.resolve_concat, "concat")],
    ("concat_ws", False): [partial(text_routines.resolve_concat, "concat_ws")],
}
"""What has a routine for arguments of any type, by name and whether it is an operator."""


def is_known(name: str, arguments: int, *, operator: bool) -> bool:
    """Whether there is anything of that name for so many arguments."""
    return (name, operator) in SPECIAL or is_listed(name, arguments, operator=operator)


def resolve(name: str, arguments: Sequence[Type], *, operator: bool) -> Routine | None:
    """The routine that Postgres would choose; None if there is none or no single best one."""
    if operator and len(arguments) == 2:
        special = _resolve_special(name, arguments[0], arguments[1])
        if special is not None:
            return special
    for find in SPECIAL.get((name, operator), ()):
        special = find(arguments)
        if special is not None:
            return special
    arguments = [array_of(TEXT) if one is UNKNOWN_ARRAY else one for one in arguments]
    candidates = signatures(name, len(arguments), operator=operator)
    assumed = _assume(arguments) if operator else tuple(arguments)
    for candidate in candidates:
        if candidate.parameters == assumed:
            return candidate
    return _select(candidates, arguments)


def _resolve_special(name: str, left: Type, right: Type) -> Routine | None:
    """Operators that exist for every array or enum type: both sides must be of the same one."""
    for one, other in ((left, right), (right, left)):
        if one.element is not None and one is not UNKNOWN_ARRAY:
            same = other in (one, UNKNOWN, UNKNOWN_ARRAY)
            return array_routines.array_routines(one).get(name) if same else None
        if one.category == "E" and other in (one, UNKNOWN):
            return enum_routines(one).get(name)
    if UNKNOWN_ARRAY in (left, right):
        return array_routines.array_routines(array_of(TEXT)).get(name)
    return None


def _assume(arguments: Sequence[Type]) -> tuple[Type, ...]:
    """A constant without a type is first taken to be of the other operand's type."""
    known = [one for one in arguments if one is not UNKNOWN]
    if not known:
        return (TEXT,) * len(arguments)
    return tuple(known[0] if one is UNKNOWN else one for one in arguments)


def _select(candidates: list[Routine], arguments: Sequence[Type]) -> Routine | None:
    candidates = [
        candidate
        for candidate in candidates
        if all(
            given is UNKNOWN or is_implicit(given, wanted)
            for given, wanted in zip(arguments, candidate.parameters, strict=True)
        )
    ]
    candidates = _best(candidates, arguments, lambda given, wanted: given is wanted)
    candidates = _best(
        candidates,
        arguments,
        lambda given, wanted: (
            given is wanted or (wanted.preferred and wanted.category == given.category)
        ),
    )
    if len(candidates) > 1 and UNKNOWN in arguments:
        candidates = _by_category(candidates, arguments) or candidates
    if len(candidates) > 1 and UNKNOWN in arguments:
        candidates = _by_known(candidates, arguments)
    return candidates[0] if len(candidates) == 1 else None


def _best(
    candidates: list[Routine], arguments: Sequence[Type], fits: Callable[[Type, Type], bool]
) -> list[Routine]:
    """The candidates with the most parameters that fit their arguments."""
    if len(candidates) < 2:
        return candidates
    scores = [sum(map(fits, arguments, candidate.parameters)) for candidate in candidates]
    best = max(scores)
    return [one for one, score in zip(candidates, scores, strict=True) if score == best]


def _by_known(candidates: list[Routine], arguments: Sequence[Type]) -> list[Routine]:
    """The candidates for which untyped constants could be of the type that all others have."""
    known = {one for one in arguments if one is not UNKNOWN}
    if len(known) != 1:
        return []
    (type_,) = known
    return [one for one in candidates if all(is_implicit(type_, two) for two in one.parameters)]


def _by_category(candidates: list[Routine], arguments: Sequence[Type]) -> list[Routine]:
    """Untyped constants are texts if they can be, else of the candidates' only category."""
    for position, given in enumerate(arguments):
        if given is not UNKNOWN:
            continue
        categories = {candidate.parameters[position].category for candidate in candidates}
        if "S" not in categories and len(categories) > 1:
            return []
        wanted = "S" if "S" in categories else categories.pop()
        candidates = [one for one in candidates if one.parameters[position].category == wanted]
        preferred = [one for one in candidates if one.parameters[position].preferred]
        candidates = preferred or candidates
    return candidates
