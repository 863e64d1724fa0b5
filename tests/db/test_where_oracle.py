"""Where clauses evaluated here and by Postgres: any difference is a bug.

`PGTIDE_SEED` replays a run, `PGTIDE_ORACLE_SECONDS` says how long to look.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random

import psycopg
import pytest
from psycopg import sql
from where_expressions import CREATE_TABLE, Clauses, literal, mutated, random_row

from engine.catalog import load_table
from engine.table import Table
from shapes.router import Router
from shapes.where import Condition, WhereError, parse_where
from shapes.where.types import INT4, TEXT, TYPES, array_of

ROWS = 50
SETTINGS = {
    "bytea_output": "hex",
    "DateStyle": "ISO,DMY",
    "TimeZone": "UTC",
    "extra_float_digits": "1",
    "IntervalStyle": "iso_8601",
}
# What a row's values alone can cause; such a part of a condition counts as NULL here.
DATA_ERRORS = ("22003", "22008", "22P02", "22007", "22025", "22009")
# Postgres is stricter about ARRAY['a'] beside an array of something else than text.
LENIENT = ("42883", "42725")


@dataclass
class Tally:
    compared: int = 0
    refused: int = 0
    failing: int = 0
    reasons: Counter[str] = field(default_factory=Counter[str])

    def __str__(self) -> str:
        counts = f"{self.compared} compared, {self.failing} of which fail for some rows"
        return f"{counts}, {self.refused} refused, e.g. {self.reasons.most_common(5)}"


class Oracle:
    def __init__(self, connection: psycopg.Connection, table: Table, rows: list[list[str | None]]):
        self._connection = connection
        self._table = table
        self._rows = rows
        self._positions = {column.name: place for place, column in enumerate(table.columns)}
        self._columns = {column.name: column for column in table.columns}
        self.tally = Tally()

    def compare(self, clause: str, params: dict[int, str]) -> None:
        try:
            condition = parse_where(clause, params, self._table)
        except WhereError as error:
            self.tally.refused += 1
            self.tally.reasons[error.message] += 1
            return
        about = f"{clause!r} {params!r} -> {condition.sql}"
        test = condition.compile(self._positions)
        ours = [test(row) for row in self._rows]
        theirs = self._ask(condition.sql)
        if None in theirs:
            self.tally.failing += 1
        self._check(theirs, ours, f"{about} in SQL")
        self._check(self._ask(with_params(clause, params)), ours, f"{about} as written")
        self._check_spellings(condition, ours, about)
        self._check_routes(condition, ours, about)
        self.tally.compared += 1

    def _check(self, theirs: list[bool | None], ours: list[bool], about: str) -> None:
        for row, one, other in zip(self._rows, theirs, ours, strict=True):
            if one is not None and one != other:
                shown = dict(zip(self._positions, row, strict=True))
                raise AssertionError(f"{about}: Postgres says {one} of {shown}")

    def _ask(self, clause: str) -> list[bool | None]:
        """What Postgres says of every row; None of those whose values make it fail."""
        answers = self._query(clause, "")
        if answers is not None:
            return answers
        each = (self._query(clause, f"where id = {row[0]}") for row in self._rows)
        return [None if answer is None else answer[0] for answer in each]

    def _query(self, clause: str, where: str) -> list[bool | None] | None:
        query = f"select ({clause}\n) is true from everything {where} order by id"
        result = self._connection.pgconn.exec_(query.encode())
        state = result.error_field(psycopg.pq.DiagnosticField.SQLSTATE)
        if state is not None:
            message = result.error_message.decode()
            known = state.decode() in (*DATA_ERRORS, *LENIENT) or "cannot convert" in message
            assert known, f"{query}: {message}"
            return None
        return [result.get_value(row, 0) == b"t" for row in range(result.ntuples)]

    def _check_spellings(self, condition: Condition, ours: list[bool], about: str) -> None:
        """The other spelling of booleans means the same."""
        test = condition.compile(self._positions)
        place = self._positions["b"]
        for row, expected in zip(self._rows, ours, strict=True):
            spelled = {"t": "true", "f": "false", None: None}[row[place]]
            assert test([*row[:place], spelled, *row[place + 1 :]]) == expected, about

    def _check_routes(self, condition: Condition, ours: list[bool], about: str) -> None:
        """The index keys of a condition find it for exactly the rows that it is true of."""
        router = Router[str](self._positions, self._columns)
        router.add("one", condition)
        for before, after, was, now in zip(
            self._rows, self._rows[1:], ours, ours[1:], strict=False
        ):
            expected = [("one", was, now)] if was or now else []
            assert router.route(before, after) == expected, about


def with_params(clause: str, params: dict[int, str]) -> str:
    return re.sub(r"\$(\d+)", lambda match: literal(params[int(match[1])]), clause)


def fetch_rows(connection: psycopg.Connection) -> list[list[str | None]]:
    result = connection.pgconn.exec_(b"select * from everything order by id")
    rows: list[list[str | None]] = []
    for row in range(result.ntuples):
        values = (result.get_value(row, column) for column in range(result.nfields))
        rows.append([None if value is None else value.decode() for value in values])
    return rows


def fill(connection: psycopg.Connection, random: Random) -> None:
    for id_ in range(ROWS):
        values = [str(id_), *random_row(random)]
        insert = sql.SQL("insert into everything values ({})").format(
            sql.SQL(", ").join(map(sql.Literal, values))
        )
        connection.execute(insert)


def start(share: float) -> tuple[Random, float]:
    """The run's random numbers, and the time at which to stop with this share of the budget."""
    seed = int(os.environ.get("PGTIDE_SEED") or time.time())
    print(f"PGTIDE_SEED={seed}")
    seconds = float(os.environ.get("PGTIDE_ORACLE_SECONDS") or 10)
    return Random(seed), time.monotonic() + seconds * share


def connect(database: str) -> psycopg.Connection:
    options = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
    return psycopg.connect(database, autocommit=True, options=options)


@pytest.mark.timeout(0)
async def test_agrees_with_postgres(database: str) -> None:
    random, deadline = start(0.8)
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as setup:
        await setup.execute(CREATE_TABLE)
        table = await load_table(setup, "public", "everything")
    assert table is not None
    with connect(database) as connection:
        fill(connection, random)
        oracle = Oracle(connection, table, fetch_rows(connection))
        clauses = Clauses(random)
        while time.monotonic() < deadline or not oracle.tally.compared:
            clause = clauses.make()
            oracle.compare(clause, clauses.params)
    print(oracle.tally)
    assert oracle.tally.compared > 2 * oracle.tally.refused


@pytest.mark.timeout(0)
async def test_constants_mean_what_they_mean_to_postgres(database: str) -> None:
    """A text that is accepted as a constant is one to Postgres, and of the same value."""
    random, deadline = start(0.2)
    kinds = {**TYPES, "text[]": array_of(TEXT), "int4[]": array_of(INT4)}
    accepted = refused = 0
    with connect(database) as connection:
        if connection.info.server_version < 160_000:
            pytest.skip("older servers know fewer forms of integers")
        while time.monotonic() < deadline or not accepted:
            type_ = random.choice(list(kinds))
            text = mutated(random, type_)
            try:
                value = kinds[type_].read(text)
            except ValueError:
                refused += 1
                continue
            accepted += 1
            written = kinds[type_].write(value)
            query = f"select {literal(text)}::{type_} = {literal(written)}::{type_}"
            result = connection.pgconn.exec_(query.encode())
            assert result.get_value(0, 0) == b"t", f"{query}: {result.error_message.decode()}"
    print(f"{accepted} accepted, {refused} refused")
    assert accepted > refused / 4
