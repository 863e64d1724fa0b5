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


def unsupported(node: str, at: int) -> WhereError:
    """The refusal of a construct, named as Postgres's parser names it."""
    return WhereError(f"{node} is not supported in this context", at)


class SubqueryError(WhereError):
    """The clause has a subquery, where none is possible."""


class MissingLettersError(WhereError):
    """The clause asks for upper or lower case in a collation whose letters are not known yet."""

    def __init__(self, collation: str, location: int) -> None:
        self.collation = collation
        super().__init__(
            f'the letters of the collation "{collation}" are not known; add COLLATE "C"', location
        )


class MissingZoneError(WhereError):
    """The clause names a time zone of which it is not known yet what it means to the database."""

    def __init__(self, zone: str) -> None:
        self.zone = zone
        super().__init__(f'the rules of the time zone "{zone}" are not known')


class EnumLabelError(WhereError):
    """A constant is no label of the enum that it is compared with; `message` is Postgres's own."""


class EvaluationError(PgtideError):
    """A condition cannot be evaluated for a row: Postgres raises an error for it, too.

    A text that is no number was cast to one, a division is by zero, a result is out of range. What a
    client may see says nothing of the row's values.
    """

    code = "filter_failed"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"the filter fails for a row ({reason}); guard it with CASE, or correct the row"
        )


class Failure(ValueError):
    """What Postgres raises an error for while it evaluates; the message is its own, without values."""


class UnknownLabelError(EvaluationError):
    """A filter asks for the order of an enum's label that was added after it had been checked: the
    table must be looked up again."""

    def __init__(self) -> None:
        super().__init__("an enum has a label that it did not have when the filter was checked")


class UnchangedValueError(PgtideError):
    """A filter needs the value of a column that the change left alone and Postgres did not send."""

    code = "unchanged_value"

    def __init__(self, column: str) -> None:
        self.column = column
        super().__init__(
            f'column "{column}" was not sent with the change; '
            "set REPLICA IDENTITY FULL on its table"
        )
