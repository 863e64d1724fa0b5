"""The checks in their order, and the report."""

from __future__ import annotations

import psycopg

from engine.configuration.settings import Settings
from engine.doctor.connection import (
    check_pooled,
    check_pooler,
    check_replication,
    connected,
    explain_failure,
)
from engine.doctor.finding import Findings, unmet
from engine.doctor.folder import check_folder
from engine.doctor.publication import check_publication
from engine.doctor.runs import check_runs
from engine.doctor.server import (
    check_resources,
    check_role,
    check_server,
    check_transactions,
    read_facts,
)
from engine.doctor.session import check_session
from engine.doctor.slot import check_slot
from engine.doctor.streams import check_streams
from engine.replication.slot import read_slot


async def doctor(settings: Settings) -> int:
    """Try every requirement and print a line for each. 0 if all are met, 1 otherwise."""
    worst = 0
    async for finding in examine(settings):
        print(finding)
        worst = max(worst, int(finding.mark == "✗"))
    return worst


async def examine(settings: Settings) -> Findings:
    """All findings, as they come."""
    async for finding in check_folder(settings):
        yield finding
    if settings.database_url is None:
        yield unmet("no database URL", "Set DATABASE_URL=postgresql://user:password@host/database")
        return
    try:
        async with connected(settings.database_url) as connection:
            async for finding in _examine_database(connection, settings.database_url, settings):
                yield finding
    except psycopg.OperationalError as error:
        yield explain_failure("no connection", error)
    except psycopg.Error as error:
        yield unmet(f"a check was refused: {error}", "Give the role the right that this names")


async def _examine_database(
    connection: psycopg.AsyncConnection, url: str, settings: Settings
) -> Findings:
    facts = await read_facts(connection)
    slot = await read_slot(connection, settings.slot)
    has_slot, is_streaming = slot is not None, slot is not None and slot.active
    checks = (
        check_pooler(connection),
        check_server(facts),
        check_role(facts),
        check_session(connection),
        check_replication(url, facts.user),
        check_pooled(settings, connection),
        check_resources(facts, has_slot=has_slot, is_streaming=is_streaming),
        check_transactions(connection, has_slot=has_slot),
        check_slot(connection, facts, slot, settings.slot),
        check_publication(connection, settings, facts),
        check_runs(connection, settings),
        check_streams(connection, settings),
    )
    for check in checks:
        async for finding in check:
            yield finding
