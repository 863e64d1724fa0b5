"""Quoting, judged by Postgres itself."""

from __future__ import annotations

import psycopg
import pytest

from engine.postgres.sql_text import quote_ident, quote_literal, quote_name

TEXTS = [
    "",
    "plain",
    "it's",
    "'",
    "''",
    "\\",
    "\\'",
    "a\\nb",
    'say "x"',
    "ünï 🙂",
    "\n\t",
    "$$",
    "%s",
]


@pytest.mark.parametrize("conforming", ["on", "off"])
@pytest.mark.parametrize("text", TEXTS)
async def test_literals_come_back(
    connection: psycopg.AsyncConnection, text: str, conforming: str
) -> None:
    await connection.execute(
        f"set standard_conforming_strings = {conforming};set escape_string_warning = off".encode()
    )
    cursor = await connection.execute(f"select {quote_literal(text)}".encode())
    assert await cursor.fetchone() == (text,)


@pytest.mark.parametrize("name", [text for text in [*TEXTS, "select", "Ab.c"] if text])
async def test_names_come_back(connection: psycopg.AsyncConnection, name: str) -> None:
    await connection.execute(f"create schema {quote_ident(name)}".encode())
    cursor = await connection.execute(
        f"create table {quote_name(name, name)} ({quote_ident(name)} int);"
        f"select * from {quote_name(name, name)}".encode()
    )
    assert cursor.nextset()
    assert cursor.description is not None
    assert cursor.description[0].name == name


@pytest.mark.parametrize("quote", [quote_ident, quote_literal])
def test_nul_is_refused(quote: object) -> None:
    assert callable(quote)
    with pytest.raises(ValueError, match="NUL"):
        quote("a\0b")
