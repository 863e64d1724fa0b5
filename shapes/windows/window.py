"""Windows: shapes whose rows leave as time goes by. Pure.

A row is in a window as long as its column is not older than a cut-off, which moves now and then by a
step. The cut-off is a place in time as text, in the form in which Postgres prints the column's values
in UTC: texts of that form sort as the times do, which makes the test one comparison of strings.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from engine.postgres.table import Column, Table

TYPES: Final = frozenset(("timestamp", "timestamptz", "date"))

_EPOCH: Final = datetime(1970, 1, 1)

LONGEST_SECONDS: Final = 100 * 366 * 86400


LEAST_STEP: Final = 5
STEPS: Final = 24
"""A cut-off moves once in `LEAST_STEP` seconds at most, and in a 24th part of the window at least."""


class WindowError(ValueError):
    """A window that the table cannot have; says why, in words for the client."""


class Window(NamedTuple):
    """Rows whose `column` is not older than `seconds`."""

    column: str
    seconds: int


def check_window(window: Window, table: Table) -> Column:
    """The column that a window goes by. Raises WindowError."""
    column = next((one for one in table.columns if one.name == window.column), None)
    if column is None:
        raise WindowError(f'column "{window.column}" does not exist')
    if column.dims or (column.base or column.type) not in TYPES:
        raise WindowError(
            f'column "{window.column}" is of type {column.type}: a window needs a timestamp or date'
        )
    if not 0 < window.seconds <= LONGEST_SECONDS:
        raise WindowError("a window is at least a second and at most a hundred years long")
    return column


def is_date(window: Window, table: Table) -> bool:
    """Whether the window goes by days."""
    return any(
        column.name == window.column and (column.base or column.type) == "date"
        for column in table.columns
    )


def step_of(window: Window, longest: float) -> int:
    """The seconds by which a cut-off moves at a time: how much longer than asked for a row may stay."""
    return max(1, min(int(longest), max(LEAST_STEP, window.seconds // STEPS)))


def cutoff_at(window: Window, step: int, now: float, *, date: bool) -> str:
    """Where the cut-off belongs at a time (Unix seconds): the same for all nodes."""
    seconds = (now - window.seconds) // step * step
    moment = _EPOCH + timedelta(seconds=seconds)
    return moment.isoformat(" ", "seconds")[: 10 if date else 19]
