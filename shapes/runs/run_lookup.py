"""Asking Postgres for single runs: what was committed before the question is in the answer."""

from __future__ import annotations

from typing import Any, NamedTuple

import psycopg
from psycopg import errors, sql

from engine.run_table import RunTable, RunTableError
from shapes.database import Database

_Row = tuple[Any, ...]

_BATCH = sql.SQL(
    "select id from pgtide.batches where id = %(value)s and environment_id = %(environment)s"
).format()


class Found(NamedTuple):
    """What decides who may read a run."""

    task: str
    tags: tuple[str, ...]
    batch: str | None


class RunLookup:
    """Looks up the runs of a table, in one environment at a time."""

    def __init__(self, database: Database, runs: RunTable) -> None:
        self._database = database
        self._runs = runs
        self._one = self._query("id")
        self._any_of_batch = self._query("batch_id") if runs.column("batch_id") else None

    async def run(self, run_id: str, environment: str) -> Found | None:
        """The run with this id, in exactly this spelling. Raises DatabaseUnavailableError."""
        row = await self._first(self._one, run_id, environment)
        if row is None or row[0] != run_id:
            return None
        return Found(row[1] or "", tuple(row[2] or ()), row[3])

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
            async with self._database.lookups() as connection:
                values = {"value": value, "environment": environment}
                cursor = await connection.execute(query, values)
                return await cursor.fetchone()
        except psycopg.DataError:
            # A text that is no value of the column's type is nobody's id.
            return None
        except (errors.UndefinedTable, errors.UndefinedColumn) as error:
            raise RunTableError(
                f"{error.diag.message_primary}: run `pgtide migrate`, or correct [runs] in the "
                "settings file"
            ) from error
        except errors.InsufficientPrivilege as error:
            raise RunTableError(
                f"{error.diag.message_primary}: grant pgtide's role what sql/roles.sql grants"
            ) from error

    def _query(self, by: str) -> sql.Composed:
        """The first run whose field `by` is the first parameter; the second is the environment."""
        runs = self._runs
        columns = [
            _text(runs, "id"),
            _text(runs, "task"),
            sql.Identifier(runs.columns["tags"]) if "tags" in runs.columns else sql.SQL("null"),
            _text(runs, "batch_id"),
        ]
        query = sql.SQL("select {} from {} where {} = %(value)s{} limit 1")
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
