"""Subscriptions in Postgres: what is asked within one transaction."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from shapes.streams.subscriptions.configuration import Configuration
from shapes.streams.subscriptions.refusals import Code, SubscriptionError
from shapes.streams.subscriptions.subscription import Ends, Key, Link, Subscription

CHANGED: Final = 0
DUE: Final = -1
"""Ids of notices that are about no stream (sql/0006_stream_subscriptions.sql)."""

MOST_LINKS: Final = 10_000
"""Streams that are shown of a subscription."""

MOST_TOLD: Final = 1_000
"""Streams that a worker is told of; those with something to do come first, and the next wake has the
others."""

_COLUMNS = (
    "environment_id, id, type, pattern, webhook_url, wake_stream, lease_ttl_ms, description,"
    " base_url, created_at, status, generation, wake_id, holder,"
    " coalesce(lease_until <= clock_timestamp(), false), failures"
)
_THERE = (
    "stream.deleted_at is null"
    " and (stream.expires_at is null or stream.expires_at > clock_timestamp())"
)

_ENDS = (
    "unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::boolean[])"
    " as ends (environment_id, id, path, stream_id, tail, matched)"
)


async def insert(work: asyncpg.Connection, key: Key, asked: Configuration, base_url: str) -> bool:
    """Make a subscription with links to the streams that there are; False if there is one already,
    whose address is another one now. Raises SubscriptionError if that is another one altogether."""
    pattern = asked.pattern
    made = await work.fetchval(
        "insert into pgtide.subscriptions (environment_id, id, type, pattern, expression, webhook_url,"
        " wake_stream, lease_ttl_ms, description, identity, base_url)"
        " values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
        " on conflict (environment_id, id) do nothing returning true",
        *(*key, asked.type, pattern and pattern.text, pattern and pattern.expression),
        *(asked.webhook_url, asked.wake_stream, asked.lease_ms, asked.description),
        *(asked.identity, base_url),
    )
    if not made:
        await _confirm(work, key, asked, base_url)
        return False
    await link_explicit(work, key, asked.streams)
    await link_matching(work, key, new=False)
    await notify(work, CHANGED)
    return True


async def _confirm(work: asyncpg.Connection, key: Key, asked: Configuration, base_url: str) -> None:
    same = await work.fetchval(
        "update pgtide.subscriptions set base_url = $4"
        " where environment_id = $1 and id = $2 and identity = $3 returning true",
        *(*key, asked.identity, base_url),
    )
    if not same:
        raise SubscriptionError(
            Code.ALREADY_EXISTS,
            "there is a subscription of this name with another configuration: delete it first",
        )


async def link_explicit(work: asyncpg.Connection, key: Key, paths: Sequence[str]) -> None:
    """Add streams, from their ends on if they are there."""
    await work.execute(
        "insert into pgtide.subscription_streams as link"
        " (environment_id, subscription_id, path, explicit, matched, stream_id, acked)"
        " select $1, $2, named.path, true, false, stream.id, coalesce(stream.tail, -1)"
        " from unnest($3::text[]) as named (path) left join pgtide.streams as stream"
        f" on stream.environment_id = $1 and stream.path = named.path and {_THERE}"
        " order by named.path"
        " on conflict (environment_id, subscription_id, path) do update set explicit = true"
        " where not link.explicit",
        *(*key, list(paths)),
    )


async def look_again(work: asyncpg.Connection, key: Key) -> None:
    """Something may have been appended to its streams just before they were linked."""
    await work.execute(
        "update pgtide.subscriptions set changed_at = clock_timestamp()"
        " where environment_id = $1 and id = $2",
        *key,
    )
    await notify(work, CHANGED)


async def link_matching(work: asyncpg.Connection, key: Key, *, new: bool) -> None:
    """Add all streams that match the pattern: from their ends on, or if they are `new` from their
    beginnings. A subscription does not wake itself: its own wake stream is left out."""
    await work.execute(
        "insert into pgtide.subscription_streams as link"
        " (environment_id, subscription_id, path, explicit, matched, stream_id, acked)"
        " select $1, $2, stream.path, false, true, stream.id,"
        " case when $3 then -1 else stream.tail end"
        " from pgtide.subscriptions as one join pgtide.streams as stream"
        " on stream.environment_id = one.environment_id and stream.path || '/' ~ one.expression"
        f" and stream.path is distinct from one.wake_stream and {_THERE}"
        " where one.environment_id = $1 and one.id = $2 order by stream.path"
        " on conflict (environment_id, subscription_id, path) do update set matched = true"
        " where not link.matched",
        *(*key, new),
    )


async def unlink_explicit(work: asyncpg.Connection, key: Key, path: str) -> None:
    """Remove a stream that was named; one that matches the pattern as well stays."""
    await work.execute(
        "update pgtide.subscription_streams set explicit = false"
        " where environment_id = $1 and subscription_id = $2 and path = $3 and matched",
        *(*key, path),
    )
    await work.execute(
        "delete from pgtide.subscription_streams"
        " where environment_id = $1 and subscription_id = $2 and path = $3 and not matched",
        *(*key, path),
    )


async def delete(work: asyncpg.Connection, key: Key) -> None:
    await work.execute(
        "delete from pgtide.subscriptions where environment_id = $1 and id = $2", *key
    )
    await notify(work, CHANGED)


async def select(work: asyncpg.Connection, key: Key) -> Subscription | None:
    return await _select(work, key, "")


async def lock(work: asyncpg.Connection, key: Key) -> Subscription | None:
    """The subscription, for this transaction to change."""
    return await _select(work, key, " for update")


async def _select(work: asyncpg.Connection, key: Key, more: str) -> Subscription | None:
    row = await work.fetchrow(
        f"select {_COLUMNS} from pgtide.subscriptions where environment_id = $1 and id = $2{more}",
        *key,
    )
    return None if row is None else _subscription(tuple(row))


def _subscription(row: Sequence[Any]) -> Subscription:
    return Subscription(
        key=Key(row[0], row[1]),
        type=row[2],
        pattern=row[3],
        webhook_url=row[4],
        wake_stream=row[5],
        lease_ms=row[6],
        description=row[7],
        base_url=row[8],
        created_at=row[9],
        status=row[10],
        generation=row[11],
        wake_id=row[12],
        holder=row[13],
        expired=row[14],
        failures=row[15],
    )


async def links(work: asyncpg.Connection, key: Key, most: int = MOST_LINKS) -> list[Link]:
    """Its streams, those with something to do first if there are too many."""
    rows = await work.fetch(
        "select * from (select path, explicit, stream_id, acked, tail, told"
        " from pgtide.subscription_links($1, $2)"
        " order by coalesce(tail > greatest(acked, 0), false) desc, path limit $3) as those"
        " order by path",
        *(*key, most),
    )
    return [Link(*row) for row in rows]


async def link(work: asyncpg.Connection, key: Key, paths: Sequence[str]) -> dict[str, Link]:
    """Those of its streams that are among these, by path."""
    rows = await work.fetch(
        "select path, explicit, stream_id, acked, tail, told"
        " from pgtide.subscription_links($1, $2) where path = any($3::text[])",
        *(*key, list(paths)),
    )
    return {row[0]: Link(*row) for row in rows}


async def acknowledge(work: asyncpg.Connection, key: Key, done: Sequence[Link]) -> None:
    """Up to `acked` all is done; these are positions of the streams that are there now."""
    await work.execute(
        "update pgtide.subscription_streams as link set stream_id = done.stream_id,"
        " acked = done.position,"
        " seen = case when link.stream_id = done.stream_id then link.seen else 0 end,"
        " told = case when link.stream_id = done.stream_id then link.told end"
        " from unnest($3::text[], $4::bigint[], $5::bigint[]) as done (path, stream_id, position)"
        " where link.environment_id = $1 and link.subscription_id = $2 and link.path = done.path",
        *(*key, [one.path for one in done], [one.stream_id for one in done]),
        [one.acked for one in done],
    )


async def acknowledge_told(work: asyncpg.Connection, key: Key) -> None:
    """Everything is done that the worker was told of."""
    await work.execute(
        "update pgtide.subscription_streams set acked = told"
        " where environment_id = $1 and subscription_id = $2 and told > acked",
        *key,
    )


async def remember_told(work: asyncpg.Connection, key: Key, told: Sequence[Link]) -> None:
    """A worker is told of these, and of nothing else; from here on the positions are those of the
    streams that are there now."""
    there = [link for link in told if link.stream_id is not None]
    await work.execute(
        "update pgtide.subscription_streams set told = null"
        " where environment_id = $1 and subscription_id = $2 and told is not null"
        " and path <> all($3::text[])",
        *(*key, [link.path for link in there]),
    )
    await work.execute(
        "update pgtide.subscription_streams as link set stream_id = told.stream_id,"
        " acked = told.acked, told = told.tail,"
        " seen = case when link.stream_id = told.stream_id then link.seen else 0 end"
        " from unnest($3::text[], $4::bigint[], $5::bigint[], $6::bigint[])"
        " as told (path, stream_id, acked, tail)"
        " where link.environment_id = $1 and link.subscription_id = $2 and link.path = told.path",
        *(*key, [link.path for link in there], [link.stream_id for link in there]),
        *([link.acked for link in there], [link.tail for link in there]),
    )


async def forget_gone(work: asyncpg.Connection, key: Key) -> None:
    """Streams that were not named and are not there any more."""
    await work.execute(
        "delete from pgtide.subscription_streams as link"
        " where environment_id = $1 and subscription_id = $2 and not explicit"
        " and not exists (select from pgtide.streams as stream"
        " where stream.environment_id = link.environment_id and stream.path = link.path)",
        *key,
    )


async def note_ends(work: asyncpg.Connection, ends: Sequence[tuple[Key, Ends]]) -> None:
    """Where streams of subscriptions end, as the log has told. Those that match are linked. Of two
    streams that had the same path one after the other, the one with the higher id is the later."""
    latest = {(key, end.path): end for key, end in sorted(ends, key=lambda one: one[1].stream_id)}
    columns = (
        [key.environment for key, _ in latest],
        [key.id for key, _ in latest],
        [path for _, path in latest],
        [end.stream_id for end in latest.values()],
        [end.tail for end in latest.values()],
        [end.matched for end in latest.values()],
    )
    await work.execute(
        "insert into pgtide.subscription_streams as link (environment_id, subscription_id, path,"
        " explicit, matched, stream_id, seen)"
        " select environment_id, id, path, false, true, stream_id, tail"
        f" from {_ENDS} where matched"
        " on conflict (environment_id, subscription_id, path) do update set matched = true"
        " where not link.matched",
        *columns,
    )
    await work.execute(
        "update pgtide.subscription_streams as link set stream_id = ends.stream_id,"
        " acked = case when link.stream_id = ends.stream_id then link.acked else -1 end,"
        " told = case when link.stream_id = ends.stream_id then link.told end,"
        " seen = ends.tail"
        f" from {_ENDS} where link.environment_id = ends.environment_id"
        " and link.subscription_id = ends.id and link.path = ends.path"
        " and (coalesce(link.stream_id, 0) < ends.stream_id"
        " or link.stream_id = ends.stream_id and link.seen < ends.tail)",
        *columns,
    )


async def pending(work: asyncpg.Connection, key: Key) -> str | None:
    """The path of a stream with something to do."""
    return await work.fetchval(
        "select path from pgtide.subscription_links($1, $2)"
        " where tail > greatest(acked, 0) order by path limit 1",
        *key,
    )


async def wake(work: asyncpg.Connection, key: Key) -> None:
    """Open the next wake; whoever attends to it tells a worker."""
    await work.execute(
        "update pgtide.subscriptions set generation = generation + 1, wake_id = $3, holder = null,"
        " lease_until = null, sender = null, next_attempt_at = clock_timestamp()"
        " where environment_id = $1 and id = $2",
        *(*key, f"w_{secrets.token_hex(12)}"),
    )


async def rest(work: asyncpg.Connection, key: Key) -> None:
    """End the wake."""
    await work.execute(
        "update pgtide.subscriptions set wake_id = null, holder = null, lease_until = null,"
        " sender = null, next_attempt_at = null where environment_id = $1 and id = $2",
        *key,
    )


async def lease(work: asyncpg.Connection, key: Key, holder: str | None) -> None:
    """The wake is its worker's for another while: nobody has to be told any more."""
    await work.execute(
        "update pgtide.subscriptions set holder = $3, failures = 0, status = 'active',"
        " sender = null, next_attempt_at = null,"
        " lease_until = clock_timestamp() + lease_ttl_ms * interval '1 millisecond'"
        " where environment_id = $1 and id = $2",
        *(*key, holder),
    )


async def notify(work: asyncpg.Connection, what: int) -> None:
    await work.execute("select pgtide.subscription_notice($1)", what)
