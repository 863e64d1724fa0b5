"""Checks what the role or the database sets for pgtide's sessions."""

from __future__ import annotations

import psycopg

from engine.doctor.finding import Findings, advice, met, unmet
from engine.postgres.sql_text import quote_ident

_QUERY = """
    select current_user, current_database(),
        current_setting('default_transaction_read_only')::bool,
        current_setting('synchronous_commit'),
        array(
            select name || ' = ' || setting || unit from pg_settings
            where name in ('statement_timeout', 'transaction_timeout') and setting <> '0'
            order by name
        )
"""


async def check_session(connection: psycopg.AsyncConnection) -> Findings:
    """Whether sessions may write, wait for the disk, and take their time."""
    row = await (await connection.execute(_QUERY)).fetchone()
    assert row is not None
    role, database, read_only, commit, limits = row
    start = f"Run: alter role {quote_ident(role)} in database {quote_ident(database)} set"
    if read_only:
        yield unmet(
            f"role {role} only reads: default_transaction_read_only is on",
            f"{start} default_transaction_read_only = off",
        )
    if commit == "off":
        yield advice(
            "a crash may cost appends and runs that were confirmed: synchronous_commit is off",
            f"{start} synchronous_commit = on",
        )
    for limit in limits:
        yield advice(
            f"a snapshot that takes longer fails: {limit}",
            f"{start} {limit.partition(' ')[0]} = 0",
        )
    if not read_only and commit != "off" and not limits:
        yield met(f"sessions of role {role} may write and are not limited in time")
