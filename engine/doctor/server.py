"""Checks the server's version, settings and resources, and the role's rights."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg.rows import class_row

from engine.doctor.finding import Findings, advice, met, unmet
from engine.postgres.sql_text import quote_ident, quote_literal
from engine.replication.writers import oldest_writer

LEAST_VERSION = 140000

# Transactions older than that may go on for ever; the slot's creation waits for them.
SLOT_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Facts:
    """What the checks need to know of server and role, read at once. Sizes are bytes."""

    version: str
    version_number: int
    in_recovery: bool
    wal_level: str
    max_slots: int
    slots: int
    idle_slots: list[str]
    max_walsenders: int
    walsenders: int
    user: str
    database: str
    may_replicate: bool
    may_create: bool


async def read_facts(connection: psycopg.AsyncConnection) -> Facts:
    """The server's facts. Needs no privilege."""
    cursor = await connection.cursor(row_factory=class_row(Facts)).execute(
        """
        select
            current_setting('server_version') as version,
            current_setting('server_version_num')::int as version_number,
            pg_is_in_recovery() as in_recovery,
            current_setting('wal_level') as wal_level,
            current_setting('max_replication_slots')::int as max_slots,
            (select count(*) from pg_replication_slots) as slots,
            array(select slot_name::text from pg_replication_slots where not active order by 1)
                as idle_slots,
            current_setting('max_wal_senders')::int as max_walsenders,
            (select count(*) from pg_stat_replication) as walsenders,
            current_user::text as user,
            current_database()::text as database,
            -- Amazon RDS grants a role of its own in place of the attribute
            (select rolsuper or rolreplication from pg_roles where rolname = current_user)
                or exists (
                    select from pg_roles
                    where rolname = 'rds_replication' and pg_has_role(oid, 'MEMBER')
                ) as may_replicate,
            has_database_privilege(current_database(), 'CREATE') as may_create
        """
    )
    facts = await cursor.fetchone()
    assert facts is not None
    return facts


async def check_server(facts: Facts) -> Findings:
    """Version, role of the server, WAL level."""
    if facts.version_number >= LEAST_VERSION:
        yield met(f"Postgres {facts.version}")
    else:
        yield unmet(f"Postgres {facts.version} is too old", "Upgrade to Postgres 14 or later")
    if facts.in_recovery:
        yield unmet(
            "the server is a standby",
            "Set DATABASE_URL to the primary, or run: select pg_promote()",
        )
    else:
        yield met("the server is a primary")
    if facts.wal_level == "logical":
        yield met("wal_level is logical")
    else:
        yield unmet(
            f"wal_level is {facts.wal_level}",
            "Run: alter system set wal_level = logical, and restart Postgres (on a managed one set "
            "its parameter, e.g. rds.logical_replication = 1)",
        )


async def check_role(facts: Facts) -> Findings:
    """The attribute that replication needs."""
    if facts.may_replicate:
        yield met(f"role {facts.user} may replicate")
    else:
        role = quote_ident(facts.user)
        yield unmet(
            f"role {facts.user} may not replicate",
            f"Run as a superuser: alter role {role} replication (on Amazon RDS: grant "
            f"rds_replication to {role})",
        )


async def check_resources(facts: Facts, *, has_slot: bool, is_streaming: bool) -> Findings:
    """Whether there is a slot and a walsender left for pgtide, unless it holds them already."""
    free_slots = facts.max_slots - facts.slots
    if has_slot or free_slots > 0:
        yield met(f"{free_slots} of {facts.max_slots} replication slots are free")
    else:
        yield unmet(
            f"all {facts.max_slots} replication slots are in use",
            _slot_remedy(facts.idle_slots, facts.max_slots),
        )
    free_walsenders = facts.max_walsenders - facts.walsenders
    if is_streaming or free_walsenders > 0:
        yield met(f"{free_walsenders} of {facts.max_walsenders} walsenders are free")
    else:
        yield unmet(
            f"all {facts.max_walsenders} walsenders are in use",
            f"Run: alter system set max_wal_senders = {facts.max_walsenders + 5}, and restart "
            "Postgres",
        )


def _slot_remedy(idle: list[str], most: int) -> str:
    more = f"alter system set max_replication_slots = {most + 5}, and restart Postgres"
    if not idle:
        return f"Run: {more}"
    return (
        f"If nothing needs it, run: select pg_drop_replication_slot({quote_literal(idle[0])}); "
        f"or: {more} (idle slots: {', '.join(idle)})"
    )


async def check_transactions(connection: psycopg.AsyncConnection, *, has_slot: bool) -> Findings:
    """Transactions that a new slot would wait for."""
    oldest = None if has_slot else await oldest_writer(connection)
    if oldest is None:
        yield met("no open transaction delays the slot")
    elif oldest.seconds is not None and oldest.seconds < SLOT_SECONDS:
        yield met(f"no open transaction is older than {oldest.seconds} s")
    else:
        finding = advice if oldest.seconds is None else unmet
        yield finding(
            f"the new slot has to wait for an open transaction: {oldest}",
            f"Let it end, or run: {oldest.end_statement}",
        )
