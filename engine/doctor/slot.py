"""Checks the state of pgtide's replication slot."""

from __future__ import annotations

import psycopg

from engine.doctor.finding import Findings, advice, met, unmet
from engine.doctor.server import Facts
from engine.replication.slot import PLUGIN, Slot, drop_statement

_MUCH_WAL = 2**30


async def check_slot(
    connection: psycopg.AsyncConnection, facts: Facts, slot: Slot | None, name: str
) -> Findings:
    """Whether the slot is ours, alive, read, and bounded in the WAL that it retains."""
    if slot is None:
        yield met(f"slot {name} does not exist yet: pgtide makes it when it starts")
    elif slot.plugin != PLUGIN or slot.database != facts.database:
        yield unmet(
            f"slot {name} is of plugin {slot.plugin} and database {slot.database or 'none'}",
            "Set another PGTIDE_STREAM_ID, or if nothing uses it run: " + drop_statement(name),
        )
    elif slot.lost:
        reason = slot.invalidation_reason or "its WAL was removed"
        yield unmet(
            f"slot {name} is lost ({reason}): clients will have to refetch",
            f"Run: {drop_statement(name)}; and raise max_slot_wal_keep_size",
        )
    elif slot.active:
        yield advice(
            f"slot {name} is read by process {slot.active_pid}",
            "That is as it should be if pgtide runs. If not, somebody else has the stream id: set "
            "another PGTIDE_STREAM_ID, or run: select pg_terminate_backend("
            f"{slot.active_pid})",
        )
    else:
        yield met(f"slot {name} is there and nobody else reads it")
    if slot is not None and not slot.lost:
        async for finding in _check_retention(connection, facts, slot):
            yield finding


async def _check_retention(
    connection: psycopg.AsyncConnection, facts: Facts, slot: Slot
) -> Findings:
    if facts.in_recovery:
        return
    row = await (
        await connection.execute(
            """
            select pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint,
                current_setting('max_slot_wal_keep_size')
            from pg_replication_slots where slot_name = %s
            """,
            (slot.name,),
        )
    ).fetchone()
    retained: int = row[0] or 0 if row else 0
    limit: str = row[1] if row else "-1"
    amount = f"slot {slot.name} retains {retained / 2**20:.0f} MiB of WAL"
    if slot.wal_status == "unreserved":
        yield unmet(
            f"{amount}, more than max_slot_wal_keep_size ({limit}): it is about to be lost",
            "Start pgtide now, or run: alter system set max_slot_wal_keep_size = …; select "
            "pg_reload_conf()",
        )
    elif retained >= _MUCH_WAL:
        bound = "without a limit" if limit == "-1" else f"up to max_slot_wal_keep_size ({limit})"
        yield advice(
            f"{amount}, and will go on {bound} until pgtide reads it",
            "Start pgtide, or if it will not come back run: " + drop_statement(slot.name),
        )
    else:
        yield met(amount)
