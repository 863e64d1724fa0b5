"""Random tables: definitions, keys, and what SELECT says about their rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import psycopg
from random_values import KINDS, Kind
from shape_rows import Row

_NAMES = ("a", "b", "Col C", "d/e", "f.g", 'h"i', "select", "ünï", "_k", "l1", "m$", "N")

# The text form that the shape API promises.
SESSION = """
    set timezone = 'UTC'; set datestyle = 'ISO, DMY'; set intervalstyle = 'iso_8601';
    set bytea_output = 'hex'; set extra_float_digits = 1;
"""


def ident(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True)
class Column:
    name: str
    kind: Kind
    not_null: bool

    def draw(self, random: Random) -> str:
        """An SQL expression for a value, sometimes NULL."""
        if not self.not_null and random.random() < 0.2:
            return "null"
        return self.kind.draw(random)


@dataclass(frozen=True)
class Table:
    """`keys` are the key values that writers use, so that they meet; empty without a primary key.
    The table may get more columns than these, behind them."""

    schema: str
    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    keys: tuple[tuple[str, ...], ...]
    partitions: int

    @property
    def sql(self) -> str:
        return f"{ident(self.schema)}.{ident(self.name)}"

    @property
    def bulk(self) -> bool:
        """Whether any number of rows can be made: there is no key, or it is one integer."""
        kinds = [column.kind.name for column in self.columns if column.name in self.key]
        return not kinds or kinds in (["int4"], ["int8"])

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    def create(self) -> str:
        lines = [
            f"{ident(column.name)} {column.kind.name}{' not null' if column.not_null else ''}"
            for column in self.columns
        ]
        if self.key:
            lines.append(f"primary key ({', '.join(map(ident, self.key))})")
        statement = f"create schema if not exists {ident(self.schema)}; "
        statement += f"create table {self.sql} ({', '.join(lines)})"
        if not self.partitions:
            external = [
                f"; alter table {self.sql} alter {ident(column.name)} set storage external"
                for column in self.columns
                if column.kind.external
            ]
            return statement + "".join(external)
        statement += f" partition by hash ({ident(self.key[0])})"
        for number in range(self.partitions):
            part = f"{ident(self.schema)}.{ident(f'{self.name} part {number}')}"
            statement += f"; create table {part} partition of {self.sql} for values with"
            statement += f" (modulus {self.partitions}, remainder {number})"
        return statement

    def key_of(self, row: Row) -> str:
        """The key that the shape API must give to a row."""
        names = self.key or tuple(row)
        schema, table = (
            part.replace(".", "..").replace("/", "//") for part in (self.schema, self.name)
        )
        parts = [f'"{schema}"."{table}"']
        for name in names:
            value = row[name]
            parts.append("_" if value is None else '"' + value.replace("/", "//") + '"')
        return "/".join(parts)


def random_table(random: Random, number: int) -> Table:
    """A table that no other number has."""
    schema = random.choice(("public", "public", "odd/Schema.x"))
    name = random.choice(("t", "T x", "a.b/c", 'q"r')) + str(number)
    names = random.sample(_NAMES, random.randint(2, 8))
    columns: list[Column] = []
    keyed = 0 if random.random() < 0.2 else random.choice((1, 1, 2, 3))
    keyed = min(keyed, len(names))
    keyable = [kind for kind in KINDS if kind.keyable]
    for place, column in enumerate(names):
        if place < keyed:
            kind = keyable[0] if random.random() < 0.4 else random.choice(keyable)
        else:
            kind = random.choice(KINDS)
        columns.append(Column(column, kind, place < keyed or random.random() < 0.15))
    key = names[:keyed]
    random.shuffle(key)
    random.shuffle(columns)
    by_name = {column.name: column for column in columns}
    keys = [tuple(by_name[one].kind.draw(random) for one in key) for _ in range(30 if key else 0)]
    return Table(
        schema,
        name,
        tuple(columns),
        tuple(key),
        tuple(dict.fromkeys(keys)),
        random.choice((2, 3)) if key and random.random() < 0.2 else 0,
    )


def random_alteration(random: Random, tables: Sequence[Table]) -> str:
    """A statement about a column that no shape names."""
    name = random.choice(("extra1", "extra/2"))
    change = random.choice(
        (
            f"add column if not exists {ident(name)} int default {random.randint(0, 9)}",
            f"add column if not exists {ident(name)} text",
            f"drop column if exists {ident(name)}",
        )
    )
    return f"alter table {random.choice(tables).sql} {change}"


async def columns_of(connection: psycopg.AsyncConnection, table: Table) -> list[str]:
    """The columns as they are now, in order."""
    cursor = await connection.execute(
        "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0"
        " and not attisdropped order by attnum",
        (table.sql,),
    )
    return [row[0] for row in await cursor.fetchall()]


async def select(
    connection: psycopg.AsyncConnection, table: Table, columns: Sequence[str], condition: str
) -> tuple[dict[str, Row], Counter[str]]:
    """What a client of these columns must hold: rows by key, and how often each key occurs."""
    shown = [name for name in await columns_of(connection, table) if name in columns]
    values = ", ".join(
        f"case when {ident(name)} is null then null else concat({ident(name)}) end"
        for name in shown
    )
    query = f"select {values} from {table.sql} where {condition}"
    rows: dict[str, Row] = {}
    copies: Counter[str] = Counter()
    async for values in await connection.execute(query.encode()):
        row = dict(zip(shown, values, strict=True))
        key = table.key_of(row)
        rows[key] = row
        copies[key] += 1
    return rows, copies
