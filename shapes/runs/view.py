"""What clients see of runs: which field is made from which columns. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

from engine.postgres.table import Column, Table
from engine.runs.statuses import FINAL
from engine.runs.table import RunTable
from shapes.runs.presentation import Field, Make, Presentation
from shapes.runs.values import (
    JSON,
    error,
    later_time,
    metadata,
    number,
    packet_type,
    time,
    truth,
    wire_status,
)

SKIPPABLE = frozenset(
    """
    startedAt delayUntil queuedAt expiredAt completedAt number isTest usageDurationMs costInCents
    baseCostInCents ttl payload payloadType metadata metadataType output outputType runTags error
    realtimeStreams
    """.split()  # noqa: SIM905
)
"""Fields that clients can do without."""

_DAWN = "1970-01-01T00:00:00"


@dataclass(frozen=True)
class RunView:
    """The runs of a table, without the fields of `skipped`.

    `dated`: for clients from before there was a status DEQUEUED.
    """

    runs: RunTable
    skipped: frozenset[str] = frozenset()
    dated: bool = False

    @classmethod
    def of(cls, runs: RunTable, skipped: Iterable[str], *, dated: bool = False) -> RunView:
        """Names that nobody knows, and those that must not be missing, are passed over."""
        return _interned(cls(runs, SKIPPABLE.intersection(skipped), dated))

    @cached_property
    def identity(self) -> str:
        """What this view shows, as part of the identity of shapes."""
        names = sorted(self.skipped)
        return repr((self.runs.identity, names, self.dated))

    def presentation(self, table: Table) -> Presentation:
        """How rows of the table are shown. Raises RunTableError if they cannot be runs."""
        self.runs.check(table)
        fields = [one for one in _Fields(self, table).all() if one.name not in self.skipped]
        return Presentation(fields, self.runs.columns["id"], self.identity)


@lru_cache(maxsize=1024)
def _interned(view: RunView) -> RunView:
    """One object for all views that are equal: every definition that is remembered has one."""
    return view


class _Fields:
    """The fields of one table's runs."""

    def __init__(self, view: RunView, table: Table) -> None:
        self._view = view
        self._runs = view.runs
        self._columns = {column.name: column for column in table.columns}

    def all(self) -> list[Field]:
        """In the order in which they are shown."""
        fields = [
            *self._plain("id", "id"),
            *self._plain("friendlyId", "id"),
            *self._plain("taskIdentifier", "task", _or_nothing),
            self._made("status", "text", ("status",), self._status()),
            self._made("createdAt", "timestamp", ("created_at",), _first_time),
            self._made("updatedAt", "timestamp", ("updated_at", "created_at"), _first_time),
        ]
        for name, source in (
            ("startedAt", "started_at"),
            ("delayUntil", "delay_until"),
            ("queuedAt", "queued_at"),
            ("expiredAt", "expired_at"),
        ):
            if self._has(source):
                fields.append(self._made(name, "timestamp", (source,), later_time))
        fields.append(self._completion())
        fields += self._plain("number", "number", number, "int4")
        fields += self._plain("isTest", "is_test", truth, "bool")
        fields += self._plain("usageDurationMs", "usage_duration_ms", number, "int4")
        fields += self._plain("costInCents", "cost_in_cents", number, "float8")
        fields += self._plain("baseCostInCents", "base_cost_in_cents", number, "float8")
        fields += self._plain("ttl", "ttl")
        fields += self._packet("payload", "payloadType", "payload_type")
        if self._has("metadata"):
            fields.append(self._made("metadata", "text", ("metadata",), metadata))
            fields.append(Field("metadataType", "text", (), lambda: JSON))
        fields += self._packet("output", "outputType", "output_type")
        fields += self._array("runTags", "tags")
        if self._has("error"):
            fields.append(self._made("error", "jsonb", ("error",), error))
        fields += self._array("realtimeStreams", "realtime_streams")
        return fields

    # -- kinds of fields ---------------------------------------------------------------------------

    def _plain(
        self, name: str, source: str, make: Make | None = None, kind: str = "text"
    ) -> list[Field]:
        """A column as it is, but for what `make` puts in the place of NULL."""
        column = self._column(source)
        if column is None:
            constant = self._runs.constants.get(source)
            return [] if constant is None else [Field(name, kind, (), lambda: constant)]
        return [Field(name, kind, (column.name,), None if column.not_null else make)]

    def _made(self, name: str, kind: str, sources: tuple[str, ...], make: Make) -> Field:
        """A field made from those of its sources that there are; there is at least one."""
        columns = [self._column(source) for source in sources]
        names = tuple(column.name for column in columns if column is not None)
        return Field(name, kind, names, make)

    def _array(self, name: str, source: str) -> list[Field]:
        column = self._column(source)
        return [] if column is None else [Field(name, "text", (column.name,), dims=1)]

    def _packet(self, name: str, type_name: str, type_source: str) -> list[Field]:
        """The data, and how it is encoded."""
        data, kind = self._column(name), self._column(type_source)
        if data is None:
            return []
        constant = self._runs.constants.get(type_source)
        if kind is None:
            made = Field(type_name, "text", (data.name,), partial(packet_type, constant))
        else:
            made = Field(type_name, "text", (kind.name, data.name), packet_type)
        return [Field(name, "text", (data.name,)), made]

    def _status(self) -> Callable[[str | None], str]:
        status, dated = self._runs.status, self._view.dated

        def make(word: str | None) -> str:
            found = status(word or "")
            return "EXECUTING" if dated and found == "DEQUEUED" else wire_status(found)

        return make

    def _completion(self) -> Field:
        """When a run was over. Clients go by this and not by the status: a run that is over has it,
        whether its table has a column for it or not."""
        status = self._runs.status
        noted = self._has("completed_at")
        others = ("updated_at",) if self._has("updated_at") else ()

        def make(word: str | None, *times: str | None) -> str | None:
            if noted and (end := later_time(times[0])) is not None:
                return end
            return _first_time(*times[noted:]) if status(word or "") in FINAL else None

        sources = ("status", *(("completed_at",) if noted else ()), *others, "created_at")
        return self._made("completedAt", "timestamp", sources, make)

    def _has(self, name: str) -> bool:
        return self._column(name) is not None

    def _column(self, name: str) -> Column | None:
        column = self._runs.column(name)
        return None if column is None else self._columns[column]


def _or_nothing(text: str | None) -> str:
    return text or ""


def _first_time(*times: str | None) -> str:
    """The first that there is."""
    return next((found for text in times if (found := time(text)) is not None), _DAWN)
