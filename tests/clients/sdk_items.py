"""A table that changes at random, for the tests of the Python SDK."""

from __future__ import annotations

import random
import secrets
from collections.abc import Mapping
from typing import Any

import psycopg

COLUMNS = """
    id int8 primary key, label text, amount numeric(12, 3), ratio float8, due timestamptz,
    tags text[], facts jsonb
"""


class Items:
    """One table, of a name of its own; the same changes for the same seed."""

    def __init__(self, db: psycopg.Connection, seed: int = 5) -> None:
        self._db = db
        self._random = random.Random(seed)
        self.table = f"sdk_{secrets.token_hex(4)}"
        self.run(f"create table {self.table} ({COLUMNS})")

    def run(self, statement: str, *values: object) -> None:
        self._db.execute(statement.encode(), values or None)

    def work(self, transactions: int) -> None:
        for _ in range(transactions):
            with self._db.transaction():
                for _ in range(self._random.choice((1, 1, 3))):
                    self._step()

    def rows(self, where: str = "true") -> list[dict[str, Any]]:
        """What SQL says, by id."""
        cursor = self._db.execute(f"select * from {self.table} where {where} order by id".encode())
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _step(self) -> None:
        chosen = self._random
        identity = chosen.randrange(40)
        match chosen.randrange(5):
            case 0 | 1:
                self.run(
                    f"insert into {self.table} values (%s, %s, %s, %s, now(), %s, %s)"
                    " on conflict (id) do nothing",
                    *(identity, f'lamp "{identity}" \\ {{x}}', chosen.randrange(10**6) / 1000),
                    *(chosen.random(), ["a,b", 'c"d', "{e}"][: chosen.randrange(4)]),
                    f'{{"n": {chosen.randrange(9)}}}',
                )
            case 2:
                self.run(
                    f"update {self.table} set amount = amount + 1, due = now() where id = %s",
                    identity,
                )
            case 3:
                self.run(
                    f"update {self.table} set label = null, tags = '{{}}' where id = %s", identity
                )
            case _:
                self.run(f"delete from {self.table} where id = %s", identity)


def by_id(rows: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A shape's rows, to be compared with `Items.rows`."""
    return sorted((dict(row) for row in rows.values()), key=lambda row: row["id"])
