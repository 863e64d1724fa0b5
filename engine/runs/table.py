"""The table whose rows are the runs: `pgtide.runs`, or a table of the user's. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.errors import SettingsError
from engine.postgres.sql_text import quote_ident, quote_name
from engine.postgres.table import Column, Table
from engine.runs.statuses import status_of

FIELDS = (
    "id",
    "environment_id",
    "task",
    "status",
    "tags",
    "batch_id",
    "parent_id",
    "root_id",
    "metadata",
    "metadata_version",
    "payload",
    "payload_type",
    "output",
    "output_type",
    "error",
    "number",
    "attempt_number",
    "is_test",
    "usage_duration_ms",
    "cost_in_cents",
    "base_cost_in_cents",
    "ttl",
    "realtime_streams",
    "idempotency_key",
    "one_time_use_token",
    "created_at",
    "updated_at",
    "delay_until",
    "queued_at",
    "started_at",
    "completed_at",
    "expired_at",
    "depth",
    "trigger_function",
    "idempotency_key_expires_at",
)
"""What a run may have, by the names of `pgtide.runs`."""

UNSEEN = frozenset(("depth", "trigger_function", "idempotency_key_expires_at"))
"""Fields that followers do not read, so that they need not be there for them."""

REQUIRED = ("id", "status", "created_at")
"""Without a column for each of these no table can be one of runs."""

CONSTANTS = ("environment_id", "task", "payload_type", "output_type")
"""What may be the same for all runs of a table that has no column for it."""

_NUMBERS = frozenset(("int2", "int4", "int8", "numeric", "float4", "float8"))
_TIMES = frozenset(("timestamptz", "timestamp", "date"))
_DOCUMENTS = frozenset(("json", "jsonb", "text", "varchar"))
_TEXTS = frozenset(("text", "varchar", "bpchar"))
_WORDS = ("task", "environment_id")
"""What may be an enum."""

_ARRAYS = ("tags", "realtime_streams")

_KINDS: Mapping[str, frozenset[str]] = {
    "environment_id": _TEXTS,
    "task": _TEXTS,
    "id": _TEXTS | {"int2", "int4", "int8", "uuid"},
    "batch_id": _TEXTS | {"int2", "int4", "int8", "uuid"},
    "metadata": _DOCUMENTS,
    "error": _DOCUMENTS,
    "is_test": frozenset(("bool",)),
    **dict.fromkeys(_ARRAYS, frozenset(("text", "varchar"))),
    **dict.fromkeys(
        (
            *("number", "attempt_number", "metadata_version", "usage_duration_ms"),
            *("cost_in_cents", "base_cost_in_cents"),
        ),
        _NUMBERS,
    ),
    **dict.fromkeys(
        (
            *("created_at", "updated_at", "delay_until", "queued_at", "started_at"),
            *("completed_at", "expired_at"),
        ),
        _TIMES,
    ),
}
"""Types that a field's column may have; a field that is not here may have any."""


class RunTableError(SettingsError):
    """The table that is to have the runs is not there, or is not as it has to be."""

    code = "run_table"


@dataclass(frozen=True, slots=True, eq=False)
class RunTable:
    """`columns` has the table's column for each field that it has; `constants` the value of fields
    that are the same for all its runs. `statuses` has the status of a run (COMPLETED, …) for each
    word that the table has for one, where they differ."""

    schema: str = "pgtide"
    name: str = "runs"
    columns: Mapping[str, str] = field(default_factory=lambda: {name: name for name in FIELDS})
    statuses: Mapping[str, str] = field(default_factory=dict[str, str])
    constants: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def identity(self) -> tuple[object, ...]:
        """What makes this another table than others, for all processes the same."""
        parts = (self.columns, self.statuses, self.constants)
        return (self.schema, self.name, *(sorted(part.items()) for part in parts))

    @property
    def sql(self) -> str:
        """The table's name, quoted."""
        return quote_name(self.schema, self.name)

    def column(self, name: str) -> str | None:
        """The table's column for a field; None if it has none."""
        return self.columns.get(name)

    def quoted(self, name: str) -> str:
        """The table's column for a field that it has, quoted."""
        return quote_ident(self.columns[name])

    def status(self, word: str) -> str:
        """The status that a word of the table means."""
        return self.statuses.get(word) or status_of(word)

    def word(self, status: str) -> str:
        """The table's word for a status."""
        return next((word for word, one in self.statuses.items() if one == status), status)

    def check(self, table: Table) -> None:
        """Raises RunTableError if the table's rows cannot be runs."""
        there = {column.name: column for column in table.columns}
        for name, column in self.columns.items():
            if name in UNSEEN and column not in there:
                continue
            if column not in there:
                own = (self.schema, self.name) != ("pgtide", "runs")
                remedy = (
                    "correct [runs.columns] in the settings file" if own else "run `pgtide migrate`"
                )
                raise RunTableError(
                    f'the table {self.schema}.{self.name} of runs has no column "{column}" for '
                    f"`{name}`: {remedy}"
                )
            _check_type(name, there[column])


def _check_type(name: str, column: Column) -> None:
    kinds = _KINDS.get(name)
    array = name in _ARRAYS
    fits = kinds is None or (column.base or column.type) in kinds
    fits = fits or (column.kind == "e" and name in _WORDS)
    if column.dims and not array:
        fits = False
    if not fits or (array and not column.dims):
        wanted = f"one of {', '.join(sorted(kinds))}" if kinds else "no array"
        raise RunTableError(
            f'the column "{column.name}" cannot be `{name}` of the runs: its type is '
            f"{column.type}{'[]' * column.dims} and not {'an array of ' * array}{wanted}"
        )
