"""What has been answered and used up already: request keys and one-time tokens, in Postgres.

The table has only hashes, so nothing can be learnt from it that would start a run.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg

from shapes.access.grant import Grant

REQUEST_LIFE = timedelta(hours=1)
"""How long a request that comes again gets the same answer. Clients give up within minutes."""

_FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
_TOKEN_MARGIN = timedelta(minutes=10)
"""A used token is remembered for this much longer than it counts: clocks differ."""

_MOST_LOCKS = 50
_SWEEP_SECONDS = 60.0
_SWEEP_AFTER = 500
"""After so many new keys at the latest there is a sweep, which takes twice as many at most."""


@dataclass(frozen=True, slots=True)
class TriggerKeys:
    """The keys of one request: its own, if the client gave it one, and that of a one-time token."""

    request: bytes | None = None
    token: bytes | None = None
    token_until: datetime = _FOREVER

    @classmethod
    def of(cls, grant: Grant, target: str, request_key: str | None) -> TriggerKeys:
        """`target` tells what is asked for, e.g. `task:resize`: the same key elsewhere is another, and
        so is that of a browser and a back end, or with another one-time token."""
        digest = (grant.digest or b"").hex()
        who = f"{'browser' if grant.public else 'back end'} {digest}"
        request = (
            None
            if request_key is None
            else hash_of("request", grant.environment, target, who, request_key)
        )
        token = None if grant.digest is None else hash_of("token", digest)
        until = _FOREVER
        if grant.expires_at is not None:
            until = datetime.fromtimestamp(grant.expires_at, UTC) + _TOKEN_MARGIN
        return cls(request, token, until)

    def all(self) -> list[bytes]:
        return [key for key in (self.request, self.token) if key is not None]


class TriggerKeyStore:
    """Statements about the keys, for a connection that the caller has."""

    def __init__(self) -> None:
        self._swept = time.monotonic()
        self._kept = 0

    async def lock(self, work: asyncpg.Connection, keys: Sequence[bytes], environment: str) -> None:
        """Until the end of the transaction nobody else holds the lock of any of these keys.

        Whoever wants very many takes that of the whole environment instead, which everybody else
        shares: Postgres has room for a few thousand locks.
        """
        if not keys:
            return
        everything = _number(hash_of("environment", environment))
        if len(keys) > _MOST_LOCKS:
            await work.execute("select pg_advisory_xact_lock($1)", everything)
            return
        # In the same order everywhere, so that nobody waits for somebody who waits for him.
        await work.execute(
            "select pg_advisory_xact_lock_shared($1)"
            " union all select pg_advisory_xact_lock(key) from unnest($2::bigint[]) as key",
            *(everything, sorted({_number(key) for key in keys})),
        )

    async def known(self, work: asyncpg.Connection, keys: list[bytes]) -> Mapping[bytes, str]:
        """Those of the keys that are there, and what they led to."""
        if not keys:
            return {}
        rows = await work.fetch(
            "select key, id from pgtide.trigger_keys where key = any($1) and expires_at > now()",
            keys,
        )
        return {row[0]: row[1] for row in rows}

    async def keep(self, work: asyncpg.Connection, keys: TriggerKeys, led_to: str) -> None:
        """Remember them; now and then, forget what is over."""
        if not keys.all():
            return
        until = {keys.token: keys.token_until, keys.request: datetime.now(UTC) + REQUEST_LIFE}
        for key in keys.all():
            await work.execute(
                "insert into pgtide.trigger_keys (key, id, expires_at) values ($1, $2, $3)"
                " on conflict (key) do update set id = excluded.id, expires_at = excluded.expires_at",
                *(key, led_to, until[key]),
            )
        self._kept += 1
        if self._kept >= _SWEEP_AFTER or time.monotonic() > self._swept + _SWEEP_SECONDS:
            self._kept, self._swept = 0, time.monotonic()
            await sweep(work)


async def sweep(work: asyncpg.Connection, most: int = 2 * _SWEEP_AFTER) -> None:
    """Forget keys that are over, the oldest first. Those that somebody else is at are left out."""
    await work.execute(
        "delete from pgtide.trigger_keys where key in ("
        " select key from pgtide.trigger_keys where expires_at <= now()"
        " order by expires_at limit $1 for update skip locked)",
        most,
    )


def _number(key: bytes) -> int:
    """Of its lock."""
    return int.from_bytes(key[:8], "big", signed=True)


def hash_of(*parts: str) -> bytes:
    """One number for several texts, none of which can pass for a part of another."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.digest()
