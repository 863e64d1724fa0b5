"""Which of a table's columns a shape delivers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from engine.postgres.table import Column, Table
from shapes.definition import InvalidRequestError
from shapes.identifiers import parse_columns


def column_names(field: str, text: str) -> tuple[str, ...]:
    """The names in the parameter `field`. Raises InvalidRequestError."""
    try:
        return tuple(parse_columns(text))
    except ValueError as error:
        raise InvalidRequestError.of(field, str(error)) from error


def queryable(table: Table, text: str | None) -> tuple[Column, ...]:
    """The columns that a request may name. Raises InvalidRequestError."""
    if text is None:
        return table.columns
    names = column_names("queryable_columns", text)
    missing = _missing(table, names)
    if missing:
        raise InvalidRequestError.of(
            "queryable_columns",
            "The list of queryable columns must include all primary key columns, missing: "
            f"{', '.join(missing)}",
        )
    unknown = _unknown(table.columns, names)
    if unknown:
        raise InvalidRequestError.of(
            "queryable_columns",
            "The following queryable columns are not found on the table: " + ", ".join(unknown),
        )
    return tuple(column for column in table.columns if column.name in names)


def selected(
    table: Table,
    names: tuple[str, ...] | None,
    allowed: tuple[Column, ...],
    *,
    generated: bool,
) -> tuple[Column, ...]:
    """The columns to deliver: those of `names`, or all that are `allowed`.

    `generated`: the publication sends stored generated ones. Raises InvalidRequestError.
    """
    unsent = {
        column.name
        for column in table.columns
        if column.generated and (column.virtual or not generated)
    }
    if names is None:
        hidden = [column.name for column in allowed if column.name in unsent]
        if hidden:
            raise InvalidRequestError.of(
                "columns",
                "The following columns are generated and cannot be included in the shape: "
                f"{', '.join(hidden)}. You can exclude them from the shape by explicitly listing "
                "which columns to fetch in the 'columns' query param",
            )
        return allowed
    unknown = _unknown(allowed, names)
    if unknown:
        raise InvalidRequestError.of(
            "columns", f"The following columns are not found on the table: {', '.join(unknown)}"
        )
    refused = [name for name in names if name in unsent]
    if refused:
        raise InvalidRequestError.of(
            "columns",
            "The following columns are generated and cannot be included in the shape: "
            f"{', '.join(refused)}",
        )
    missing = _missing(table, names)
    if missing:
        raise InvalidRequestError.of(
            "columns",
            f"The list of columns must include all primary key columns, missing: {', '.join(missing)}",
        )
    return tuple(column for column in table.columns if column.name in names)


def part_of(table: Table, names: Sequence[str]) -> Table:
    """The table as it looks to somebody who may see these columns alone."""
    return replace(table, columns=tuple(one for one in table.columns if one.name in names))


def _missing(table: Table, names: Sequence[str]) -> list[str]:
    """Of a table without a primary key all columns count as its key."""
    keys = table.primary_key or table.columns
    return [column.name for column in keys if column.name not in names]


def _unknown(columns: Iterable[Column], names: Sequence[str]) -> list[str]:
    known = {column.name for column in columns}
    return [name for name in names if name not in known]
