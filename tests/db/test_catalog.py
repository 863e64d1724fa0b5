"""The catalog as Postgres has it, for every kind of column and table."""

from __future__ import annotations

import psycopg
import pytest
from postgres_side import table_of

from engine.postgres.catalog import load_table, load_table_by_oid, read_ancestors
from engine.postgres.table import Column

TYPES = """
    create type mood as enum ('sad', 'glad');
    create type point3 as (x int, y int, z int);
    create domain positive as int check (value > 0);
    create domain small as positive check (value < 100);
    create domain bag as int[];
"""


async def column(connection: psycopg.AsyncConnection, definition: str) -> Column:
    await connection.execute(f"create table t (c {definition})".encode())
    (only,) = (await table_of(connection, "t")).columns
    return only


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ("int", ("int4", 0, "b", "int4", -1)),
        ("int[]", ("int4", 1, "b", "int4", -1)),
        ("text[][][]", ("text", 3, "b", "text", -1)),
        ("varchar(10)", ("varchar", 0, "b", "varchar", 14)),
        ("numeric(6, 2)", ("numeric", 0, "b", "numeric", (6 << 16 | 2) + 4)),
        ("mood", ("mood", 0, "e", "mood", -1)),
        ("mood[]", ("mood", 1, "e", "mood", -1)),
        ("small", ("small", 0, "d", "int4", -1)),
        ("small[]", ("small", 1, "d", "int4", -1)),
        ("bag", ("bag", 0, "d", "_int4", -1)),
        ("bag[]", ("bag", 1, "d", "_int4", -1)),
        ("point3", ("point3", 0, "c", "point3", -1)),
        ("int4range", ("int4range", 0, "r", "int4range", -1)),
        ("int4multirange", ("int4multirange", 0, "m", "int4multirange", -1)),
        ("int2vector", ("int2vector", 0, "b", "int2vector", -1)),
    ],
)
async def test_types(
    connection: psycopg.AsyncConnection, definition: str, expected: tuple[str, int, str, str, int]
) -> None:
    await connection.execute(TYPES.encode())
    found = await column(connection, definition)
    assert (found.type, found.dims, found.kind, found.base, found.modifier) == expected


@pytest.mark.parametrize(
    ("definition", "enum", "labels"),
    [
        ("mood", "public.mood", ("worst", "sad", "glad")),
        ("mood[]", "public.mood", ("worst", "sad", "glad")),
        ("temper", "public.mood", ("worst", "sad", "glad")),
        ("temper[]", "public.mood", ("worst", "sad", "glad")),
        ('"Odd s"."Odd t"', '"Odd s"."Odd t"', ("it's",)),
        ("nothing", "public.nothing", ()),
        ("int", None, None),
        ("bag", None, None),
    ],
)
async def test_enums(
    connection: psycopg.AsyncConnection,
    definition: str,
    enum: str | None,
    labels: tuple[str, ...] | None,
) -> None:
    await connection.execute(TYPES.encode())
    await connection.execute(
        """
        alter type mood add value 'worst' before 'sad';
        create domain mild as mood; create domain temper as mild;
        create schema "Odd s"; create type "Odd s"."Odd t" as enum ('it''s');
        create type nothing as enum ()
        """
    )
    found = await column(connection, definition)
    assert (found.enum, found.labels) == (enum, labels)


async def test_a_new_label_alters_no_table_and_a_renamed_one_does(
    connection: psycopg.AsyncConnection,
) -> None:
    await connection.execute(TYPES.encode())
    await column(connection, "mood")
    before = await table_of(connection, "t")
    await connection.execute("alter type mood add value 'so so' before 'glad'")
    added = await table_of(connection, "t")
    assert added == before
    assert repr(added) == repr(before)
    assert added.labels != before.labels
    assert added.keeps_labels(before)
    assert not before.keeps_labels(added)
    await connection.execute("alter type mood rename value 'sad' to 'glum'")
    assert not (await table_of(connection, "t")).keeps_labels(before)


async def test_type_oid_is_the_columns_own(connection: psycopg.AsyncConnection) -> None:
    found = await column(connection, "int[]")
    assert found.type_oid == 1007  # _int4


async def test_an_array_made_by_a_query_has_a_dimension(
    connection: psycopg.AsyncConnection,
) -> None:
    await connection.execute("create table t as select array[1, 2] as c")
    (found,) = (await table_of(connection, "t")).columns
    assert (found.type, found.dims) == ("int4", 1)


async def test_primary_key_in_its_own_order_without_included_columns(
    connection: psycopg.AsyncConnection,
) -> None:
    await connection.execute(
        "create table t (a int, gone int, b int, c int, primary key (b, a) include (c));"
        "alter table t drop column gone"
    )
    table = await table_of(connection, "t")
    assert [each.name for each in table.columns] == ["a", "b", "c"]
    assert [each.name for each in table.primary_key] == ["b", "a"]
    assert [each.key_index for each in table.columns] == [1, 0, None]
    assert [each.not_null for each in table.columns] == [True, True, False]


async def test_generated_columns(connection: psycopg.AsyncConnection) -> None:
    virtual = "virtual" if connection.info.server_version >= 180000 else "stored"
    await connection.execute(
        f"""
        create table t (a int, s int generated always as (a + 1) stored,
            v int generated always as (a + 2) {virtual}, i int generated always as identity)
        """.encode()
    )
    table = await table_of(connection, "t")
    assert [each.generated for each in table.columns] == [False, True, True, False]
    assert [each.virtual for each in table.columns] == [
        False,
        False,
        virtual == "virtual",
        False,
    ]


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ("int", (None, True, True)),
        ('text collate "C"', ("C", True, True)),
        ('varchar collate "POSIX"', ("POSIX", True, True)),
        ('text collate "ucs_basic"', ("ucs_basic", True, True)),
        ('small_c collate "C"', ("C", True, True)),
        ("text[]", ("default", True, True)),  # template0's order is that of bytes
    ],
)
async def test_collations(
    connection: psycopg.AsyncConnection,
    definition: str,
    expected: tuple[str | None, bool, bool],
) -> None:
    await connection.execute("create domain small_c as text")
    found = await column(connection, definition)
    assert (found.collation, found.deterministic, found.bytewise) == expected


async def test_a_collation_of_the_c_library_is_not_called_bytewise(
    connection: psycopg.AsyncConnection,
) -> None:
    await connection.execute("create collation own (provider = libc, locale = 'C.UTF-8')")
    found = await column(connection, "text collate own")
    assert (found.collation, found.deterministic, found.bytewise) == ("own", True, False)


async def test_names_are_taken_as_they_are(connection: psycopg.AsyncConnection) -> None:
    await connection.execute(
        """create schema "Sch""x"; create table "Sch""x"."my.Table" ("Na""me" int primary key)"""
    )
    table = await table_of(connection, "my.Table", 'Sch"x')
    assert [each.name for each in table.columns] == ['Na"me']
    assert await load_table(connection, 'sch"x', "my.Table") is None
    assert await load_table_by_oid(connection, table.oid) == table


async def test_a_table_without_columns(connection: psycopg.AsyncConnection) -> None:
    await connection.execute("create table t ()")
    assert (await table_of(connection, "t")).columns == ()


@pytest.mark.parametrize(
    "statement",
    [
        "create view t as select 1 as a",
        "create materialized view t as select 1 as a",
        "create sequence t",
        "create type t as (a int)",
        "select 1",
    ],
)
async def test_only_tables_are_found(connection: psycopg.AsyncConnection, statement: str) -> None:
    await connection.execute(statement.encode())
    assert await load_table(connection, "public", "t") is None
    assert await load_table_by_oid(connection, 4_000_000_000) is None


async def test_partitions_and_their_ancestors(
    connection: psycopg.AsyncConnection, database: str
) -> None:
    await connection.execute(
        """
        create table root (a int, b int) partition by range (a);
        create table middle partition of root for values from (0) to (10) partition by range (b);
        create table leaf partition of middle for values from (0) to (10);
        create table parent (a int); create table child () inherits (parent);
        """
    )
    root, middle, leaf = [await table_of(connection, name) for name in ("root", "middle", "leaf")]
    assert [root.kind, middle.kind, leaf.kind] == ["p", "p", "r"]
    expected = ((middle.oid, "public", "middle"), (root.oid, "public", "root"))
    child = await table_of(connection, "child")
    with psycopg.connect(database) as blocking:
        assert read_ancestors(blocking, leaf.oid) == expected
        assert read_ancestors(blocking, middle.oid) == expected[1:]
        assert read_ancestors(blocking, root.oid) == ()
        assert read_ancestors(blocking, child.oid) == ()


@pytest.mark.parametrize(
    ("schema", "name"), [("pg_catalog", "pg_class"), ("information_schema", "sql_features")]
)
async def test_tables_of_the_system_are_no_tables(
    connection: psycopg.AsyncConnection, schema: str, name: str
) -> None:
    assert await load_table(connection, schema, name) is None
