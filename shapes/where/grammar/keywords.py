"""Words of Postgres's grammar that cannot name a column unless they are quoted, and type names."""

from __future__ import annotations

_FUNCTIONS = """
    authorization binary collation concurrently cross current_schema freeze full ilike inner is
    isnull join left like natural notnull outer overlaps right similar tablesample verbose
"""
FUNCTION_WORDS = frozenset(_FUNCTIONS.split())
"""Reserved words that can name a function nevertheless."""

_RESERVED = """
    all analyse analyze and any array as asc asymmetric both case cast check collate column
    constraint create current_catalog current_date current_role current_time current_timestamp
    current_user default deferrable desc distinct do else end except false fetch for foreign from
    grant group having in initially intersect into lateral leading limit localtime localtimestamp
    not null offset on only or order placing primary references returning select session_user some
    symmetric system_user table then to trailing true union unique user using variadic when where
    window with
"""
RESERVED = frozenset(_RESERVED.split()) | FUNCTION_WORDS

_NO_FUNCTIONS = """
    between bigint bit boolean char character dec decimal float inout int integer interval
    merge_action national nchar none numeric out precision real setof smallint time timestamp
    values varchar
"""
NO_FUNCTIONS = frozenset(_NO_FUNCTIONS.split())
"""Words that can name a column but not a function."""

_VALUE_FUNCTIONS = """
    current_catalog current_date current_role current_schema current_time current_timestamp
    current_user localtime localtimestamp session_user system_user user
"""
VALUE_FUNCTIONS = frozenset(_VALUE_FUNCTIONS.split())
"""Words that are a value of their own: the user, the time."""

_CLAUSES = """
    group having order limit offset fetch for window union intersect except returning
"""
CLAUSES = frozenset(_CLAUSES.split())
"""Words that start the next clause of a statement, or the next statement."""

TYPE_ALIASES = {
    "bigint": "int8",
    "bool": "bool",
    "boolean": "bool",
    "bpchar": "bpchar",
    "bytea": "bytea",
    "character varying": "varchar",
    "date": "date",
    "dec": "numeric",
    "decimal": "numeric",
    "double precision": "float8",
    "float": "float8",
    "float4": "float4",
    "float8": "float8",
    "int": "int4",
    "int2": "int2",
    "int4": "int4",
    "int8": "int8",
    "integer": "int4",
    "interval": "interval",
    "json": "json",
    "jsonb": "jsonb",
    "macaddr": "macaddr",
    "name": "name",
    "numeric": "numeric",
    "real": "float4",
    "smallint": "int2",
    "text": "text",
    "time": "time",
    "time with time zone": "timetz",
    "time without time zone": "time",
    "timestamp": "timestamp",
    "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
    "timestamptz": "timestamptz",
    "timetz": "timetz",
    "uuid": "uuid",
    "varchar": "varchar",
}
"""How types may be written, to `pg_type.typname`. `char` is not here: it cuts to one character."""
