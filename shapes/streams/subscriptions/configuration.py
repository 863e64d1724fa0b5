"""What a subscription is asked to be. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import orjson

from shapes.streams.path import LONGEST_PATH, flaw_of
from shapes.streams.subscriptions.glob import Glob
from shapes.streams.subscriptions.refusals import invalid

WEBHOOK: Final = "webhook"
PULL_WAKE: Final = "pull-wake"

LEASE_MS: Final = 30_000
SHORTEST_LEASE_MS: Final = 1_000
LONGEST_LEASE_MS: Final = 600_000

MOST_STREAMS: Final = 1_000
"""That may be named in one request."""
MOST_CHARACTERS: Final = 2_048
"""Of texts."""

RESERVED: Final = "__ds"
_NO_SEGMENTS = frozenset(("", ".", ".."))


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """`webhook_url` is there for webhooks, `wake_stream` for the others."""

    type: str
    pattern: Glob | None
    streams: tuple[str, ...]
    """Named ones, each once, in order."""
    webhook_url: str | None
    wake_stream: str | None
    lease_ms: int
    description: str | None

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Configuration:
        """Read a request's body; what it says beyond this is ignored. Raises SubscriptionError."""
        kind = body.get("type")
        if kind not in (WEBHOOK, PULL_WAKE):
            raise invalid('type must be "webhook" or "pull-wake"')
        pattern = _text(body, "pattern")
        streams = _streams(body["streams"]) if body.get("streams") is not None else ()
        if not pattern and not streams:
            raise invalid("give a pattern, or streams, or both")
        webhook = body.get("webhook")
        url = _text(cast("Mapping[str, Any]", webhook), "url") if _is_object(webhook) else None
        if kind == WEBHOOK and not url:
            raise invalid("a webhook needs webhook.url")
        wake_stream = _text(body, "wake_stream")
        if kind == PULL_WAKE and not wake_stream:
            raise invalid("give the wake_stream: the path of a stream that workers follow")
        path = (
            stream_path(wake_stream, "wake_stream") if kind == PULL_WAKE and wake_stream else None
        )
        if path in streams:
            raise invalid("the wake_stream cannot be one of the streams: each wake would be news")
        return cls(
            type=kind,
            pattern=_glob(pattern) if pattern else None,
            streams=streams,
            webhook_url=url if kind == WEBHOOK else None,
            wake_stream=path,
            lease_ms=_lease(body.get("lease_ttl_ms", LEASE_MS)),
            description=_text(body, "description"),
        )

    @property
    def identity(self) -> bytes:
        """The same for the same configuration."""
        said = {
            "type": self.type,
            "pattern": self.pattern and self.pattern.text,
            "streams": self.streams,
            "url": self.webhook_url,
            "wake_stream": self.wake_stream,
            "lease_ms": self.lease_ms,
            "description": self.description,
        }
        return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).digest()


def stream_path(text: object, name: str) -> str:
    """A path relative to the root of all streams. Raises SubscriptionError."""
    path = _checked(text, name).strip("/")
    if not _NO_SEGMENTS.isdisjoint(path.split("/")) or flaw_of(path) is not None:
        raise invalid(
            f"{name} must be paths of at most {LONGEST_PATH} bytes without control characters, and"
            " between slashes neither nothing nor . or .."
        )
    if path.split("/")[0] == RESERVED:
        raise invalid(f"{name}: below {RESERVED} there are no streams")
    return path


def stream_paths(value: object) -> tuple[str, ...]:
    """The `streams` of a request's body. Raises SubscriptionError."""
    paths = _streams(value)
    if not paths:
        raise invalid("streams must name at least one stream")
    return paths


def _streams(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise invalid("streams must be a list of paths")
    texts = cast("list[object]", value)
    if len(texts) > MOST_STREAMS:
        raise invalid(f"at most {MOST_STREAMS} streams can be named at once")
    return _in_order(stream_path(text, "streams") for text in texts)


def _in_order(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(paths)))


def _glob(text: str) -> Glob:
    pattern = stream_path(text, "pattern")
    for part in pattern.split("/"):
        if "*" in part and part not in ("*", "**"):
            raise invalid("pattern: * and ** stand for whole segments; a star itself is %2A")
    return Glob(pattern)


def _lease(value: object) -> int:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if isinstance(value, float) and value.is_integer():
        value, whole = int(value), True
    if not whole or not SHORTEST_LEASE_MS <= cast("int", value) <= LONGEST_LEASE_MS:
        raise invalid(
            f"lease_ttl_ms must be an integer from {SHORTEST_LEASE_MS} to {LONGEST_LEASE_MS}"
        )
    return cast("int", value)


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    return None if value is None else _checked(value, name)


def _checked(value: object, name: str) -> str:
    """Raises SubscriptionError for what no column of text can hold."""
    if not isinstance(value, str) or "\0" in value:
        raise invalid(f"{name} must be text without NUL characters")
    if len(value) > MOST_CHARACTERS:
        raise invalid(f"{name} must have at most {MOST_CHARACTERS} characters")
    return value


def _is_object(value: object) -> bool:
    return isinstance(value, dict)
