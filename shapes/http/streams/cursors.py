"""Cursors: they give equal live reads of different times different URLs, so that caches between do not
answer for ever with what was true once. Pure."""

from __future__ import annotations

import math
from typing import Final

INTERVAL_SECONDS: Final = 20
EPOCH: Final = 1728432000
"""2024-10-09, in seconds since 1970: when intervals are counted from."""

JITTER_SECONDS: Final = 3600


def interval_at(now: float) -> int:
    """The number of the interval; `now` in seconds since 1970."""
    return max(0, int(now - EPOCH) // INTERVAL_SECONDS)


def next_cursor(cursor: int, now: float, chance: float) -> int:
    """The cursor for whoever was given `cursor` (-1 for nobody); greater than that. `chance` is in
    [0, 1)."""
    interval = interval_at(now)
    if cursor < interval:
        return interval
    return cursor + max(1, math.ceil((1 + chance * (JITTER_SECONDS - 1)) / INTERVAL_SECONDS))
