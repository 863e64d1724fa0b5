"""What a request says a shape should be. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol, cast

from engine.errors import PgtideError
from engine.postgres.table import Table
from shapes.access.grant import TableGrant
from shapes.runs.presentation import Presentation
from shapes.windows.window import Window

Errors = Mapping[str, "list[str] | str | Errors"]
"""What is wrong with which parameter; the parameters of a subset have a mapping of their own."""

Invalid = dict[str, "list[str] | str | Errors"]
"""Errors while they are gathered."""


class InvalidRequestError(PgtideError):
    """The request cannot be served as it is; `errors` says what is wrong with which parameter."""

    code = "invalid_request"

    def __init__(self, errors: Errors) -> None:
        super().__init__("; ".join(_lines("", errors)))
        self.errors = errors

    @classmethod
    def of(cls, field: str, message: str) -> InvalidRequestError:
        """The error of one parameter."""
        return cls({field: [message]})

    @classmethod
    def of_subset(cls, field: str, message: str) -> InvalidRequestError:
        """The error of one parameter of the subset."""
        return cls({"subset": {field: [message]}})


def _lines(path: str, errors: Errors) -> Iterator[str]:
    for field, found in errors.items():
        if isinstance(found, Mapping):
            yield from _lines(f"{path}{field}.", found)
        else:
            for message in [found] if isinstance(found, str) else found:
                yield f"{path}{field}: {message}"


def texts_of(values: object) -> tuple[tuple[str, str], ...] | None:
    """A JSON object's members as texts; None if it is no object, or one of plain values."""
    if not isinstance(values, dict):
        return None
    texts: list[tuple[str, str]] = []
    for name, value in cast("dict[str, object]", values).items():
        if isinstance(value, bool):
            texts.append((name, "true" if value else "false"))
        elif isinstance(value, str | int | float):
            texts.append((name, str(value)))
        else:
            return None
    return tuple(sorted(texts))


class View(Protocol):
    """How the rows of a shape are to look. Views are compared by what they show."""

    def __hash__(self) -> int: ...

    def presentation(self, table: Table) -> Presentation:
        """What it shows of a table."""
        ...


class Definition(NamedTuple):
    """The parameters that make up a shape, as they came. `params` are (number, value) as texts.

    `queryable_columns` bounds `columns` and stands in for it where it is missing. With a `view` its
    columns are delivered, in its form. `within` limits rows, and the columns that `where` may name.
    """

    table: str
    where: str | None = None
    params: tuple[tuple[str, str], ...] = ()
    columns: str | None = None
    full_replica: bool = False
    changes_only: bool = False
    queryable_columns: str | None = None
    view: View | None = None
    window: Window | None = None
    within: TableGrant | None = None


class Subset(NamedTuple):
    """A one-off query over a shape's rows, as it came.

    `params` belong to its own `where`: a JSON object, or (number, value) as texts.
    """

    where: str | None = None
    params: str | tuple[tuple[str, str], ...] = ()
    order_by: str | None = None
    limit: int | None = None
    offset: int | None = None
