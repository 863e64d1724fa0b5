"""Random expressions of a wanted type, built from forms: a table that grows by one line per form.

In a form, `{int4}` stands for an expression of that type, `{int4!}` for a constant and `{int4.}` for a
column of it. `{small!}` and the like name pools of constants of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

_PLACE: Final = re.compile(r"\{(\w+)([!.]?)\}")

_INTEGERS: Final = """
    ({T} + {T}) ; ({T} - {T}) ; ({T} * {T}) ; ({T} / {T}) ; ({T} % {T}) ; (- {T}) ; (+ {T}) ; (@ {T})
    ; (~{T}) ; ({T} & {T}) ; ({T} |{T}) ; ({T}#{T}) ; ({T}<<{shift!}) ; ({T}>>{shift!}) ; abs({T})
    ; mod({T},{T}) ; coalesce({T},{T}) ; greatest({T},{T},{T!}) ; least({T},{T}) ; nullif({T},{T!})
"""
_FLOATS: Final = """
    ({T} + {T}) ; ({T} - {T}) ; ({T} * {T}) ; ({T} / {T}) ; (- {T}) ; (@ {T}) ; abs({T})
    ; coalesce({T},{T}) ; greatest({T},{T}) ; least({T},{T},{T!}) ; nullif({T},{T!})
"""


def _each(forms: str, type_: str) -> list[str]:
    return [one.replace("T", type_) for one in forms.split(" ; ")]


FORMS: Final[dict[str, list[str]]] = {
    "int2": [*_each(_INTEGERS, "int2"), "({int4})::int2", "({numeric})::int2"],
    "int4": [
        *_each(_INTEGERS, "int4"),
        "({int2} + {int4})",
        "({int4} - {int2})",
        "({int2} * {int4})",
        "({int4} / {int2})",
        "length({text})",
        "char_length({text})",
        "octet_length({text})",
        "bit_length({text})",
        "strpos({text},{text!})",
        "position({text!} in {text})",
        "({int8})::int4",
        "({numeric})::int4",
        "({float8})::int4",
        "({float4})::int4",
        "({bool})::int4",
        "int4({numeric})",
        "cast({digits} as integer)",
        "case when {bool} then {int4} else {int4} end",
        "case {int4} when {int4!} then {int4} when {int4} then {int4!} end",
        "case when {int4} <> 0 then {int4!} / {int4.} else 1 end",
    ],
    "int8": [
        *_each(_INTEGERS, "int8"),
        "({int4} + {int8})",
        "({int8} * {int2})",
        "({int2} - {int8})",
        "({int8} / {int4})",
        "({numeric})::int8",
        "({float8})::int8",
        "({int4})::int8",
        "coalesce({int4},{int8})",
        "case when {bool} then {int4} else {int8} end",
    ],
    "numeric": [
        *_each(_FLOATS, "numeric"),
        "({numeric} % {numeric})",
        "({numeric} / {numeric!})",
        "({numeric!} / {numeric})",
        "({int4} / {numeric})",
        "({numeric} * {int8})",
        "mod({numeric},{numeric!})",
        "div({numeric},{numeric!})",
        "ceil({numeric})",
        "ceiling({numeric})",
        "floor({numeric})",
        "round({numeric})",
        "trunc({numeric})",
        "sign({numeric})",
        "round({numeric},{scale!})",
        "trunc({numeric},{scale!})",
        "({int8})::numeric",
        "({float8})::numeric",
        "({float4})::numeric",
        "({digits})::numeric",
        "coalesce({int4},{numeric})",
        "greatest({int4},{numeric})",
    ],
    "float4": [*_each(_FLOATS, "float4"), "({float8})::float4", "({numeric})::float4"],
    "float8": [
        *_each(_FLOATS, "float8"),
        "({float4} + {float8})",
        "({float8} * {float4})",
        "({int4} * {float4})",
        "({numeric} - {float8})",
        "({float8} / {int4})",
        "(|/ {float8})",
        "(|/ {int4})",
        "sqrt({float8})",
        "ceil({float8})",
        "ceil({int4})",
        "floor({float8})",
        "round({float8})",
        "trunc({float8})",
        "sign({float8})",
        "({float4})::float8",
        "({numeric})::float8",
        "({digits})::float8",
        "(2 ^ {shift!})",
    ],
    "text": [
        "({text} || {text})",
        "({text} || {int4})",
        "({numeric} || {text})",
        "({text} || {bool})",
        "({text} || {uuid.})",
        "lower({text})",
        "upper({text})",
        "lower({local.})",
        "upper({local.} || {text!})",
        "concat({text},{text})",
        "concat({text},{int4},{text!})",
        "concat_ws({text!},{text},{text})",
        "substring({text} from {scale!} for {shift!})",
        "substring({text}, {scale!})",
        "substr({text}, {scale!}, {small!})",
        "left({text}, {scale!})",
        "right({text}, {scale!})",
        "trim({text})",
        "trim(both {text!} from {text})",
        "trim(leading from {text})",
        "btrim({text}, {text!})",
        "ltrim({text})",
        "rtrim({text}, {text!})",
        "replace({text}, {text!}, {text!})",
        "translate({text}, {text!}, {text!})",
        "split_part({text}, {text!}, {small!})",
        "reverse({text})",
        "({int4})::text",
        "({numeric})::text",
        "({float8})::text",
        "({float4})::text",
        "({bool})::text",
        "({text})::varchar",
        "text({int8})",
        "coalesce({text},{text!})",
        "greatest({text},{text})",
        "least({text},{text})",
        "nullif({text},{text!})",
        "case when {bool} then {text} else {text} end",
        "case {text} when {text!} then {text!} else {text} end",
        'coalesce({text} collate "C", {text})',
        "('B' || {text!} collate \"C\")",
        'coalesce(null::text, {text}, null collate "C")',
        'case when false then {text} collate "C" when {bool} then null else {local.} end',
        '({text!} collate "C")::varchar',
    ],
    "bool": [
        "({int4} < {int8})",
        "({int4} = {numeric})",
        "({numeric} <= {float8})",
        "({float4} = {float8})",
        "({text} < {text})",
        "({text} <= {local.})",
        '({text!} collate "C" > {local.})',
        "({text} = {text!})",
        "({text} like {pattern!})",
        "({text} like {text})",
        "({text} not ilike '%' || {local.})",
        "({text} ilike {pattern!})",
        "({local.} not ilike {pattern!})",
        "like({text}, {pattern!})",
        "starts_with({text}, {text!})",
        "({text} ^@ {text!})",
        "({int4} is null)",
        "({numeric} is distinct from {numeric})",
        "({bool} and {bool})",
        "({bool} or {bool})",
        "(not {bool})",
        "({bool} is not true)",
        "coalesce({bool}, {bool!})",
        "nullif({bool}, {bool!})",
        "({int4})::bool",
        "({int4} in ({int4!}, {int4!}, {int4}))",
        "({int4} between {int4} and {int4!})",
        "({text} = any (array[{text!}, {text}]))",
        "({int4} >= all (array[{int4}, {int2}, {int4!}]))",
        "case when {bool} then {bool} else {bool!} end",
    ],
    "digits": ["{digits!}", "({int4})::text", "({numeric})::text", "({float8})::text"],
}

COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "int2": ("i2", "id::int2"),
    "int4": ("i4", "id", "ds", "ia[1]"),
    "int8": ("i8",),
    "numeric": ("n", "na[1]"),
    "float4": ("f4",),
    "float8": ("f8",),
    "text": ("tc", "vc", "nm", "dl", "ch", "td"),
    "local": ("td",),
    "uuid": ("u",),
    "bool": ("b",),
}

CONSTANTS: Final[dict[str, tuple[str, ...]]] = {
    "int2": ("0::int2", "1::int2", "'-7'::int2", "'300'::int2", "int2 '-32768'"),
    "int4": ("0", "1", "2", "-3", "7", "10", "1000", "65536", "-2147483648", "2147483647"),
    "int8": ("1::int8", "-5::int8", "3000000000", "9223372036854775807", "(-4)::int8"),
    "numeric": (
        "0.0",
        "1.0",
        "-1.50",
        "3.14159",
        "0.001",
        "100.",
        "7::numeric",
        "1e10",
        "'NaN'::numeric",
    ),
    "float4": ("1.5::float4", "'0.1'::float4", "-3::float4", "'Infinity'::float4", "1e20::float4"),
    "float8": (
        "1.5::float8",
        "0.1::float8",
        "-2::float8",
        "'-0'::float8",
        "1e200::float8",
        "'NaN'::float8",
    ),
    "text": ("'a'", "'b'", "''", "'ab'", "' '", "'é'", "'%'", "'a b'", "'1'", "'😀'", "'É'"),
    "digits": ("'1'", "'-5'", "'2.50'", "' 7 '", "'x'"),
    "bool": ("true", "false", "'t'::bool"),
    "shift": ("0", "1", "3", "10"),
    "scale": ("-2", "-1", "0", "1", "2", "3"),
    "small": ("-1", "1", "2", "3"),
    "pattern": ("'%'", "'a%'", "'%b'", "'_'", "'%É%'", "'a_b'", "'%a%b%'", "''", "'A\\%b'", "'é'"),
}


@dataclass
class Forms:
    """Makes expressions. Tables of others are merged into the ones above."""

    random: Random
    forms: Mapping[str, Sequence[str]]
    columns: Mapping[str, Sequence[str]]
    constants: Mapping[str, Sequence[str]]

    def make(self, type_: str, depth: int) -> str:
        if depth == 0 or type_ not in self.forms:
            return self._leaf(type_)
        form = self.random.choice(self.forms[type_])
        return _PLACE.sub(lambda match: self._part(match, depth), form)

    def _part(self, match: re.Match[str], depth: int) -> str:
        type_, kind = match.groups()
        if kind == "!":
            return self.random.choice(self.constants[type_])
        if kind == ".":
            return self.random.choice(self.columns[type_])
        return self.make(type_, self.random.randrange(depth))

    def _leaf(self, type_: str) -> str:
        constants, columns = self.constants.get(type_, ()), self.columns.get(type_, ())
        use_column = columns and (not constants or self.random.random() < 0.7)
        return self.random.choice(columns if use_column else constants)


def merged(*tables: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for table in tables:
        for name, entries in table.items():
            found.setdefault(name, []).extend(entries)
    return found


_BOOLEANS: Final = (
    "b",
    "true",
    "false",
    "null",
    "(b)",
    "i4 = 1",
    "i4 is null",
    "b is true",
    "not b",
)
_NUMBERS: Final = (
    "i4",
    "i2",
    "1",
    "2",
    "3",
    "-1",
    "(i4)",
    "ia[1]",
    "i4::int8",
    "length(tc)",
    "null",
)
_BEFORE: Final = ("-", "+", "@", "~", "- -", "@ -", "not")
_BETWEEN_NUMBERS: Final = ("+", "-", "*", "/", "%", "&", "|", "#", "=", "<", ">=", "<>", "!=")
_BETWEEN_BOOLEANS: Final = ("and", "or", "=", "<>", "is distinct from", "is not distinct from", "<")
_BEHIND: Final = (
    *("is null", "is not null", "isnull", "notnull", "is true", "is not false", "is unknown"),
    *("in (1, 2)", "not in (3, i4)", "between 1 and 2", "not between i2 and 5", "::int8", "::text"),
    *("between 1 < 2 and true", "between symmetric 3 and 1", "= any (ia)", "<> all (ia)"),
    *("between -1 + 2 and 2 * 3", 'collate "C"', "like '1'", "|| 'x'", "not like '1%'", "in (i4)"),
)


def chain(random: Random) -> str:
    """Operands and operators without parentheses, in an order that may make no sense."""
    words: list[str] = []
    for place in range(random.randrange(2, 6)):
        numbers = random.random() < 0.7
        if place:
            words.append(random.choice(_BETWEEN_NUMBERS if numbers else _BETWEEN_BOOLEANS))
        if random.random() < 0.25:
            words.append(random.choice(_BEFORE))
        words.append(random.choice(_NUMBERS if random.random() < 0.8 else _BOOLEANS))
        while random.random() < 0.25:
            words.append(random.choice(_BEHIND))
    return " ".join(words)
