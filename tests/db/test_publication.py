"""Publishing tables: what is altered, what is refused, and that no change slips through.

One long file, because all of it is one function's contract.
"""

from __future__ import annotations

import asyncio
import struct

import psycopg
import pytest
from postgres_side import Connect, as_role, table_of, until, waits_for_lock

from engine.postgres.publication import (
    ensure_publication,
    ensure_table_published,
    read_publication,
)
from engine.postgres.publication_errors import (
    OperationsNotPublishedError,
    PublicationError,
    PublicationNotFoundError,
    PublishedAsRootError,
    ReadOnlyError,
    ReplicaIdentityNotFullError,
    TableFilteredError,
    TableGoneError,
    TableLockTimeoutError,
    TableNotPublishedError,
    TableNotReplicatedError,
    WritersInFlightError,
)
from engine.replication.slot import ensure_slot

NAME = "pgtide_test"


async def publish(connection: psycopg.AsyncConnection, name: str = "t", **options: float) -> None:
    table = await table_of(connection, name)
    await ensure_table_published(connection, NAME, table, manual=False, **options)


async def check(connection: psycopg.AsyncConnection, name: str = "t", **options: float) -> None:
    """Like publish, in manual mode."""
    table = await table_of(connection, name)
    await ensure_table_published(connection, NAME, table, manual=True, **options)


async def members(connection: psycopg.AsyncConnection) -> set[str]:
    cursor = await connection.execute(
        "select tablename from pg_publication_tables where pubname = %s", (NAME,)
    )
    return {row[0] async for row in cursor}


async def identities(connection: psycopg.AsyncConnection) -> dict[str, str]:
    cursor = await connection.execute(
        "select relname, relreplident::text from pg_class"
        " where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')"
    )
    return {row[0]: row[1] async for row in cursor}


# The publication itself


async def test_it_is_created_with_all_operations(connection: psycopg.AsyncConnection) -> None:
    assert await read_publication(connection, NAME) is None
    publication = await ensure_publication(connection, NAME)
    assert publication.all_operations
    assert not publication.all_tables
    assert not publication.via_partition_root
    assert publication.generated_columns == (connection.info.server_version >= 180000)
    assert await members(connection) == set()
    assert await ensure_publication(connection, NAME) == publication


async def test_many_may_create_it_at_once(connect: Connect) -> None:
    connections = [await connect() for _ in range(8)]
    found = await asyncio.gather(*(ensure_publication(each, NAME) for each in connections))
    assert len({each.oid for each in found}) == 1


async def test_a_recreated_one_is_another(connection: psycopg.AsyncConnection) -> None:
    before = await ensure_publication(connection, NAME)
    await connection.execute(f"drop publication {NAME}".encode())
    assert (await ensure_publication(connection, NAME)).oid != before.oid


async def test_manual_mode_creates_nothing(connection: psycopg.AsyncConnection) -> None:
    with pytest.raises(PublicationNotFoundError, match=f'Publication "{NAME}" not found'):
        await ensure_publication(connection, NAME, manual=True)
    assert await read_publication(connection, NAME) is None


async def test_it_cannot_be_created_without_the_right(database: str, role: str) -> None:
    async with await psycopg.AsyncConnection.connect(
        as_role(database, role), autocommit=True
    ) as limited:
        with pytest.raises(PublicationNotFoundError, match="create publication"):
            await ensure_publication(limited, NAME)


async def test_a_role_that_only_reads(connection: psycopg.AsyncConnection) -> None:
    await connection.execute("create table t (id int)")
    await connection.execute("set default_transaction_read_only = on")
    with pytest.raises(ReadOnlyError, match=r"Run: alter role .* in database ") as caught:
        await ensure_publication(connection, NAME)
    assert caught.value.message == "Database takes no writes"
    await connection.execute("set default_transaction_read_only = off")
    await ensure_publication(connection, NAME)
    await connection.execute("set default_transaction_read_only = on")
    with pytest.raises(ReadOnlyError):
        await publish(connection)


async def test_it_must_publish_all_operations(connection: psycopg.AsyncConnection) -> None:
    await connection.execute(f"create publication {NAME} with (publish = 'insert')".encode())
    with pytest.raises(OperationsNotPublishedError) as caught:
        await ensure_publication(connection, NAME)
    await connection.execute(caught.value.remedy.removeprefix("Run: ").encode())
    assert (await ensure_publication(connection, NAME)).all_operations


# Tables


@pytest.fixture
async def published(connection: psycopg.AsyncConnection) -> psycopg.AsyncConnection:
    """A connection to a database with the publication and the table `t`."""
    await ensure_publication(connection, NAME)
    await connection.execute("create table t (id int primary key)")
    return connection


async def test_a_table_is_added_and_sends_old_rows(published: psycopg.AsyncConnection) -> None:
    await publish(published)
    assert await members(published) == {"t"}
    assert await identities(published) == {"t": "f"}
    await publish(published)
    await check(published)


async def test_a_missing_replica_identity_is_set_later(published: psycopg.AsyncConnection) -> None:
    await publish(published)
    await published.execute("alter table t replica identity default")
    with pytest.raises(ReplicaIdentityNotFullError) as caught:
        await check(published)
    message = 'Database table "public.t" does not have its replica identity set to FULL'
    assert caught.value.message == message
    await publish(published)
    assert await identities(published) == {"t": "f"}


async def test_names_that_need_quotes(published: psycopg.AsyncConnection) -> None:
    await published.execute('create schema "S ""1"; create table "S ""1"."T.x" (id int)')
    table = await table_of(published, "T.x", 'S "1')
    await ensure_table_published(published, NAME, table, manual=False)
    assert "T.x" in await members(published)


async def test_a_partitioned_table_with_all_its_partitions(
    published: psycopg.AsyncConnection,
) -> None:
    await published.execute(
        """
        create table root (a int) partition by range (a);
        create table middle partition of root for values from (0) to (10) partition by range (a);
        create table leaf partition of middle for values from (0) to (10);
        """
    )
    await publish(published, "root")
    assert await members(published) == {"leaf"}
    found = await identities(published)
    assert {found["root"], found["middle"], found["leaf"]} == {"f"}
    await check(published, "leaf")

    await published.execute("create table late partition of root for values from (10) to (20)")
    assert (await identities(published))["late"] == "d"
    with pytest.raises(ReplicaIdentityNotFullError, match=r"public\.late"):
        await check(published, "root")
    await publish(published, "root")
    assert (await identities(published))["late"] == "f"


async def test_a_partition_alone(published: psycopg.AsyncConnection) -> None:
    await published.execute(
        """
        create table root (a int) partition by range (a);
        create table one partition of root for values from (0) to (10);
        create table two partition of root for values from (10) to (20);
        """
    )
    await publish(published, "one")
    assert await members(published) == {"one"}
    found = await identities(published)
    assert (found["root"], found["one"], found["two"]) == ("d", "f", "d")


async def test_inheritance_children_stay_out(published: psycopg.AsyncConnection) -> None:
    await published.execute("create table parent (a int); create table child () inherits (parent)")
    await publish(published, "parent")
    assert await members(published) == {"parent"}


@pytest.mark.parametrize("options", ["for all tables", "for tables in schema public"])
async def test_publications_of_more_than_tables(
    connection: psycopg.AsyncConnection, options: str
) -> None:
    if "schema" in options and connection.info.server_version < 150000:
        pytest.skip("new in Postgres 15")
    await connection.execute(
        f"create publication {NAME} {options};"
        "create table t (id int); alter table t replica identity full".encode()
    )
    await check(connection)
    await publish(connection)


@pytest.mark.parametrize("definition", ["t (id)", "t where (id > 1)"])
async def test_a_filtered_table_is_refused(
    published: psycopg.AsyncConnection, definition: str
) -> None:
    if published.info.server_version < 150000:
        pytest.skip("new in Postgres 15")
    await published.execute("alter table t replica identity full")
    await published.execute(f"alter publication {NAME} add table {definition}".encode())
    with pytest.raises(TableFilteredError) as caught:
        await check(published)
    for statement in caught.value.remedy.removeprefix("Run: ").split("; "):
        await published.execute(statement.encode())
    await check(published)


async def test_manual_mode_adds_nothing(published: psycopg.AsyncConnection) -> None:
    with pytest.raises(TableNotPublishedError) as caught:
        await check(published)
    start = f'Database table "public.t" is missing from the publication "{NAME}" and '
    assert caught.value.message.startswith(start)
    assert "PGTIDE_MANUAL_TABLE_PUBLISHING" in caught.value.message
    assert await identities(published) == {"t": "d"}

    statements = caught.value.remedy.removeprefix("As the owner of both, run: ")
    await published.execute(statements.encode())
    await check(published)


async def test_without_privileges(
    published: psycopg.AsyncConnection, database: str, role: str
) -> None:
    table = await table_of(published, "t")
    async with await psycopg.AsyncConnection.connect(
        as_role(database, role), autocommit=True
    ) as limited:
        with pytest.raises(TableNotPublishedError, match="lacks privileges to add it"):
            await ensure_table_published(limited, NAME, table, manual=False)
        await published.execute(f"alter publication {NAME} add table t".encode())
        with pytest.raises(ReplicaIdentityNotFullError, match="alter table"):
            await ensure_table_published(limited, NAME, table, manual=False)
        await published.execute("alter table t replica identity full")
        await ensure_table_published(limited, NAME, table, manual=False)


async def test_a_partition_of_somebody_else(
    published: psycopg.AsyncConnection, database: str, role: str
) -> None:
    await published.execute(
        f"""
        create table root (a int) partition by range (a);
        create table leaf partition of root for values from (0) to (10);
        alter table root owner to {role}; alter publication {NAME} owner to {role};
        grant create on database {published.info.dbname} to {role};
        """.encode()
    )
    table = await table_of(published, "root")
    async with await psycopg.AsyncConnection.connect(
        as_role(database, role), autocommit=True
    ) as limited:
        with pytest.raises(PublicationError, match="lacks privileges"):
            await ensure_table_published(limited, NAME, table, manual=False)
    assert await members(published) == set()


@pytest.mark.parametrize("statement", ["drop table t", "alter table t rename to other"])
async def test_a_table_that_is_gone(published: psycopg.AsyncConnection, statement: str) -> None:
    table = await table_of(published, "t")
    await published.execute(statement.encode())
    message = r'Database table "public\.t" has been dropped or renamed'
    with pytest.raises(TableGoneError, match=message):
        await ensure_table_published(published, NAME, table, manual=False)


async def test_another_table_of_the_same_name(published: psycopg.AsyncConnection) -> None:
    table = await table_of(published, "t")
    await published.execute("drop table t; create table t (id int)")
    with pytest.raises(TableGoneError):
        await ensure_table_published(published, NAME, table, manual=False)
    assert await members(published) == set()


async def test_a_table_that_goes_while_its_lock_is_waited_for(
    published: psycopg.AsyncConnection, connect: Connect
) -> None:
    other, observer = await connect(), await connect()
    await other.execute("begin; drop table t")
    task = asyncio.create_task(publish(published))
    await until(lambda: waits_for_lock(observer, "t"))
    await other.execute("commit")
    with pytest.raises(TableGoneError):
        await task


async def test_a_dropped_publication(published: psycopg.AsyncConnection) -> None:
    await publish(published)
    await published.execute(f"drop publication {NAME}".encode())
    with pytest.raises(PublicationNotFoundError):
        await check(published)
    await publish(published)
    assert await members(published) == {"t"}


async def test_a_publication_without_all_operations(published: psycopg.AsyncConnection) -> None:
    await publish(published)
    await published.execute(f"alter publication {NAME} set (publish = 'insert')".encode())
    for attempt in (publish, check):
        with pytest.raises(OperationsNotPublishedError, match="INSERT, UPDATE, DELETE, TRUNCATE"):
            await attempt(published)


async def test_a_partition_that_is_published_as_its_root(
    published: psycopg.AsyncConnection,
) -> None:
    await published.execute(
        f"""
        create table root (a int) partition by range (a);
        create table leaf partition of root for values from (0) to (10);
        alter publication {NAME} set (publish_via_partition_root = true)
        """.encode()
    )
    await publish(published, "root")
    with pytest.raises(PublishedAsRootError, match=r'as changes of "public\.root"'):
        await publish(published, "leaf")


async def test_unlogged_tables_are_refused(published: psycopg.AsyncConnection) -> None:
    await published.execute("create unlogged table u (id int)")
    with pytest.raises(TableNotReplicatedError, match="set logged"):
        await publish(published, "u")


async def test_many_nodes_at_once(published: psycopg.AsyncConnection, connect: Connect) -> None:
    await published.execute(
        "create table root (a int) partition by range (a);"
        "create table leaf partition of root for values from (0) to (10)"
    )
    connections = [await connect() for _ in range(8)]
    tables = ["t", "root", "leaf", "root"] * 2
    await asyncio.gather(*map(publish, connections, tables))
    # The leaf is there by itself or through its root, whoever came first.
    assert await members(published) == {"t", "leaf"}


# Writers


async def test_a_lock_that_is_not_granted(
    published: psycopg.AsyncConnection, connect: Connect
) -> None:
    writer = await connect()
    await writer.execute("begin; insert into t values (1)")
    with pytest.raises(TableLockTimeoutError) as caught:
        await publish(published, lock_timeout=0.3)
    assert caught.value.message == "Snapshot timed out while waiting for a table lock"
    assert str(writer.info.backend_pid) in str(caught.value)
    assert await members(published) == set()
    assert await identities(published) == {"t": "d"}
    # The table is as usable as before.
    await writer.execute("insert into t values (2); commit")


async def test_a_lock_is_tried_for_again(
    published: psycopg.AsyncConnection, connect: Connect
) -> None:
    """The first attempt ends before the writer does: who queued behind it waited only briefly."""
    writer, observer = await connect(), await connect()
    await writer.execute("begin; insert into t values (1)")
    task = asyncio.create_task(publish(published))
    await until(lambda: waits_for_lock(observer, "t"))

    async def gave_up() -> bool:
        return not await waits_for_lock(observer, "t")

    await until(gave_up)
    assert not task.done()
    await writer.execute("commit")
    await task
    assert await members(published) == {"t"}


async def inserts(connection: psycopg.AsyncConnection, slot: str) -> set[int]:
    """The ids of the inserts into `t` that the slot delivers."""
    cursor = await connection.execute(
        "select data from pg_logical_slot_get_binary_changes("
        "%s, null, null, 'proto_version', '1', 'publication_names', %s)",
        (slot, NAME),
    )
    found: set[int] = set()
    async for (data,) in cursor:
        if data[:1] == b"I":  # Insert: oid, 'N', 1 column, 't', length, text
            (length,) = struct.unpack(">i", data[9:13])
            found.add(int(data[13 : 13 + length]))
    return found


@pytest.mark.parametrize("identity", ["default", "full"])
async def test_a_writer_has_to_end_before_the_table_is_published(
    published: psycopg.AsyncConnection, connect: Connect, identity: str
) -> None:
    await published.execute(f"alter table t replica identity {identity}".encode())
    writer, observer = await connect(), await connect()
    await writer.execute("begin; insert into t values (1)")
    task = asyncio.create_task(publish(published))
    await until(lambda: waits_for_lock(observer, "t"))
    assert await members(observer) == set()
    await writer.execute("insert into t values (2); commit")
    await task
    assert await members(observer) == {"t"}


@pytest.mark.parametrize("identity", ["default", "full"])
async def test_nothing_is_lost_between_snapshot_and_changes(
    published: psycopg.AsyncConnection, connect: Connect, identity: str
) -> None:
    """Writers all the while: what the snapshot does not have, the slot delivers."""
    await published.execute(f"alter table t replica identity {identity}".encode())
    slot = await ensure_slot(published, f"slot_{published.info.dbname}")
    stop = asyncio.Event()
    written: set[int] = set()

    async def write(first: int) -> None:
        writer, number = await connect(), first
        while not stop.is_set():
            async with writer.transaction():
                for _ in range(3):
                    await writer.execute("insert into t values (%s)", (number,))
                    number += 1
            written.update(range(number - 3, number))

    async def reach(count: int) -> None:
        async def reached() -> bool:
            return len(written) >= count

        await until(reached)

    async with asyncio.TaskGroup() as group:
        for writer in range(4):
            group.create_task(write(writer * 1_000_000))
        await reach(30)
        await publish(published)
        cursor = await published.execute("select id from t")
        snapshot = {row[0] async for row in cursor}
        await reach(len(written) + 30)
        stop.set()
    delivered = await inserts(published, slot.name)
    assert snapshot
    assert written - snapshot - delivered == set()


async def test_writers_older_than_a_foreign_alter_are_waited_for(
    published: psycopg.AsyncConnection, connect: Connect
) -> None:
    writer, node = await connect(), await connect()
    await published.execute("alter table t replica identity full")
    await writer.execute("begin; insert into t values (1)")
    await published.execute(f"alter publication {NAME} add table t".encode())
    with pytest.raises(WritersInFlightError, match=f"Process {writer.info.backend_pid}"):
        await publish(node, writers_timeout=0)
    with pytest.raises(WritersInFlightError):
        await check(node, writers_timeout=0)
    await writer.execute("commit")
    await publish(node, writers_timeout=0)
    await check(node, writers_timeout=0)


async def test_a_writer_with_an_id_above_that_of_a_foreign_alter(
    published: psycopg.AsyncConnection, connect: Connect
) -> None:
    """The ALTER has its id, the writer gets a higher one and writes, the ALTER commits."""
    writer, node = await connect(), await connect()
    await published.execute("alter table t replica identity full")
    await published.execute(f"begin; alter publication {NAME} add table t".encode())
    await writer.execute("begin; insert into t values (1)")
    await published.execute("commit")
    with pytest.raises(WritersInFlightError):
        await check(node, writers_timeout=0)
    await writer.execute("rollback")
    await check(node, writers_timeout=0)


async def test_later_and_idle_and_other_transactions_are_not_waited_for(
    published: psycopg.AsyncConnection, connect: Connect
) -> None:
    await published.execute("create table other (id int)")
    reader, elsewhere, late, node = [await connect() for _ in range(4)]
    await published.execute("alter table t replica identity full")
    await reader.execute("begin isolation level repeatable read; select * from t")
    await elsewhere.execute("begin; insert into other values (1)")
    await published.execute(f"alter publication {NAME} add table t".encode())
    await late.execute("begin; insert into t values (1)")
    await publish(node, writers_timeout=0)


async def test_a_writer_through_a_partition_is_waited_for(
    published: psycopg.AsyncConnection, connect: Connect
) -> None:
    await published.execute(
        """
        create table root (a int) partition by range (a);
        create table leaf partition of root for values from (0) to (10);
        alter table root replica identity full; alter table leaf replica identity full;
        """
    )
    writer, node = await connect(), await connect()
    await writer.execute("begin; insert into leaf values (1)")
    await published.execute(f"alter publication {NAME} add table root".encode())
    with pytest.raises(WritersInFlightError):
        await publish(node, "root", writers_timeout=0)
    await writer.execute("commit")
    await publish(node, "root", writers_timeout=0)
