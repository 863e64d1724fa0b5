"""The table whose rows are the runs: `pgtide.runs`, or a table of the user's. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

FIELDS = (
    "id",
    "environment_id",
    "task",
    "status",
    "tags",
    "batch_id",
    "parent_id",
    "root_id",
    "metadata",
    "metadata_version",
    "payload",
    "payload_type",
    "output",
    "output_type",
    "error",
    "number",
    "attempt_number",
    "is_test",
    "usage_duration_ms",
    "cost_in_cents",
    "base_cost_in_cents",
    "ttl",
    "realtime_streams",
    "idempotency_key",
    "one_time_use_token",
    "created_at",
    "updated_at",
    "delay_until",
    "queued_at",
    "started_at",
    "completed_at",
    "expired_at",
)
"""What a run may have, by the names of `pgtide.runs`."""


@dataclass(frozen=True, slots=True)
class RunTable:
    """`columns` has the table's column for each field that it has; `statuses` the status of a run
    (COMPLETED, …) for each word that the table has for one, where they differ."""

    schema: str = "pgtide"
    name: str = "runs"
    columns: Mapping[str, str] = field(default_factory=lambda: {name: name for name in FIELDS})
    statuses: Mapping[str, str] = field(default_factory=dict[str, str])

    def column(self, name: str) -> str | None:
        """The table's column for a field; None if it has none."""
        return self.columns.get(name)

    def status(self, word: str) -> str:
        """The status that a word of the table means."""
        return self.statuses.get(word, word)

    def word(self, status: str) -> str:
        """The table's word for a status."""
        return next((word for word, one in self.statuses.items() if one == status), status)
