"""Reading SQL identifiers out of request parameters. Pure.

Errors are ValueErrors whose text is the one that Electric's clients know.
"""

from __future__ import annotations

import re

MAX_LENGTH = 63

_UNQUOTED = re.compile("[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*")


def parse_identifier(text: str) -> str:
    """One identifier, quoted or folded to lower case (ASCII letters only, as Postgres does)."""
    if text.startswith('"') and text.endswith('"') and len(text) >= 2:
        inner = text[1:-1]
        if not inner:
            raise ValueError("Invalid zero-length delimited identifier")
        if '"' in inner.replace('""', ""):
            raise ValueError(f"Invalid identifier with unescaped quote: {inner}")
        if "\0" in inner:
            raise ValueError("Invalid identifier contains a null character")
        name = inner.replace('""', '"')
    else:
        if not text:
            raise ValueError("Invalid zero-length delimited identifier")
        if not _UNQUOTED.fullmatch(text):
            raise ValueError(f"Invalid unquoted identifier contains special characters: {text}")
        name = "".join(char.lower() if char.isascii() else char for char in text)
    if len(name) > MAX_LENGTH:
        raise ValueError(f"Identifier is too long (max length is {MAX_LENGTH})")
    return name


def split_outside_quotes(text: str, separator: str) -> list[str]:
    """Split at a separator that is not within double quotes."""
    parts: list[str] = []
    start = 0
    quoted = False
    for position, char in enumerate(text):
        if char == '"':
            quoted = not quoted
        elif char == separator and not quoted:
            parts.append(text[start:position])
            start = position + 1
    parts.append(text[start:])
    return parts


def parse_table(text: str) -> tuple[str, str]:
    """`[schema.]table` as (schema, table); the schema is `public` if it is not given."""
    parts = split_outside_quotes(text, ".")
    if len(parts) > 2:
        raise ValueError(f"Invalid relation identifier, too many delimiters: {text}")
    names = [parse_identifier(part) for part in parts]
    return ("public", names[0]) if len(names) == 1 else (names[0], names[1])


def parse_columns(text: str) -> list[str]:
    """A comma-separated list of identifiers, without repetitions, in the order given."""
    names = [parse_identifier(part.strip()) for part in split_outside_quotes(text, ",")]
    return list(dict.fromkeys(names))


def relation_label(schema: str, table: str) -> str:
    """`"schema"."table"` with the escapes that row keys use: `.` and `/` are doubled."""
    escaped = (name.replace(".", "..").replace("/", "//") for name in (schema, table))
    return ".".join(f'"{name}"' for name in escaped)
