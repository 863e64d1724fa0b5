"""Conditions on the rows of a table of runs, with values of whatever types its columns have. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from engine.errors import PgtideError
from engine.runs.table import RunTable


class MissingColumnError(PgtideError):
    """The table of runs lacks a column that something needs."""

    code = "missing_column"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the table of runs has no column for `{name}`, which this needs: "
            "map one under [runs.columns] in the settings file"
        )


def needed(table: RunTable, name: str) -> str:
    """The column of a field, quoted. Raises MissingColumnError."""
    if table.column(name) is None:
        raise MissingColumnError(name)
    return table.quoted(name)


def record_of(table: RunTable, values: Mapping[str, Any]) -> str:
    """What `json_populate_record` turns into a row with these values of fields."""
    return orjson.dumps({table.columns[name]: value for name, value in values.items()}).decode()


class Conditions:
    """What rows of the table (`r`) must fulfil. `values` are the statement's parameters so far."""

    def __init__(self, table: RunTable, environment: str, values: list[Any] | None = None) -> None:
        """Rows of the environment."""
        self._table = table
        self.values: list[Any] = [] if values is None else values
        self._parts: list[str] = []
        self.equal("environment_id", environment, optional=True)

    @property
    def sql(self) -> str:
        return " and ".join(self._parts) or "true"

    def parameter(self, value: object) -> str:
        """The place of a value in the statement."""
        self.values.append(value)
        return f"${len(self.values)}"

    def add(self, condition: str) -> None:
        """A condition without values, or with those of `parameter`."""
        self._parts.append(condition)

    def equal(self, name: str, value: str, *, optional: bool = False) -> None:
        """The field has this value. A table without such a column has its constant, or, if that is
        not `optional`, none. A value that cannot be one of the column's type is an error of
        Postgres's (class 22)."""
        self.one_of(name, [value], optional=optional)

    def one_of(self, name: str, values: Sequence[str], *, optional: bool = False) -> None:
        """The field has one of these values."""
        table = self._table
        if table.column(name) is None:
            constant = table.constants.get(name)
            if constant is None and not optional:
                raise MissingColumnError(name)
            if constant is not None and constant not in values:
                self._parts.append("false")
            return
        column = table.quoted(name)
        if len(values) == 1:
            place = self.parameter(record_of(table, {name: values[0]}))
            read = f"json_populate_record(null::{table.sql}, {place}::json)"
            self._parts.append(f"r.{column} = (select n.{column} from {read} as n)")
            return
        records = orjson.dumps([{table.columns[name]: value} for value in values]).decode()
        read = f"json_populate_recordset(null::{table.sql}, {self.parameter(records)}::json)"
        self._parts.append(f"r.{column} in (select n.{column} from {read} as n)")
