"""Checks that Postgres can be reached, for queries and for replication."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import psycopg
from psycopg import errors
from psycopg.conninfo import make_conninfo

from engine.configuration.settings import Settings
from engine.doctor.finding import Finding, Findings, met, unmet
from engine.postgres.refusal import remedy_for
from engine.postgres.sql_text import quote_ident
from engine.redaction import redact

CONNECT_SECONDS = 10


@asynccontextmanager
async def connected(url: str) -> AsyncGenerator[psycopg.AsyncConnection]:
    """A connection in autocommit mode. Raises psycopg.OperationalError."""
    connection = await psycopg.AsyncConnection.connect(
        url,
        autocommit=True,
        prepare_threshold=None,
        connect_timeout=CONNECT_SECONDS,
        application_name="pgtide doctor",
    )
    async with connection:
        yield connection


def explain_failure(what: str, error: psycopg.Error) -> Finding:
    """Why a connection was refused. libpq gives nothing but the server's words."""
    text = redact(" ".join(str(error).split()))
    return unmet(f"{what}: {text}", remedy_for(text))


async def check_pooler(connection: psycopg.AsyncConnection) -> Findings:
    """A pooler answers for the server and makes up the process number that cancels go to."""
    row = await (await connection.execute("select pg_backend_pid()")).fetchone()
    if row is not None and row[0] != connection.info.backend_pid:
        yield unmet(
            "a connection pooler answers at the database URL",
            "Set DATABASE_URL to the server itself; the pooler may stay as "
            "PGTIDE_POOLED_DATABASE_URL",
        )


async def check_replication(url: str, user: str) -> Findings:
    """Opens a replication connection, which is what poolers and missing rights prevent."""
    try:
        async with connected(make_conninfo(url, replication="database")) as connection:
            await connection.execute(b"IDENTIFY_SYSTEM")
    except psycopg.Error as error:
        yield _explain_refusal(error, user)
    else:
        yield met("a replication connection works")


def _explain_refusal(error: psycopg.Error, user: str) -> Finding:
    text = redact(" ".join(str(error).split()))
    what = f"no replication connection: {text}"
    if "WAL sender" in text or "walsender" in text:
        return unmet(what, f"Run as a superuser: alter role {quote_ident(user)} replication")
    if "startup parameter" in text or isinstance(error, errors.SyntaxError):
        return unmet(what, "Set DATABASE_URL to the server itself, not to a connection pooler")
    return explain_failure("no replication connection", error)


async def check_pooled(settings: Settings, direct: psycopg.AsyncConnection) -> Findings:
    """Whether the URL for queries leads to the same database."""
    if settings.pooled_database_url is None:
        return
    query = """
        select (select system_identifier from pg_control_system()),
            (select oid from pg_database where datname = current_database()), pg_is_in_recovery()
    """
    expected = await (await direct.execute(query)).fetchone()
    try:
        async with connected(settings.pooled_database_url) as connection:
            found = await (await connection.execute(query)).fetchone()
    except psycopg.Error as error:
        yield explain_failure("the pooled database URL does not work", error)
        return
    assert expected is not None
    assert found is not None
    if found[:2] != expected[:2]:
        yield unmet(
            "the pooled database URL leads to another database than the database URL",
            "Correct PGTIDE_POOLED_DATABASE_URL",
        )
    elif found[2] and not expected[2]:
        yield unmet(
            "the pooled database URL leads to a standby",
            "Set PGTIDE_POOLED_DATABASE_URL to a pooler of the primary",
        )
    else:
        yield met("the pooled database URL leads to the same database")
