"""Quoting of names and values for SQL text that is put together without parameters (COPY, DDL)."""

from __future__ import annotations


def quote_ident(name: str) -> str:
    """A name in double quotes, always, so that no name can be read as a key word or be folded.

    Raises ValueError for a NUL character, which no Postgres name can hold.
    """
    return '"' + _without_nul(name).replace('"', '""') + '"'


def quote_name(schema: str, name: str) -> str:
    """A relation's full name: `"schema"."name"`."""
    return f"{quote_ident(schema)}.{quote_ident(name)}"


def quote_literal(text: str) -> str:
    """A string constant that means the same whatever standard_conforming_strings says.

    Text with a backslash becomes an `E'…'` constant. Raises ValueError for a NUL character,
    which no Postgres text can hold.
    """
    quoted = _without_nul(text).replace("'", "''")
    if "\\" not in quoted:
        return f"'{quoted}'"
    return "E'" + quoted.replace("\\", "\\\\") + "'"


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("Postgres text cannot contain a NUL character; remove it")
    return text
