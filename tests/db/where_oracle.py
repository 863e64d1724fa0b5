"""What Postgres says of expressions over the rows of a table, and what shapes.where says of them."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self, TypeAlias

import psycopg
from psycopg import sql

from engine.postgres.catalog import load_table
from engine.postgres.table import Table
from shapes.catalog.casing import load_letters
from shapes.following.router import Router
from shapes.where import (
    Condition,
    EvaluationError,
    Letters,
    MissingLettersError,
    Predicate,
    WhereError,
    WhereSyntaxError,
    parse_where,
)
from shapes.where.compiler import compile_value
from shapes.where.rendering import render
from shapes.where.semantics.expressions import All, Expression, Test

Answer: TypeAlias = str | None
"""An expression's value for a row, as text; a text that begins with `!` is an error."""
RawRow: TypeAlias = list[str | None]

FAILED: Final = "!"
BATCH: Final = 20
"""Clauses per query."""
SETTINGS: Final = {
    "bytea_output": "hex",
    "DateStyle": "ISO,DMY",
    "TimeZone": "UTC",
    "extra_float_digits": "1",
    "IntervalStyle": "iso_8601",
}
# What a row's values alone can cause: class 22 and "cannot convert NaN to integer".
_DATA_ERRORS: Final = ("!22", "!0A000")
# Where all operands are constants without a type, or in brackets, Postgres is stricter.
_LENIENT: Final = ("!42883", "!42725", "!42804", "!42P18")

_ANSWERS: Final = r"""
create function pg_temp.answers(source text) returns setof text language plpgsql as $$
declare
    one integer;
    answer text;
begin
    for one in select id from everything order by id loop
        begin
            execute 'select ' || source || E'\n from everything where id = $1' into answer using one;
            return next answer;
        exception when others then
            return next '!' || sqlstate || ' ' || sqlerrm;
        end;
    end loop;
end $$
"""


@dataclass
class Tally:
    pairs: int = 0
    refused: int = 0
    failed: int = 0
    compared: int = 0
    reasons: Counter[str] = field(default_factory=Counter[str])

    def __str__(self) -> str:
        return (
            f"{self.compared} expressions, {self.pairs} pairs with rows, {self.failed} of which are "
            f"errors; {self.refused} refused, e.g. {self.reasons.most_common(12)}"
        )


@dataclass
class _Case:
    """One expression: as written, in canonical SQL, and what it is here."""

    about: str
    written: str
    sql: str
    ours: list[Answer]
    condition: Condition | None = None


class Oracle:
    """Compares; any difference is an AssertionError that shows the expression and the row.

    100,000 pairs of an expression and a row take 10 to 20 s.
    """

    def __init__(self, database: str, table: Table, letters: dict[str, Letters | str]) -> None:
        self._connection = connect(database)
        self._connection.execute(_ANSWERS)
        self.table = table
        self._letters = letters
        self._positions = {column.name: place for place, column in enumerate(table.columns)}
        self._columns = {column.name: column for column in table.columns}
        self._rows: list[RawRow] = []
        self.tally = Tally()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def fill(self, rows: Iterable[Sequence[str | None]]) -> None:
        """Put these rows into the table, after a number each, in place of what is in it."""
        self._connection.execute("truncate everything")
        values = sql.SQL(", ").join(
            sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Literal, (str(number), *row))))
            for number, row in enumerate(rows)
        )
        self._connection.execute(sql.SQL("insert into everything values {}").format(values))
        result = self._connection.pgconn.exec_(b"select * from everything order by id")
        self._rows = [
            [_text(result.get_value(row, column)) for column in range(result.nfields)]
            for row in range(result.ntuples)
        ]

    # -- conditions and values ---------------------------------------------------------------------

    def conditions(self, clauses: Iterable[tuple[str, dict[int, str]]]) -> None:
        """Where clauses with parameters."""
        found: list[_Case] = []
        for clause, params in clauses:
            condition = self._parse(clause, params)
            if condition is None:
                continue
            about = f"{clause!r} {params!r} -> {condition.sql}"
            ours = self._values(condition.expression, _boolean)
            self._check_predicate(condition, ours, about)
            written = f"({with_params(clause, params)}\n)::text"
            found.append(_Case(about, written, f"({condition.sql})::text", ours, condition))
        self._check(found)
        for case in found:
            self._check_spellings(case)
            self._check_routes(case)

    def expressions(self, texts: Iterable[str]) -> None:
        """Expressions of any type, compared as texts."""
        found: list[_Case] = []
        for text in texts:
            condition = self._parse(f"({text})::text IS NULL", {})
            expression = None if condition is None else condition.expression
            if not isinstance(expression, Test):
                continue
            rendered = render(expression.argument)
            about = f"{text!r} -> {rendered}"
            ours = self._values(expression.argument, str)
            found.append(_Case(about, f"({text}\n)::text", rendered, ours))
        self._check(found)

    def grammar(self, texts: Iterable[str]) -> None:
        """Texts that may be no clauses at all: both sides must read the same ones, the same way."""
        found: list[_Case] = []
        for text in texts:
            try:
                condition = parse_where(text, {}, self.table, self._letters)
            except WhereSyntaxError as error:
                self._check_refused(text, error)
            except WhereError as error:
                self.tally.refused += 1
                self.tally.reasons[error.message] += 1
            else:
                about = f"{text!r} -> {condition.sql}"
                ours = self._values(condition.expression, _boolean)
                sql = f"({condition.sql})::text"
                found.append(_Case(about, f"({text})::text", sql, ours))
        self._check(found)

    def _check_refused(self, text: str, error: WhereSyntaxError) -> None:
        answer = self._ask([f"({text})::text"])[0][0]
        known = answer is not None and answer.startswith("!42601")
        assert known, f"{text!r}: {error.message}, but Postgres says {answer!r}"
        self.tally.refused += 1

    def _parse(self, clause: str, params: dict[int, str]) -> Condition | None:
        try:
            return parse_where(clause, params, self.table, self._letters)
        except MissingLettersError:
            raise
        except WhereError as error:
            self.tally.refused += 1
            self.tally.reasons[error.message] += 1
            return None

    def _values(self, expression: Expression, write: Callable[[Any], str]) -> list[Answer]:
        value = compile_value(expression, self._positions)
        answers: list[Answer] = []
        for row in self._rows:
            try:
                found = value(row)
            except EvaluationError:
                answers.append(FAILED)
            else:
                answers.append(None if found is None else write(found))
        return answers

    # -- the other side ----------------------------------------------------------------------------

    def _check(self, cases: list[_Case]) -> None:
        for start in range(0, len(cases), BATCH):
            batch = cases[start : start + BATCH]
            answers = self._ask([one for case in batch for one in (case.sql, case.written)])
            for case, canonical, written in zip(batch, answers[::2], answers[1::2], strict=True):
                self._compare(case, canonical, f"{case.about} in SQL")
                if not any(one is not None and one.startswith(_LENIENT) for one in written):
                    self._compare(case, written, f"{case.about} as written")
                self.tally.compared += 1
                self.tally.pairs += len(self._rows)
                self.tally.failed += sum(one == FAILED for one in case.ours)

    def _compare(self, case: _Case, theirs: list[Answer], about: str) -> None:
        for row, ours, other in zip(self._rows, case.ours, theirs, strict=True):
            if other is not None and other.startswith(FAILED):
                # What fails there may not have been looked at here.
                assert other.startswith(_DATA_ERRORS), f"{about}: {other}"
            elif ours != other:
                names = {name for name in self._columns if name in case.sql}
                shown = {name: row[self._positions[name]] for name in sorted(names)}
                raise AssertionError(f"{about}: {ours!r} here, in Postgres {other!r} for {shown}")

    def _ask(self, sources: Sequence[str]) -> list[list[Answer]]:
        """What Postgres answers for every row: to all sources at once, if none of them fails."""
        query = f"select {', '.join(sources)} from everything order by everything.id"
        result = self._connection.pgconn.exec_(query.encode())
        if result.status == psycopg.pq.ExecStatus.TUPLES_OK:
            return [
                [_text(result.get_value(row, column)) for row in range(result.ntuples)]
                for column in range(result.nfields)
            ]
        if len(sources) > 1:
            middle = len(sources) // 2
            return [*self._ask(sources[:middle]), *self._ask(sources[middle:])]
        rows = self._connection.execute("select pg_temp.answers(%s)", (sources[0],)).fetchall()
        return [[row[0] for row in rows]]

    # -- what else must hold -----------------------------------------------------------------------

    def _check_predicate(self, condition: Condition, ours: list[Answer], about: str) -> None:
        """A condition holds where its value is TRUE."""
        test = condition.compile(self._positions)
        for row, answer in zip(self._rows, ours, strict=True):
            holds = self._outcome(test, row)
            # The parts of an AND are looked at in another order than as a value.
            excused = answer == FAILED or (holds is None and isinstance(condition.expression, All))
            assert excused or holds is (answer == "true"), about

    def _check_spellings(self, case: _Case) -> None:
        """The other spelling of booleans means the same."""
        assert case.condition is not None
        test = case.condition.compile(self._positions)
        place = self._positions["b"]
        for row, expected in zip(self._rows, case.ours, strict=True):
            spelled = {"t": "true", "f": "false", None: None}[row[place]]
            found = self._outcome(test, [*row[:place], spelled, *row[place + 1 :]])
            assert expected == FAILED or found in (expected == "true", None), case.about

    def _outcome(self, test: Predicate, row: RawRow) -> bool | None:
        try:
            return test(row)
        except EvaluationError:
            return None

    def _check_routes(self, case: _Case) -> None:
        """The index keys of a condition find it for exactly the rows that it is true of."""
        assert case.condition is not None
        router = Router[str](self._positions, self._columns)
        router.add("one", case.condition)
        pairs = zip(self._rows, self._rows[1:], case.ours, case.ours[1:], strict=False)
        for before, after, was, now in pairs:
            if FAILED in (was, now):
                continue
            held, holds = was == "true", now == "true"
            expected = [("one", held, holds)] if held or holds else []
            found = router.route(before, after)
            if router.failed:
                assert isinstance(case.condition.expression, All), case.about
            else:
                assert found == expected, case.about


def connect(database: str) -> psycopg.Connection:
    """A connection that prints values as those of the engine and of snapshots do."""
    options = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
    return psycopg.connect(database, autocommit=True, options=options)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _boolean(value: bool) -> str:
    return "true" if value else "false"


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def with_params(clause: str, params: dict[int, str]) -> str:
    return re.sub(r"\$(\d+)", lambda match: literal(params[int(match[1])]), clause)


async def make_oracle(database: str, create_table: str) -> Oracle:
    """An oracle for a new table `everything` with the letters of every collation in it."""
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute(create_table)  # pyright: ignore[reportArgumentType, reportCallIssue]
        table = await load_table(connection, "public", "everything")
        assert table is not None
        collations = {column.collation for column in table.columns} - {None} | {"default"}
        letters = {
            name: await load_letters(connection, name) for name in collations if name is not None
        }
    return Oracle(database, table, letters)


def deadline_of(share: float) -> float:
    """The time at which to stop with this share of the budget, PGTIDE_ORACLE_SECONDS."""
    seconds = float(os.environ.get("PGTIDE_ORACLE_SECONDS") or 6)
    return time.monotonic() + seconds * share
