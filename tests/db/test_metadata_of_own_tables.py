"""Metadata of runs in tables of one's own, whatever types their columns have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from engine.runs.table import RunTable
from shapes.database import Database, DatabaseUnavailableError
from shapes.runs.metadata import MetadataChange, RunMetadata
from shapes.runs.new_run import InvalidRunError
from shapes.runs.run_changes import NoSuchRunError
from shapes.runs.run_conditions import MissingColumnError

pytestmark = pytest.mark.migrated

COLUMNS = {
    "id": "Key",
    "status": "state",
    "created_at": "made",
    "updated_at": "changed",
    "completed_at": "ended",
    "metadata": "info",
    "parent_id": "up",
}
INCREMENT: dict[str, Any] = {
    "operations": [{"type": "increment", "key": "n", "value": 1}],
    "parentOperations": [{"type": "append", "key": "l", "value": "ü"}],
}


def table(**without: None) -> RunTable:
    columns = {name: column for name, column in COLUMNS.items() if name not in without}
    return RunTable("public", "My jobs", columns)


@pytest.fixture
async def writer(database: str, connection: psycopg.AsyncConnection) -> AsyncIterator[Database]:
    name = connection.info.dbname
    await connection.execute(f"alter database {name} set timezone = 'Asia/Tokyo'".encode())
    made = Database(database, 6, 10.0)
    yield made
    await made.close()


async def make(connection: psycopg.AsyncConnection, key: str, info: str, time: str) -> None:
    await connection.execute(
        f'create table "My jobs" ("Key" {key} primary key, state text, info {info}, up {key},'
        f" made {time}, changed {time}, ended {time})".encode()
    )


@pytest.mark.parametrize(
    ("key", "one", "two", "none", "info", "time"),
    [
        ("bigint", "1", "2", "x", "text", "timestamp"),
        ("integer", "1", "2", "9" * 30, "jsonb", "timestamptz"),
        ("uuid", f"{1:032x}", f"{2:032x}", "x", "json", "timestamptz"),
        ("varchar(10)", "a'b", "c", "d", "jsonb", "timestamp"),
    ],
)
async def test_any_types(
    writer: Database,
    connection: psycopg.AsyncConnection,
    *,
    key: str,
    one: str,
    two: str,
    none: str,
    info: str,
    time: str,
) -> None:
    await make(connection, key, info, time)
    await connection.execute(
        f"""insert into "My jobs" values ('{one.replace("'", "''")}'), ('{two}')""".encode()
    )
    await connection.execute(
        """update "My jobs" set up = %s where "Key"::text = (
        select max("Key"::text) from "My jobs")""",
        (one,),
    )
    first, last = [
        row[0]
        for row in await (
            await connection.execute('select "Key"::text from "My jobs" order by 1')
        ).fetchall()
    ]
    metadata = RunMetadata(writer, table())
    change = MetadataChange.parse(INCREMENT)
    assert await metadata.change("anything", last, change, "request") == {"n": 1}
    assert await metadata.change("anything", last, change, "request") == {"n": 1}
    assert await metadata.read("anything", first) == {"l": ["ü"]}
    utc = "at time zone 'utc'" if time == "timestamp" else ""
    cursor = await connection.execute(
        f"""select count(*) from "My jobs" where changed between
        ((now() - interval '1 min') {utc}) and (now() {utc})""".encode()
    )
    assert await cursor.fetchone() == (2,)
    with pytest.raises(NoSuchRunError):
        await metadata.read("anything", none)
    with pytest.raises(NoSuchRunError):
        await metadata.change("anything", none, change, None)


@pytest.mark.parametrize("time", ["timestamp", "timestamptz"])
async def test_the_hour_after_the_end(
    writer: Database, connection: psycopg.AsyncConnection, time: str
) -> None:
    await make(connection, "text", "jsonb", time)
    utc = "at time zone 'utc'" if time == "timestamp" else ""
    for name, minutes in (("fresh", 59), ("old", 61)):
        await connection.execute(
            f"""insert into "My jobs" ("Key", ended)
            values ('{name}', (now() - interval '{minutes} min') {utc})""".encode()
        )
    metadata = RunMetadata(writer, table())
    change = MetadataChange.parse({"metadata": {"a": 1}})
    assert await metadata.change("e", "fresh", change, None) == {"a": 1}
    with pytest.raises(InvalidRunError, match="completed run"):
        await metadata.change("e", "old", change, None)
    # Without such a column nobody knows, so it may be changed.
    lacking = RunMetadata(writer, table(completed_at=None, updated_at=None, parent_id=None))
    assert await lacking.change("e", "old", change, None) == {"a": 1}


async def test_a_table_without_metadata(
    writer: Database, connection: psycopg.AsyncConnection
) -> None:
    await make(connection, "text", "jsonb", "timestamptz")
    with pytest.raises(MissingColumnError, match="metadata"):
        await RunMetadata(writer, table(metadata=None)).read("e", "x")


async def test_metadata_that_is_no_object(
    writer: Database, connection: psycopg.AsyncConnection
) -> None:
    await make(connection, "text", "jsonb", "timestamptz")
    await connection.execute("""insert into "My jobs" ("Key", info) values ('a', '[1]')""")
    with pytest.raises(InvalidRunError, match="no JSON object"):
        await RunMetadata(writer, table()).read("e", "a")


async def test_whoever_finds_the_row_locked_may_come_again(
    writer: Database, connection: psycopg.AsyncConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shapes.runs.metadata._WAIT_BRIEFLY", "set local lock_timeout = '50ms'")
    await make(connection, "text", "jsonb", "timestamptz")
    await connection.execute("""insert into "My jobs" ("Key") values ('a')""")
    metadata = RunMetadata(writer, table())
    async with connection.transaction():
        await connection.execute("""select from "My jobs" for update""")
        with pytest.raises(DatabaseUnavailableError, match="locked"):
            await metadata.change("e", "a", MetadataChange.parse(INCREMENT), "once")
    assert await metadata.change("e", "a", MetadataChange.parse(INCREMENT), "once") == {
        "n": 1,
        "l": ["ü"],
    }
