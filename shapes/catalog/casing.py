"""Upper and lower case of a database's collations, read from the database itself."""

from __future__ import annotations

from typing import LiteralString

import psycopg
from psycopg import sql

from shapes.where import Letters, make_letters

# The provider and locale of a collation by name; the row of "default" stands for the database's own.
# The columns of both catalogs differ between versions, hence the detour over JSON.
_COLLATIONS: LiteralString = """
    select
        n.nspname,
        case when l.collprovider = 'd'
            then coalesce(to_jsonb(db) ->> 'datlocprovider', 'c')
            else l.collprovider::text
        end as provider,
        case when l.collprovider = 'd'
            then to_jsonb(db) ->> 'datlocale'
            else to_jsonb(l) ->> 'colllocale'
        end as locale
    from pg_collation l
    join pg_namespace n on n.oid = l.collnamespace
    join pg_database db on db.datname = current_database()
    where l.collname = %s and l.collencoding in (-1, db.encoding)
"""
# All that has a case today is below this character.
_LETTERS: LiteralString = """
    with cased as (
        select
            code, chr(code) as letter,
            lower(chr(code) collate {collation}) collate "C" as small,
            upper(chr(code) collate {collation}) collate "C" as large
        from generate_series(1, 131071) code
        where code not between 55296 and 57343
    )
    select code, nullif(small, letter), nullif(large, letter) from cased
    where small <> letter or large <> letter
"""
_CONTEXT = "PG_UNICODE_FAST"
"""The one locale of Postgres itself in which a letter's case depends on its neighbours."""


async def load_letters(connection: psycopg.AsyncConnection, collation: str) -> Letters | str:
    """Upper and lower case in the collation of this name, or the reason why it cannot be known."""
    cursor = await connection.execute(_COLLATIONS, (collation,))
    found = await cursor.fetchall()
    refusal = (
        f'upper and lower case depend on the collation "{collation}", which only the database '
        'knows; add COLLATE "C" to the column'
    )
    if len(found) != 1:
        return refusal
    schema, provider, locale = found[0]
    if provider not in ("b", "c") or (provider == "b" and locale == _CONTEXT):
        return refusal
    name = sql.Identifier(schema, collation)
    cursor = await connection.execute(sql.SQL(_LETTERS).format(collation=name))
    rows = await cursor.fetchall()
    if any(len(one) > 1 for row in rows for one in row[1:] if one is not None):
        return refusal
    return make_letters(
        {code: small for code, small, _ in rows if small is not None},
        {code: large for code, _, large in rows if large is not None},
    )
