"""Moves the windows that are followed here: tells the log, through Postgres, that time goes by.

Time has to have a place among the changes, so that all nodes let the same rows leave a window at the
same place of the log. So a cut-off moves by a tick in the WAL
(`engine.replication.tick`), written by whichever node comes first; the rows come with it. All of them
keep time by the server's clock.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final, NamedTuple

from engine.lsn import Offset
from engine.postgres.table import Table
from engine.replication.tick import window_key
from shapes.database import SNAPSHOT_SETTINGS, Database
from shapes.following.feed import Feed
from shapes.following.routes import WindowRoutes
from shapes.following.tail import Tail
from shapes.readiness import NotReadyError
from shapes.shape import Shape
from shapes.windows.ledger import WindowLedger
from shapes.windows.moves import WindowMove
from shapes.windows.window import Window, cutoff_at, is_date, step_of

log = logging.getLogger("node")

PERIOD_SECONDS: Final = 0.25
FOLLOWED_SECONDS: Final = 60.0
"""A shape that nobody has read for so long lets Postgres sleep."""

REACH_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.01
RETRY_SECONDS: Final = 15.0

STALE_STEPS: Final = 4
MOST_STALE_ROWS: Final = 100_000
"""A window that nobody has followed for a while begins anew if more rows than this have left it."""

MOST_ROWS: Final = 50_000
"""It also does if so many rows are of the same second."""

_STUCK: Final = "The log does not show what was written to Postgres: is the engine connected?"

_SETTINGS: Final = "; ".join(
    f"set local {name} = '{value}'" for name, value in SNAPSHOT_SETTINGS.items()
)


class _Followed(NamedTuple):
    """A window of a table as this node follows it."""

    table: Table
    window: Window
    columns: frozenset[str]

    @property
    def key(self) -> bytes:
        return window_key(self.table.oid, *self.window)


class WindowClock:
    """Keeps the cut-offs of windows where they belong, as long as somebody follows."""

    def __init__(
        self,
        tail: Tail,
        database: Database,
        ledger: WindowLedger,
        *,
        prefix: str,
        longest_step: float,
    ) -> None:
        """`prefix` is that of the messages which the engine takes for ticks."""
        self._tail = tail
        self._database = database
        self._ledger = ledger
        self._prefix = prefix
        self._longest_step = longest_step
        self._ahead = 0.0
        self._not_before: dict[bytes, float] = {}

    async def run(self) -> None:
        """Move what is due and followed here, until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_SECONDS)
            if self._database.resting or not self._tail.active:
                continue
            for followed in self._due():
                await self._try_to_move(followed)

    async def bring(self, shape: Shape) -> None:
        """Let the window of a shape be where it belongs, for somebody who is about to read its rows.

        Raises NotReadyError, DatabaseUnavailableError and asyncpg.PostgresError.
        """
        if shape.window is None:
            return
        followed = _Followed(shape.table, shape.window, _needed(shape))
        self._ledger.join(followed.key, followed.columns)
        deadline = time.monotonic() + REACH_SECONDS
        while not self._has_reached(followed, late=1):
            if await self._move(followed):
                return
            if time.monotonic() > deadline:
                raise NotReadyError(_STUCK)
            await asyncio.sleep(POLL_SECONDS)

    # -- when --------------------------------------------------------------------------------------

    def _step(self, followed: _Followed) -> int:
        return step_of(followed.window, self._longest_step)

    def _place(self, followed: _Followed, *, late: int = 0) -> str:
        """Where a cut-off belongs now, or so many steps ago."""
        step = self._step(followed)
        now = time.time() + self._ahead - late * step
        return cutoff_at(followed.window, step, now, date=is_date(followed.window, followed.table))

    def _due(self) -> list[_Followed]:
        """What to move now. Told at once: subscribers come and go whenever somebody waits."""
        return [
            _described(routes)
            for _, routes in self._tail.routing.windows()
            if self._is_due(routes) and _is_followed(routes)
        ]

    def _is_due(self, routes: WindowRoutes) -> bool:
        table = next(iter(routes.subscribers)).shape.table
        followed = _Followed(table, routes.window, frozenset())
        if routes.cutoff >= self._place(followed):
            return False
        return time.monotonic() >= self._not_before.get(followed.key, 0.0)

    def _has_reached(self, followed: _Followed, *, late: int = 0) -> bool:
        """Whether a cut-off is where it belongs now, or did so many steps ago."""
        cutoff = self._cutoff(followed)
        return cutoff is not None and cutoff >= self._place(followed, late=late)

    def _cutoff(self, followed: _Followed) -> str | None:
        """At the end of the log."""
        return self._tail.log.cutoff(followed.key, Offset(self._tail.log.state().end_lsn, 0))

    # -- moving ------------------------------------------------------------------------------------

    async def _try_to_move(self, followed: _Followed) -> None:
        try:
            # While others moved, another node may have moved this one.
            if self._has_reached(followed) or not await self._move(followed):
                return
            delay = self._step(followed) / 20
        except Exception as error:
            # Whatever it is: those who follow other shapes go on.
            names = followed.table.schema, followed.table.name, followed.window.column
            log.warning("the window of %s.%s by %s has not moved: %s", *names, error)
            delay = RETRY_SECONDS
        # By the server's clock it may not be time yet.
        self._not_before[followed.key] = time.monotonic() + delay

    async def _move(self, followed: _Followed) -> bool:
        """Move a window to where it belongs. False if somebody else is at it."""
        while True:
            carried = self._ledger.claim(followed.key, followed.columns)
            if carried is None:
                return False
            move = WindowMove(followed.table, followed.window, carried)
            since = self._cutoff(followed)
            try:
                until, due = await self._emit(move, followed, since)
                if until is not None:
                    await self._moved(followed, until)
            finally:
                self._ledger.release(followed.key, carried - move.carried)
            if until is None or until >= due:
                return True

    async def _emit(
        self, move: WindowMove, followed: _Followed, since: str | None
    ) -> tuple[str | None, str]:
        """Write one tick: the new cut-off, None if there is nothing to do, and where it belongs."""
        async with self._database.work() as connection:
            await connection.execute(_SETTINGS)
            row: Any = await connection.fetchrow(move.due(self._step(followed)))
            self._ahead = float(row[0]) - time.time()
            due = str(row[1])
            if since is not None and since >= due:
                return None, due
            since, until = await self._page(connection, move, followed, since, due)
            await connection.fetchval(move.emit(self._prefix, since, until))
        return until, due

    async def _page(
        self, connection: Any, move: WindowMove, followed: _Followed, since: str | None, due: str
    ) -> tuple[str | None, str]:
        """The next step that is not too large; a beginning if there is none."""
        if since is None:
            return None, due
        if since < self._place(followed, late=STALE_STEPS):
            count = int(await connection.fetchval(move.count(since, due, MOST_STALE_ROWS)))
            if count > MOST_STALE_ROWS:
                return None, due
        page: Any = await connection.fetchrow(move.page(since, due))
        if page is None:
            return since, due
        until, later = map(str, page)
        if until > since:
            return since, until
        count = int(await connection.fetchval(move.count(since, later, MOST_ROWS)))
        return (since if count <= MOST_ROWS else None), min(later, due)

    async def _moved(self, followed: _Followed, until: str) -> None:
        """Wait until a tick has come through, or another one beyond it."""
        deadline = time.monotonic() + REACH_SECONDS
        while (self._cutoff(followed) or "") < until:
            if time.monotonic() > deadline:
                raise NotReadyError(_STUCK)
            await asyncio.sleep(POLL_SECONDS)
        await self._tail.catch_up()


def _is_followed(routes: WindowRoutes) -> bool:
    since = time.monotonic() - FOLLOWED_SECONDS
    return any(isinstance(one, Feed) and one.followed(since) for one in routes.subscribers)


def _described(routes: WindowRoutes) -> _Followed:
    shapes = [one.shape for one in routes.subscribers]
    columns = frozenset[str]().union(*{_needed(shape) for shape in shapes})
    return _Followed(shapes[0].table, routes.window, columns)


def _needed(shape: Shape) -> frozenset[str]:
    """Names of the columns that rows must come with when they leave."""
    return shape.filtered_by | {column.name for column in shape.projection.key_columns}
