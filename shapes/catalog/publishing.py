"""Seeing to it that the changes of a node's tables reach the log, whole."""

from __future__ import annotations

import asyncio
import logging
import time

import psycopg

from engine.errors import PgtideError
from engine.postgres.publication import ensure_table_published
from engine.postgres.publication_errors import TableGoneError
from engine.postgres.table import Table
from engine.postgres.table_state import TableState
from shapes.catalog.tables import Tables
from shapes.database import Database

log = logging.getLogger("node")


class Publishing:
    """Publishes tables when they are first needed, and when somebody has undone that."""

    def __init__(
        self, database: Database, tables: Tables, publication: str, *, manual: bool
    ) -> None:
        self._database = database
        self._tables = tables
        self._publication = publication
        self._manual = manual
        self._settled: dict[int, frozenset[int]] = {}
        """By table, the publication's entries from before which no writer is left."""
        self._looked: dict[int, float] = {}
        self._locks: dict[int, asyncio.Lock] = {}
        self._mending: dict[int, asyncio.Task[None]] = {}

    async def publish(self, table: Table) -> None:
        """Make sure that changes of the table reach the log, whole.

        Asks Postgres each time, but only once for all who wait for the answer. Raises
        DatabaseSetupError and DatabaseUnavailableError.
        """
        asked = time.monotonic()
        async with self._locks.setdefault(table.oid, asyncio.Lock()):
            if self._looked.get(table.oid, 0.0) > asked:
                return
            began = time.monotonic()
            state = await self._state(table)
            if not state.published or self._settled.get(table.oid) != state.entries:
                async with self._database.session() as connection:
                    await ensure_table_published(
                        connection, self._publication, table, manual=self._manual
                    )
                # What has been altered here is news to no node.
                state = await self._state(table)
                self._settled[table.oid] = state.entries
            self._looked[table.oid] = began

    async def _state(self, table: Table) -> TableState:
        state = await self._tables.look_at((table.schema, table.name))
        if state is None or state.oid != table.oid:
            raise TableGoneError(table)
        return state

    def forget(self) -> None:
        """Trust in nothing that was settled: the publication may have been made anew."""
        self._settled.clear()

    def mend(self, table: Table) -> None:
        """Changes of the table, or of a partition, come without their old rows: see to it, soon."""
        if table.oid not in self._mending:
            log.warning(
                "%s.%s has no replica identity FULL (any more), or a partition of it: mending it",
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
