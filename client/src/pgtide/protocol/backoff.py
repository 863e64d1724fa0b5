"""How long to leave a server alone that did not answer well."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FIRST_SECONDS = 0.2
LONGEST_SECONDS = 20.0
LONGEST_DEMAND = 3600.0


class Backoff:
    """Delays that double, each drawn at random from the upper half of what it may be, so that many
    clients do not come back at the same moment."""

    def __init__(self, first: float = FIRST_SECONDS, longest: float = LONGEST_SECONDS) -> None:
        self._first = first
        self._longest = longest
        self.failures = 0

    def next(self, demanded: float | None = None) -> float:
        """Seconds to wait after one more failure; never fewer than the server demanded."""
        delay = min(self._longest, self._first * 2 ** min(self.failures, 30))
        self.failures += 1
        jittered = delay * random.uniform(0.5, 1.0)
        return jittered if demanded is None else demanded + random.uniform(0.0, min(1.0, delay))

    def reset(self) -> None:
        self.failures = 0


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """What the server demands, in seconds: `retry-after` (seconds or a date), or the time at which a
    rate limit ends (`x-ratelimit-reset`, milliseconds since 1970). At most an hour."""
    now = now or datetime.now(UTC)
    text = headers.get("retry-after", "").strip()
    seconds: float | None = None
    if text:
        try:
            seconds = float(text)
        except ValueError:
            seconds = _until_date(text, now)
    elif headers.get("x-ratelimit-reset", "").isdecimal():
        seconds = int(headers["x-ratelimit-reset"]) / 1000 - now.timestamp()
    if seconds is None or seconds != seconds:
        return None
    return min(max(seconds, 0.0), LONGEST_DEMAND)


def _until_date(text: str, now: datetime) -> float | None:
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now.timestamp()
