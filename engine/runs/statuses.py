"""The words for a run's status. Pure."""

from __future__ import annotations

from collections.abc import Mapping

QUEUED = "QUEUED"
FINAL = frozenset(
    ("COMPLETED", "FAILED", "CANCELED", "CRASHED", "SYSTEM_FAILURE", "EXPIRED", "TIMED_OUT")
)
"""Statuses of a run that is over."""

STATUSES = FINAL | {
    *("DELAYED", QUEUED, "PENDING_VERSION", "DEQUEUED", "EXECUTING", "WAITING"),
}
"""What the status of a run may be; clients see the same words."""

_OLDER: Mapping[str, str] = {
    "PENDING": QUEUED,
    "WAITING_FOR_DEPLOY": "PENDING_VERSION",
    "RUNNING": "EXECUTING",
    "RETRYING_AFTER_FAILURE": "EXECUTING",
    "WAITING_TO_RESUME": "WAITING",
    "PAUSED": "WAITING",
    "COMPLETED_SUCCESSFULLY": "COMPLETED",
    "SUCCEEDED": "COMPLETED",
    "COMPLETED_WITH_ERRORS": "FAILED",
    "INTERRUPTED": "FAILED",
    "CANCELLED": "CANCELED",
}
"""The same as `pgtide.run_status` knows."""


def status_of(word: str) -> str:
    """A run's status by any of its names. An unknown word stays what it is, but for its case."""
    upper = word.upper()
    return _OLDER.get(upper, upper)
