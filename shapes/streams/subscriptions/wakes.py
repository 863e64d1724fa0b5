"""From what was appended to subscriptions that are woken, and from the clock to those that are due."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from shapes.database import Database
from shapes.streams.subscriptions import subscription_table as table
from shapes.streams.subscriptions.interests import Interests
from shapes.streams.subscriptions.subscription import Ends, Key
from shapes.streams.subscriptions.subscriptions import go_on

MOST_DUE: Final = 500
LATELY: Final = "1 second"


class Due(NamedTuple):
    """`attempts` are to be made, the leases of `expired` have ended; `seconds` until the next are."""

    attempts: list[Key]
    expired: list[Key]
    seconds: float | None


class Wakes:
    """Opens wakes, in Postgres. Methods raise what `Database.work` raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, interests: Interests, *, everything: bool) -> bool:
        """Take in which subscriptions there are; those that have changed are seen to, or with
        `everything` all of them: streams that came up meanwhile are linked, and who has something to do
        is woken. True if some have changed so lately that this is to be done once more, since what has
        just been committed may not be visible yet."""
        async with self._database.work() as work:
            rows = await work.fetch(
                "select environment_id, id, pattern, wake_stream, changed_at is not null"
                " from pgtide.subscriptions"
            )
            named = await work.fetch(
                "select environment_id, subscription_id, path from pgtide.subscription_streams"
                " where explicit"
            )
        interests.replace(
            len(rows),
            ((Key(row[0], row[1]), row[2], row[3]) for row in rows if row[2] is not None),
            ((Key(row[0], row[1]), row[2]) for row in named),
        )
        again = False
        for row in rows:
            if everything or row[4]:
                again |= await self._settle(Key(row[0], row[1]))
        return again

    async def _settle(self, key: Key) -> bool:
        """True if that is to be done once more."""
        async with self._database.work() as work:
            one = await table.lock(work, key)
            if one is None:
                return False
            if one.pattern is not None:
                await table.link_matching(work, key, new=True)
            await table.forget_gone(work, key)
            if one.wake_id is None and await table.pending(work, key) is not None:
                await table.wake(work, key)
            lately = await work.fetchval(
                "update pgtide.subscriptions set changed_at ="
                f" case when changed_at > clock_timestamp() - interval '{LATELY}' then changed_at end"
                " where environment_id = $1 and id = $2 and changed_at is not null"
                " returning changed_at is not null",
                *key,
            )
        return bool(lately)

    async def look_up(self, stream_ids: Iterable[int]) -> list[tuple[int, str, str]]:
        """Ids, environments and paths of those that there are."""
        async with self._database.work() as work:
            rows = await work.fetch(
                "select id, environment_id, path from pgtide.streams where id = any($1::bigint[])",
                list(stream_ids),
            )
        return [(row[0], row[1], row[2]) for row in rows]

    async def open(self, news: Mapping[Key, Sequence[Ends]]) -> set[Key]:
        """Remember where streams end, which the table may tell later than the log did, and wake those
        for whom nobody is awake. Gives the others."""
        keys = sorted(news)
        async with self._database.work() as work:
            rows = await work.fetch(
                "select one.environment_id, one.id, one.wake_id is not null"
                " from unnest($1::text[], $2::text[]) as asked (environment_id, id)"
                " join pgtide.subscriptions as one using (environment_id, id)"
                " order by one.environment_id, one.id for no key update of one",
                *_columns(keys),
            )
            there = [Key(row[0], row[1]) for row in rows]
            await table.note_ends(work, [(key, end) for key in there for end in news[key]])
            idle = [Key(row[0], row[1]) for row in rows if not row[2]]
            await work.execute(
                "update pgtide.subscriptions as one set generation = generation + 1,"
                " wake_id = asked.wake_id, next_attempt_at = clock_timestamp()"
                " from unnest($1::text[], $2::text[], $3::text[])"
                " as asked (environment_id, id, wake_id)"
                " where one.environment_id = asked.environment_id and one.id = asked.id"
                " and exists (select from pgtide.subscription_links(one.environment_id, one.id)"
                " where tail > greatest(acked, 0))",
                *(*_columns(idle), [f"w_{secrets.token_hex(12)}" for _ in idle]),
            )
        return set(there) - set(idle)

    async def forget(self, gone: Iterable[tuple[Key, str]]) -> None:
        """Streams of subscriptions, by their paths, that were not named and are not there any more."""
        pairs = list(gone)
        async with self._database.work() as work:
            await work.execute(
                "delete from pgtide.subscription_streams as link"
                " using unnest($1::text[], $2::text[], $3::text[])"
                " as gone (environment_id, subscription_id, path)"
                " where link.environment_id = gone.environment_id"
                " and link.subscription_id = gone.subscription_id and link.path = gone.path"
                " and not link.explicit and not exists (select from pgtide.streams as stream"
                " where stream.environment_id = link.environment_id and stream.path = link.path)",
                *_columns([key for key, _ in pairs]),
                [path for _, path in pairs],
            )

    async def count(self) -> tuple[int, int, int]:
        """How many subscriptions are idle, awake, and failed."""
        async with self._database.work() as work:
            row = await work.fetchrow(
                "select count(*) filter (where status <> 'failed' and wake_id is null),"
                " count(*) filter (where status <> 'failed' and wake_id is not null),"
                " count(*) filter (where status = 'failed') from pgtide.subscriptions"
            )
        assert row is not None
        return row[0], row[1], row[2]

    async def due(self) -> Due:
        async with self._database.work() as work:
            # One moment for both questions: what becomes due in between would be in neither answer.
            now = await work.fetchval("select clock_timestamp()")
            rows = await work.fetch(
                "(select environment_id, id, true from pgtide.subscriptions"
                f" where next_attempt_at <= $1 order by next_attempt_at limit {MOST_DUE})"
                " union all (select environment_id, id, false from pgtide.subscriptions"
                f" where lease_until <= $1 order by lease_until limit {MOST_DUE})",
                now,
            )
            seconds = await work.fetchval(
                "select extract(epoch from least("
                " (select min(next_attempt_at) from pgtide.subscriptions where next_attempt_at > $1),"
                " (select min(lease_until) from pgtide.subscriptions where lease_until > $1)"
                ") - clock_timestamp())::float8",
                now,
            )
        attempts = [Key(row[0], row[1]) for row in rows if row[2]]
        expired = [Key(row[0], row[1]) for row in rows if not row[2]]
        return Due(attempts, expired, None if seconds is None else max(seconds, 0.0))

    async def expire(self, key: Key) -> None:
        """End a lease whose time is over."""
        async with self._database.work() as work:
            one = await table.lock(work, key)
            if one is not None and one.expired:
                await go_on(work, key)
                await table.notify(work, table.DUE)


def _columns(keys: Sequence[Key]) -> tuple[list[str], list[str]]:
    return [key.environment for key in keys], [key.id for key in keys]
