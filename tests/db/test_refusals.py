"""What the API answers when the database is not as triggering needs it."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg
import pytest
from postgres_side import as_role

from engine.configuration.settings import Settings
from engine.doctor.runs import check_runs
from engine.postgres.migrate import migrate
from engine.runs.table import RunTable, RunTableError
from shapes.database import Database
from shapes.http.api.call import ApiError
from shapes.http.api.refusals import refusing
from shapes.runs.new_run import NewRun, new_run
from shapes.runs.run_lookup import RunLookup
from shapes.runs.run_store import RunStore
from shapes.runs.trigger_keys import TriggerKeys, TriggerKeyStore
from shapes.runs.triggering import Triggering

pytestmark = pytest.mark.migrated

REQUEST = TriggerKeys(request=b"12345678")


async def refusal(url: str, run: NewRun | None = None) -> tuple[int, str, bool]:
    """The answer to a request to trigger, and whether clients are told not to repeat it."""
    database = Database(url, 6, 10.0)
    triggering = Triggering(database, RunStore(RunTable()), TriggerKeyStore())
    run = run or new_run("t", {}, datetime.now(UTC))
    try:
        with pytest.raises(ApiError) as refused, refusing():
            await triggering.trigger("prod", run, REQUEST)
    finally:
        await database.close()
    final = (b"x-should-retry", b"false") in refused.value.headers
    return refused.value.status, str(refused.value), final


@pytest.mark.migrated(False)
async def test_without_the_schema(database: str, connection: psycopg.AsyncConnection) -> None:
    status, message, final = await refusal(database)
    assert (status, final) == (503, True)
    assert "pgtide migrate" in message
    # Nor with that of an older version.
    await migrate(database, publish=False)
    await connection.execute("alter table pgtide.runs drop column depth")
    status, message, final = await refusal(database)
    assert (status, final) == (503, True)
    assert "pgtide migrate" in message


async def test_without_the_right_to_write(
    database: str, connection: psycopg.AsyncConnection, role: str
) -> None:
    await connection.execute(
        f"grant usage on schema pgtide to {role};"
        f"grant select on all tables in schema pgtide to {role}".encode()
    )
    status, message, final = await refusal(as_role(database, role))
    assert (status, final) == (503, True)
    assert "sql/roles.sql" in message
    assert role not in message


async def test_a_constraint_of_the_users(
    database: str, connection: psycopg.AsyncConnection
) -> None:
    await connection.execute("alter table pgtide.runs add constraint few check (payload = 'x')")
    run = new_run("t", {"payload": "secret"}, datetime.now(UTC))
    status, message, final = await refusal(database, run)
    assert (status, final) == (422, False)
    assert "secret" not in message


async def test_who_may_not_read_is_told_what_to_grant(
    database: str, connection: psycopg.AsyncConnection, role: str
) -> None:
    lookups = Database(as_role(database, role), 6, 10.0)
    try:
        await connection.execute(f"grant usage on schema pgtide to {role}".encode())
        with pytest.raises(RunTableError, match=r"permission denied .* sql/roles\.sql"):
            await RunLookup(lookups, RunTable()).run("a", "default")
        await connection.execute(f"grant select on pgtide.runs to {role}".encode())
        assert await RunLookup(lookups, RunTable()).run("a", "default") is None
    finally:
        await lookups.close()
    settings = Settings(secret_keys=("k" * 16,))
    async with await psycopg.AsyncConnection.connect(as_role(database, role)) as asking:
        readable, written = [str(found) async for found in check_runs(asking, settings)]
    assert readable == "✓ table pgtide.runs can have the runs"
    assert "may not write" in written
    assert "sql/roles.sql" in written
