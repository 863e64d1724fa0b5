"""Operators and functions of jsonb, and those of json that read it."""

from __future__ import annotations

import operator
from collections.abc import Callable
from decimal import Decimal
from typing import Final

from shapes.where.errors import Failure
from shapes.where.semantics.routine import Routine, unavailable
from shapes.where.semantics.types import BOOL, INT4, JSON, JSONB, TEXT, array_of
from shapes.where.values import json_text, jsonb
from shapes.where.values.arrays import ArrayValue
from shapes.where.values.jsonb import MISSING, Json, Tree

_TEXTS: Final = array_of(TEXT)


def _found(tree: Tree) -> Json | None:
    return None if tree is MISSING else Json(tree)


def _plain(tree: Tree) -> str | None:
    return None if tree is MISSING else jsonb.plain_text(tree)


def _field(value: Json, key: str) -> Json | None:
    return _found(jsonb.field(value.tree, key))


def _field_text(value: Json, key: str) -> str | None:
    return _plain(jsonb.field(value.tree, key))


def _element(value: Json, index: int) -> Json | None:
    return _found(jsonb.element(value.tree, index))


def _element_text(value: Json, index: int) -> str | None:
    return _plain(jsonb.element(value.tree, index))


def _path(value: Json, path: ArrayValue) -> Json | None:
    return _found(jsonb.at_path(value.tree, _texts(path)))


def _path_text(value: Json, path: ArrayValue) -> str | None:
    return _plain(jsonb.at_path(value.tree, _texts(path)))


def _texts(array: ArrayValue) -> tuple[str | None, ...]:
    return tuple([None if one is None else str(one) for one in array[1]])


def subscript(steps: int) -> Routine:
    """`value[…]` with so many subscripts, each of which is a text: the path to a part."""

    def apply(value: Json, *path: str) -> Json | None:
        return _found(jsonb.at_path(value.tree, path))

    template = "({0})" + "".join(f"[{{{step}}}]" for step in range(1, steps + 1))
    return Routine("[]", (JSONB, *(TEXT,) * steps), JSONB, apply, template=template)


def _exists_any(value: Json, keys: ArrayValue) -> bool:
    return any(jsonb.exists(value, key) for key in _texts(keys) if key is not None)


def _exists_all(value: Json, keys: ArrayValue) -> bool:
    return all(jsonb.exists(value, key) for key in _texts(keys) if key is not None)


def _contained(left: Json, right: Json) -> bool:
    return jsonb.contains(right, left)


def _contains_constant(part: Json) -> Callable[[Json], bool]:
    return lambda whole: jsonb.contains(whole, part)


def type_of(value: Json) -> str:
    match value.tree:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | Decimal():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case dict():
            return "object"


def _array_length(value: Json) -> int:
    if not isinstance(value.tree, list):
        raise Failure("cannot get array length of a value that is no array")
    return len(value.tree)


def _json_field_text(text: str, key: str) -> str | None:
    return json_text.json_plain(json_text.json_field(text, key))


def _json_element_text(text: str, index: int) -> str | None:
    return json_text.json_plain(json_text.json_element(text, index))


_ORDERED = (
    "texts within jsonb sort by the database's collation, which only the database knows; compare "
    "a part of it as a number or a text"
)

JSON_ROUTINES: Final = (
    Routine("=", (JSONB, JSONB), BOOL, operator.eq, "({0} == {1})"),
    Routine("<>", (JSONB, JSONB), BOOL, operator.ne, "({0} != {1})"),
    *(
        Routine(name, (JSONB, JSONB), BOOL, unavailable, refused=_ORDERED)
        for name in ("<", "<=", ">", ">=")
    ),
    Routine("->", (JSONB, TEXT), JSONB, _field),
    Routine("->", (JSONB, INT4), JSONB, _element),
    Routine("->>", (JSONB, TEXT), TEXT, _field_text),
    Routine("->>", (JSONB, INT4), TEXT, _element_text),
    Routine("#>", (JSONB, _TEXTS), JSONB, _path),
    Routine("#>>", (JSONB, _TEXTS), TEXT, _path_text),
    Routine("@>", (JSONB, JSONB), BOOL, jsonb.contains, with_constant=_contains_constant),
    Routine("<@", (JSONB, JSONB), BOOL, _contained),
    Routine("?", (JSONB, TEXT), BOOL, jsonb.exists),
    Routine("?|", (JSONB, _TEXTS), BOOL, _exists_any),
    Routine("?&", (JSONB, _TEXTS), BOOL, _exists_all),
    Routine("->", (JSON, TEXT), JSON, json_text.json_field),
    Routine("->", (JSON, INT4), JSON, json_text.json_element),
    Routine("->>", (JSON, TEXT), TEXT, _json_field_text),
    Routine("->>", (JSON, INT4), TEXT, _json_element_text),
    Routine("jsonb_typeof", (JSONB,), TEXT, type_of, operator=False),
    Routine("jsonb_array_length", (JSONB,), INT4, _array_length, operator=False),
)
