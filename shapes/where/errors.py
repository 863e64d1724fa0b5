"""What can go wrong with a where clause."""

from __future__ import annotations

from engine.errors import PgtideError

SYNTAX_LOCATION_BASE = 15
"""Locations of syntax errors count from the start of a statement this many characters longer."""


class WhereError(PgtideError):
    """A where clause cannot be used: it is malformed, or not what Postgres and pgtide both evaluate
    to the same result. `location` is what clients are told; None where there is none to tell."""

    code = "invalid_where"

    def __init__(self, message: str, location: int | None = None) -> None:
        self.message = message
        self.location = location
        super().__init__(message if location is None else f"At location {location}: {message}")


class WhereSyntaxError(WhereError):
    """The text does not follow the grammar. `index` is the character where it stops to do so."""

    def __init__(self, message: str, index: int) -> None:
        super().__init__(message, SYNTAX_LOCATION_BASE + index)


class UnchangedValueError(PgtideError):
    """A filter needs the value of a column that the change left alone and Postgres did not send."""

    code = "unchanged_value"

    def __init__(self, column: str) -> None:
        self.column = column
        super().__init__(
            f'column "{column}" was not sent with the change; '
            "set REPLICA IDENTITY FULL on its table"
        )
