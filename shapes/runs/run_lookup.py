"""Asking Postgres for single runs: what was committed before the question is in the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

import psycopg
from psycopg import errors, sql

from engine.runs.statuses import FINAL
from engine.runs.table import RunTable, RunTableError
from shapes.database import Database, DatabaseUnavailableError
from shapes.runs.definitions import array_text

MOST_TOGETHER = 256
"""Runs that one query looks up."""

_Row = tuple[Any, ...]

_BATCH = sql.SQL(
    "select id from pgtide.batches where id = %(value)s and environment_id = %(environment)s"
).format()


class Found(NamedTuple):
    """What decides who may read a run, and whether more is to come of it."""

    task: str
    tags: tuple[str, ...]
    batch: str | None
    over: bool = False


class _Question:
    """Somebody wants to know about a run."""

    __slots__ = ("answer", "answered", "error", "run_id")

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.answered = False
        self.answer: Found | None = None
        self.error: DatabaseUnavailableError | None = None


class RunLookup:
    """Looks up the runs of a table, in one environment at a time.

    Questions that come while one is being asked wait, and are then asked together: so many that begin
    to follow at once do not wait for one round trip each.
    """

    def __init__(self, database: Database, runs: RunTable) -> None:
        self._database = database
        self._runs = runs
        self._several = self._query("id", several=True)
        self._any_of_batch = self._query("batch_id") if runs.column("batch_id") else None
        self._turn = asyncio.Lock()
        self._waiting: dict[str, dict[_Question, None]] = {}

    async def run(self, run_id: str, environment: str) -> Found | None:
        """The run with this id, in exactly this spelling. Raises DatabaseUnavailableError."""
        question = _Question(run_id)
        waiting = self._waiting.setdefault(environment, {})
        waiting[question] = None
        try:
            async with self._turn:
                if not question.answered:
                    await self._answer(question, waiting, environment)
        finally:
            waiting.pop(question, None)
            if not waiting and self._waiting.get(environment) is waiting:
                del self._waiting[environment]
        if question.error is not None:
            raise DatabaseUnavailableError(str(question.error)) from question.error
        return question.answer

    async def _answer(
        self, question: _Question, waiting: dict[_Question, None], environment: str
    ) -> None:
        """Answer a question together with others that wait now. Whoever comes while it is being asked
        is not among them: what was committed before his question must be in his answer."""
        others = (one for one in waiting if one is not question)
        together = [question, *islice(others, MOST_TOGETHER - 1)]
        found: dict[str, Found] = {}
        error = None
        try:
            try:
                found = await self._find([one.run_id for one in together], environment)
            except psycopg.DataError:
                # One of the texts is no value of the column's type. The others have turns of their own.
                together = [question]
                found = await self._find([question.run_id], environment)
        except psycopg.DataError:
            # Then it is nobody's id.
            pass
        except DatabaseUnavailableError as unavailable:
            error = unavailable
        for one in together:
            one.answered = True
            one.answer = found.get(one.run_id)
            one.error = error
            waiting.pop(one, None)

    async def several(self, run_ids: Sequence[str], environment: str) -> dict[str, Found]:
        """Those of the runs that there are, by id; ids that `run` has found before. Raises
        DatabaseUnavailableError, RunTableError."""
        found: dict[str, Found] = {}
        for start in range(0, len(run_ids), MOST_TOGETHER):
            found |= await self._find(run_ids[start : start + MOST_TOGETHER], environment)
        return found

    async def _find(self, run_ids: Sequence[str], environment: str) -> dict[str, Found]:
        """What is there of these runs, by id."""
        rows = await self._rows(self._several, array_text(dict.fromkeys(run_ids)), environment)
        return {
            row[0]: Found(row[1] or "", tuple(row[2] or ()), row[3], self._is_over(row[4], row[5]))
            for row in rows
        }

    def _is_over(self, status: str | None, completed: bool | None) -> bool:
        return bool(completed) or self._runs.status(status or "") in FINAL

    async def has_batch(self, batch_id: str, environment: str) -> bool:
        """Whether there is a batch, or a run of it. Raises DatabaseUnavailableError."""
        query = self._any_of_batch
        if query is not None and await self._first(query, batch_id, environment) is not None:
            return True
        try:
            return await self._first(_BATCH, batch_id, environment) is not None
        except RunTableError:
            # Who has a table of runs of his own can do without pgtide's.
            if self._runs.schema == "pgtide":
                raise
            return False

    async def _first(self, query: sql.Composed, value: str, environment: str) -> _Row | None:
        try:
            rows = await self._rows(query, value, environment)
        except psycopg.DataError:
            # A text that is no value of the column's type is nobody's id.
            return None
        return rows[0] if rows else None

    async def _rows(self, query: sql.Composed, value: str, environment: str) -> list[_Row]:
        """Raises DatabaseUnavailableError, RunTableError, and psycopg.DataError if the text is no value
        of the column's type."""
        try:
            async with self._database.lookups() as connection:
                values = {"value": value, "environment": environment}
                cursor = await connection.execute(query, values)
                return await cursor.fetchall()
        except (errors.UndefinedTable, errors.UndefinedColumn) as error:
            raise RunTableError(
                f"{error.diag.message_primary}: run `pgtide migrate`, or correct [runs] in the "
                "settings file"
            ) from error
        except errors.InsufficientPrivilege as error:
            raise RunTableError(
                f"{error.diag.message_primary}: grant pgtide's role what sql/roles.sql grants"
            ) from error

    def _query(self, by: str, *, several: bool = False) -> sql.Composed:
        """The first run whose field `by` is the first parameter, or with `several` all whose field is
        an element of it; the second is the environment."""
        runs = self._runs
        columns = [
            _text(runs, "id"),
            _text(runs, "task"),
            sql.Identifier(runs.columns["tags"]) if "tags" in runs.columns else sql.SQL("null"),
            _text(runs, "batch_id"),
            _text(runs, "status"),
            _is_set(runs, "completed_at"),
        ]
        query = sql.SQL("select {} from {} where {} = %(value)s{} limit 1")
        if several:
            query = sql.SQL("select {} from {} where {} = any(%(value)s){}")
        environment = sql.SQL("")
        if runs.column("environment_id") is not None:
            name = sql.Identifier(runs.columns["environment_id"])
            environment = sql.SQL(" and {} = %(environment)s").format(name)
        elif "environment_id" in runs.constants:
            constant = sql.Literal(runs.constants["environment_id"])
            environment = sql.SQL(" and {} = %(environment)s").format(constant)
        table = sql.Identifier(runs.schema, runs.name)
        return query.format(
            sql.SQL(", ").join(columns), table, sql.Identifier(runs.columns[by]), environment
        )


def _text(runs: RunTable, name: str) -> sql.Composable:
    column = runs.column(name)
    if column is None:
        return sql.Literal(runs.constants.get(name))
    return sql.SQL("{}::text").format(sql.Identifier(column))


def _is_set(runs: RunTable, name: str) -> sql.Composable:
    column = runs.column(name)
    if column is None:
        return sql.Literal(False)
    return sql.SQL("{} is not null").format(sql.Identifier(column))
