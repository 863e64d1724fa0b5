"""How long a token is to last, in the words of the package `jose`. Pure."""

from __future__ import annotations

import math
import re

_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
_WEEK = 7 * _DAY
_YEAR = 365.25 * _DAY

_UNITS = (
    (1, "second seconds sec secs s"),
    (_MINUTE, "minute minutes min mins m"),
    (_HOUR, "hour hours hr hrs h"),
    (_DAY, "day days d"),
    (_WEEK, "week weeks w"),
    (_YEAR, "year years yr yrs y"),
)
_SECONDS = {word: seconds for seconds, words in _UNITS for word in words.split()}
_UNIT = "|".join(_SECONDS)
_DURATION = re.compile(
    rf"(?P<sign>[+-])? ?(?P<count>\d+|\d+\.\d+) ?(?P<unit>{_UNIT})(?: (?P<side>ago|from now))?",
    re.IGNORECASE | re.ASCII,
)
_LONGEST = 100


def parse_duration(text: str) -> int:
    """Seconds from now, negative for the past. Raises ValueError."""
    match = _DURATION.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None or (match["sign"] and match["side"]):
        raise ValueError("not a duration like 15m, 2 hours or 7d")
    seconds = math.floor(float(match["count"]) * _SECONDS[match["unit"].lower()] + 0.5)
    past = match["sign"] == "-" or (match["side"] or "").lower() == "ago"
    return -seconds if past else seconds
