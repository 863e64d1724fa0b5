"""Checks the publication and each table in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg.rows import class_row

from engine.configuration.settings import Settings
from engine.doctor.finding import Finding, Findings, advice, met, unmet
from engine.doctor.server import Facts
from engine.postgres.publication import Publication, read_publication
from engine.postgres.sql_text import quote_ident, quote_name


async def check_publication(
    connection: psycopg.AsyncConnection, settings: Settings, facts: Facts
) -> Findings:
    """The publication's own settings, then its tables."""
    publication = await read_publication(connection, settings.publication)
    if publication is None:
        yield _judge_absence(settings, facts)
        return
    quoted = quote_ident(publication.name)
    if publication.all_operations:
        yield met(f"publication {publication.name} sends all operations")
    else:
        yield unmet(
            f"publication {publication.name} does not send all operations",
            f"Run: alter publication {quoted} set (publish = 'insert, update, delete, truncate')",
        )
    if publication.via_partition_root:
        yield unmet(
            f"publication {publication.name} sends changes of partitions as their root's",
            f"Run: alter publication {quoted} set (publish_via_partition_root = false)",
        )
    if facts.version_number >= 180000 and not publication.generated_columns:
        yield advice(
            f"publication {publication.name} leaves out generated columns",
            f"Run: alter publication {quoted} set (publish_generated_columns = stored)",
        )
    if not settings.manual_table_publishing and not publication.owned:
        yield unmet(
            f"publication {publication.name} belongs to another role: tables cannot be added",
            f"Run: alter publication {quoted} owner to {quote_ident(facts.user)}; or set "
            "PGTIDE_MANUAL_TABLE_PUBLISHING=true",
        )
    async for finding in _check_tables(connection, publication, settings, facts):
        yield finding


def _judge_absence(settings: Settings, facts: Facts) -> Finding:
    name, quoted = settings.publication, quote_ident(settings.publication)
    if settings.manual_table_publishing:
        return unmet(f"publication {name} does not exist", f"Run: create publication {quoted}")
    if not facts.may_create:
        return unmet(
            f"publication {name} does not exist, and role {facts.user} may not create it",
            f"Run as the database's owner: grant create on database {quote_ident(facts.database)} "
            f"to {quote_ident(facts.user)}",
        )
    return met(f"publication {name} does not exist yet: pgtide makes it when it starts")


@dataclass(frozen=True, slots=True)
class _Table:
    """A relation that the publication sends. `missing` is the privileges that a snapshot lacks."""

    schema: str
    name: str
    owned: bool
    missing: str | None
    full_identity: bool
    has_key: bool
    filtered: bool
    hides_rows: bool


_TABLES_QUERY: LiteralString = """
    select n.nspname as schema, c.relname as name,
        pg_has_role(c.relowner, 'USAGE') as owned,
        case
            when not has_schema_privilege(n.oid, 'USAGE') then 'usage on schema'
            when not has_table_privilege(c.oid, 'SELECT') then 'select'
        end as missing,
        c.relreplident = 'f' as full_identity,
        exists (select from pg_constraint k where k.conrelid = c.oid and k.contype = 'p')
            as has_key,
        -- both are new in Postgres 15; a partition's filter may be its root's
        coalesce(to_jsonb(t) ->> 'rowfilter' is not null or to_jsonb(r) ->> 'prattrs' is not null,
            false) as filtered,
        c.relrowsecurity and row_security_active(c.oid) as hides_rows
    from pg_publication_tables t
    join pg_namespace n on n.nspname = t.schemaname
    join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
    join pg_publication p on p.pubname = t.pubname
    left join pg_publication_rel r on r.prpubid = p.oid and r.prrelid = c.oid
    where t.pubname = %s
    order by n.nspname, c.relname
"""


async def _check_tables(
    connection: psycopg.AsyncConnection,
    publication: Publication,
    settings: Settings,
    facts: Facts,
) -> Findings:
    cursor = connection.cursor(row_factory=class_row(_Table))
    tables = await (await cursor.execute(_TABLES_QUERY, (publication.name,))).fetchall()
    if not tables:
        if settings.manual_table_publishing:
            yield unmet(
                f"publication {publication.name} has no table",
                f"Run: alter publication {quote_ident(publication.name)} add table …",
            )
        else:
            yield met(f"publication {publication.name} has no table yet")
    for table in tables:
        findings = list(_judge_table(table, publication, settings, facts))
        for finding in findings or [met(f"table {table.schema}.{table.name}")]:
            yield finding


def _judge_table(
    table: _Table, publication: Publication, settings: Settings, facts: Facts
) -> list[Finding]:
    what, quoted = f"table {table.schema}.{table.name}", quote_name(table.schema, table.name)
    user = quote_ident(facts.user)
    findings: list[Finding] = []
    if table.missing is not None:
        on = quote_ident(table.schema) if "schema" in table.missing else f"on {quoted}"
        findings.append(
            unmet(
                f"{what} cannot be read by role {facts.user}",
                f"Run as its owner: grant {table.missing} {on} to {user}",
            )
        )
    if not table.full_identity:
        who = "Run" if table.owned else "Run as its owner"
        findings.append(
            unmet(
                f"{what} does not send old rows",
                f"{who}: alter table {quoted} replica identity full",
            )
        )
    if table.filtered:
        findings.append(
            unmet(
                f"{what} is sent with a row filter or a column list",
                f"Run: alter publication {quote_ident(publication.name)} drop table {quoted}, and "
                "add it again without",
            )
        )
    if table.hides_rows:
        findings.append(
            advice(
                f"{what} has row-level security: snapshots leave out rows that changes then bring",
                f"Run as a superuser: alter role {user} bypassrls",
            )
        )
    if not table.owned and not settings.manual_table_publishing:
        findings.append(
            advice(
                f"{what} belongs to another role: what is missing cannot be added later",
                f"Make {user} a member of its owner, or set PGTIDE_MANUAL_TABLE_PUBLISHING=true",
            )
        )
    if not table.has_key:
        findings.append(
            advice(
                f"{what} has no primary key: equal rows count as one",
                f"Run: alter table {quoted} add primary key (…)",
            )
        )
    return findings
