"""jsonb: values as Postgres reads, compares and prints them.

Inside a value are what `json` makes of texts, but that numbers are exact, an int or a Decimal with
its scale.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable
from decimal import Decimal
from typing import Any, Final, TypeAlias, cast

from shapes.where.errors import EvaluationError, Failure
from shapes.where.values.numbers import NotANumber, Numeric, read_numeric

Tree: TypeAlias = "None | bool | int | Decimal | str | list[Any] | dict[str, Any]"

MAX_DEPTH: Final = 200

_MARK = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{\]}]', re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")
_QUOTE: Final[Callable[[str], str]] = json.encoder.encode_basestring


class Json:
    """A jsonb value that is not SQL's NULL. Equal and hashed as Postgres compares: 1 and 1.0 are
    equal, 1 and true are not, and the order of an object's keys means nothing."""

    __slots__ = ("_key", "tree")

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self._key: Hashable | None = None

    @property
    def key(self) -> Hashable:
        if self._key is None:
            self._key = _frozen(self.tree)
        return self._key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Json) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"<Json {write_json(self)}>"


def _frozen(tree: Tree) -> Hashable:
    """Equal if and only if the trees are. What Python takes for equal to another kind is in a tuple
    with its kind."""
    match tree:
        case None | bool():
            return (tree,)
        case list():
            return ("[", *map(_frozen, tree))
        case dict():
            return frozenset((key, _frozen(value)) for key, value in tree.items())
        case _:
            return tree


def same(left: Tree, right: Tree) -> bool:
    """Whether two scalars are equal."""
    return _frozen(left) == _frozen(right)


# -- texts -----------------------------------------------------------------------------------------


def _exact(text: str) -> int | Decimal:
    # Longer numbers are refused by int().
    return int(text) if len(text) < 1000 else Decimal(text)


def _checked_number(text: str) -> Numeric:
    number = read_numeric(text)
    assert not isinstance(number, NotANumber)
    return number


def _refuse_constant(text: str) -> object:
    raise ValueError(f"{text} is no JSON")


_parsing = json.JSONDecoder(parse_float=Decimal, parse_int=_exact, parse_constant=_refuse_constant)
_reading = json.JSONDecoder(
    parse_float=_checked_number, parse_int=_checked_number, parse_constant=_refuse_constant
)


def parse_jsonb(text: str) -> Json:
    """From Postgres's own output. Raises EvaluationError if it is nested deeper than is possible
    here."""
    try:
        check_depth(text)
    except Failure as error:
        raise EvaluationError(str(error)) from None
    return Json(_parsing.decode(text))


def read_jsonb(text: str) -> Json:
    """From what a user wrote: the last of equal keys counts. Raises ValueError."""
    check_depth(text)
    return Json(_checked(_reading.decode(text)))


def check_depth(text: str) -> None:
    """Raises Failure if objects and arrays are nested too deep for functions that call themselves."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for match in _MARK.finditer(text):
        mark = match.group()
        depth += (mark in "[{") - (mark in "]}")
        if depth > MAX_DEPTH:
            raise Failure("a JSON value is nested too deep")


def _checked(tree: Tree) -> Tree:
    """The same with keys in Postgres's order. Raises ValueError for texts that it cannot hold."""
    match tree:
        case str():
            return check_text(tree)
        case list():
            return [_checked(one) for one in tree]
        case dict():
            ordered = sorted(tree, key=_key_order)
            return {check_text(key): _checked(tree[key]) for key in ordered}
        case _:
            return tree


def check_text(text: str) -> str:
    """A text that escapes may have made what no text in Postgres can be. Raises ValueError."""
    if "\0" in text or _SURROGATE.search(text):
        raise ValueError("unsupported Unicode escape sequence")
    return text


def _key_order(key: str) -> tuple[int, bytes]:
    encoded = key.encode("utf-8", "surrogatepass")
    return len(encoded), encoded


def write_json(value: Json) -> str:
    """The text that Postgres prints."""
    return _written(value.tree)


def _written(tree: Tree) -> str:
    match tree:
        case None:
            return "null"
        case bool():
            return "true" if tree else "false"
        case str():
            return _QUOTE(tree)
        case int():
            return str(tree)
        case Decimal():
            return format(tree, "f")
        case list():
            return f"[{', '.join(map(_written, tree))}]"
        case dict():
            pairs = (f"{_QUOTE(key)}: {_written(value)}" for key, value in tree.items())
            return f"{{{', '.join(pairs)}}}"


def plain_text(tree: Tree) -> str | None:
    """What `->>` makes of a value: a string's own characters, NULL of null."""
    if tree is None:
        return None
    return tree if isinstance(tree, str) else _written(tree)


# -- parts -----------------------------------------------------------------------------------------

_INDEX = re.compile(r"[ \t\n\v\f\r]*[+-]?[0-9]+", re.ASCII)
MISSING: Final = cast(Tree, object())
"""What is not there, while None is JSON's null."""


def field(tree: Tree, key: str) -> Tree:
    return tree.get(key, MISSING) if isinstance(tree, dict) else MISSING


def element(tree: Tree, index: int) -> Tree:
    """By a 0-based index, from the end if it is negative. A scalar counts as an array of one."""
    if isinstance(tree, dict):
        return MISSING
    items = tree if isinstance(tree, list) else [tree]
    return items[index] if -len(items) <= index < len(items) else MISSING


def at_path(tree: Tree, path: tuple[str | None, ...]) -> Tree:
    """What is found step by step; a step into an array is a number in its digits."""
    if None in path:
        return MISSING
    for step in path:
        assert step is not None
        if isinstance(tree, dict):
            tree = tree.get(step, MISSING)
        elif isinstance(tree, list) and _INDEX.fullmatch(step) and len(step) < 100:
            tree = element(tree, int(step))
        else:
            return MISSING
        if tree is MISSING:
            return MISSING
    return tree


# -- containment -----------------------------------------------------------------------------------


def contains(left: Json, right: Json) -> bool:
    """`@>`. An array may contain a scalar, but only at the top."""
    whole, part = left.tree, right.tree
    if isinstance(whole, list) and not isinstance(part, list | dict):
        return any(same(one, part) for one in whole)
    return _contains(whole, part)


def _contains(whole: Tree, part: Tree) -> bool:
    if isinstance(whole, dict) and isinstance(part, dict):
        return all(key in whole and _contains(whole[key], value) for key, value in part.items())
    if isinstance(whole, list) and isinstance(part, list):
        return all(any(_contains(one, value) for one in whole) for value in part)
    if isinstance(whole, list | dict) or isinstance(part, list | dict):
        return False
    return same(whole, part)


def exists(value: Json, key: str) -> bool:
    """`?`: a key of an object, a string in an array or a string itself."""
    tree = value.tree
    if isinstance(tree, list):
        return any(isinstance(one, str) and one == key for one in tree)
    return key in tree if isinstance(tree, dict) else tree == key


# -- casts -----------------------------------------------------------------------------------------


def to_number(convert: Callable[[Any], Any]) -> Callable[[Json], Any]:
    """The cast of a number; of null it is NULL, which before Postgres 18 is an error."""

    def apply(value: Json) -> Any:
        tree = value.tree
        if tree is None:
            return None
        if isinstance(tree, bool) or not isinstance(tree, int | Decimal):
            raise Failure("cannot cast a jsonb value that is no number to one")
        return convert(Decimal(tree))

    return apply


def to_bool(value: Json) -> bool | None:
    if value.tree is not None and not isinstance(value.tree, bool):
        raise Failure("cannot cast a jsonb value that is no boolean to one")
    return value.tree
