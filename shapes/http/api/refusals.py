"""From what goes wrong with runs to answers."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import asyncpg

from shapes.http.api.call import ApiError
from shapes.http.api.complaints import complaints
from shapes.http.responses import Header
from shapes.runs.new_run import InvalidRunError
from shapes.runs.run_conditions import MissingColumnError

# Asking again makes no difference before somebody has done something.
_DO_NOT_RETRY: tuple[Header, ...] = ((b"x-should-retry", b"false"),)

_NOT_MIGRATED = (
    "The database lacks tables or columns that pgtide needs: run `pgtide migrate`; if the runs are in "
    "a table of your own, look at [runs] in the settings file"
)
_NOT_ALLOWED = "pgtide's role lacks a right that this takes: grant it what sql/roles.sql grants"
_NOT_TAKEN = (
    "The table of runs does not take this: a value is of another type than its column, or breaks a "
    "constraint, or there is a NUL character. pgtide's log says more"
)


@contextmanager
def refusing() -> Generator[None]:
    """Raises ApiError for what is wrong with a request, or with the table of runs."""
    try:
        yield
    except InvalidRunError as error:
        raise ApiError(error.status, str(error)) from error
    except MissingColumnError as error:
        raise ApiError(422, str(error)) from error
    except (asyncpg.SyntaxOrAccessError, asyncpg.InvalidSchemaNameError) as error:
        if isinstance(error, asyncpg.InsufficientPrivilegeError):
            complaints.warn(f"{error.args[0]}: grant pgtide's role what sql/roles.sql grants")
            raise ApiError(503, _NOT_ALLOWED, _DO_NOT_RETRY) from error
        if not isinstance(error, _ABSENT):
            raise
        complaints.warn(
            f"{error.args[0]}: run `pgtide migrate`, or correct [runs] in the settings file"
        )
        raise ApiError(503, _NOT_MIGRATED, _DO_NOT_RETRY) from error
    except (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError) as error:
        # Without its details, which show values.
        complaints.warn(f"the table of runs refused a row: {error.args[0]}")
        raise ApiError(422, _NOT_TAKEN) from error


_ABSENT = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedFunctionError,
    asyncpg.UndefinedObjectError,
    asyncpg.InvalidSchemaNameError,
)
