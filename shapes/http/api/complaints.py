"""Warnings that every request may be the reason for, e.g. while a table is missing."""

from __future__ import annotations

import logging
import time

SECONDS = 10.0
MOST_TEXTS = 100

log = logging.getLogger("http")


class Complaints:
    """Logs the same text once in `SECONDS`: thousands of clients ask again and again."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def warn(self, text: str) -> None:
        now = time.monotonic()
        if now < self._said.get(text, now):
            return
        if len(self._said) >= MOST_TEXTS:
            self._said.clear()
        self._said[text] = now + SECONDS
        log.warning("%s", text)


complaints = Complaints()
"""Those of this process."""
