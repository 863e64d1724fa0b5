"""Upper and lower case of collations, as the database tells it."""

from __future__ import annotations

import psycopg

from shapes.catalog.casing import load_letters
from shapes.where import Letters

TEXTS = ("ABC", "Éß", "ǅ", "İı", "ΑΣ", "\U00010400", "ﬀ", "日本", "ſK")


async def test_letters_are_those_of_the_database(database: str) -> None:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        for collation in ("default", "C", "ucs_basic"):
            letters = await load_letters(connection, collation)
            assert isinstance(letters, Letters)
            assert letters.ascii or collation == "default"
            for text in TEXTS:
                query = f'select lower(%s collate "{collation}"), upper(%s collate "{collation}")'
                cursor = await connection.execute(query.encode(), (text, text))
                assert (letters.lower(text), letters.upper(text)) == await cursor.fetchone()


async def test_what_depends_on_neighbours_is_refused(database: str) -> None:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        cursor = await connection.execute(
            "select collname from pg_collation where collprovider = 'i'"
        )
        names = [name for (name,) in await cursor.fetchall()] + ["pg_unicode_fast", "nothing"]
        for name in names:
            refusal = await load_letters(connection, name)
            assert isinstance(refusal, str)
            assert f'"{name}"' in refusal


async def test_a_name_in_two_schemas_is_refused(database: str) -> None:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        for schema in ("one", "two"):
            await connection.execute(f"create schema {schema}".encode())
            await connection.execute(f'create collation {schema}.same from "C"'.encode())
        assert isinstance(await load_letters(connection, "same"), str)
