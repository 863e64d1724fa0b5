"""json, which unlike jsonb stays as it was written: its parts are pieces of the text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, cast

from shapes.where.values.jsonb import check_depth, check_text

_SPACE: Final = " \t\n\r"
_decoder: Final = json.JSONDecoder(parse_float=str, parse_int=str)
_pairs: Final = json.JSONDecoder(parse_float=str, parse_int=str, object_pairs_hook=list)


def read_json(text: str) -> str:
    """A constant, which stays as it is. Raises ValueError."""
    check_depth(text)
    _decoder.decode(text)
    if "NaN" in text or "Infinity" in text:
        raise ValueError("no JSON that is read here")
    return text


def json_field(text: str, key: str) -> str | None:
    """`->` with a key: the last of equal ones."""
    found = None
    for name, value in _members(_usable(text)):
        if name == key:
            found = value
    return found


def json_element(text: str, index: int) -> str | None:
    """`->` with a 0-based index, from the end if it is negative."""
    items = list(_items(_usable(text)))
    return items[index] if -len(items) <= index < len(items) else None


def json_plain(value: str | None) -> str | None:
    """What `->>` makes of a part."""
    if value is None or value == "null":
        return None
    return cast(str, _decoder.decode(value)) if value[0] == '"' else value


def _usable(text: str) -> str:
    """Postgres reads all of a text, and fails if any string in it is none that it can hold."""
    text = text.strip(_SPACE)
    check_depth(text)
    if "\\u" in text:
        _check(_pairs.decode(text))
    return text


def _check(tree: Any) -> None:
    if isinstance(tree, str):
        check_text(tree)
    elif isinstance(tree, list | tuple):
        for one in cast("list[Any]", tree):
            _check(one)


def _skip(text: str, position: int) -> int:
    while text[position] in _SPACE:
        position += 1
    return position


def _value(text: str, position: int) -> tuple[str, int]:
    """The value that begins here or behind blanks, and where the next mark is."""
    start = _skip(text, position)
    _, end = _decoder.raw_decode(text, start)
    return text[start:end], _skip(text, end)


def _members(text: str) -> Iterator[tuple[str, str]]:
    """Keys and values of an object; none of anything else."""
    if text[0] != "{":
        return
    position = _skip(text, 1)
    while text[position] != "}":
        name, position = _decoder.raw_decode(text, _skip(text, position))
        value, position = _value(text, _skip(text, position) + 1)
        yield name, value
        position = position + 1 if text[position] == "," else position


def _items(text: str) -> Iterator[str]:
    """Elements of an array; none of anything else."""
    if text[0] != "[":
        return
    position = _skip(text, 1)
    while text[position] != "]":
        value, position = _value(text, position)
        yield value
        position = position + 1 if text[position] == "," else position
