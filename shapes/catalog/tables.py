"""The tables that a node's shapes are of: remembered, and compared with the catalog all the time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import psycopg
from psycopg import errors, sql

from engine.errors import PgtideError
from engine.log.layout import RelationVersion
from engine.postgres.catalog import load_table
from engine.postgres.table import Table
from engine.postgres.table_look import Look, Name, look
from engine.postgres.table_state import EVERYTHING, MemberState, TableState, endings, newcomers
from shapes.catalog.table_ledger import Entry, TableLedger, stamp_of
from shapes.database import Database, DatabaseUnavailableError
from shapes.shape import new_generation

log = logging.getLogger("node")

LOAD_SHARE = 0.02
"""The part of the time that looking at tables may take at most, however many they are."""

LONGEST_PAUSE = 60.0

UNUSED_SECONDS = 3600.0
"""A table that nobody has asked for so long is no longer looked at."""

ATTEMPTS = 10


class Listener(NamedTuple):
    """Who hears of what was seen. All are given a table's oid.

    `altered`: it is not what it was, and has to be looked up again; most often that ends nothing.
    `ended`: what readers of these columns have is no longer good; the column "" stands for all.
    `incomplete`: changes of its rows do not carry the old row any more.
    """

    altered: Callable[[int], None]
    ended: Callable[[int, frozenset[str]], None]
    incomplete: Callable[[Table], None]


class _Seen:
    """A table as this node knows it. `stamp` is of the ledger's entry that this agrees with."""

    __slots__ = ("entry", "generated", "oid", "stamp", "table", "used")

    def __init__(self, raw: bytes) -> None:
        self.stamp = stamp_of(raw)
        self.entry = Entry.unpack(raw)
        self.table: Table | None = None
        self.oid = 0
        self.generated = False
        self.used = time.monotonic()
        if self.entry.facts is not None:
            state = TableState.parse(self.entry.facts)
            self.oid, self.generated = state.oid, state.generated


class Tables:
    """Looks tables up once, and again when the catalog, the log or another node says otherwise."""

    def __init__(
        self,
        database: Database,
        ledger: TableLedger,
        publication: str,
        listener: Listener,
        *,
        interval: float,
        epoch: Callable[[], int],
    ) -> None:
        """`interval`: seconds between looks. `epoch` tells the log's."""
        self._database = database
        self._ledger = ledger
        self._publication = publication
        self._listener = listener
        self._interval = interval
        self._epoch = epoch
        self._seen: dict[Name, _Seen] = {}
        self._rung = asyncio.Event()
        self.server_version = 0
        """Of Postgres, as soon as a table has been looked up."""

    # -- what is known -----------------------------------------------------------------------------

    def agreed(self, name: Name) -> bool:
        """Whether this node knows the table, and no other one has seen it otherwise."""
        seen = self._seen.get(name)
        if seen is None or seen.table is None or self._ledger.stamp(name) != seen.stamp:
            return False
        seen.used = time.monotonic()
        return True

    def generated_sent(self, name: Name) -> bool:
        """Whether the publication sends stored generated columns, as far as is known."""
        seen = self._seen.get(name)
        return seen is not None and seen.generated

    def ends(self, name: Name) -> Mapping[str, int]:
        """Which handles are no longer good: see `Entry.ends`."""
        seen = self._seen.get(name)
        return {} if seen is None else seen.entry.ends

    def forget(self, oid: int) -> None:
        """The table is not what it was: look it up again when it is asked for, and look soon."""
        for seen in self._seen.values():
            if seen.oid == oid:
                seen.table = None
                self._rung.set()

    def compare(self, version: RelationVersion) -> None:
        """The log shows a relation: whoever is known by its name, or by another one, has changed."""
        for (schema, name), seen in self._seen.items():
            table = seen.table
            if table is None:
                continue
            same_name = (schema, name) == (version.schema, version.name)
            if (table.oid == version.oid) != same_name or (same_name and _differs(table, version)):
                self._rung.set()
                self._listener.altered(table.oid)

    # -- looking -----------------------------------------------------------------------------------

    async def get(self, name: Name) -> Table | None:
        """The table of that name; None if there is none. Raises DatabaseUnavailableError."""
        if self.agreed(name):
            return self._seen[name].table
        async with self._database.lookups() as connection:
            self.server_version = connection.info.server_version
            for _ in range(ATTEMPTS):
                raw = self._ledger.get(name)
                known = _facts(raw, self._epoch())
                # Both in one snapshot: what is told of the table is of this very table.
                async with connection.transaction():
                    await connection.execute("set transaction isolation level repeatable read")
                    seen = await look(connection, self._publication, [(name, known)])
                    table = await load_table(connection, *name)
                if name in seen:
                    raw = await self._note(connection, name, seen[name])
                elif table is None:
                    return None
                if raw is None:
                    continue
                self._adopt(name, raw)
                now = self._seen.get(name)
                if table is None or now is not None:
                    if now is not None:
                        now.table = table
                    return table
        raise DatabaseUnavailableError("the table changes faster than it can be looked up")

    async def look_at(self, name: Name) -> TableState | None:
        """The table as it is now; None if it is gone. Raises DatabaseUnavailableError."""
        async with self._database.lookups() as connection:
            await self._look(connection, [name])
        seen = self._seen.get(name)
        facts = None if seen is None else seen.entry.facts
        return None if facts is None else TableState.parse(facts)

    async def run(self) -> None:
        """Compare what is known with the catalog, until cancelled."""
        while True:
            # Not wait_for: before Python 3.12 it can swallow a cancellation.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._rung.wait()
            self._rung.clear()
            began = time.monotonic()
            try:
                await self._look_at_all()
            except (PgtideError, psycopg.Error) as error:
                log.warning("cannot compare tables with the catalog: %s", error)
                await asyncio.sleep(self._interval)
                continue
            took = time.monotonic() - began
            await asyncio.sleep(min(took / LOAD_SHARE, LONGEST_PAUSE))

    async def _look_at_all(self) -> None:
        before = time.monotonic() - UNUSED_SECONDS
        for name in [name for name, seen in self._seen.items() if seen.used < before]:
            del self._seen[name]
        for name, seen in list(self._seen.items()):
            if self._ledger.stamp(name) != seen.stamp and (raw := self._ledger.get(name)):
                self._adopt(name, raw)
        if self._seen and not self._database.resting:
            async with self._database.lookups() as connection:
                await self._look(connection, list(self._seen))

    async def _look(self, connection: psycopg.AsyncConnection, names: list[Name]) -> None:
        epoch = self._epoch()
        known = [(name, _facts(self._ledger.get(name), epoch)) for name in names]
        for name, one in (await look(connection, self._publication, known)).items():
            raw = await self._note(connection, name, one)
            if raw is not None:
                self._adopt(name, raw)

    async def _note(
        self, connection: psycopg.AsyncConnection, name: Name, seen: Look
    ) -> bytes | None:
        """Write down what was seen, for all nodes; the ledger's entry then.

        None if somebody has looked later than this: then look again.
        """
        epoch = self._epoch()
        while True:
            raw = self._ledger.get(name)
            before = None if raw is None else Entry.unpack(raw)
            if before is None or before.epoch != epoch:
                # Handles from before this epoch are no longer good anyway.
                entry = Entry(epoch, seen.age, seen.facts, {})
            elif before.facts == seen.facts:
                return raw
            elif before.age > seen.age:
                return None
            else:
                ends = await self._ends(connection, name, before, seen.facts)
                entry = Entry(epoch, seen.age, seen.facts, ends)
            packed = entry.pack()
            if self._ledger.swap(name, raw, packed):
                return packed

    async def _ends(
        self, connection: psycopg.AsyncConnection, name: Name, before: Entry, facts: str | None
    ) -> dict[str, int]:
        if before.facts is None:
            return dict(before.ends)
        former = TableState.parse(before.facts)
        state = None if facts is None else TableState.parse(facts)
        ended = endings(former, state)
        if state is not None and EVERYTHING not in ended:
            for member in newcomers(former, state):
                if await _had_rows(connection, member):
                    ended = frozenset((EVERYTHING,))
        generation = new_generation(max(before.ends.values(), default=0))
        if ended:
            columns = ", ".join(sorted(ended))
            what = "all its shapes" if EVERYTHING in ended else f"shapes with {columns}"
            log.info("%s.%s has changed: %s begin anew", *name, what)
        return dict(before.ends) | dict.fromkeys(ended, generation)

    def _adopt(self, name: Name, raw: bytes) -> None:
        """Know what the ledger says; whoever cannot go on learns it here."""
        former = self._seen.get(name)
        if former is not None and former.stamp == stamp_of(raw):
            return
        seen = self._seen[name] = _Seen(raw)
        if former is None:
            return
        seen.used = former.used
        if seen.entry.facts is None:
            del self._seen[name]
        if seen.entry.facts != former.entry.facts:
            self._listener.altered(former.oid)
        advanced = frozenset(
            column
            for column, generation in seen.entry.ends.items()
            if generation > former.entry.ends.get(column, 0)
        )
        if advanced:
            self._listener.ended(former.oid, advanced)
        if EVERYTHING not in advanced and former.table is not None:
            self._check_identity(former.table, seen.entry.facts)

    def _check_identity(self, table: Table, facts: str | None) -> None:
        state = None if facts is None else TableState.parse(facts)
        if state is not None and state.entries and not state.published:
            self._listener.incomplete(table)


def _facts(raw: bytes | None, epoch: int) -> str | None:
    """What is known from an entry, if it belongs to this epoch of the log."""
    entry = None if raw is None else Entry.unpack(raw)
    return entry.facts if entry is not None and entry.epoch == epoch else None


async def _had_rows(connection: psycopg.AsyncConnection, member: MemberState) -> bool:
    """Whether a partition has rows from before it was one, or may not be asked."""
    try:
        cursor = await connection.execute(
            "select nspname, relname from pg_class c join pg_namespace n on n.oid = relnamespace "
            "where c.oid = %s",
            (member.oid,),
        )
        row = await cursor.fetchone()
        if row is None:
            return True
        query = sql.SQL("select exists (select from {} where age(xmin) > age({}::xid))").format(
            sql.Identifier(*row), sql.Literal(str(member.linked))
        )
        found = await (await connection.execute(query)).fetchone()
        return found is None or bool(found[0])
    except (errors.InsufficientPrivilege, errors.UndefinedTable):
        return True


def _differs(table: Table, version: RelationVersion) -> bool:
    known = {column.name: (column.type_oid, column.modifier) for column in table.columns}
    shown = {column.name: (column.type_oid, column.modifier) for column in version.columns}
    generated = {column.name for column in table.columns if column.generated}
    return not shown.items() <= known.items() or not known.keys() - generated <= shown.keys()
