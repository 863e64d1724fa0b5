"""What may be done with subscriptions: everything in one transaction each, on any node."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import asyncpg

from shapes.access.authority import Authority
from shapes.database import Database
from shapes.streams.stream import JSON_TYPE, position_of
from shapes.streams.subscriptions import subscription_table as table
from shapes.streams.subscriptions.configuration import (
    PULL_WAKE,
    WEBHOOK,
    Configuration,
    stream_path,
)
from shapes.streams.subscriptions.refusals import Code, SubscriptionError, invalid
from shapes.streams.subscriptions.signatures import Signatures
from shapes.streams.subscriptions.subscription import Key, Link, Subscription
from shapes.streams.subscriptions.tokens import Fence, FencingTokens


class Claimed(NamedTuple):
    """What a worker gets."""

    wake_id: str
    generation: int
    token: str
    links: list[Link]
    lease_ms: int


class Subscriptions:
    """The subscriptions of all environments. Methods raise SubscriptionError and what `Database.work`
    raises."""

    def __init__(self, database: Database, authority: Authority) -> None:
        self._database = database
        self._authority = authority
        self._signatures: Signatures | None = None
        self.tokens = FencingTokens(authority)

    # -- configuration -----------------------------------------------------------------------------

    async def create(
        self, key: Key, asked: Configuration, base_url: str
    ) -> tuple[Subscription, list[Link], bool]:
        """The subscription, its streams, and whether it is new. Its wake stream is made, too, unless it
        is there."""
        async with self._database.work() as work:
            made = await table.insert(work, key, asked, base_url)
            if asked.wake_stream is not None:
                await _make_wake_stream(work, key.environment, asked.wake_stream)
            return *await _found(work, key), made

    async def find(self, key: Key) -> tuple[Subscription, list[Link]]:
        async with self._database.work() as work:
            return await _found(work, key)

    async def delete(self, key: Key) -> None:
        async with self._database.work() as work:
            await table.delete(work, key)

    async def add(self, key: Key, paths: Sequence[str]) -> None:
        """Streams of these paths belong to it from now on."""
        async with self._database.work() as work:
            one = _known(await table.lock(work, key))
            if one.wake_stream in paths:
                raise invalid("a subscription cannot follow its own wake_stream")
            await table.link_explicit(work, key, paths)
            await table.look_again(work, key)

    async def remove(self, key: Key, path: str) -> None:
        async with self._database.work() as work:
            _known(await table.lock(work, key))
            await table.unlink_explicit(work, key, path)

    async def signatures(self) -> Signatures:
        """What webhooks are signed with."""
        if self._signatures is None:
            async with self._database.work() as work:
                await work.execute(
                    "insert into pgtide.webhook_seed (seed) select $1"
                    " where not exists (select from pgtide.webhook_seed) on conflict do nothing",
                    secrets.token_hex(32),
                )
                seed = await work.fetchval("select seed from pgtide.webhook_seed")
            self._signatures = Signatures(self._authority, seed)
        return self._signatures

    # -- leases ------------------------------------------------------------------------------------

    async def claim(self, key: Key, worker: str) -> Claimed:
        """Take a wake whose workers ask for it, opening one if there is none yet."""
        async with self._database.work() as work:
            one = _known(await table.lock(work, key))
            _check_type(one, PULL_WAKE)
            if one.holder is not None and not one.expired:
                raise SubscriptionError(
                    Code.ALREADY_CLAIMED,
                    "another worker has it: wait for the next wake",
                    current_holder=one.holder,
                    generation=one.generation,
                )
            if await table.pending(work, key) is None:
                raise SubscriptionError(
                    Code.NO_PENDING_WORK, "there is nothing to do: wait for the next wake"
                )
            if one.wake_id is None or one.expired:
                await table.wake(work, key)
            await table.lease(work, key, worker)
            links = await table.links(work, key, table.MOST_TOLD)
            await table.remember_told(work, key, links)
            await table.notify(work, table.DUE)
            one = _known(await table.select(work, key))
        assert one.wake_id is not None
        token = self.tokens.make(Fence(key.environment, key.id, one.generation))
        return Claimed(one.wake_id, one.generation, token, links, one.lease_ms)

    async def acknowledge(self, fence: Fence, body: Mapping[str, Any], kind: str) -> bool:
        """What a worker of this kind has done. True if there was more to do when it was done with all
        of it, so that the next wake is open."""
        key = Key(fence.environment, fence.subscription)
        async with self._database.work() as work:
            one = await _own(work, key, fence, body, kind)
            acks = _acks(body)
            if acks:
                await _acknowledge(work, key, acks)
            more = False
            if body.get("done") is True:
                more = await go_on(work, key)
            else:
                await table.lease(work, key, one.holder)
            await table.notify(work, table.DUE)
            return more

    async def release(self, fence: Fence, body: Mapping[str, Any]) -> None:
        """Give a wake back; if there is something to do, the next one is opened."""
        key = Key(fence.environment, fence.subscription)
        async with self._database.work() as work:
            await _own(work, key, fence, body, PULL_WAKE)
            await go_on(work, key)
            await table.notify(work, table.DUE)


async def _make_wake_stream(work: asyncpg.Connection, environment: str, path: str) -> None:
    """Raises SubscriptionError if there can be none, or it takes nothing any more."""
    # One that is there is not locked: somebody may just be appending to it.
    flaw = await work.fetchval(
        "select case when deleted_at is not null or expires_at <= clock_timestamp()"
        " then 'is gone, but forks still read from it' when closed then 'is closed' else '' end"
        " from pgtide.streams where environment_id = $1 and path = $2"
        " and (deleted_at is not null or forks > 0"
        " or expires_at is null or expires_at > clock_timestamp())",
        *(environment, path),
    )
    if flaw is None:
        await work.execute(
            "select pgtide.create_stream($1, $2, environment => $3)", path, JSON_TYPE, environment
        )
    elif flaw:
        raise invalid(f"the wake_stream {flaw}: give another one")


async def go_on(work: asyncpg.Connection, key: Key) -> bool:
    """End the wake; True if there is more to do, and so the next one is open."""
    await table.rest(work, key)
    if await table.pending(work, key) is None:
        return False
    await table.wake(work, key)
    return True


async def _found(work: asyncpg.Connection, key: Key) -> tuple[Subscription, list[Link]]:
    one = _known(await table.select(work, key))
    return one, await table.links(work, key)


def _known(one: Subscription | None) -> Subscription:
    if one is None:
        raise SubscriptionError(Code.NOT_FOUND, "there is no such subscription")
    return one


def _check_type(one: Subscription, kind: str) -> None:
    if one.type != kind:
        raise invalid(
            "a webhook's worker answers, or calls back"
            if one.type == WEBHOOK
            else "workers of this subscription use claim, ack and release"
        )


async def _own(
    work: asyncpg.Connection, key: Key, fence: Fence, body: Mapping[str, Any], kind: str
) -> Subscription:
    """The subscription, locked, whose present wake is the caller's."""
    one = _known(await table.lock(work, key))
    _check_type(one, kind)
    said = body.get("generation"), body.get("wake_id")
    if (
        one.wake_id is None
        or one.expired
        or fence.generation != one.generation
        or said != (one.generation, one.wake_id)
    ):
        raise SubscriptionError(
            Code.FENCED, "the lease has ended, and this may be another worker's by now: stop"
        )
    return one


def _acks(body: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Paths and offsets."""
    given = body.get("acks")
    if given is None:
        return []
    if not isinstance(given, list):
        raise invalid("acks must be a list of objects with stream and offset")
    acks: list[tuple[str, str]] = []
    for one in cast("list[Any]", given):
        match one:
            case {"stream": str(path), "offset": str(offset)}:
                acks.append((stream_path(path, "acks"), offset))
            case {"path": str(path), "offset": str(offset)}:
                acks.append((stream_path(path, "acks"), offset))
            case _:
                raise invalid("acks must be a list of objects with stream and offset")
    return acks


async def _acknowledge(work: asyncpg.Connection, key: Key, acks: Sequence[tuple[str, str]]) -> None:
    """All of them or none."""
    links = await table.link(work, key, [path for path, _ in acks])
    for path, offset in acks:
        position = position_of(offset)
        link = links.get(path)
        if link is None:
            raise _bad_offset(path, "is no stream of this subscription")
        if position is None:
            raise _bad_offset(path, f"has no offset {offset[:40]!r} that could be acknowledged")
        if position < link.acked:
            raise _bad_offset(path, "is further already")
        if link.tail is None or position > link.tail:
            raise _bad_offset(path, "does not reach so far")
        links[path] = link._replace(acked=position)
    await table.acknowledge(work, key, list(links.values()))


def _bad_offset(path: str, what: str) -> SubscriptionError:
    return SubscriptionError(Code.INVALID_OFFSET, f"{path[:200]} {what}: nothing was acknowledged")
