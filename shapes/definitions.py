"""From request parameters to shapes, against the catalog."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable

import psycopg

from engine.catalog import load_table
from engine.errors import PgtideError
from engine.log.layout import RelationVersion
from engine.publication import ensure_table_published, read_publication
from engine.table import Column, Table
from shapes.database import Database
from shapes.definition import Definition, InvalidRequestError
from shapes.identifiers import parse_columns, parse_table
from shapes.shape import Projection, Shape, make_shape
from shapes.snapshot_store import SnapshotStore
from shapes.where import Condition, WhereError, parse_where

log = logging.getLogger("node")

MAX_REMEMBERED = 200_000
RECONCILE_SECONDS = 60.0
PUBLISHED_SECONDS = 60.0


class Definitions:
    """Resolves definitions, and remembers tables and shapes while they stay as they are.

    `on_altered` is called with a table's oid when the catalog shows that it changed.
    """

    def __init__(
        self,
        database: Database,
        store: SnapshotStore,
        publication: str,
        *,
        manual: bool,
        on_altered: Callable[[int], None],
    ) -> None:
        self._database = database
        self._store = store
        self._publication = publication
        self._manual = manual
        self._on_altered = on_altered
        self._shapes: dict[Definition, Shape] = {}
        self._tables: dict[tuple[str, str], Table] = {}
        self._fingerprints: dict[tuple[str, str], bytes] = {}
        self._projections: dict[tuple[int, tuple[str, ...] | None], Projection] = {}
        self._published: dict[int, float] = {}
        self._publishing: dict[int, asyncio.Lock] = {}
        self._mending: dict[int, asyncio.Task[None]] = {}
        self._generated_sent = False

    async def resolve(self, definition: Definition) -> Shape:
        """The shape that a request means.

        Raises InvalidRequestError, and DatabaseUnavailableError if the catalog cannot be asked.
        """
        shape = self._shapes.get(definition)
        if shape is not None and not self._agreed((shape.table.schema, shape.table.name)):
            self.forget(shape.table.oid)
            shape = None
        if shape is None:
            shape = await self._resolve(definition)
            if len(self._shapes) >= MAX_REMEMBERED:
                self._shapes.pop(next(iter(self._shapes)))
            self._shapes[definition] = shape
        return shape

    async def publish(self, table: Table) -> None:
        """Make sure that changes of the table reach the log, whole. Raises DatabaseSetupError."""
        async with self._publishing.setdefault(table.oid, asyncio.Lock()):
            published = self._published.get(table.oid)
            if published is not None and time.monotonic() - published < PUBLISHED_SECONDS:
                return
            async with self._database.session() as connection:
                await ensure_table_published(
                    connection, self._publication, table, manual=self._manual
                )
            self._published[table.oid] = time.monotonic()

    def mend(self, table: Table) -> None:
        """A partition has come that does not send its old rows: publish the table again, soon."""
        self._published.pop(table.oid, None)
        if table.oid not in self._mending:
            log.warning(
                "%s.%s has a partition without replica identity FULL: mending it",
                *(table.schema, table.name),
            )
            task = asyncio.create_task(self._mend(table))
            self._mending[table.oid] = task
            task.add_done_callback(lambda _: self._mending.pop(table.oid, None))

    async def _mend(self, table: Table) -> None:
        try:
            await self.publish(table)
        except (PgtideError, psycopg.Error) as error:
            log.error("cannot publish %s.%s anew: %s", table.schema, table.name, error)

    def forget_published(self) -> None:
        """Look again whether tables are published."""
        self._published.clear()

    def compare(self, version: RelationVersion) -> None:
        """The log shows a relation: forget the table that is remembered if it looks otherwise."""
        for (schema, name), table in list(self._tables.items()):
            same_name = (schema, name) == (version.schema, version.name)
            if (table.oid == version.oid) != same_name or (same_name and _differs(table, version)):
                self.forget(table.oid)

    def forget(self, oid: int) -> None:
        """The table is not what it was: look it up again."""
        self._published.pop(oid, None)
        self._tables = {key: table for key, table in self._tables.items() if table.oid != oid}
        self._projections = {key: one for key, one in self._projections.items() if key[0] != oid}
        self._shapes = {key: shape for key, shape in self._shapes.items() if shape.table.oid != oid}

    async def run(self) -> None:
        """Compare what is remembered with the catalog now and then, until cancelled."""
        while True:
            await asyncio.sleep(RECONCILE_SECONDS)
            for (schema, name), table in list(self._tables.items()):
                try:
                    async with self._database.lookups() as connection:
                        current = await load_table(connection, schema, name)
                except (PgtideError, psycopg.Error) as error:
                    log.warning("cannot compare tables with the catalog: %s", error)
                    break
                if current != table:
                    log.info("table %s.%s has been altered", schema, name)
                    self._on_altered(table.oid)

    async def _resolve(self, definition: Definition) -> Shape:
        table = await self._table(definition.table)
        projection = self._projection(table, definition.columns)
        condition = _condition(definition, table)
        return make_shape(
            projection,
            condition,
            full_replica=definition.full_replica,
            changes_only=definition.changes_only,
        )

    async def _table(self, text: str) -> Table:
        try:
            name = parse_table(text)
        except ValueError as error:
            raise InvalidRequestError.of("table", str(error)) from error
        table = self._tables.get(name)
        if table is not None and not self._agreed(name):
            self.forget(table.oid)
            table = None
        if table is None:
            async with self._database.lookups() as connection:
                table = await load_table(connection, *name)
                if table is not None and any(column.generated for column in table.columns):
                    publication = await read_publication(connection, self._publication)
                    self._generated_sent = bool(publication and publication.generated_columns)
            self._see(name, table)
            if table is None:
                schema, relation = name
                raise InvalidRequestError.of(
                    "table",
                    f'Table "{schema}"."{relation}" does not exist. If the table name contains '
                    "capitals or special characters you must quote it.",
                )
            self._tables[name] = table
        return table

    def _see(self, name: tuple[str, str], table: Table | None) -> None:
        """Tell the other nodes what the catalog says: one that remembers otherwise looks again."""
        fingerprint = hashlib.blake2b(repr(table).encode(), digest_size=16).digest()
        self._fingerprints[name] = fingerprint
        if self._store.table_seen(name) != fingerprint:
            self._store.see_table(name, fingerprint)

    def _agreed(self, name: tuple[str, str]) -> bool:
        """Whether no other node has seen this table otherwise.

        Nodes learn of an alteration at different times, but a client must not be sent to and fro.
        """
        return self._store.table_seen(name) == self._fingerprints.get(name)

    def _projection(self, table: Table, text: str | None) -> Projection:
        names = None if text is None else tuple(_column_names(text))
        key = (table.oid, names if names is None else tuple(sorted(names)))
        projection = self._projections.get(key)
        if projection is None or projection.table is not table:
            columns = _selected(table, names, generated=self._generated_sent)
            projection = self._projections[key] = Projection(table, columns, names is not None)
        return projection


def _differs(table: Table, version: RelationVersion) -> bool:
    known = {column.name: (column.type_oid, column.modifier) for column in table.columns}
    shown = {column.name: (column.type_oid, column.modifier) for column in version.columns}
    generated = {column.name for column in table.columns if column.generated}
    return not shown.items() <= known.items() or not known.keys() - generated <= shown.keys()


def _condition(definition: Definition, table: Table) -> Condition | None:
    if definition.where is None:
        return None
    params = _numbered(definition.params)
    try:
        return parse_where(definition.where, params, table)
    except WhereError as error:
        raise InvalidRequestError.of("where", str(error)) from error


def _numbered(params: tuple[tuple[str, str], ...]) -> dict[int, str]:
    if not all(key.isascii() and key.isdigit() and len(key) < 10 for key, _ in params):
        raise InvalidRequestError.of("params", "Parameters can only use numbers as keys")
    numbered = {int(key): value for key, value in params}
    if sorted(numbered) != list(range(1, len(numbered) + 1)):
        raise InvalidRequestError.of(
            "params", "Parameters must be numbered sequentially, starting from 1"
        )
    return numbered


def _column_names(text: str) -> list[str]:
    try:
        return parse_columns(text)
    except ValueError as error:
        raise InvalidRequestError.of("columns", str(error)) from error


def _selected(
    table: Table, names: tuple[str, ...] | None, *, generated: bool
) -> tuple[Column, ...]:
    """The columns to deliver. `generated`: the publication sends stored generated ones."""
    unsent = {
        column.name
        for column in table.columns
        if column.generated and (column.virtual or not generated)
    }
    if names is None:
        hidden = [column.name for column in table.columns if column.name in unsent]
        if hidden:
            raise InvalidRequestError.of(
                "columns",
                f"The following columns are generated and cannot be included in the shape: "
                f"{', '.join(hidden)}. You can exclude them from the shape by explicitly listing "
                "which columns to fetch in the 'columns' query param",
            )
        return table.columns
    known = {column.name: column for column in table.columns}
    unknown = [name for name in names if name not in known]
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
    keys = table.primary_key or table.columns
    missing = [column.name for column in keys if column.name not in names]
    if missing:
        raise InvalidRequestError.of(
            "columns",
            f"The list of columns must include all primary key columns, missing: {', '.join(missing)}",
        )
    return tuple(column for column in table.columns if column.name in names)
