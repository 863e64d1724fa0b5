"""Which shapes the requests for runs mean. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from sys import intern

from engine.postgres.sql_text import quote_name
from engine.runs.table import RunTable
from shapes.access.grant import Grant
from shapes.access.scopes import ANY_ACTION, Resource
from shapes.definition import Definition
from shapes.runs.durations import duration_of
from shapes.runs.view import RunView
from shapes.windows.window import Window

READ = "read"
LOOK_BACK_SECONDS = 86400
LONGEST_LOOK_BACK = 100
"""Characters."""
RUNS, TASKS, TAGS, BATCH = "runs", "tasks", "tags", "batch"


def look_back(text: str | None) -> int:
    """How many seconds back a list of runs goes; those of a day if nobody says so in a way that can be
    understood. From an hour on they are whole minutes, from a day on whole hours: each length is a
    window to be moved on, and readers of nearly the same one can share it."""
    if text is None or len(text) > LONGEST_LOOK_BACK:
        return LOOK_BACK_SECONDS
    found = duration_of(text.strip())
    seconds = int(found.total_seconds()) if found else LOOK_BACK_SECONDS
    unit = 3600 if seconds >= 86400 else 60 if seconds >= 3600 else 1
    return -(-seconds // unit) * unit


class RunShapes:
    """The definitions of shapes of one table of runs, for one environment."""

    def __init__(self, runs: RunTable, environment: str, view: RunView) -> None:
        self._runs = runs
        self._environment = environment
        self._view = view

    def run(self, run_id: str, grant: Grant) -> Definition:
        """One run, as long as the grant allows to read it."""
        clause = _Clause(self._runs)
        clause.require("id", "=", run_id)
        clause.require_any(narrowing(grant, run_id))
        return self._definition(clause)

    def batch(self, batch_id: str) -> Definition:
        """The runs of a batch."""
        clause = _Clause(self._runs)
        clause.require("batch_id", "=", batch_id)
        return self._definition(clause)

    def tagged(self, tags: Sequence[str], seconds: int) -> Definition:
        """The runs that have all of the tags and were created at most so long ago."""
        clause = _Clause(self._runs)
        if tags:
            clause.require("tags", "@>", array_text(sorted(set(tags))))
        window = Window(self._runs.columns["created_at"], seconds)
        return self._definition(clause)._replace(window=window)

    def _definition(self, clause: _Clause) -> Definition:
        if self._runs.column("environment_id") is not None:
            clause.require("environment_id", "=", self._environment)
        elif self._runs.constants.get("environment_id", self._environment) != self._environment:
            clause.refuse()
        # Values are parameters, so there are few of these texts and very many definitions.
        table = intern(quote_name(self._runs.schema, self._runs.name))
        where = intern(clause.sql) or None
        return Definition(table, where, clause.params, view=self._view)


class _Clause:
    """A filter that is being put together; values are parameters."""

    def __init__(self, runs: RunTable) -> None:
        self._runs = runs
        self._conditions: list[str] = []
        self._values: list[str] = []

    def require(self, name: str, operator: str, value: str) -> None:
        self._conditions.append(self._comparison(name, operator, value))

    def require_any(self, resources: Iterable[Resource] | None) -> None:
        """Rows that are one of the resources; all if it is None."""
        if resources is None:
            return
        tags = sorted(one.id for one in resources if one.type == TAGS and one.id is not None)
        found = [self._comparison("tags", "&&", array_text(tags))] if tags else []
        for resource in sorted(resources, key=str):
            if resource.type == TAGS and resource.id is None:
                found.append(self._test("cardinality({}) > 0", "tags"))
            elif resource.type == BATCH and resource.id is None:
                found.append(self._test("{} is not null", "batch_id"))
            elif resource.type != TAGS and resource.id is not None:
                name = "task" if resource.type == TASKS else "batch_id"
                found.append(self._comparison(name, "=", resource.id))
        self._conditions.append(f"({' or '.join(found or ['false'])})")

    def refuse(self) -> None:
        """No row at all."""
        self._conditions.append("false")

    def _test(self, condition: str, name: str) -> str:
        return (
            "false"
            if self._runs.column(name) is None
            else condition.format(self._runs.quoted(name))
        )

    def _comparison(self, name: str, operator: str, value: str) -> str:
        if self._runs.column(name) is None:
            # All rows have the same value, or none.
            return "true" if self._runs.constants.get(name) == value else "false"
        self._values.append(value)
        return f"{self._runs.quoted(name)} {operator} ${len(self._values)}"

    @property
    def sql(self) -> str:
        return " and ".join(self._conditions)

    @property
    def params(self) -> tuple[tuple[str, str], ...]:
        return tuple((str(number), value) for number, value in enumerate(self._values, 1))


def narrowing(grant: Grant, run_id: str) -> frozenset[Resource] | None:
    """What a run must be, or have, for the grant to allow reading it. None if it allows that
    whatever the run is."""
    if grant.allows_any(READ, [Resource(RUNS, run_id), Resource(TASKS)]):
        return None
    return frozenset(
        Resource(scope.type, scope.id)
        for scope in grant.scopes or ()
        if scope.action in (READ, ANY_ACTION)
        and scope.type in (TASKS, TAGS, BATCH)
        and scope.id != ""
    )


def array_text(values: Iterable[str]) -> str:
    """An array of texts as Postgres reads it."""
    return "{" + ",".join(f'"{_escaped(value)}"' for value in values) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
