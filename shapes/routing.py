"""From blocks of the log to the feeds that they concern."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Protocol

from engine.log.layout import INDEX_STEP, Block, RelationVersion, Row
from engine.log.reader import LogReader
from engine.lsn import Offset
from engine.table import Column, Table
from shapes.encoder import DELETE, INSERT, REKEY, UPDATE, Encoder, Entry
from shapes.promises import Promises
from shapes.router import Router
from shapes.shape import Projection, Shape


class Subscriber(Protocol):
    """Somebody who wants the changes of a shape. `record` is called in log order; it must not block."""

    @property
    def shape(self) -> Shape: ...

    def record(self, entry: Entry) -> None: ...


class Encoders:
    """Encoders by projection, relation version and replica mode, made when first needed."""

    def __init__(self, log: LogReader) -> None:
        self._log = log
        self._versions: dict[int, RelationVersion] = {}
        self._encoders: dict[tuple[Projection, int, bool], Encoder] = {}

    def version(self, number: int) -> RelationVersion:
        version = self._versions.get(number)
        if version is None:
            version = self._versions[number] = self._log.relation(number)
        return version

    def encoder(self, shape: Shape, version: int) -> Encoder:
        key = (shape.projection, version, shape.full_replica)
        encoder = self._encoders.get(key)
        if encoder is None:
            encoder = self._encoders[key] = Encoder(
                shape.projection, self.version(version), full_replica=shape.full_replica
            )
        return encoder

    def encode(self, shape: Shape, entries: list[Entry]) -> list[bytes]:
        """Messages of entries that end with a complete transaction."""
        return self.encode_some(shape, entries, 0, sys.maxsize)[0]

    def encode_some(
        self, shape: Shape, entries: list[Entry], next_lsn: int, most: int
    ) -> tuple[list[bytes], int]:
        """Messages until they have `most` bytes, and of how many entries they are.

        `next_lsn` is the commit LSN of the entry that follows these, 0 if none does.
        """
        messages: list[bytes] = []
        final = len(entries) - 1
        for position, entry in enumerate(entries):
            following = next_lsn if position == final else entries[position + 1].lsn
            for message in self.encoder(shape, entry.version).encode(
                entry, last=following != entry.lsn
            ):
                messages.append(message)
                most -= len(message) + 2
            if most <= 0:
                return messages, position + 1
        return messages, len(entries)

    def clear(self) -> None:
        """Forget everything: relation versions mean something else in another epoch of the log."""
        self._versions.clear()
        self._encoders.clear()


class _TableRoutes:
    """The subscribers of one table and their routers, one per column layout that the log has shown.

    The partitions of a table have versions of their own but most often the same layout.
    """

    def __init__(self) -> None:
        self.subscribers: dict[Subscriber, None] = {}
        self.routers: dict[tuple[str, ...], Router[Subscriber]] = {}
        self.columns: dict[str, Column] = {}
        """Of the table by name, as its subscribers know it: those who came later may know more."""
        self.promises = Promises()


class Routing:
    """A set of subscribers, and which of them a block concerns."""

    def __init__(
        self, encoders: Encoders, on_version: Callable[[RelationVersion], None] | None = None
    ) -> None:
        """`on_version` hears of relation versions that come up, whether anybody follows them or not."""
        self._encoders = encoders
        self._on_version = on_version
        self._tables: dict[int, _TableRoutes] = {}
        self._by_version: dict[int, list[tuple[_TableRoutes, Router[Subscriber]]]] = {}
        self.touched: set[Subscriber] = set()
        """Subscribers that have recorded something since somebody last cleared this."""
        self.ended: list[tuple[Subscriber, int]] = []
        """Subscribers whose shape has ended, with the commit LSN of what ended it."""
        self._failed: set[Subscriber] = set()
        self.incomplete: set[Table] = set()
        """Tables with subscribers of which a relation (a new partition) does not send old rows."""

    def __len__(self) -> int:
        return sum(len(routes.subscribers) for routes in self._tables.values())

    def subscribers(self) -> Iterable[Subscriber]:
        """All of them. A snapshot: adding and removing while iterating is fine."""
        return [one for routes in self._tables.values() for one in routes.subscribers]

    def add(self, subscriber: Subscriber) -> None:
        shape = subscriber.shape
        routes = self._tables.get(shape.table.oid)
        if routes is None:
            routes = self._tables[shape.table.oid] = _TableRoutes()
            # Versions seen before this table had a subscriber have no router for it.
            self._by_version.clear()
        routes.subscribers[subscriber] = None
        routes.columns.update({column.name: column for column in shape.table.columns})
        routes.promises.add(shape.projection)
        for layout, router in routes.routers.items():
            _add(router, subscriber, layout)

    def remove(self, subscriber: Subscriber) -> None:
        routes = self._tables.get(subscriber.shape.table.oid)
        if routes is None or subscriber not in routes.subscribers:
            return
        del routes.subscribers[subscriber]
        for router in routes.routers.values():
            router.remove(subscriber)
        if not routes.subscribers:
            del self._tables[subscriber.shape.table.oid]
            self._by_version.clear()

    def apply(self, block: Block, after: Offset) -> None:
        """Let every subscriber record its changes of `block`, as far as they come after `after`."""
        routed = False
        for version in block.relations:
            routes = self._by_version.get(version)
            if routes is None:
                routes = self._resolve(version, block.commit_lsn)
            routed = routed or bool(routes)
        if not routed:
            return
        self._failed.clear()
        index = block.index - INDEX_STEP
        skip = after.index if after.lsn == block.commit_lsn else 0
        for version, operation, new, old in block.changes():
            index += INDEX_STEP
            if index <= skip:
                continue
            for routes, router in self._by_version[version]:
                if new is not None and routes.promises:
                    self._check_promises(routes, version, new, block.commit_lsn)
                if operation == "U":
                    self._update(router, block, index, version, new, old)
                elif operation == "I":
                    self._insert(router, block, index, version, new)
                elif operation == "D":
                    self._delete(router, block, index, version, old)
                elif operation == "T":
                    self.ended += [(one, block.commit_lsn) for one in routes.subscribers]
                else:
                    self._incomplete(routes, router, block, index, version, new, old)

    def _check_promises(
        self, routes: _TableRoutes, version: int, new: Row, commit_lsn: int
    ) -> None:
        """End the shapes whose clients do not expect this NULL."""
        broken = routes.promises.broken(self._encoders.version(version), new)
        if broken:
            subscribers = routes.subscribers
            self.ended += [(o, commit_lsn) for o in subscribers if o.shape.projection in broken]

    # -- one change --------------------------------------------------------------------------------

    def _insert(
        self, router: Router[Subscriber], block: Block, index: int, version: int, new: Row | None
    ) -> None:
        entry = Entry(block.commit_lsn, index, INSERT, version, block.xid, new, None)
        for subscriber, _, _ in router.route(None, new):
            subscriber.record(entry)
            self.touched.add(subscriber)
        if router.failed:
            self._end_failed(router, block)

    def _delete(
        self, router: Router[Subscriber], block: Block, index: int, version: int, old: Row | None
    ) -> None:
        entry = Entry(block.commit_lsn, index, DELETE, version, block.xid, None, old)
        for subscriber, _, _ in router.route(old, None):
            subscriber.record(entry)
            self.touched.add(subscriber)
        if router.failed:
            self._end_failed(router, block)

    def _update(
        self,
        router: Router[Subscriber],
        block: Block,
        index: int,
        version: int,
        new: Row | None,
        old: Row | None,
    ) -> None:
        assert new is not None
        assert old is not None
        projection, kind_for_it = None, 0
        entry = None
        for subscriber, old_in, new_in in router.route(old, new):
            if not old_in:
                kind = INSERT
            elif not new_in:
                kind = DELETE
            else:
                shape = subscriber.shape
                if shape.projection is not projection:
                    projection = shape.projection
                    encoder = self._encoders.encoder(shape, version)
                    kind_for_it = encoder.kind_of_update(old, new)
                kind = kind_for_it
                if not kind:
                    continue
            if entry is None or entry.kind != kind:
                # Mostly the same for all.
                entry = Entry(block.commit_lsn, index, kind, version, block.xid, new, old)
            subscriber.record(entry)
            self.touched.add(subscriber)
        if router.failed:
            self._end_failed(router, block)

    def _incomplete(
        self,
        routes: _TableRoutes,
        router: Router[Subscriber],
        block: Block,
        index: int,
        version: int,
        new: Row | None,
        old: Row | None,
    ) -> None:
        """A change without the old row (replica identity is not FULL): nobody knows who had it.

        Whoever has the new row gets all of it; all others of the table get a delete of the key, which
        means nothing to a client that does not hold the row.
        """
        having = set[Subscriber]()
        if new is not None:
            having = {subscriber for subscriber, _, _ in router.route(None, new)}
            if router.failed:
                # They need a value that Postgres did not send: only a new snapshot can tell.
                self._end_failed(router, block)
        for subscriber in routes.subscribers:
            if subscriber in self._failed:
                continue
            if subscriber not in having:
                kind, before = DELETE, old
            elif old is not None:
                kind, before = REKEY, old
            else:
                kind, before = (UPDATE if subscriber.shape.condition is None else INSERT), None
            subscriber.record(Entry(block.commit_lsn, index, kind, version, block.xid, new, before))
            self.touched.add(subscriber)

    def _end_failed(self, router: Router[Subscriber], block: Block) -> None:
        """End the shapes whose filter cannot be evaluated: the next snapshot says why, or succeeds.

        They stay in the routing: whoever looks at `ended` knows whether it concerns them.
        """
        for subscriber in router.failed:
            if subscriber not in self._failed:
                self._failed.add(subscriber)
                self.ended.append((subscriber, block.commit_lsn))

    # -- relation versions -------------------------------------------------------------------------

    def _resolve(
        self, number: int, commit_lsn: int
    ) -> list[tuple[_TableRoutes, Router[Subscriber]]]:
        """Find the routers for a relation version; shapes that it does not fit have ended."""
        version = self._encoders.version(number)
        if self._on_version is not None:
            self._on_version(version)
        self._end_namesakes(version, commit_lsn)
        found: list[tuple[_TableRoutes, Router[Subscriber]]] = []
        for oid in (version.oid, *(ancestor[0] for ancestor in version.ancestors)):
            routes = self._tables.get(oid)
            if routes is not None:
                self.ended += [
                    (subscriber, commit_lsn)
                    for subscriber in routes.subscribers
                    if not fits(subscriber.shape, version)
                ]
                found.append((routes, self._router(routes, version)))
                if version.replica_identity != "f":
                    self.incomplete.add(next(iter(routes.subscribers)).shape.table)
        self._by_version[number] = found
        return found

    def _router(self, routes: _TableRoutes, version: RelationVersion) -> Router[Subscriber]:
        layout = tuple(column.name for column in version.columns)
        router = routes.routers.get(layout)
        if router is None:
            router = Router[Subscriber](version.positions, routes.columns)
            for subscriber in routes.subscribers:
                _add(router, subscriber, layout)
            routes.routers[layout] = router
        return router

    def _end_namesakes(self, version: RelationVersion, commit_lsn: int) -> None:
        """Shapes of a table that this relation has replaced under the same name."""
        for oid, routes in self._tables.items():
            table = next(iter(routes.subscribers)).shape.table
            if oid != version.oid and (table.schema, table.name) == (version.schema, version.name):
                self.ended += [(one, commit_lsn) for one in routes.subscribers]


def _add(router: Router[Subscriber], subscriber: Subscriber, layout: tuple[str, ...]) -> None:
    """Let a subscriber take part, unless its filter reads columns that are not there."""
    shape = subscriber.shape
    if shape.condition is None or shape.condition.columns <= set(layout):
        router.add(subscriber, shape.condition, _shown(shape.projection))


def _shown(projection: Projection) -> list[str] | None:
    """Names of the columns whose changes a subscriber must hear of, None for all."""
    if not projection.explicit:
        return None
    return [column.name for column in (*projection.columns, *projection.key_columns)]


def fits(shape: Shape, version: RelationVersion) -> bool:
    """Whether a shape can go on with this version of its relation (or of a partition of it)."""
    table = shape.table
    if version.oid == table.oid and (version.schema, version.name) != (table.schema, table.name):
        return False
    there = {column.name: (column.type_oid, column.modifier) for column in version.columns}
    for column in shape.projection.columns:
        if there.get(column.name) != (column.type_oid, column.modifier):
            return False
    if shape.condition is not None:
        for column in table.columns:
            if column.name in shape.condition.columns and there.get(column.name) != (
                column.type_oid,
                column.modifier,
            ):
                return False
    # Columns that were added are no reason to end: a shape keeps those that it began with.
    keys = {column.name for column in shape.projection.key_columns}
    given = {column.name for column in version.columns if column.is_key}
    # An old row has at least the columns of the replica identity, which may be another index.
    return version.replica_identity != "i" or keys <= given
