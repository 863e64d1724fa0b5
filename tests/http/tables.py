"""The database of a server, for tests that make tables in it."""

from __future__ import annotations

import secrets
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import psycopg


class Tables:
    """One connection; what `run` is given is a transaction of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection = psycopg.connect(url, autocommit=True)

    def close(self) -> None:
        self._connection.close()

    def make(self, columns: str) -> str:
        """A new table of these columns; its name."""
        name = f"t_{secrets.token_hex(4)}"
        self.run(f"create table {name} ({columns})")
        return name

    def run(self, statements: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of the last statement. Several statements (without values) are one transaction."""
        cursor = self._connection.execute(statements.encode(), values or None)
        while cursor.nextset():
            pass
        return cursor.fetchall() if cursor.description else []

    @contextmanager
    def transaction(self) -> Generator[psycopg.Connection]:
        """A connection of its own with a transaction that this block commits."""
        with psycopg.connect(self.url) as connection:
            yield connection
