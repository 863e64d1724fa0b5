"""From request parameters to shapes, against the catalog."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from engine.log.layout import RelationVersion
from engine.postgres.publication_errors import GeneratedColumnsNotPublishedError
from engine.postgres.table import Table
from engine.postgres.table_state import EVERYTHING
from shapes.access.grant import ForbiddenError
from shapes.catalog.casing import load_letters
from shapes.catalog.publishing import Publishing
from shapes.catalog.table_ledger import TableLedger
from shapes.catalog.tables import Listener, Tables
from shapes.catalog.zones import load_zone
from shapes.database import Database
from shapes.definition import Definition, InvalidRequestError, View
from shapes.identifiers import parse_table
from shapes.selection import column_names, part_of, queryable, selected
from shapes.shape import Handle, Projection, Shape, make_shape
from shapes.where import (
    Condition,
    Letters,
    MissingLettersError,
    MissingZoneError,
    WhereError,
    learn_zone,
    narrowed,
    parse_where,
)
from shapes.windows.window import Window, WindowError, check_window

MAX_REMEMBERED = 200_000

K = TypeVar("K")
V = TypeVar("V")


class _Frozen(NamedTuple):
    """A shape without the columns that were added since; `since` when this node first met it."""

    shape: Shape
    since: float


class Definitions:
    """Resolves definitions, and remembers shapes while their tables stay as they are."""

    def __init__(
        self,
        database: Database,
        ledger: TableLedger,
        publication: str,
        *,
        manual: bool,
        on_ended: Callable[[int, frozenset[str]], None],
        interval: float,
        added_column_grace: float,
        epoch: Callable[[], int],
    ) -> None:
        """`on_ended` is told which columns (the column "" stands for all) of a table, by oid, are no
        longer what their readers have. `interval` is the time between looks at the catalog in
        seconds; `added_column_grace` the one for which readers who come back may go on without it.
        `epoch` tells the log's."""
        listener = Listener(self.forget, on_ended, self.mend)
        self._tables = Tables(
            database, ledger, publication, listener, interval=interval, epoch=epoch
        )
        self._publishing = Publishing(database, self._tables, publication, manual=manual)
        self._database = database
        self._publication = publication
        self._letters: dict[str, Letters | str] = {}
        self._shapes: dict[Definition, Shape] = {}
        self._grace = added_column_grace
        self._frozen: dict[tuple[Definition, int], _Frozen] = {}
        self._projections: dict[tuple[int, tuple[str, ...] | int | View | None], Projection] = {}

    # -- shapes ------------------------------------------------------------------------------------

    async def resolve(self, definition: Definition) -> Shape:
        """The shape that a request means.

        Raises InvalidRequestError, and DatabaseUnavailableError if the catalog cannot be asked.
        """
        shape = self._shapes.get(definition)
        if shape is None or not self._tables.agreed((shape.table.schema, shape.table.name)):
            shape = await self._resolve_anew(definition)
            _remember(self._shapes, definition, shape)
        return shape

    def held(
        self, definition: Definition, shape: Shape, handle: str | None, *, live: bool
    ) -> Shape:
        """The shape whose handle this is: `shape`, which the definition means now, or that shape as it
        was before columns were added to its table. `shape` again if it is of neither.

        The columns that a handle shows never change. Those of a whole row are the first ones of its
        table as it is now, unless the shape has ended: added columns come last. So the handle's hash
        tells which ones they are, at any node and after any restart. Whoever follows live may go on
        like this for ever; one who comes back is sent to all columns, after a while and so not
        together with all others.
        """
        if handle is None or handle.startswith(f"{shape.hash}-"):
            return shape
        parsed = Handle.parse(handle)
        if parsed is None or shape.projection.explicit:
            return shape
        frozen = self._frozen.get((definition, parsed.hash))
        if frozen is None or frozen.shape.table is not shape.table:
            found = self._freeze(shape, parsed.hash)
            if found is None:
                return shape
            since = time.monotonic() if frozen is None else frozen.since
            frozen = _Frozen(found, since)
            _remember(self._frozen, (definition, parsed.hash), frozen)
        if not live and time.monotonic() > frozen.since + self._grace:
            return shape
        return frozen.shape

    def ended(self, shape: Shape) -> int:
        """The generation up to which handles of a shape are no longer good, by what the catalog said.

        Ask this only of a shape that has just been resolved.
        """
        ends = self._tables.ends((shape.table.schema, shape.table.name))
        return max(ends.get(column, 0) for column in (EVERYTHING, *shape.reads)) if ends else 0

    def _freeze(self, shape: Shape, wanted: int) -> Shape | None:
        table, columns = shape.table, shape.projection.columns
        needed = shape.filtered_by | {column.name for column in table.primary_key}
        for count in range(len(columns) - 1, 0, -1):
            if columns[count].name in needed:
                return None
            projection = self._projections.get((table.oid, count))
            if projection is None or projection.table is not table:
                projection = Projection(table, columns[:count], explicit=False)
                self._projections[table.oid, count] = projection
            frozen = make_shape(
                projection,
                shape.condition,
                full_replica=shape.full_replica,
                changes_only=shape.changes_only,
                window=shape.window,
            )
            if frozen.hash == wanted:
                return frozen
        return None

    async def _resolve_anew(self, definition: Definition) -> Shape:
        """What is wrong with a request may be right since a moment ago: a new column, a new label."""
        try:
            return await self._resolve(definition)
        except (InvalidRequestError, ForbiddenError):
            name = _name(definition)
            if not self._tables.agreed(name):
                raise
            await self._tables.look_at(name)
            if self._tables.agreed(name):
                raise
        return await self._resolve(definition)

    async def _resolve(self, definition: Definition) -> Shape:
        name = _name(definition)
        table = await self._tables.get(name)
        if table is None:
            raise InvalidRequestError.of(
                "table",
                f'Table "{name[0]}"."{name[1]}" does not exist. If the table name contains '
                "capitals or special characters you must quote it.",
            )
        return make_shape(
            self._projection(table, definition),
            await self._condition(definition, table),
            full_replica=definition.full_replica,
            changes_only=definition.changes_only,
            window=self._window(definition, table),
        )

    def _window(self, definition: Definition, table: Table) -> Window | None:
        if definition.window is None:
            return None
        try:
            column = check_window(definition.window, table)
        except WindowError as error:
            raise InvalidRequestError.of("window", str(error)) from error
        self._check_sent("window", table, frozenset((column.name,)))
        return definition.window

    async def _condition(self, definition: Definition, table: Table) -> Condition | None:
        limit, text = definition.within, definition.where
        if limit is None:
            return None if text is None else await self._parsed(text, definition.params, table)
        asked = None
        if text is not None:
            # What may not be seen may not be asked about either.
            seen = table if limit.columns is None else part_of(table, limit.columns)
            asked = await self._parsed(text, definition.params, seen)
        if limit.where is None:
            return asked
        try:
            fixed = await self._parsed(limit.where, limit.params, table)
        except InvalidRequestError as error:
            raise ForbiddenError(f"Forbidden - the token's filter is no good: {error}") from error
        try:
            return fixed if asked is None else narrowed(fixed, asked)
        except WhereError as error:
            raise InvalidRequestError.of("where", str(error)) from error

    async def _parsed(
        self, text: str, values: tuple[tuple[str, str], ...], table: Table
    ) -> Condition:
        params = numbered(values)
        while True:
            try:
                condition = parse_where(text, params, table, self._letters)
                self._check_sent("where", table, condition.columns)
                return condition
            except MissingLettersError as error:
                async with self._database.session() as connection:
                    found = await load_letters(connection, error.collation)
                self._letters[error.collation] = found
            except MissingZoneError as error:
                async with self._database.session() as connection:
                    learn_zone(error.zone, await load_zone(connection, error.zone))
            except WhereError as error:
                raise InvalidRequestError.of("where", str(error)) from error

    def _check_sent(self, field: str, table: Table, columns: frozenset[str]) -> None:
        """Refuse to filter by what changes come without."""
        generated = {column.name for column in table.columns if column.generated}
        unsent = sorted(generated & columns)
        if unsent and not self._tables.generated_sent((table.schema, table.name)):
            raise InvalidRequestError.of(
                field,
                f"The following columns are generated and not replicated, so that no filter can use "
                f"them: {', '.join(unsent)}",
            )

    def _projection(self, table: Table, definition: Definition) -> Projection:
        if definition.view is not None:
            return self._viewed(table, definition.view)
        text, bound = definition.columns, definition.queryable_columns
        names = None if text is None else column_names("columns", text)
        sent = self._tables.generated_sent((table.schema, table.name))
        # From Postgres 18 on they can be sent, and it is for the publication to do so.
        can_be_sent = self._tables.server_version >= 180000
        columns = selected(table, names, queryable(table, bound), generated=sent or can_be_sent)
        if not sent and any(column.generated for column in columns):
            raise GeneratedColumnsNotPublishedError(self._publication)
        explicit = text is not None or bound is not None
        key = (table.oid, tuple(column.name for column in columns) if explicit else None)
        projection = self._projections.get(key)
        if projection is None or projection.table is not table:
            projection = self._projections[key] = Projection(table, columns, explicit)
        return projection

    def _viewed(self, table: Table, view: View) -> Projection:
        projection = self._projections.get((table.oid, view))
        if projection is None or projection.table is not table:
            presentation = view.presentation(table)
            columns = tuple(one for one in table.columns if one.name in presentation.columns)
            projection = Projection(table, columns, explicit=True, presentation=presentation)
            _remember(self._projections, (table.oid, view), projection)
        return projection

    def release(self, definition: Definition) -> None:
        """Do not remember this one any longer."""
        self._shapes.pop(definition, None)

    # -- tables ------------------------------------------------------------------------------------

    async def publish(self, table: Table) -> None:
        """Make sure that changes of the table reach the log, whole. Raises DatabaseSetupError."""
        await self._publishing.publish(table)

    def mend(self, table: Table) -> None:
        """Changes of the table, or of a partition, come without their old rows: see to it, soon."""
        self._publishing.mend(table)

    def forget_published(self) -> None:
        """Look again whether tables are published."""
        self._publishing.forget()

    def compare(self, version: RelationVersion) -> None:
        """The log shows a relation: forget the table that is remembered if it looks otherwise."""
        self._tables.compare(version)

    def forget(self, oid: int) -> None:
        """The table is not what it was: look it up again."""
        self._tables.forget(oid)
        self._projections = {key: one for key, one in self._projections.items() if key[0] != oid}
        self._shapes = {key: shape for key, shape in self._shapes.items() if shape.table.oid != oid}
        self._frozen = {key: one for key, one in self._frozen.items() if one.shape.table.oid != oid}

    async def run(self) -> None:
        """Compare what is remembered with the catalog, until cancelled."""
        await self._tables.run()


def _name(definition: Definition) -> tuple[str, str]:
    try:
        return parse_table(definition.table)
    except ValueError as error:
        raise InvalidRequestError.of("table", str(error)) from error


def _remember(shapes: dict[K, V], key: K, shape: V) -> None:
    if len(shapes) >= MAX_REMEMBERED:
        shapes.pop(next(iter(shapes)))
    shapes[key] = shape


def numbered(
    params: tuple[tuple[str, str], ...],
    refuse: Callable[[str, str], InvalidRequestError] = InvalidRequestError.of,
) -> dict[int, str]:
    """The values of `$1`, `$2`, … by number; `refuse` makes the error for what is none."""
    if not all(key.isascii() and key.isdigit() and len(key) < 10 for key, _ in params):
        raise refuse("params", "Parameters can only use numbers as keys")
    values = {int(key): value for key, value in params}
    if sorted(values) != list(range(1, len(values) + 1)):
        raise refuse("params", "Parameters must be numbered sequentially, starting from 1")
    return values
