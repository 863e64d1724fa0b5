"""Wakes the workers of subscriptions: of a machine's nodes, one does.

It hears of every append from the log. Whom an append concerns is remembered by the stream's id, so one
that concerns nobody costs a look into a dictionary. What is done then is done in Postgres, under the
lock of the subscription's row: that several machines do it is no harm, and whatever a driver has begun
the next one goes on with.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final, Protocol

import asyncpg

from engine.configuration.settings import Settings
from engine.errors import PgtideError
from shapes.database import Database, DatabaseUnavailableError
from shapes.stream_meter import StreamMeter
from shapes.streams.notice import GONE, Notice
from shapes.streams.subscriptions.attempts import Attempts
from shapes.streams.subscriptions.baton import Baton
from shapes.streams.subscriptions.courier import Courier
from shapes.streams.subscriptions.interests import Interest, Interests
from shapes.streams.subscriptions.subscription import Ends, Key
from shapes.streams.subscriptions.subscription_table import CHANGED, DUE
from shapes.streams.subscriptions.subscriptions import Subscriptions
from shapes.streams.subscriptions.wakes import Wakes

log = logging.getLogger("streams")

TOGETHER_SECONDS: Final = 0.005
"""News that come so soon after others are handled with them."""

LOOK_SECONDS: Final = 15.0
"""So often it is looked what is due, whatever was heard."""

LOAD_AGAIN_SECONDS: Final = 1.2
LOAD_SECONDS: Final = 60.0
"""So often it is looked which subscriptions there are, whatever was heard."""

MOST_ATTEMPTS: Final = 256
"""At once."""

MOST_WAITING: Final = 1_000
"""Streams of a subscription that has somebody awake, until it is noted in Postgres where they end."""

MOST_UNKNOWN: Final = 50_000
"""Streams that are waiting to be looked up. Beyond, all subscriptions are looked at instead."""

ASK_AGAIN_SECONDS: Final = 0.1
MISSING_SECONDS: Final = 10.0
"""How long is asked for a stream that the log knows and the table does not show yet."""

COUNT_SECONDS: Final = 1.0
"""At least between counts of subscriptions."""

PAUSE_SECONDS: Final = 1.0
LONG_PAUSE_SECONDS: Final = 15.0


class Hub(Protocol):
    """Where the log's news are to be had."""

    def watch(
        self, callback: Callable[[Notice], None], lost: Callable[[], None] | None = None
    ) -> None: ...


class SubscriptionDriver:
    """Runs on every node, and drives on one."""

    def __init__(
        self,
        database: Database,
        hub: Hub,
        baton: Baton,
        attempts: Callable[[str], Attempts],
        meter: StreamMeter | None = None,
    ) -> None:
        """`attempts` makes the one that makes attempts, for a sender's name."""
        self._database = database
        self._meter = meter or StreamMeter()
        self._count_at = 0.0
        self._baton = baton
        self._make_attempts = attempts
        self._wakes = Wakes(database)
        self._interests = Interests()
        self._drives = False
        self._news = asyncio.Event()
        self._changed = self._everything = self._loading = self._due = False
        self._load_at = 0.0
        self._unknown: dict[int, tuple[int, float]] = {}
        """Streams that are to be looked up: where they end, and since when they are."""
        self._waiting: dict[Key, dict[int, Ends]] = {}
        """Where streams end, by the subscriptions that are to be woken for them."""
        self._awake: set[Key] = set()
        """Those for whom somebody is awake; what waits for them waits until that may be over."""
        self._gone: set[tuple[Key, str]] = set()
        """Streams of subscriptions that were deleted, by their paths."""
        self._sending: set[Key] = set()
        hub.watch(self._hear, self._lose)

    # -- hearing -----------------------------------------------------------------------------------

    def _hear(self, notice: Notice) -> None:
        """A part of handling every append of the node: it must cost next to nothing."""
        if not self._drives:
            return
        stream_id = notice.stream_id
        if stream_id > 0:
            # While it is not known who wants what, it is not known who does not want this.
            unsure = self._changed or self._everything or self._loading
            known = self._interests.known
            if unsure or (self._interests and stream_id not in known):
                if not notice.flags & GONE:
                    self._ask(stream_id, notice.end)
            elif (interest := known.get(stream_id)) is not None:
                self._want(interest, notice)
            else:
                return
        elif stream_id == CHANGED:
            self._changed = self._due = True
        elif stream_id == DUE:
            self._due = True
        self._news.set()

    def _lose(self) -> None:
        self._everything = True
        self._news.set()

    def _ask(self, stream_id: int, tail: int) -> None:
        last, since = self._unknown.get(stream_id, (0, time.monotonic()))
        self._unknown[stream_id] = max(last, tail), since
        if len(self._unknown) > MOST_UNKNOWN:
            self._unknown.clear()
            self._everything = True

    def _want(self, interest: Interest, notice: Notice) -> None:
        if notice.flags & GONE:
            self._gone.update((key, interest.path) for key in interest.all)
            return
        for key in interest.all:
            ends = self._waiting.setdefault(key, {})
            before = ends.get(notice.stream_id)
            tail = notice.end if before is None else max(notice.end, before.tail)
            ends[notice.stream_id] = Ends(
                interest.path, notice.stream_id, tail, key in interest.matched
            )

    # -- doing -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        try:
            attempts = self._make_attempts(await self._baton.take())
            self._drives = self._everything = True
            async with asyncio.TaskGroup() as tasks:
                took_over = False
                while True:
                    pause = 0.0
                    try:
                        if not took_over:
                            await attempts.take_over()
                            took_over = True
                        await self._wait(await self._step(attempts, tasks))
                    except DatabaseUnavailableError:
                        pause = PAUSE_SECONDS
                    except (asyncpg.PostgresError, PgtideError) as error:
                        # Before `pgtide migrate` has run, or without the right to write.
                        log.debug("no subscriptions: %s", error)
                        pause = LONG_PAUSE_SECONDS
                    except Exception:
                        log.exception("subscriptions are not attended to for a while")
                        pause = LONG_PAUSE_SECONDS
                    if pause:
                        await asyncio.sleep(pause)
                        await self._let_rest()
                        # What was under way may have been lost.
                        self._everything = True
        finally:
            self._drives = False
            self._meter.subscriptions(0, 0, 0)
            self._baton.close()

    async def _wait(self, seconds: float | None) -> None:
        """Until there are news, or it is time."""
        soon = max(self._load_at - time.monotonic(), 0.0) + TOGETHER_SECONDS
        longest = min(LOOK_SECONDS if seconds is None else seconds, LOOK_SECONDS, soon)
        try:
            async with asyncio.timeout(longest):
                await self._news.wait()
            await asyncio.sleep(TOGETHER_SECONDS)
        except TimeoutError:
            if seconds is None:
                await self._let_rest()
            self._due = True
        if time.monotonic() > self._load_at:
            self._changed = True
        self._news.clear()

    async def _let_rest(self) -> None:
        """Ask Postgres nothing while it may sleep, unless there are news."""
        while self._database.resting and not self._news.is_set():
            await asyncio.sleep(PAUSE_SECONDS)

    async def _step(self, attempts: Attempts, tasks: asyncio.TaskGroup) -> float | None:
        """Whatever there is to do. Gives the seconds until there is more, None if that is not known."""
        if self._everything or self._changed:
            await self._load()
        if self._unknown:
            await self._look_up()
        if self._gone:
            gone, self._gone = self._gone, set()
            await self._wakes.forget(gone)
        if self._due:
            self._due = False
            self._awake.clear()
        await self._open()
        await self._count()
        if not self._interests:
            return None
        seconds = await self._attend(attempts, tasks)
        if self._unknown:
            seconds = ASK_AGAIN_SECONDS if seconds is None else min(seconds, ASK_AGAIN_SECONDS)
        return seconds

    async def _load(self) -> None:
        everything, self._everything, self._changed = self._everything, False, False
        self._loading = True
        try:
            again = await self._wakes.load(self._interests, everything=everything)
        finally:
            self._loading = False
        self._load_at = time.monotonic() + (LOAD_AGAIN_SECONDS if again else LOAD_SECONDS)

    async def _look_up(self) -> None:
        """Learn whom streams concern. One whose transaction the table does not show yet is asked for
        again, for a while: it may have been deleted."""
        asked, self._unknown = self._unknown, {}
        for stream_id, environment, path in await self._wakes.look_up(asked):
            tail, _ = asked.pop(stream_id)
            interest = self._interests.learn(stream_id, environment, path)
            if interest is not None:
                self._want(interest, Notice(stream_id, tail, 0, 0, 0, None))
        for stream_id, (tail, since) in asked.items():
            if time.monotonic() - since < MISSING_SECONDS:
                last = self._unknown.get(stream_id, (0, since))[0]
                self._unknown[stream_id] = max(last, tail), since

    async def _open(self) -> None:
        ready = {
            key: list(ends.values())
            for key, ends in self._waiting.items()
            if key not in self._awake or len(ends) > MOST_WAITING
        }
        if ready:
            for key in ready:
                del self._waiting[key]
            self._awake |= await self._wakes.open(ready)

    async def _count(self) -> None:
        if not self._interests:
            self._meter.subscriptions(0, 0, 0)
        elif time.monotonic() > self._count_at:
            self._count_at = time.monotonic() + COUNT_SECONDS
            self._meter.subscriptions(*await self._wakes.count())

    async def _attend(self, attempts: Attempts, tasks: asyncio.TaskGroup) -> float | None:
        due = await self._wakes.due()
        for key in due.expired:
            await self._wakes.expire(key)
        for key in due.attempts:
            if key not in self._sending and len(self._sending) < MOST_ATTEMPTS:
                self._sending.add(key)
                tasks.create_task(self._tell(attempts, key))
        if due.expired:
            self._due = True
            return 0.0
        return due.seconds

    async def _tell(self, attempts: Attempts, key: Key) -> None:
        try:
            failure = await attempts.make(key)
            if failure is not None:
                log.warning("subscription %r is to be tried again: %s", key.id, failure)
        except DatabaseUnavailableError:
            await asyncio.sleep(PAUSE_SECONDS)
        except Exception:
            log.exception("subscription %r is to be tried again", key.id)
            await asyncio.sleep(LONG_PAUSE_SECONDS)
        finally:
            self._sending.discard(key)
            self._news.set()


def make_driver(
    settings: Settings,
    database: Database,
    hub: Hub,
    subscriptions: Subscriptions,
    courier: Courier,
    meter: StreamMeter,
) -> SubscriptionDriver:
    """The driver of a node."""
    baton = Baton(settings.data_dir / "subscriptions.lock")

    def attempts(sender: str) -> Attempts:
        return Attempts(database, subscriptions, courier, sender, settings.public_url, meter)

    return SubscriptionDriver(database, hub, baton, attempts, meter)
