"""The subscribers of a table, and the routers that know which rows they have.

Those whose shapes have the same window share a cut-off: whether a row is in the window is asked once
for all of them, and their router sees only what is inside.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from engine.log.layout import RelationVersion, Row
from engine.postgres.table import Column
from engine.replication.tick import is_inside
from shapes.following.encoder import Entry
from shapes.following.router import Router
from shapes.promises import Promises
from shapes.shape import Projection, Shape
from shapes.windows.window import Window


class Subscriber(Protocol):
    """Somebody who wants the changes of a shape. `record` is called in log order; it must not block."""

    @property
    def shape(self) -> Shape: ...

    def record(self, entry: Entry) -> None: ...


class Routes:
    """Subscribers and their routers, one per column layout that the log has shown.

    The partitions of a table have versions of their own but most often the same layout.
    """

    def __init__(self, columns: dict[str, Column]) -> None:
        """`columns` are those of the table by name; others may add to them."""
        self.subscribers: dict[Subscriber, None] = {}
        self._routers: dict[tuple[str, ...], Router[Subscriber]] = {}
        self._columns = columns

    def add(self, subscriber: Subscriber) -> None:
        self.subscribers[subscriber] = None
        for layout, router in self._routers.items():
            _add(router, subscriber, layout)

    def remove(self, subscriber: Subscriber) -> None:
        del self.subscribers[subscriber]
        for router in self._routers.values():
            router.remove(subscriber)

    def router(self, version: RelationVersion) -> Router[Subscriber]:
        layout = tuple(column.name for column in version.columns)
        router = self._routers.get(layout)
        if router is None:
            router = Router[Subscriber](version.positions, self._columns)
            for subscriber in self.subscribers:
                _add(router, subscriber, layout)
            self._routers[layout] = router
        return router


class WindowRoutes(Routes):
    """The subscribers of one window, of which rows before `cutoff` are nobody's."""

    def __init__(self, columns: dict[str, Column], window: Window, cutoff: str) -> None:
        super().__init__(columns)
        self.window = window
        self.cutoff = cutoff
        self._places: dict[int, tuple[Router[Subscriber], int | None]] = {}

    def inside(
        self, version: RelationVersion, new: Row | None, old: Row | None
    ) -> tuple[Router[Subscriber], Row | None, Row | None]:
        """The router for a relation version, and of both rows the ones that are in the window."""
        known = self._places.get(version.id)
        if known is None:
            known = self.router(version), version.positions.get(self.window.column)
            self._places[version.id] = known
        router, place = known
        if place is None:
            return router, None, None
        if new is not None and not is_inside(new[place], self.cutoff):
            new = None
        if old is not None and not is_inside(old[place], self.cutoff):
            old = None
        return router, new, old


class TableRoutes:
    """The subscribers of one table, which it is a collection of: `plain` are those without a window."""

    def __init__(self) -> None:
        self.columns: dict[str, Column] = {}
        """Of the table by name, as its subscribers know it: those who came later may know more."""
        self.plain = Routes(self.columns)
        self.windows: dict[Window, WindowRoutes] = {}
        self.promises = Promises()

    def add(self, subscriber: Subscriber, cutoff: str) -> None:
        """`cutoff` is that of its window, which counts if it is the first one with that window."""
        shape = subscriber.shape
        self.columns.update({column.name: column for column in shape.table.columns})
        self.promises.add(shape.projection)
        window = shape.window
        if window is not None and window not in self.windows:
            self.windows[window] = WindowRoutes(self.columns, window, cutoff)
        routes = self.plain if window is None else self.windows[window]
        routes.add(subscriber)

    def __contains__(self, subscriber: Subscriber) -> bool:
        window = subscriber.shape.window
        routes = self.plain if window is None else self.windows.get(window)
        return routes is not None and subscriber in routes.subscribers

    def __iter__(self) -> Iterator[Subscriber]:
        for routes in (self.plain, *self.windows.values()):
            yield from routes.subscribers

    def __len__(self) -> int:
        return sum(len(one.subscribers) for one in (self.plain, *self.windows.values()))

    def remove(self, subscriber: Subscriber) -> None:
        window = subscriber.shape.window
        routes = self.plain if window is None else self.windows[window]
        routes.remove(subscriber)
        if window is not None and not routes.subscribers:
            del self.windows[window]


def _add(router: Router[Subscriber], subscriber: Subscriber, layout: tuple[str, ...]) -> None:
    """Let a subscriber take part, unless its filter reads columns that are not there."""
    shape = subscriber.shape
    if shape.filtered_by <= set(layout):
        router.add(subscriber, shape.condition, _shown(shape.projection))


def _shown(projection: Projection) -> list[str] | None:
    """Names of the columns whose changes a subscriber must hear of, None for all."""
    if not projection.explicit:
        return None
    return [column.name for column in (*projection.columns, *projection.key_columns)]
