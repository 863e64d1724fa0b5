"""The advisory lock that lets one engine at a time read a slot.

It belongs to the session of the replication connection, so it lives and dies with that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from engine.postgres.sql_text import quote_literal
from engine.replication.walsender import Walsender

log = logging.getLogger("engine")

POLL_SECONDS = 0.2

BREAK_SECONDS = 5.0
"""How long a backend may hold the lock without reading the slot before it is ended."""

# A lock on one bigint is shown as its two halves; a negative hash has all ones in the upper half.
_HOLDER = """
    select l.pid,
        a.application_name like 'pgtide%' and a.usename = current_user and not coalesce(s.active, false)
    from pg_locks l
    left join pg_stat_activity a using (pid)
    left join pg_replication_slots s on s.slot_name = {name}
    where l.locktype = 'advisory' and l.granted and l.objsubid = 1 and l.pid <> pg_backend_pid()
        and l.database = (select oid from pg_database where datname = current_database())
        and (l.classid::bigint << 32) + l.objid::bigint = hashtext({name})::bigint
"""


async def take_lock(walsender: Walsender, slot: str, on_wait: Callable[[], None]) -> None:
    """Return once this connection has the lock; `on_wait` is called if that takes a while.

    A backend of ours that holds it although nobody reads the slot is what a dead machine or a cut
    network has left behind: Postgres would keep it until TCP gives up. It is ended.
    """
    suspect: int | None = None
    since = time.monotonic()
    waiting = False
    while not await _try(walsender, slot):
        holder = await walsender.ask(_HOLDER.format(name=quote_literal(slot)))
        if not waiting:
            log.warning(
                "another engine holds the lock of slot %s (%s): waiting", slot, _describe(holder)
            )
            on_wait()
            waiting = True
        idle = _idle(holder)
        if idle is None or idle != suspect:
            suspect, since = idle, time.monotonic()
        elif time.monotonic() - since > BREAK_SECONDS:
            log.warning(
                "process %d holds the lock of slot %s but does not read the slot: ending it",
                *(idle, slot),
            )
            await walsender.ask(f"select pg_terminate_backend({idle})")
            suspect = None
        await asyncio.sleep(POLL_SECONDS)
    if waiting:
        log.info("the lock of slot %s is free: going on", slot)


async def _try(walsender: Walsender, slot: str) -> bool:
    statement = f"select pg_try_advisory_lock(hashtext({quote_literal(slot)}))"
    return (await walsender.ask(statement))[0][0] == "t"


def _idle(holder: list[Sequence[str | None]]) -> int | None:
    """The process to end, if the holder is ours and idle."""
    return int(holder[0][0] or 0) if holder and holder[0][1] == "t" else None


def _describe(holder: list[Sequence[str | None]]) -> str:
    return f"process {holder[0][0]} of the server" if holder else "it has just let go"
