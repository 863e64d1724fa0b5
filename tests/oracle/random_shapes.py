"""Random shapes of a table: filters with parameters, column lists, replica modes. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

from random_tables import Column, Table, ident
from random_values import quote
from shape_rows import Subject

_PLACE = re.compile("\0(\\d+)\0")
_NUMERIC = ("int2", "int4", "int8", "numeric", "float")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


class _Filter:
    """One where clause in the making; collects its parameters."""

    def __init__(self, random: Random, table: Table) -> None:
        self.random = random
        self.table = table
        self.params: list[str] = []

    def clause(self, depth: int) -> str:
        random = self.random
        if depth == 0 or random.random() < 0.4:
            return self._atom(random.choice(self.table.columns))
        kind = random.choice(("and", "or", "not", "and"))
        if kind == "not":
            return f"NOT ({self.clause(depth - 1)})"
        parts = [self.clause(depth - 1) for _ in range(random.choice((2, 2, 3)))]
        return f" {kind.upper()} ".join(f"({part})" for part in parts)

    def _atom(self, column: Column) -> str:
        random = self.random
        name = ident(column.name)
        filters = column.kind.filters
        if filters == "null" or random.random() < 0.12:
            return f"{name} IS {random.choice(('', 'NOT '))}NULL"
        if filters == "array":
            return self._array_atom(column, name)
        shape = random.choice(("=", "=", "in", "compare", "flip"))
        if shape == "in":
            values = [self._constant(column) for _ in range(random.randint(1, 4))]
            return f"{name} {random.choice(('IN', 'IN', 'NOT IN'))} ({', '.join(values)})"
        operators = ("<", "<=", ">", ">=", "<>", "=") if filters == "order" else ("=", "<>")
        operator = "=" if shape == "=" else random.choice(operators)
        if shape == "flip":
            return f"{self._constant(column)} {operator} {name}"
        return f"{name} {operator} {self._constant(column)}"

    def _array_atom(self, column: Column, name: str) -> str:
        random = self.random
        if random.random() < 0.5:
            return f"{self._constant(column)} = ANY({name})"
        elements = [column.kind.constant(random) for _ in range(random.randint(0, 2))]
        escaped = [e.replace("\\", "\\\\").replace('"', '\\"') for e in elements]
        literal = "{" + ",".join(f'"{element}"' for element in escaped) + "}"
        return f"{name} @> {self._quoted(literal)}"

    def _constant(self, column: Column) -> str:
        text = column.kind.constant(self.random)
        number = column.kind.name.startswith(_NUMERIC) and _NUMBER.fullmatch(text)
        return text if number and self.random.random() < 0.6 else self._quoted(text)

    def _quoted(self, text: str) -> str:
        if self.random.random() < 0.6:
            return quote(text)
        self.params.append(text)
        return f"\0{len(self.params)}\0"


@dataclass(frozen=True)
class RandomShape:
    """A shape, and its filter as Postgres understands it: parameters are untyped literals."""

    table: Table
    subject: Subject
    condition: str


def random_shape(random: Random, table: Table) -> RandomShape:
    """A shape whose parameters are all used."""
    filtering = _Filter(random, table)
    clause = filtering.clause(random.randint(0, 3)) if random.random() < 0.8 else None
    params = filtering.params
    columns: tuple[str, ...] | None = None
    if table.key and random.random() < 0.4:
        others = [column.name for column in table.columns if column.name not in table.key]
        some = random.sample(others, random.randint(0, len(others)))
        columns = (*table.key, *some)
    subject = Subject(
        table.sql,
        None if clause is None else _PLACE.sub(r"$\1", clause),
        tuple(params),
        columns,
        full=random.random() < 0.3,
        keyed=bool(table.key),
    )
    condition = _PLACE.sub(lambda match: quote(params[int(match[1]) - 1]), clause or "true")
    return RandomShape(table, subject, condition)
