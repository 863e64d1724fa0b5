"""Operators and functions of arrays, which exist for every type of element."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final

from shapes.where.semantics.casts import common_type, is_implicit
from shapes.where.semantics.routine import Routine
from shapes.where.semantics.routines import enum_routines, signatures
from shapes.where.semantics.types import (
    BOOL,
    BPCHAR,
    INT4,
    TEXT,
    UNKNOWN,
    UNKNOWN_ARRAY,
    Type,
    array_of,
)
from shapes.where.values import array_operations as arrays
from shapes.where.values.arrays import ArrayValue


def comparison(name: str, type_: Type) -> Routine | None:
    """A comparison between two values of a type that is no array."""
    if type_.category == "E":
        return enum_routines(type_).get(name)
    type_ = TEXT if type_.category == "S" and type_ is not BPCHAR else type_
    found = (one for one in signatures(name, 2, operator=True) if one.parameters == (type_, type_))
    return next(found, None)


@cache
def array_routines(array: Type) -> dict[str, Routine]:
    """The comparisons between two arrays of one type."""
    element = array.element
    if element is None or comparison("=", element) is None:
        return {}
    both = (array, array)
    collation = "equality" if element.category == "S" else ""
    found = (
        Routine("=", both, BOOL, operator.eq, "({0} == {1})", collation=collation),
        Routine("<>", both, BOOL, operator.ne, "({0} != {1})", collation=collation),
        *(
            Routine(name, both, BOOL, apply, with_constant=with_constant, collation=collation)
            for name, (apply, with_constant) in _CONTAINMENT.items()
        ),
        *_orders(both, element),
    )
    return {one.name: one for one in found}


_CONTAINMENT: Final = {
    "@>": (arrays.contains, arrays.contains_constant),
    "<@": (arrays.contained, arrays.contained_constant),
    "&&": (arrays.overlaps, arrays.overlaps_constant),
}


def _orders(both: tuple[Type, Type], element: Type) -> list[Routine]:
    less = comparison("<", element)
    if less is None:
        return []
    collation = "order" if element.category == "S" else ""
    return [
        Routine(
            name, both, BOOL, _order(less.apply, test), collation=collation, refused=less.refused
        )
        for name, test in _ORDERS.items()
    ]


_ORDERS: Final[dict[str, Callable[[int, int], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _order(
    less: arrays.Less, test: Callable[[int, int], bool]
) -> Callable[[ArrayValue, ArrayValue], bool]:
    return lambda left, right: test(arrays.compare(left, right, less), 0)


# -- functions of arrays and elements --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Form:
    """A function for any type of element. `arguments`: `a` for an array, `e` for an element, `i` for
    an integer; likewise `result`. `equality`: it compares elements."""

    name: str
    arguments: str
    result: str
    apply: Callable[..., Any]
    strict: bool = False
    equality: bool = False
    operator: bool = False


_FORMS: Final = (
    Form("||", "aa", "a", arrays.cat, operator=True),
    Form("||", "ae", "a", arrays.append, operator=True),
    Form("||", "ea", "a", arrays.prepend, operator=True),
    Form("array_cat", "aa", "a", arrays.cat),
    Form("array_append", "ae", "a", arrays.append),
    Form("array_prepend", "ea", "a", arrays.prepend),
    Form("array_ndims", "a", "i", arrays.dimensions, strict=True),
    Form("cardinality", "a", "i", arrays.cardinality, strict=True),
    Form("array_length", "ai", "i", arrays.length, strict=True),
    Form("array_lower", "ai", "i", arrays.lower, strict=True),
    Form("array_upper", "ai", "i", arrays.upper, strict=True),
    Form("array_position", "ae", "i", arrays.position_from_start, equality=True),
    Form("array_position", "aei", "i", arrays.position, equality=True),
    Form("array_positions", "ae", "l", arrays.positions, equality=True),
    Form("array_remove", "ae", "a", arrays.remove, equality=True),
    Form("array_replace", "aee", "a", arrays.replace, equality=True),
)


def _resolve(form: Form, given: Sequence[Type]) -> Routine | None:
    """The form for these types of arguments; None if it does not fit."""
    if len(given) != len(form.arguments):
        return None
    elements: list[Type] = []
    for kind, one in zip(form.arguments, given, strict=True):
        if kind == "i":
            if one is not UNKNOWN and not is_implicit(one, INT4):
                return None
        elif one is UNKNOWN:
            # Beside an array an operand of unknown type is taken for one, too.
            if form.operator and kind == "e":
                return None
        elif (kind == "a") is (one.element is None):
            return None
        elif kind == "a":
            elements.append(TEXT if one is UNKNOWN_ARRAY else one.element or UNKNOWN)
        else:
            elements.append(one)
    if form.operator and all(one.element is None for one in given):
        return None
    common = common_type(elements) if elements else None
    if common is None or not all(is_implicit(one, common) for one in elements):
        return None
    return _routine(form, common)


@cache
def _routine(form: Form, element: Type) -> Routine | None:
    collation = ""
    if form.equality:
        equal = comparison("=", element)
        if equal is None:
            return None
        collation = equal.collation
    types = {"a": array_of(element), "e": element, "i": INT4, "l": array_of(INT4)}
    return Routine(
        form.name,
        tuple(types[kind] for kind in form.arguments),
        types[form.result],
        form.apply,
        operator=form.operator,
        strict=form.strict,
        collation=collation,
    )


SPECIAL: Final[dict[tuple[str, bool], list[Callable[[Sequence[Type]], Routine | None]]]] = {}
for _form in _FORMS:
    SPECIAL.setdefault((_form.name, _form.operator), []).append(partial(_resolve, _form))


# -- parts and nests -------------------------------------------------------------------------------


def subscript(array: Type, count: int) -> Routine:
    """`array[i]…` with so many subscripts."""
    assert array.element is not None
    template = "({0})" + "".join(f"[{{{place}}}]" for place in range(1, count + 1))
    parameters = (array, *(INT4,) * count)
    return Routine("[]", parameters, array.element, arrays.element, template=template)


def slices(array: Type, given: Sequence[tuple[bool, bool, bool]]) -> Routine:
    """`array[a:b]…`; for each dimension, which of the limits are there, and whether there is a colon:
    beside one `[n]` means `[1:n]`. The limits follow the array as arguments."""
    template, count = "({0})", 0
    for lower, upper, colon in given:
        texts: list[str] = []
        for there in (lower, upper) if colon else (upper,):
            count += there
            texts.append(f"{{{count}}}" if there else "")
        template += f"[{' : '.join(texts)}]"

    def apply(value: ArrayValue, *limits: int) -> ArrayValue:
        rest = iter(limits)
        chosen: list[tuple[int | None, int | None]] = []
        for lower, upper, colon in given:
            first = next(rest) if lower else None if colon else 1
            chosen.append((first, next(rest) if upper else None))
        return arrays.part(value, chosen)

    return Routine("[:]", (array, *(INT4,) * count), array, apply, template=template)


def nest(array: Type, count: int) -> Routine:
    """`ARRAY[…]` of so many arrays."""
    items = ", ".join(f"{{{place}}}" for place in range(count))
    type_name = array.sql.replace("{", "{{").replace("}", "}}")
    return Routine(
        "ARRAY",
        (array,) * count,
        array,
        arrays.nested,
        strict=False,
        template=f"ARRAY[{items}]::{type_name}",
    )
