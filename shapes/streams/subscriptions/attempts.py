"""Telling workers: one attempt at a time for each wake, and when to make the next."""

from __future__ import annotations

import random
import time
from typing import Any, Final, cast
from urllib.parse import quote

import asyncpg
import orjson

from engine.errors import PgtideError
from shapes.database import Database
from shapes.stream_meter import StreamMeter, Webhook
from shapes.streams.subscriptions import subscription_table as table
from shapes.streams.subscriptions.configuration import WEBHOOK
from shapes.streams.subscriptions.courier import SECONDS, Answer, Courier, DeliveryError
from shapes.streams.subscriptions.subscription import ROOT, Key, Link, Subscription
from shapes.streams.subscriptions.subscriptions import Subscriptions, go_on
from shapes.streams.subscriptions.tokens import Fence

FIRST_DELAY: Final = 1.0
LONGEST_DELAY: Final = 60.0
SPREAD: Final = 0.2
"""Of a delay, up to so much more or less."""

_MARGIN = 5.0
_LOCK_WAIT = "2s"


def delay_after(failures: int) -> float:
    """Seconds until the next attempt, after so many that failed."""
    base = min(FIRST_DELAY * 2 ** min(failures - 1, 10), LONGEST_DELAY)
    return base * random.uniform(1 - SPREAD, 1 + SPREAD)


class Attempts:
    """Makes attempts in the name of `sender`. Methods raise what `Database.work` raises."""

    def __init__(
        self,
        database: Database,
        subscriptions: Subscriptions,
        courier: Courier,
        sender: str,
        public_url: str | None,
        meter: StreamMeter | None = None,
    ) -> None:
        self._database = database
        self._subscriptions = subscriptions
        self._courier = courier
        self._sender = sender
        self._meter = meter or StreamMeter()
        self._public_url = public_url and public_url.rstrip("/")

    async def take_over(self) -> None:
        """What the process that had this name before has begun is to be done again."""
        async with self._database.work() as work:
            await work.execute(
                "update pgtide.subscriptions set sender = null, lease_until = null,"
                " next_attempt_at = clock_timestamp() where sender = $1",
                self._sender,
            )

    async def make(self, key: Key) -> str | None:
        """Tell a worker, if it is time. What went wrong, if anything did; then there is a next time."""
        async with self._database.work() as work:
            one = await self._begin(work, key)
            if one is None:
                return None
            if one.type != WEBHOOK:
                return await self._announce(work, one)
            links = await table.links(work, key, table.MOST_TOLD)
            await table.remember_told(work, key, links)
        try:
            done = await self._deliver(one, links)
        except PgtideError as error:
            async with self._database.work() as work:
                failed = await self._fail(work, one)
            return str(error) if failed else None
        await self._succeed(one, done=done)
        return None

    async def _deliver(self, one: Subscription, links: list[Link]) -> bool:
        """Send the webhook; whether the answer says that all is done. Raises DeliveryError, and
        SettingsError without a key to sign with."""
        began = time.monotonic()
        outcome: Webhook = "failed"
        try:
            answer = await self._post(one, links)
            if not 200 <= answer.status < 300:
                outcome = "refused"
                raise DeliveryError(f"it was answered with status {answer.status}")
            outcome = "done" if _says_done(answer.body) else "taken"
        finally:
            self._meter.webhook(outcome, time.monotonic() - began)
        return outcome == "done"

    async def _begin(self, work: asyncpg.Connection, key: Key) -> Subscription | None:
        """Locks the subscription; None if there is nothing to tell (any more)."""
        await work.execute(f"set local lock_timeout = '{_LOCK_WAIT}'")
        one = await table.lock(work, key)
        if one is None:
            return None
        if one.wake_id is None or await table.pending(work, key) is None:
            await table.rest(work, key)
            await table.notify(work, table.DUE)
            return None
        # Until the answer the lease is the attempt's.
        begun = await work.fetchval(
            "update pgtide.subscriptions set next_attempt_at = null, sender = $3,"
            " lease_until = clock_timestamp() + $4 * interval '1 second'"
            " where environment_id = $1 and id = $2 and next_attempt_at <= clock_timestamp()"
            " returning true",
            *(*key, self._sender, SECONDS + _MARGIN),
        )
        return one if begun else None

    async def _announce(self, work: asyncpg.Connection, one: Subscription) -> str | None:
        """Append to the wake stream, in the transaction that notes that it is done."""
        there = await work.fetchval(
            "select true from pgtide.streams where environment_id = $1 and path = $2 and not closed"
            " and deleted_at is null and (expires_at is null or expires_at > clock_timestamp())"
            " for update",
            *(one.key.environment, one.wake_stream),
        )
        if not there:
            await self._fail(work, one)
            return "its wake_stream is gone or closed: PUT the subscription once more, it says more"
        event: dict[str, Any] = {
            "type": "wake",
            "subscription_id": one.key.id,
            "stream": await table.pending(work, one.key),
            "generation": one.generation,
            "ts": time.time_ns() // 1_000_000,
        }
        await work.execute(
            "select pgtide.append(stream => $1, data => $2::text, environment => $3)",
            *(one.wake_stream, orjson.dumps(event).decode(), one.key.environment),
        )
        await work.execute(
            "update pgtide.subscriptions set sender = null, lease_until = null, failures = 0,"
            " status = 'active' where environment_id = $1 and id = $2",
            *one.key,
        )
        return None

    async def _post(self, one: Subscription, links: list[Link]) -> Answer:
        environment, name = one.key
        base = self._public_url or one.base_url
        signatures = await self._subscriptions.signatures()
        told = {
            "subscription_id": name,
            "wake_id": one.wake_id,
            "generation": one.generation,
            "streams": [link.shown_to_worker() for link in links],
            "callback_url": f"{base}{ROOT}/subscriptions/{quote(name, safe='')}/callback",
            "callback_token": self._subscriptions.tokens.make(
                Fence(environment, name, one.generation)
            ),
        }
        body = orjson.dumps(told)
        assert one.webhook_url is not None
        signature = signatures.sign(environment, body)
        return await self._courier.post(one.webhook_url, body, {"webhook-signature": signature})

    async def _fail(self, work: asyncpg.Connection, one: Subscription) -> bool:
        """Note when to try again; False if that is no affair of this attempt any more."""
        failed = await work.fetchval(
            "update pgtide.subscriptions set failures = failures + 1, status = 'failed',"
            " sender = null, lease_until = null,"
            " next_attempt_at = clock_timestamp() + $5 * interval '1 second'"
            " where environment_id = $1 and id = $2 and wake_id = $3 and sender = $4"
            " returning true",
            *(*one.key, one.wake_id, self._sender, delay_after(one.failures + 1)),
        )
        await table.notify(work, table.DUE)
        return bool(failed)

    async def _succeed(self, one: Subscription, *, done: bool) -> None:
        async with self._database.work() as work:
            now = await table.lock(work, one.key)
            if now is None or now.wake_id != one.wake_id:
                return
            if done:
                await table.acknowledge_told(work, one.key)
                await table.lease(work, one.key, None)
                await go_on(work, one.key)
            elif await self._is_mine(work, one.key):
                await table.lease(work, one.key, None)
            await table.notify(work, table.DUE)

    async def _is_mine(self, work: asyncpg.Connection, key: Key) -> bool:
        """Not if a worker has called back already: then it has a lease."""
        return await work.fetchval(
            "select sender is not distinct from $3 from pgtide.subscriptions"
            " where environment_id = $1 and id = $2",
            *(*key, self._sender),
        )


def _says_done(body: bytes) -> bool:
    try:
        said: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(said, dict) and cast("dict[str, object]", said).get("done") is True
