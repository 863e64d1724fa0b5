"""Values: from the text that Postgres writes to Python's types, by the schema of the shape."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from functools import partial
from typing import Any, cast

from pgtide.errors import UnexpectedAnswerError
from pgtide.protocol.arrays import parse_array
from pgtide.protocol.intervals import parse_interval

Parser = Callable[[str], Any]


def parse_bool(text: str) -> bool:
    if text in ("t", "true"):
        return True
    if text in ("f", "false"):
        return False
    raise ValueError("neither true nor false")


def parse_bytes(text: str) -> bytes:
    if not text.startswith("\\x"):
        raise ValueError("not in hex form")
    return bytes.fromhex(text[2:])


PARSERS: Mapping[str, Parser] = {
    "int2": int,
    "int4": int,
    "int8": int,
    "oid": int,
    "float4": float,
    "float8": float,
    "numeric": Decimal,
    "bool": parse_bool,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timetz": time.fromisoformat,
    "timestamp": datetime.fromisoformat,
    "timestamptz": datetime.fromisoformat,
    "interval": parse_interval,
    "uuid": uuid.UUID,
    "bytea": parse_bytes,
    "json": json.loads,
    "jsonb": json.loads,
}
"""What a column's values become, by the name of its type; everything else stays text (enums, too).

A value that Python has no form for (`infinity`, the year 10000, 24:00:00) stays text as well.
"""


class Schema:
    """The columns of a shape, each with what makes Python values of its texts.

    `parsers` takes the place of PARSERS' entries, by type name; for arrays it is given each element.
    """

    def __init__(self, columns: Mapping[str, Mapping[str, Any]], parsers: Mapping[str, Parser]):
        self.columns = columns
        """As the server describes them: `type`, `dims`, `pk_index`, `not_null`, …"""
        self._parsers = {
            name: parser
            for name, column in columns.items()
            if (parser := _column_parser(column, parsers)) is not None
        }

    @classmethod
    def read(cls, text: str, parsers: Mapping[str, Parser]) -> Schema:
        """From the header `electric-schema`. Raises UnexpectedAnswerError."""
        try:
            columns: Any = json.loads(text)
        except ValueError:
            columns = None
        if not isinstance(columns, dict):
            raise UnexpectedAnswerError("the schema is no JSON object. Is this pgtide's address?")
        return cls(cast("dict[str, dict[str, Any]]", columns), parsers)

    def parse(self, row: Mapping[str, str | None]) -> dict[str, Any]:
        """The row with Python's values. What the schema does not have stays as it is."""
        parsers = self._parsers
        return {
            name: parsers[name](text) if text is not None and name in parsers else text
            for name, text in row.items()
        }


def _column_parser(column: Mapping[str, Any], own: Mapping[str, Parser]) -> Parser | None:
    """None for what stays text."""
    kind = str(column.get("type", "text"))
    given = own.get(kind)
    element = given or _lenient(PARSERS.get(kind))
    if not column.get("dims"):
        return element
    whole = partial(parse_array, element=element or str, delimiter=";" if kind == "box" else ",")
    return whole if given else _lenient(whole)


def _lenient(parser: Parser | None) -> Parser | None:
    if parser is None or parser in (int, str):
        return parser

    def parse(text: str) -> Any:
        try:
            return parser(text)
        except (ValueError, ArithmeticError):
            return text

    return parse
