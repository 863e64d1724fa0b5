"""What a client may send to a node, and how long it may take."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass

from engine.configuration.settings import Settings

_APPENDED = re.compile(rb"/v1/stream/")
_INGESTED = re.compile(rb"/realtime/v1/streams/[^/?]+/(self|parent|root)/")
_STREAMED = re.compile(rb"/api/v3/batches/[^/?]+/items(\?|$)")

ENDLESS = sys.maxsize
"""For bodies that go on for as long as somebody writes: their handlers keep nothing of them."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes are bytes, durations seconds.

    `read_seconds` is the idle life of a connection and the time in which a whole request has to
    arrive; `send_seconds` is how long a client may take nothing of what is sent to it. Of what a
    client does not take, about `unsent` is held for it here, and `system_unsent` by the system.
    `streamed_body` is for requests whose handlers take the body piece by piece, `appended_body` for
    what is appended to streams.
    """

    url: int = 64 << 10
    headers: int = 64 << 10
    header_count: int = 100
    body: int = 12 << 20
    appended_body: int = 16 << 20
    streamed_body: int = 3000 << 20
    read_seconds: float = 60.0
    send_seconds: float = 30.0
    unsent: int = 16 << 10
    system_unsent: int = 128 << 10

    def body_of(self, url: bytes) -> int:
        """How large the body of a request to this URL may be."""
        if _APPENDED.match(url):
            return self.appended_body
        if _INGESTED.match(url):
            return ENDLESS
        return self.streamed_body if _STREAMED.match(url) else self.body

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """The limits with the settings' durations."""
        return cls(
            read_seconds=settings.tcp_read_timeout,
            send_seconds=settings.tcp_send_timeout,
        )
