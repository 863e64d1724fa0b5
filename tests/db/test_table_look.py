"""What a look at the catalog sees."""

from __future__ import annotations

import psycopg
import pytest
from postgres_side import Connect

from engine.postgres.table_look import Look, look
from engine.postgres.table_state import EVERYTHING, TableState, endings, newcomers

NAME = "pub"


@pytest.fixture
async def connection(connect: Connect) -> psycopg.AsyncConnection:
    connection = await connect()
    await connection.execute(
        f"""
        create type mood as enum ('sad', 'glad');
        create domain feeling as mood;
        create schema s;
        create table s."Odd.name" (id int, a text not null, m mood, ms mood[], f feeling, i int[],
            primary key (a, id));
        create table t (id int primary key);
        create table root (id int, b int) partition by range (id);
        create table leaf partition of root for values from (0) to (10);
        create publication {NAME};
        """.encode()
    )
    return connection


async def see(connection: psycopg.AsyncConnection, name: str, schema: str = "public") -> TableState:
    found = await look(connection, NAME, [((schema, name), None)])
    facts = found[schema, name].facts
    assert facts is not None
    return TableState.parse(facts)


async def run(connection: psycopg.AsyncConnection, statements: str) -> None:
    await connection.execute(statements.encode())


async def test_a_table(connection: psycopg.AsyncConnection) -> None:
    state = await see(connection, "Odd.name", "s")
    assert (state.kind, state.key, state.entries) == ("r", (2, 1), frozenset())
    labels = {column.name: column.labels for column in state.columns}
    enum = ("sad", "glad")
    assert labels == {"id": (), "a": (), "m": enum, "ms": enum, "f": enum, "i": ()}
    assert [column.number for column in state.columns] == [1, 2, 3, 4, 5, 6]
    assert {column.name for column in state.columns if column.not_null} == {"id", "a"}
    assert [member.oid for member in state.tree] == [state.oid]
    assert not state.published


async def test_only_what_is_news_is_told(connection: psycopg.AsyncConnection) -> None:
    names = [("public", "t"), ("public", "none"), ("s", "Odd.name")]
    first = await look(connection, NAME, [(name, None) for name in names])
    assert first.keys() == {names[0], names[2]}
    known = [(name, first[name].facts if name in first else None) for name in names]
    assert await look(connection, NAME, known) == {}
    await run(connection, "drop table t; create table none ()")
    news = await look(connection, NAME, known)
    assert news.keys() == {names[0], names[1]}
    assert news[names[0]].facts is None
    none = news[names[1]].facts
    assert none is not None
    assert TableState.parse(none).columns == ()
    assert await look(connection, NAME, []) == {}


async def test_later_looks_are_older(connection: psycopg.AsyncConnection, database: str) -> None:
    async def age() -> int:
        return (await look(connection, NAME, [(("public", "t"), None)]))["public", "t"].age

    async with await psycopg.AsyncConnection.connect(database) as other:
        ages = [await age()]
        await other.execute("create table u ()")
        ages.append(await age())
        await run(connection, "create table v ()")
        ages.append(await age())
        await other.commit()
        ages.append(await age())
    # Whoever is still running counts for nothing; other databases' transactions may count.
    assert ages == sorted(ages)
    assert ages[1] < ages[2] < ages[3]
    assert Look(1, None) < Look(2, "")


@pytest.mark.parametrize(
    "statement",
    [
        f"alter publication {NAME} add table t, root",
        f"drop publication {NAME}; create publication {NAME} for all tables",
        pytest.param(
            f"alter publication {NAME} add tables in schema public",
            marks=pytest.mark.filterwarnings("default"),
        ),
    ],
)
async def test_ways_to_be_published(connection: psycopg.AsyncConnection, statement: str) -> None:
    if "schema" in statement and connection.info.server_version < 150000:
        pytest.skip("new in Postgres 15")
    before = await see(connection, "leaf")
    await run(connection, statement)
    await run(
        connection,
        "alter table t replica identity full; alter table leaf replica identity full",
    )
    for name in ("t", "leaf"):
        state = await see(connection, name)
        assert state.published
        assert state.complete
    assert not (await see(connection, "root")).published, "it has no replica identity FULL"
    assert endings(before, await see(connection, "leaf")) == set()
    former = await see(connection, "leaf")
    await run(connection, f"drop publication {NAME}")
    assert endings(former, await see(connection, "leaf")) == {EVERYTHING}


async def test_filtered_entries_do_not_count(connection: psycopg.AsyncConnection) -> None:
    if connection.info.server_version < 150000:
        pytest.skip("new in Postgres 15")
    await run(connection, f"alter publication {NAME} add table t")
    former = await see(connection, "t")
    await run(connection, f"alter publication {NAME} set table t where (id > 3)")
    assert endings(former, await see(connection, "t")) == {EVERYTHING}


@pytest.mark.parametrize(
    ("statement", "ended"),
    [
        ('alter table s."Odd.name" add c int default 3', set[str]()),
        ('alter table s."Odd.name" add c uuid default gen_random_uuid()', set[str]()),
        ('alter table s."Odd.name" alter a set default 3, alter i set not null', set[str]()),
        ('alter table s."Odd.name" alter a set storage external', set[str]()),
        ('comment on column s."Odd.name".a is \'a\'; create index on s."Odd.name" (i)', set[str]()),
        ("alter type mood add value 'mad' before 'glad'", set[str]()),
        ('cluster s."Odd.name" using "Odd.name_pkey"', set[str]()),
        ("alter type mood rename value 'sad' to 'blue'", {"m", "ms", "f"}),
        ('alter table s."Odd.name" alter id type int using id + 1', {"id"}),
        ('alter table s."Odd.name" drop i, add i int[]', {"i"}),
        ('alter table s."Odd.name" alter i type int[] using i || 1', {"i"}),
        ('alter table s."Odd.name" alter a type text collate "C"', {"a"}),
        ('alter table s."Odd.name" drop constraint "Odd.name_pkey"', {EVERYTHING}),
        ('alter table s."Odd.name" rename id to number', {EVERYTHING}),
    ],
)
async def test_alterations(
    connection: psycopg.AsyncConnection, statement: str, ended: set[str]
) -> None:
    await run(connection, """insert into s."Odd.name" (id, a, i) values (1, 'a', '{1}')""")
    before = await see(connection, "Odd.name", "s")
    await run(connection, statement)
    assert endings(before, await see(connection, "Odd.name", "s")) == ended


async def test_partitions(connection: psycopg.AsyncConnection) -> None:
    await run(connection, "create table late (id int, b int)")
    before = await see(connection, "root")
    await run(
        connection,
        """
        create table made partition of root for values from (10) to (20);
        create table sub partition of root for values from (20) to (30) partition by range (id);
        create table below partition of sub for values from (20) to (25);
        """,
    )
    assert newcomers(before, await see(connection, "root")) == []
    await run(connection, "alter table root attach partition late for values from (30) to (40)")
    after = await see(connection, "root")
    assert len(after.tree) == len(before.tree) + 4
    assert [member.made != member.linked for member in newcomers(before, after)] == [True]
    assert endings(before, after) == set()
    await run(connection, "alter table sub detach partition below")
    assert endings(after, await see(connection, "root")) == {EVERYTHING}
    # Rewriting a partition rewrites the root's rows.
    before = await see(connection, "root")
    await run(connection, "alter table root alter b type int using b + 1")
    assert endings(before, await see(connection, "root")) == {"b"}
