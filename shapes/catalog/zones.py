"""What time zones mean to the database: asked once per zone and process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, LiteralString

import psycopg

from shapes.where.values.zones import END, FIRST, Zone

_EPOCH: Final = 946_684_800
"""Of the seconds in zones, in Unix time, which all of this module is in."""
_DAY: Final = 86_400

_OFFSET: LiteralString = """
    extract(epoch from (to_timestamp(second) at time zone %(zone)s)
        - (to_timestamp(second) at time zone 'UTC'))::int
"""
# Every day on which the offset is not what it was a day before; the first row is the first day.
_CHANGES: LiteralString = """
    select second, offset_then from (
        select second, offset_then, lag(offset_then) over (order by second) as before
        from (
            select second, {offset} as offset_then
            from generate_series(%(first)s::bigint, %(last)s::bigint, 86400) as second
        ) as days
    ) as compared
    where before is distinct from offset_then
    order by second
""".replace("{offset}", _OFFSET)
_OFFSETS: LiteralString = """
    select {offset} from unnest(%(seconds)s::bigint[]) with ordinality as u (second, place)
    order by place
""".replace("{offset}", _OFFSET)


async def load_zone(connection: psycopg.AsyncConnection, name: str) -> Zone | str:
    """The zone of that name, as Postgres has it; or why there is none. Takes about half a second."""
    try:
        return await _load(connection, name)
    except psycopg.errors.InvalidParameterValue:
        return f'time zone "{name}" not recognized'


async def _load(connection: psycopg.AsyncConnection, name: str) -> Zone | str:
    parameters = {"zone": name, "first": FIRST + _EPOCH, "last": END + _EPOCH}
    cursor = await connection.execute(_CHANGES, parameters)
    rows: list[tuple[int, int]] = await cursor.fetchall()
    offsets = [offset for _, offset in rows]
    starts = await _exact(connection, name, [second for second, _ in rows[1:]], offsets)
    zone = Zone([second - _EPOCH for second in starts], offsets)
    # The changes themselves, and years long before and after the table.
    samples = [*starts, *(second - 1 for second in starts)]
    samples += [far + step * 31_622_777 for far in (-(10**11), 10**11) for step in range(500)]
    found = await _offsets(connection, name, samples)
    if found != [zone.offset_at(second - _EPOCH) for second in samples]:
        return f'time zone "{name}" has rules that are not understood'
    return zone


async def _exact(
    connection: psycopg.AsyncConnection, name: str, late: list[int], offsets: list[int]
) -> list[int]:
    """The very seconds of changes that happened in the day up to each of `late`."""
    early = [second - _DAY for second in late]
    while any(second - before > 1 for before, second in zip(early, late, strict=True)):
        middle = [(one + other) // 2 for one, other in zip(early, late, strict=True)]
        found = await _offsets(connection, name, middle)
        for place, offset in enumerate(found):
            side = early if offset == offsets[place] else late
            side[place] = middle[place]
    return late


async def _offsets(
    connection: psycopg.AsyncConnection, name: str, seconds: Sequence[int]
) -> list[int]:
    cursor = await connection.execute(_OFFSETS, {"zone": name, "seconds": list(seconds)})
    return [row[0] for row in await cursor.fetchall()]
