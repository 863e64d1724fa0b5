"""Time zones: `AT TIME ZONE` with UTC, an offset, an interval, or a name that Postgres has explained.

What a name means is for Postgres to say: its files may be other than this machine's. `learn_zone` keeps
what it said, for the whole process, which follows one server.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from shapes.where.errors import MissingZoneError
from shapes.where.values.intervals import Interval
from shapes.where.values.times import INFINITY, SECOND, days_from_civil, in_timestamp_range

FIRST_YEAR: Final = 1840
"""No zone changes before it."""
PERIOD: Final = 146_097 * 86_400
"""400 years, in seconds: rules for ever repeat with the calendar."""
FIRST: Final = days_from_civil(FIRST_YEAR, 1, 1) * 86_400
REPEATED: Final = days_from_civil(2100, 1, 1) * 86_400
END: Final = REPEATED + PERIOD
"""Seconds since 2000 in UTC, as all here: what comes after END is as it was one PERIOD before."""

_MOST: Final = 2000
_DAY: Final = 86_400
_UTC: Final = frozenset(("utc", "gmt", "z", "zulu"))
_OFFSET: Final = re.compile(r"([+-])(\d{1,2})(?::(\d{2})(?::(\d{2}))?)?", re.ASCII)


class Zone:
    """Offsets east of UTC: `offsets[0]` before `starts[0]`, `offsets[1]` from then on, and so on."""

    __slots__ = ("_offsets", "_starts")

    def __init__(self, starts: Sequence[int], offsets: Sequence[int]) -> None:
        self._starts = array("q", starts)
        self._offsets = array("i", offsets)

    def offset_at(self, second: int) -> int:
        """In a second of UTC."""
        return self._offsets[bisect_right(self._starts, _folded(second))]

    def offset_of(self, local: int) -> int:
        """At a local time, in seconds. One that is skipped counts as before the change, one that
        comes twice as after it, as in Postgres."""
        folded = _folded(local)
        place = bisect_right(self._starts, folded - _DAY)
        before = self._offsets[place]
        if place == len(self._starts):
            return before
        change, after = self._starts[place], self._offsets[place + 1]
        if folded - before < change and folded - after < change:
            return before
        if folded - before > change and folded - after >= change:
            return after
        return before if before < after else after


def _folded(second: int) -> int:
    """The same second of a year that the table has."""
    if second < END - 2 * _DAY:
        return second
    return second - (second - REPEATED - _DAY) // PERIOD * PERIOD


_known: dict[str, Zone | str] = {}


def learn_zone(name: str, zone: Zone | str) -> None:
    """Keep what a name means, or why it cannot be used."""
    if len(_known) >= _MOST:
        del _known[next(iter(_known))]
    _known[name.lower()] = zone


def zone_of(name: str) -> Zone:
    """Raises MissingZoneError if Postgres has to be asked, ValueError if there is no such zone.

    Postgres reads a number as POSIX does, against ISO 8601: '+02' is west of UTC.
    """
    if name.lower() in _UTC:
        return Zone((), (0,))
    match = _OFFSET.fullmatch(name)
    if match is None:
        known = _known.get(name.lower())
        if known is None:
            raise MissingZoneError(name)
        if isinstance(known, str):
            raise ValueError(known)
        return known
    sign, hours, minutes, seconds = match.groups()
    west = int(hours) * 3600 + int(minutes or 0) * 60 + int(seconds or 0)
    if int(hours) > 24 or int(minutes or 0) > 59 or int(seconds or 0) > 59:
        raise ValueError(f'time zone "{name}" not recognized')
    return Zone((), (-west if sign == "+" else west,))


Move: TypeAlias = Callable[[int], int]


def to_utc(name: str) -> Move:
    """What makes a timestamptz from a timestamp in the zone."""
    zone = zone_of(name)
    return lambda moment: _moved(moment, lambda second: -zone.offset_of(second))


def to_local(name: str) -> Move:
    """What makes a timestamp in the zone from a timestamptz."""
    zone = zone_of(name)
    return lambda moment: _moved(moment, zone.offset_at)


def interval_to_utc(zone: Interval, moment: int) -> int:
    return _moved(moment, lambda _: -_seconds(zone))


def interval_to_local(zone: Interval, moment: int) -> int:
    return _moved(moment, lambda _: _seconds(zone))


def _seconds(zone: Interval) -> int:
    """East of UTC; fractions of seconds do not count. Raises ValueError."""
    if zone.infinite or zone.months or zone.days:
        raise ValueError("interval time zone must not include months or days")
    seconds = abs(zone.micros) // SECOND
    seconds = -seconds if zone.micros < 0 else seconds
    # As a 32-bit number, since Postgres does not look for an overflow here.
    return (seconds + 2**31) % 2**32 - 2**31


def _moved(moment: int, offset: Callable[[int], int]) -> int:
    if abs(moment) == INFINITY:
        return moment
    return in_timestamp_range(moment + offset(moment // SECOND) * SECOND)
