"""What can be done with arrays; see `arrays` for what one is. None is NULL.

Everything raises ValueError where Postgres fails.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from math import prod
from typing import Any, TypeAlias

from shapes.where.errors import Failure
from shapes.where.values.arrays import EMPTY, MAX_DIMENSIONS, ArrayValue, Bounds
from shapes.where.values.numbers import INT4_RANGE, in_range

Less: TypeAlias = Callable[[Any, Any], bool]

_MISMATCH = "cannot combine arrays of these dimensions"


# -- containment -----------------------------------------------------------------------------------


def contains(left: ArrayValue, right: ArrayValue) -> bool:
    return None not in right[1] and set(right[1]) <= set(left[1])


def contained(left: ArrayValue, right: ArrayValue) -> bool:
    return contains(right, left)


def overlaps(left: ArrayValue, right: ArrayValue) -> bool:
    return not (set(left[1]) - {None}).isdisjoint(right[1])


def contains_constant(right: ArrayValue) -> Callable[[ArrayValue], bool]:
    wanted = frozenset(right[1])
    if None in wanted:
        return lambda left: False
    if len(wanted) == 1:
        (only,) = wanted
        return lambda left: only in left[1]
    return lambda left: wanted.issubset(left[1])


def contained_constant(right: ArrayValue) -> Callable[[ArrayValue], bool]:
    allowed = frozenset(right[1]) - {None}
    return lambda left: allowed.issuperset(left[1])


def overlaps_constant(right: ArrayValue) -> Callable[[ArrayValue], bool]:
    wanted = frozenset(right[1]) - {None}
    return lambda left: not wanted.isdisjoint(left[1])


# -- order -----------------------------------------------------------------------------------------


def compare(left: ArrayValue, right: ArrayValue, less: Less) -> int:
    """Below 0, 0 or above 0: by elements first, NULL last, then by their number and the bounds."""
    for one, other in zip(left[1], right[1], strict=False):
        if one == other:
            continue
        if one is None or other is None:
            return 1 if one is None else -1
        return -1 if less(one, other) else 1
    one, other = _shape(left), _shape(right)
    return (one > other) - (one < other)


def _shape(array: ArrayValue) -> tuple[int, int, tuple[int, ...], tuple[int, ...]]:
    bounds, elements = array
    lengths, lower = tuple(two for _, two in bounds), tuple(one for one, _ in bounds)
    return len(elements), len(bounds), lengths, lower


# -- putting together ------------------------------------------------------------------------------


def cat(left: ArrayValue | None, right: ArrayValue | None) -> ArrayValue | None:
    """`left || right`: side by side, or one as an element of the other."""
    if left is None or right is None:
        return right if left is None else left
    if not left[0] or not right[0]:
        return left if not right[0] else right
    ahead = len(left[0]) - len(right[0])
    if ahead == 0:
        (lower, length), *inner = left[0]
        added, others = right[0][0][1], right[0][1:]
    elif ahead == 1:
        (lower, length), *inner = left[0]
        added, others = 1, right[0]
    elif ahead == -1:
        (lower, length), *inner = right[0]
        added, others = 1, left[0]
    else:
        raise Failure(_MISMATCH)
    if tuple(inner) != others:
        raise Failure(_MISMATCH)
    return ((lower, length + added), *inner), left[1] + right[1]


def append(array: ArrayValue | None, element: Hashable | None) -> ArrayValue:
    bounds, elements = _flat(array)
    return _bounds(bounds, len(elements) + 1), (*elements, element)


def prepend(element: Hashable | None, array: ArrayValue | None) -> ArrayValue:
    bounds, elements = _flat(array)
    lower = bounds[0][0] if bounds else 1
    in_range(lower - 1, INT4_RANGE)
    return _bounds(bounds, len(elements) + 1), (element, *elements)


def _flat(array: ArrayValue | None) -> ArrayValue:
    bounds, elements = array or EMPTY
    if len(bounds) > 1:
        raise Failure("argument must be empty or one-dimensional array")
    return bounds, elements


def _bounds(bounds: Bounds, length: int) -> Bounds:
    lower = bounds[0][0] if bounds else 1
    in_range(lower + length, INT4_RANGE)
    return ((lower, length),)


def nested(*arrays: ArrayValue | None) -> ArrayValue:
    """`ARRAY[…]` of arrays, of which none or all are empty or NULL."""
    full = [array for array in arrays if array is not None and array[0]]
    if not full:
        return EMPTY
    bounds = full[0][0]
    if len(full) < len(arrays) or any(array[0] != bounds for array in full):
        raise Failure(
            "multidimensional arrays must have array expressions with matching dimensions"
        )
    if len(bounds) == MAX_DIMENSIONS:
        raise Failure("number of array dimensions exceeds the maximum allowed")
    return ((1, len(full)), *bounds), tuple(one for array in full for one in array[1])


# -- parts -----------------------------------------------------------------------------------------


def element(array: ArrayValue, *indexes: int) -> Hashable | None:
    """`array[i]`, `array[i][j]`; NULL for what is not there."""
    bounds, elements = array
    if len(bounds) != len(indexes):
        return None
    place = 0
    for (lower, length), index in zip(bounds, indexes, strict=True):
        if not lower <= index < lower + length:
            return None
        place = place * length + index - lower
    return elements[place]


def part(array: ArrayValue, limits: Sequence[tuple[int | None, int | None]]) -> ArrayValue:
    """`array[a:b][c:d]`, cut to what is there; None where a limit is left out. The lower bounds of
    the result are 1."""
    bounds, elements = array
    if len(bounds) < len(limits) or not bounds:
        return EMPTY
    ranges: list[range] = []
    for place, (lower, length) in enumerate(bounds):
        first, last = limits[place] if place < len(limits) else (None, None)
        first = lower if first is None else max(first, lower)
        end = lower + length
        end = end if last is None else min(last + 1, end)
        if first >= end:
            return EMPTY
        ranges.append(range(first - lower, end - lower))
    places = [0]
    for chosen, (_, length) in zip(ranges, bounds, strict=True):
        places = [place * length + one for place in places for one in chosen]
    return tuple((1, len(one)) for one in ranges), tuple(elements[place] for place in places)


# -- questions -------------------------------------------------------------------------------------


def dimensions(array: ArrayValue) -> int | None:
    return len(array[0]) or None


def cardinality(array: ArrayValue) -> int:
    return prod(length for _, length in array[0]) if array[0] else 0


def length(array: ArrayValue, dimension: int) -> int | None:
    return array[0][dimension - 1][1] if 1 <= dimension <= len(array[0]) else None


def lower(array: ArrayValue, dimension: int) -> int | None:
    return array[0][dimension - 1][0] if 1 <= dimension <= len(array[0]) else None


def upper(array: ArrayValue, dimension: int) -> int | None:
    return sum(array[0][dimension - 1]) - 1 if 1 <= dimension <= len(array[0]) else None


def position(
    array: ArrayValue | None, wanted: Hashable | None, start: int | None = 1
) -> int | None:
    """The subscript of the first element that is the wanted one, NULL being itself."""
    if array is None or not array[0]:
        return None
    _, elements = _one_dimension(array)
    if wanted is None and None not in elements:
        return None
    if start is None:
        raise Failure("initial position must not be null")
    lower = array[0][0][0]
    for place, one in enumerate(elements, lower):
        if place >= start and one == wanted:
            return place
    return None


def position_from_start(array: ArrayValue | None, wanted: Hashable | None) -> int | None:
    if array is None or not array[0]:
        return None
    return position(array, wanted, array[0][0][0])


def positions(array: ArrayValue | None, wanted: Hashable | None) -> ArrayValue | None:
    if array is None:
        return None
    bounds, elements = _one_dimension(array)
    lower = bounds[0][0] if bounds else 1
    found = tuple(place for place, one in enumerate(elements, lower) if one == wanted)
    return (((1, len(found)),), found) if found else EMPTY


def remove(array: ArrayValue | None, unwanted: Hashable | None) -> ArrayValue | None:
    """Without the elements that are the unwanted one, NULL being itself."""
    if array is None:
        return None
    bounds, elements = array
    if len(bounds) > 1:
        raise Failure("removing elements from multidimensional arrays is not supported")
    kept = tuple(one for one in elements if one != unwanted)
    return (_bounds(bounds, len(kept)), kept) if kept else EMPTY


def replace(
    array: ArrayValue | None, old: Hashable | None, new: Hashable | None
) -> ArrayValue | None:
    if array is None:
        return None
    bounds, elements = array
    return bounds, tuple(new if one == old else one for one in elements)


def _one_dimension(array: ArrayValue) -> ArrayValue:
    if len(array[0]) > 1:
        raise Failure("searching for elements in multidimensional arrays is not supported")
    return array
