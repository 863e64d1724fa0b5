"""Random transactions, and writers that run them against each other."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from random import Random

import psycopg
from psycopg import errors
from random_tables import Column, Table, ident

# What a random statement may run into, alone or against another writer.
_EXPECTED = (
    errors.UniqueViolation,
    errors.DeadlockDetected,
    errors.LockNotAvailable,
    errors.CardinalityViolation,
    errors.SerializationFailure,
)
SETTINGS = "set deadlock_timeout = '20ms'; set lock_timeout = '300ms'"


class Statements:
    """Makes statements that change a table."""

    def __init__(self, random: Random, table: Table) -> None:
        self._random = random
        self._table = table

    def some(self) -> str:
        random = self._random
        kinds = [self._insert, self._insert, self._update, self._update, self._delete]
        if self._table.key:
            kinds += [self._upsert, self._move_key, self._replace, self._update_by_key]
        return random.choice(kinds)()

    def bulk(self, rows: int) -> str:
        """Many rows at once; keys above those of `Table.keys`, taken ones are left alone."""
        random, table = self._random, self._table
        values: list[str] = []
        for column in table.columns:
            if column.name in table.key:
                values.append(f"{random.randint(1, 30) * 1000} + i")
            else:
                values.append(column.draw(random))
        query = f"select {', '.join(values)} from generate_series(1, {rows}) as i"
        return f"insert into {table.sql} {query}{self._do_nothing}"

    def shrink(self) -> str:
        """Delete about nine tenths of the rows."""
        return f"delete from {self._table.sql} t where {self._random_rows('12456789abcdef')}"

    @property
    def _do_nothing(self) -> str:
        return " on conflict do nothing" if self._table.key else ""

    def _random_rows(self, digits: str) -> str:
        salt = self._random.randint(0, 999)
        return (
            f"left(md5(concat(t.*, {salt})), 1) = any(string_to_array('{','.join(digits)}', ','))"
        )

    def _row(self, key: Sequence[str] | None = None) -> str:
        given = dict(zip(self._table.key, key or self._some_key(), strict=False))
        values = [given.get(c.name) or c.draw(self._random) for c in self._table.columns]
        return f"({', '.join(values)})"

    def _some_key(self) -> tuple[str, ...]:
        return self._random.choice(self._table.keys) if self._table.key else ()

    def _is_key(self, key: Sequence[str]) -> str:
        return " and ".join(
            f"{ident(name)} = {value}" for name, value in zip(self._table.key, key, strict=True)
        )

    def _insert(self) -> str:
        rows = ", ".join(self._row() for _ in range(self._random.choice((1, 1, 2, 5))))
        conflict = self._do_nothing if self._random.random() < 0.7 else ""
        return f"insert into {self._table.sql} values {rows}{conflict}"

    def _upsert(self) -> str:
        assignments = self._assignments()
        if not assignments:
            return self._insert()
        target = ", ".join(map(ident, self._table.key))
        return (
            f"insert into {self._table.sql} as t values {self._row()}"
            f" on conflict ({target}) do update set {assignments}"
        )

    def _assignments(self) -> str:
        free = [c for c in self._table.columns if c.name not in self._table.key]
        some = self._random.sample(free, min(len(free), self._random.choice((1, 1, 2, 3))))
        return ", ".join(f"{ident(c.name)} = {self._new_value(c)}" for c in some)

    def _new_value(self, column: Column) -> str:
        # Now and then the value that is there already.
        same = self._random.random() < 0.15
        return f"t.{ident(column.name)}" if same else column.draw(self._random)

    def _update(self) -> str:
        assignments = self._assignments()
        if not assignments:
            return self._delete()
        rows = self._random_rows(self._random.choice(("01", "0123", "0123456789abcdef")))
        return f"update {self._table.sql} t set {assignments} where {rows}"

    def _update_by_key(self) -> str:
        assignments = self._assignments()
        if not assignments:
            return self._delete()
        key = self._is_key(self._some_key())
        return f"update {self._table.sql} t set {assignments} where {key}"

    def _move_key(self) -> str:
        old, new = self._some_key(), self._some_key()
        change = ", ".join(
            f"{ident(name)} = {value}" for name, value in zip(self._table.key, new, strict=True)
        )
        return f"update {self._table.sql} set {change} where {self._is_key(old)}"

    def _delete(self) -> str:
        digits = self._random.choice(("0", "01", "0123"))
        return f"delete from {self._table.sql} t where {self._random_rows(digits)}"

    def _replace(self) -> str:
        key = self._some_key()
        return (
            f"delete from {self._table.sql} where {self._is_key(key)};"
            f" insert into {self._table.sql} values {self._row(key)}{self._do_nothing}"
        )


class Writer:
    """One connection that runs random transactions until told to end. Every draw comes from `random`,
    so that the same seed gives the same statements, if not the same interleaving."""

    def __init__(self, random: Random, tables: Sequence[Table], *, truncates: bool = False) -> None:
        self._random = random
        self._tables = tables
        self._truncates = truncates
        self.transactions = 0
        self.rolled_back = 0
        self.truncated = 0

    async def run(self, url: str, seconds: float, pause: float = 0.01) -> None:
        ends = time.monotonic() + seconds
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute(SETTINGS)
            while time.monotonic() < ends:
                await self._transaction(connection)
                await asyncio.sleep(self._random.random() * 2 * pause)

    async def _transaction(self, connection: psycopg.AsyncConnection) -> None:
        random = self._random
        self.transactions += 1
        with contextlib.suppress(*_EXPECTED):
            try:
                await connection.execute("begin")
                if random.random() < 0.4:
                    await connection.execute("set local synchronous_commit = off")
                await self._statements(connection)
                if random.random() < 0.12:
                    self.rolled_back += 1
                    await connection.execute("rollback")
                else:
                    await connection.execute("commit")
            except BaseException:
                self.rolled_back += 1
                await connection.execute("rollback")
                raise

    async def _statements(self, connection: psycopg.AsyncConnection) -> None:
        random = self._random
        kind = random.choices(
            ("few", "many", "savepoints", "held", "bulk", "truncate"), (40, 8, 25, 6, 3, 0.3)
        )[0]
        if kind == "savepoints":
            return await self._savepoints(connection, depth=0)
        if kind == "bulk":
            return await self._bulk(connection)
        if kind == "truncate" and self._truncates:
            self.truncated += 1
            return await self._execute(connection, f"truncate {random.choice(self._tables).sql}")
        for _ in range(random.randint(8, 25) if kind == "many" else random.randint(1, 3)):
            await self._execute(connection, self._some())
            if kind == "held":
                await asyncio.sleep(random.random() * 0.5)
        return None

    async def _savepoints(self, connection: psycopg.AsyncConnection, depth: int) -> None:
        """Statements within savepoints within savepoints, some of them taken back."""
        random = self._random
        for _ in range(random.randint(1, 3)):
            name = f"s{depth}"
            await connection.execute(f"savepoint {name}".encode())
            try:
                await self._execute(connection, self._some())
                if depth < 3 and random.random() < 0.4:
                    await self._savepoints(connection, depth + 1)
            except _EXPECTED:
                await connection.execute(f"rollback to {name}".encode())
            else:
                end = random.choice(("rollback to", "release", "release"))
                await connection.execute(f"{end} {name}".encode())
            if random.random() < 0.5:
                await self._execute(connection, self._some())

    async def _bulk(self, connection: psycopg.AsyncConnection) -> None:
        table = self._random.choice(self._tables)
        statements = Statements(self._random, table)
        if table.bulk:
            await self._execute(connection, statements.bulk(self._random.choice((50, 300))))
        await self._execute(connection, statements.shrink())

    def _some(self) -> str:
        return Statements(self._random, self._random.choice(self._tables)).some()

    async def _execute(self, connection: psycopg.AsyncConnection, statement: str) -> None:
        await connection.execute(statement.encode(), prepare=False)
