"""Checks the table of runs."""

from __future__ import annotations

import psycopg

from engine.configuration.run_settings import read_run_table
from engine.configuration.settings import Settings
from engine.doctor.finding import Findings, advice, met, unmet
from engine.errors import SettingsError
from engine.postgres.catalog import load_table
from engine.postgres.migrate import read_migrations, sql_folder
from engine.runs.table import RunTableError

_APPLIED = """
    select from pg_class as migrations
    join pg_namespace as namespace on namespace.oid = relnamespace
    where relname = 'migrations' and nspname = 'pgtide'
        and has_schema_privilege(namespace.oid, 'usage')
        and has_table_privilege(migrations.oid, 'select')
"""


async def check_runs(connection: psycopg.AsyncConnection, settings: Settings) -> Findings:
    """Whether the table that is to have the runs is there and can have them."""
    try:
        runs = read_run_table(settings.config_file)
    except SettingsError as error:
        yield unmet("the settings file does not say which table has the runs", str(error))
        return
    missing = await _missing_migrations(connection)
    if missing:
        yield unmet(f"the schema pgtide lacks {', '.join(missing)}", "Run: pgtide migrate")
    name = f"{runs.schema}.{runs.name}"
    table = await load_table(connection, runs.schema, runs.name)
    if table is None:
        if name != "pgtide.runs":
            remedy = "Correct `table` under [runs] in the settings file"
            yield unmet(f"the table {name} of runs does not exist", remedy)
        elif settings.secret_keys or settings.config_file is not None:
            # Who has no keys for the API of runs need not have any runs.
            yield unmet("the table pgtide.runs does not exist", "Run: pgtide migrate")
        return
    try:
        runs.check(table)
    except RunTableError as error:
        yield unmet(f"the table {name} cannot have the runs", str(error))
    else:
        yield met(f"table {name} can have the runs")
        if not await _writable(connection, runs.sql):
            yield advice(
                f"runs can be followed and not started: pgtide's role may not write table {name}",
                "If it should, grant the role what sql/roles.sql grants",
            )


async def _missing_migrations(connection: psycopg.AsyncConnection) -> list[str]:
    """The files that a newer pgtide brought along. None if there is no schema, or no telling."""
    cursor = await connection.execute(_APPLIED)
    if await cursor.fetchone() is None:
        return []
    cursor = await connection.execute("select number from pgtide.migrations")
    applied = {row[0] for row in await cursor.fetchall()}
    files = read_migrations(sql_folder())
    return [migration.name for migration in files if migration.number not in applied]


async def _writable(connection: psycopg.AsyncConnection, table: str) -> bool:
    query = "select bool_and(has_table_privilege(%s, right_to)) from unnest(%s::text[]) as right_to"
    cursor = await connection.execute(query, (table, ["insert", "update"]))
    row = await cursor.fetchone()
    return row is not None and row[0]
