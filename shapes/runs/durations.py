"""Durations as the clients write them: `90s`, `1h30m`, `2d`. Pure."""

from __future__ import annotations

import re
from datetime import timedelta

MOST_SECONDS = 100 * 365 * 86400
"""No duration is longer, so that a date can be computed from it."""

_DURATION = re.compile(
    r"(?:(\d{1,6})w)?(?:(\d{1,6})d)?(?:(\d{1,6})hr?)?(?:(\d{1,6})m)?(?:(\d{1,9})s)?", re.ASCII
)
_MOST_SHOWN = 40


def duration_of(text: str) -> timedelta | None:
    """Weeks, days, hours (`h` or `hr`), minutes and seconds, in this order; None for other texts.

    The same texts as `pgtide.duration` in SQL.
    """
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        return None
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    total = ((weeks * 7 + days) * 24 + hours) * 3600 + minutes * 60 + seconds
    return timedelta(seconds=total) if total <= MOST_SECONDS else None


def written(text: str) -> str:
    """A text as it may be shown in a message."""
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "…"
