"""A subscription as Postgres has it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from shapes.streams.stream import offset_of
from shapes.streams.subscriptions.configuration import WEBHOOK

BEFORE_FIRST: Final = "-1"
"""The offset before everything."""

ROOT: Final = "/v1/stream/__ds"


class Key(NamedTuple):
    """By which a subscription is found."""

    environment: str
    id: str


class Link(NamedTuple):
    """A stream of a subscription: what comes before `acked` is done, -1 before anything is. Without a
    stream under this path `stream_id` and `tail` are None. `told` is where it ended when a worker was
    told last."""

    path: str
    explicit: bool
    stream_id: int | None
    acked: int
    tail: int | None
    told: int | None

    @property
    def pending(self) -> bool:
        return self.tail is not None and self.tail > max(self.acked, 0)

    def shown(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "link_type": "explicit" if self.explicit else "glob",
            "acked_offset": BEFORE_FIRST if self.acked < 0 else offset_of(self.acked),
        }

    def shown_to_worker(self) -> dict[str, Any]:
        return {
            **self.shown(),
            "tail_offset": offset_of(self.tail or 0),
            "has_pending": self.pending,
        }


class Ends(NamedTuple):
    """Where a stream ends that concerns a subscription; `matched`: by the pattern."""

    path: str
    stream_id: int
    tail: int
    matched: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """`wake_id` is there while it is woken, `holder` while a worker that asked for it has the lease."""

    key: Key
    type: str
    pattern: str | None
    webhook_url: str | None
    wake_stream: str | None
    lease_ms: int
    description: str | None
    base_url: str
    created_at: datetime
    status: str
    generation: int
    wake_id: str | None
    holder: str | None
    expired: bool
    """The lease has ended, and nobody has noted it yet."""
    failures: int

    def shown(self, links: Sequence[Link], base_url: str, key_id: str | None) -> dict[str, Any]:
        """For whoever may see it. `key_id`: what its webhooks are signed with."""
        created = self.created_at.astimezone(UTC).isoformat(timespec="milliseconds")
        shown: dict[str, Any] = {
            "id": self.key.id,
            "subscription_id": self.key.id,
            "type": self.type,
            "streams": [link.shown() for link in links],
            "lease_ttl_ms": self.lease_ms,
            "created_at": created.replace("+00:00", "Z"),
            "status": self.status,
        }
        if self.type == WEBHOOK:
            signing = {"alg": "ed25519", "kid": key_id, "jwks_url": f"{base_url}{ROOT}/jwks.json"}
            shown["webhook"] = {"url": self.webhook_url, "signing": signing}
        more = {
            "pattern": self.pattern,
            "wake_stream": self.wake_stream,
            "description": self.description,
        }
        return shown | {name: value for name, value in more.items() if value is not None}
