"""Intervals as the server writes them: ISO 8601 durations with a sign for each part."""

from __future__ import annotations

import re
from datetime import timedelta

_NUMBER = r"([-+]?\d+(?:\.\d+)?)"
_INTERVAL = re.compile(
    rf"P(?:{_NUMBER}Y)?(?:{_NUMBER}M)?(?:{_NUMBER}W)?(?:{_NUMBER}D)?"
    rf"(?:T(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?)?"
)
DAYS_IN_YEAR = 365
DAYS_IN_MONTH = 30


def parse_interval(text: str) -> timedelta:
    """A month counts as 30 days and a year as 365, as Python's Postgres drivers have it.

    Raises ValueError and OverflowError.
    """
    found = _INTERVAL.fullmatch(text)
    if found is None:
        raise ValueError("not an ISO 8601 duration")
    years, months, weeks, days, hours, minutes, seconds = (part or "0" for part in found.groups())
    whole, _, fraction = seconds.partition(".")
    microseconds = int((fraction + "000000")[:6])
    return timedelta(
        days=int(years) * DAYS_IN_YEAR + int(months) * DAYS_IN_MONTH + float(days),
        weeks=float(weeks),
        hours=float(hours),
        minutes=float(minutes),
        seconds=int(whole),
        microseconds=-microseconds if whole.startswith("-") else microseconds,
    )
