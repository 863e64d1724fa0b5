"""Applies the numbered files of `sql/` to a database, each once and in order."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import errors

from engine.errors import DatabaseSetupError
from engine.postgres.catalog import load_table
from engine.postgres.publication import ensure_publication, ensure_table_published
from engine.postgres.sql_text import quote_ident

_FILE_NAME = re.compile(r"(\d{4})_\w+\.sql")
_LOCK_WAIT = "60s"

# Any number will do that no other program takes for its own advisory lock.
_LOCK_KEY = 0x7067_7469_6465  # "pgtide"

# Not `create … if not exists`: that wants the right to create even if there is nothing to do, and
# an administrator may have made the schema for a role without that right.
_BOOK = """
    do $$
    begin
        if to_regnamespace('pgtide') is null then
            create schema pgtide;
            comment on schema pgtide is 'Tables of pgtide. Kept up to date by `pgtide migrate`.';
        end if;
        if to_regclass('pgtide.migrations') is null then
            create table pgtide.migrations (
                number integer primary key,
                name text not null,
                checksum text not null,
                applied_at timestamptz not null default now()
            );
            comment on table pgtide.migrations is 'Which files of sql/ were applied, by sha256.';
        end if;
    end
    $$
"""


class MigrationError(DatabaseSetupError):
    """The schema cannot be brought up to date."""

    code = "migration"


@dataclass(frozen=True, slots=True)
class Migration:
    """One file. `name` is the file's name, `checksum` the sha256 of its bytes in hexadecimal."""

    number: int
    name: str
    text: str
    checksum: str


async def migrate(
    database_url: str, *, stream_id: str = "default", publish: bool = True
) -> list[str]:
    """Bring schema `pgtide` up to date; the names of the files applied now, in order.

    Each file is one transaction. Callers at the same time wait for each other. Unless `publish` is
    False (manual table publishing), the publication of `stream_id` is made and gets the tables.
    Raises MigrationError, PublicationError, or psycopg.OperationalError without a connection.
    """
    migrations = read_migrations(sql_folder())
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await _lock(connection)
        try:
            await connection.execute(_BOOK)
            applied = await _apply_missing(connection, migrations)
        except errors.InsufficientPrivilege as error:
            raise _privilege_error(connection, error) from error
        if publish:
            await _publish(connection, f"pgtide_{stream_id}")
    return applied


def sql_folder() -> Path:
    """Where the files are: beside this package, in a checkout as well as installed."""
    folder = Path(__file__).parents[2] / "sql"
    if not (folder / "0001_runs.sql").is_file():
        raise MigrationError(f"pgtide's SQL files are not in {folder}: install pgtide anew")
    return folder


def read_migrations(folder: Path) -> list[Migration]:
    """The numbered files in order. Raises MigrationError unless they are numbered 1, 2, 3, …"""
    found: list[Migration] = []
    for path in sorted(folder.glob("[0-9]*.sql")):
        match = _FILE_NAME.fullmatch(path.name)
        if match is None or int(match[1]) != len(found) + 1:
            raise MigrationError(
                f"{path.name} is out of order: the next file of {folder} has to be named "
                f"{len(found) + 1:04}_<what it does>.sql"
            )
        text = path.read_text("utf-8")
        checksum = hashlib.sha256(text.encode()).hexdigest()
        found.append(Migration(len(found) + 1, path.name, text, checksum))
    return found


async def _lock(connection: psycopg.AsyncConnection) -> None:
    """A session lock: it spans the transactions and ends with the connection."""
    try:
        await connection.execute(f"set lock_timeout = '{_LOCK_WAIT}'".encode())
        await connection.execute("select pg_advisory_lock(%s)", (_LOCK_KEY,))
        await connection.execute("set lock_timeout = 0")
        await connection.execute("set statement_timeout = 0")
    except errors.LockNotAvailable as error:
        raise MigrationError(
            f"another `pgtide migrate` has been at work for {_LOCK_WAIT}: wait for it, or find it "
            "with: select pid from pg_locks where locktype = 'advisory'"
        ) from error


async def _apply_missing(
    connection: psycopg.AsyncConnection, migrations: list[Migration]
) -> list[str]:
    cursor = await connection.execute(
        "select number, name, checksum from pgtide.migrations order by number"
    )
    recorded: dict[int, tuple[str, str]] = {
        row[0]: (row[1], row[2]) for row in await cursor.fetchall()
    }
    _check_recorded(recorded, migrations)
    missing = [migration for migration in migrations if migration.number not in recorded]
    for migration in missing:
        await _apply(connection, migration)
    return [migration.name for migration in missing]


def _check_recorded(recorded: dict[int, tuple[str, str]], migrations: list[Migration]) -> None:
    if len(recorded) > len(migrations):
        name = recorded[max(recorded)][0]
        raise MigrationError(
            f"the database has {name}, which this version of pgtide does not know: "
            "update pgtide to the version that applied it"
        )
    for migration in migrations:
        name, checksum = recorded.get(migration.number, (migration.name, migration.checksum))
        if checksum != migration.checksum:
            raise MigrationError(
                f"{migration.name} was applied to this database in another form (as {name}, sha256 "
                f"{checksum[:12]}…, now {migration.checksum[:12]}…). Put the file back as it was "
                "and make the change in a new file with the next number"
            )


async def _apply(connection: psycopg.AsyncConnection, migration: Migration) -> None:
    try:
        async with connection.transaction():
            # Without parameters this is a simple query, which may hold many statements.
            await connection.execute(migration.text.encode(), prepare=False)
            await connection.execute(
                "insert into pgtide.migrations (number, name, checksum) values (%s, %s, %s)",
                (migration.number, migration.name, migration.checksum),
            )
    except errors.InsufficientPrivilege:
        raise
    except psycopg.Error as error:
        raise MigrationError(
            f"{migration.name} failed, and nothing of it was kept: {error}. If an object of that "
            "name is not pgtide's, rename it; then run `pgtide migrate` again"
        ) from error


async def _publish(connection: psycopg.AsyncConnection, publication: str) -> None:
    """In code, since the name depends on the stream id and the options on the server's version."""
    await ensure_publication(connection, publication)
    for name in ("runs", "batches"):
        table = await load_table(connection, "pgtide", name)
        if table is not None:
            await ensure_table_published(connection, publication, table, manual=False)


def _privilege_error(
    connection: psycopg.AsyncConnection, error: errors.InsufficientPrivilege
) -> MigrationError:
    database, user = quote_ident(connection.info.dbname), quote_ident(connection.info.user)
    if error.diag.message_primary == "permission denied for schema pgtide":
        return MigrationError(
            f"schema pgtide belongs to another role, and {user} may not change it: run `pgtide "
            f"migrate` as its owner, then `pgtide doctor` as {user} says which rights are missing"
        )
    return MigrationError(
        f"role {user} may not create pgtide's schema ({error.diag.message_primary}). As the "
        f"database's owner, run: grant create on database {database} to {user}; or let the owner "
        "run `pgtide migrate`"
    )
