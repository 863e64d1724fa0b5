"""Rows of pgtide.streams as states."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import asyncpg
import orjson
from psycopg import errors

from shapes.streams.refusals import StreamTablesError
from shapes.streams.stream import StreamState

COLUMNS: Final = """
    id, environment_id, path, content_type, head, tail, bytes, closed, ttl_seconds,
    extract(epoch from expires_at)::float8 as expires, expires_text,
    nullif(lineage, '[]')::text as lineage, first_part,
    deleted_at is not null or coalesce(expires_at <= clock_timestamp(), false) as gone, forks
"""

COUNT: Final = 15

_MISSING = (
    *(errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction),
    *(errors.InvalidSchemaName, asyncpg.InvalidSchemaNameError),
    *(asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.UndefinedFunctionError),
)
_FORBIDDEN = (errors.InsufficientPrivilege, asyncpg.InsufficientPrivilegeError)


def state_of(row: Sequence[Any]) -> StreamState:
    """From the values of COLUMNS."""
    lineage: tuple[tuple[int, int], ...] = ()
    if row[11] is not None:
        lineage = tuple((one, upto) for one, upto in orjson.loads(row[11]))
    fields: tuple[Any, ...] = (*row[:11], lineage, row[13], row[12])
    return StreamState(*fields)


@contextmanager
def explained() -> Generator[None]:
    """Of tables that are missing, or that pgtide's role may not use, raise StreamTablesError."""
    try:
        yield
    except _MISSING as error:
        raise StreamTablesError.missing() from error
    except _FORBIDDEN as error:
        raise StreamTablesError.forbidden() from error
