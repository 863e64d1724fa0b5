"""From blocks of the log to the feeds that they concern."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from engine.log.layout import INDEX_STEP, NOTICE_IDENTITY, Block, RelationVersion, Row
from engine.lsn import Offset
from engine.postgres.table import Table
from engine.replication.tick import TICK_IDENTITY
from shapes.following.encoder import DELETE, INSERT, REKEY, UPDATE, Entry
from shapes.following.encoders import Encoders
from shapes.following.router import Router
from shapes.following.routes import Routes, Subscriber, TableRoutes, WindowRoutes
from shapes.shape import Shape
from shapes.windows.window import Window


class Routing:
    """A set of subscribers, and which of them a block concerns."""

    def __init__(
        self,
        encoders: Encoders,
        on_version: Callable[[RelationVersion], None] | None = None,
        *,
        on_notice: Callable[[bytes], None] | None = None,
        cutoff: str | None = None,
    ) -> None:
        """`on_version` hears of relation versions that come up, whether anybody follows them or not;
        `on_notice` of what was appended to streams.

        With `cutoff` that is every window's for good: the rows that ticks name are still deletes.
        """
        self._encoders = encoders
        self._on_version = on_version
        self._on_notice = on_notice
        self._notices: set[int] = set()
        """Relation versions that stand for streams."""
        self._cutoff = cutoff
        self._tables: dict[int, TableRoutes] = {}
        self._by_version: dict[int, list[tuple[TableRoutes, Router[Subscriber]]]] = {}
        self.touched: set[Subscriber] = set()
        """Subscribers that have recorded something since somebody last cleared this."""
        self.ended: list[tuple[Subscriber, int]] = []
        """Subscribers whose shape has ended, with the commit LSN of what ended it."""
        self._failed: set[Subscriber] = set()
        self.incomplete: set[Table] = set()
        """Tables with subscribers of which a relation (a new partition) does not send old rows."""

    def __len__(self) -> int:
        return sum(len(routes) for routes in self._tables.values())

    def subscribers(self) -> Iterable[Subscriber]:
        """All of them. A snapshot: adding and removing while iterating is fine."""
        return [one for routes in self._tables.values() for one in routes]

    def windows(self) -> Iterable[tuple[int, WindowRoutes]]:
        """All windows, with the oids of their tables."""
        return [
            (oid, one) for oid, routes in self._tables.items() for one in routes.windows.values()
        ]

    def add(self, subscriber: Subscriber, position: Offset | None = None) -> None:
        """Let a subscriber have its changes from now on. `position` is where in the log this is: for
        a shape with a window, whose cut-off at that place counts."""
        shape = subscriber.shape
        routes = self._tables.get(shape.table.oid)
        if routes is None:
            routes = self._tables[shape.table.oid] = TableRoutes()
            # Versions seen before this table had a subscriber have no router for it.
            self._by_version.clear()
        cutoff = self._cutoff
        if cutoff is None and shape.window is not None and shape.window not in routes.windows:
            assert position is not None
            cutoff = self._encoders.cutoff(shape, position)
        routes.add(subscriber, cutoff or "")

    def remove(self, subscriber: Subscriber) -> None:
        routes = self._tables.get(subscriber.shape.table.oid)
        if routes is None or subscriber not in routes:
            return
        routes.remove(subscriber)
        if not routes:
            del self._tables[subscriber.shape.table.oid]
            self._by_version.clear()

    def apply(self, block: Block, after: Offset) -> None:
        """Let every subscriber record its changes of `block`, as far as they come after `after`."""
        routed = False
        skip = after.index if after.lsn == block.commit_lsn else 0
        for version in block.relations:
            routes = self._by_version.get(version)
            if routes is None:
                identity = self._encoders.version(version).replica_identity
                if identity == TICK_IDENTITY:
                    self._tick(block, version, after)
                    return
                if identity == NOTICE_IDENTITY:
                    self._notices.add(version)
                    routes = self._by_version[version] = []
                else:
                    routes = self._resolve(version, block.commit_lsn)
            if version in self._notices:
                self._note(block, skip)
            routed = routed or bool(routes)
        if not routed:
            return
        self._failed.clear()
        index = block.index - INDEX_STEP
        for version, operation, new, old in block.changes():
            index += INDEX_STEP
            if index <= skip:
                continue
            for routes, router in self._by_version[version]:
                if new is not None and routes.promises:
                    self._check_promises(routes, version, new, block.commit_lsn)
                if routes.windows:
                    self._windowed(routes, block, index, version, operation, new, old)
                    if operation != "T" and not routes.plain.subscribers:
                        continue
                if operation == "U":
                    self._update(router, block, index, version, new, old)
                elif operation == "I":
                    self._insert(router, block, index, version, new)
                elif operation == "D":
                    self._delete(router, block, index, version, old)
                elif operation == "T":
                    self.ended += [(one, block.commit_lsn) for one in routes]
                else:
                    self._incomplete(routes.plain, router, block, index, version, new, old, new)

    def _note(self, block: Block, skip: int) -> None:
        if self._on_notice is None:
            return
        for place, (_, operation, new, _) in enumerate(block.changes()):
            if operation == "S" and new is not None and block.index + INDEX_STEP * place > skip:
                self._on_notice(str(new[0]).encode("latin-1"))

    # -- windows -----------------------------------------------------------------------------------

    def _windowed(
        self,
        routes: TableRoutes,
        block: Block,
        index: int,
        number: int,
        operation: str,
        new: Row | None,
        old: Row | None,
    ) -> None:
        """A change for those with windows: a row outside of one is as good as none."""
        version = self._encoders.version(number)
        for window in routes.windows.values():
            router, after, before = window.inside(version, new, old)
            if operation in "ud":
                self._incomplete(window, router, block, index, number, new, old, after)
            elif after is not None and before is not None:
                self._update(router, block, index, number, after, before)
            elif after is not None:
                self._insert(router, block, index, number, after)
            elif before is not None:
                self._delete(router, block, index, number, before)

    def _tick(self, block: Block, number: int, after: Offset) -> None:
        """A window's cut-off moves: the rows that the block names leave it."""
        version = self._encoders.version(number)
        routes = self._tables.get(version.oid)
        if routes is None:
            return
        (_, _, head, _), *rows = block.changes()
        assert head is not None
        column, seconds, since, until = head
        window = routes.windows.get(Window(str(column), int(seconds or 0)))
        if window is None:
            return
        self._failed.clear()
        if self._cutoff is None:
            window.cutoff = str(until)
        skip = after.index if after.lsn == block.commit_lsn else 0
        if since is None and block.index > skip:
            # Which rows have left it before nobody knows.
            self.ended += [(one, block.commit_lsn) for one in window.subscribers]
            return
        router = window.router(version)
        for index, (_, _, _, row) in enumerate(rows, 1):
            index = block.index + INDEX_STEP * index
            if index > skip:
                self._delete(router, block, index, number, row)

    def _check_promises(self, routes: TableRoutes, version: int, new: Row, commit_lsn: int) -> None:
        """End the shapes whose clients do not expect this NULL."""
        broken = routes.promises.broken(self._encoders.version(version), new)
        if broken:
            self.ended += [(o, commit_lsn) for o in routes if o.shape.projection in broken]

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
        routes: Routes,
        router: Router[Subscriber],
        block: Block,
        index: int,
        version: int,
        new: Row | None,
        old: Row | None,
        inside: Row | None,
    ) -> None:
        """A change without the old row (replica identity is not FULL): nobody knows who had it.

        Whoever has the new row gets all of it; all others of the table get a delete of the key, which
        means nothing to a client that does not hold the row. `inside` is the new row if their window
        has it.
        """
        having = set[Subscriber]()
        if inside is not None:
            having = {subscriber for subscriber, _, _ in router.route(None, inside)}
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
                kind, before = (INSERT if subscriber.shape.filtered_by else UPDATE), None
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
    ) -> list[tuple[TableRoutes, Router[Subscriber]]]:
        """Find the routers for a relation version; shapes that it does not fit have ended."""
        version = self._encoders.version(number)
        if self._on_version is not None:
            self._on_version(version)
        self._end_namesakes(version, commit_lsn)
        found: list[tuple[TableRoutes, Router[Subscriber]]] = []
        for oid in (version.oid, *(ancestor[0] for ancestor in version.ancestors)):
            routes = self._tables.get(oid)
            if routes is not None:
                self.ended += [
                    (subscriber, commit_lsn)
                    for subscriber in routes
                    if not fits(subscriber.shape, version)
                ]
                found.append((routes, routes.plain.router(version)))
                if version.replica_identity != "f":
                    self.incomplete.add(next(iter(routes)).shape.table)
        self._by_version[number] = found
        return found

    def _end_namesakes(self, version: RelationVersion, commit_lsn: int) -> None:
        """Shapes of a table that this relation has replaced under the same name."""
        for oid, routes in self._tables.items():
            table = next(iter(routes)).shape.table
            if oid != version.oid and (table.schema, table.name) == (version.schema, version.name):
                self.ended += [(one, commit_lsn) for one in routes]


def fits(shape: Shape, version: RelationVersion) -> bool:
    """Whether a shape can go on with this version of its relation (or of a partition of it)."""
    table = shape.table
    if version.oid == table.oid and (version.schema, version.name) != (table.schema, table.name):
        return False
    there = {column.name: (column.type_oid, column.modifier) for column in version.columns}
    for column in shape.projection.columns:
        if there.get(column.name) != (column.type_oid, column.modifier):
            return False
    filtered_by = shape.filtered_by
    for column in table.columns:
        if column.name in filtered_by and there.get(column.name) != (
            column.type_oid,
            column.modifier,
        ):
            return False
    # Columns that were added are no reason to end: a shape keeps those that it began with.
    keys = {column.name for column in shape.projection.key_columns}
    given = {column.name for column in version.columns if column.is_key}
    # An old row has at least the columns of the replica identity, which may be another index.
    return version.replica_identity != "i" or keys <= given
